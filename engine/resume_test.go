package engine

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/sdo"
)

// A run saved at any update goes on in a new session, on a new device, and ends
// in the same pictures to the last bit; the way back from a picture is walked
// once, and counted once.
func TestSteeringGoesOnFromAnyUpdate(t *testing.T) {
	const calls = 3
	for name, c := range map[string]struct {
		overrides []string
		inversion int
	}{
		"noise":   {[]string{"guards.whiteness=project"}, 0},
		"picture": {[]string{"sampler.num_inference_steps=5", "start={seed: 7, index: 3, strength: 0.6}"}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			begin := func(updates string) *Session {
				return session(t, cpu.New[float32](cpu.Options{}), glasses(t,
					append([]string{"sampler.num_inference_steps=3", "guards.early_stop=false", "updates=" + updates}, c.overrides...)...), graph.F32)
			}
			ctx := context.Background()
			var states []*sdo.RunState
			save := func(e sdo.Event) {
				if e.Kind != sdo.EventUpdate {
					return
				}
				state, err := e.Save(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if state.Result.NetworkCalls != e.Counters.NetworkCalls {
					t.Errorf("the state says %d network calls, its event %d", state.Result.NetworkCalls, e.Counters.NetworkCalls)
				}
				text, err := json.Marshal(state)
				if err != nil {
					t.Fatal(err)
				}
				var back sdo.RunState
				if err := json.Unmarshal(text, &back); err != nil {
					t.Fatal(err)
				}
				states = append(states, &back)
			}
			first := begin("4")
			want, err := first.Steer(ctx, save)
			if err != nil {
				t.Fatal(err)
			}
			if len(states) != 5 || want.NetworkCalls != c.inversion+5*calls || slices.Equal(want.BestLoss, want.Losses[0]) {
				t.Fatalf("%d states, %d network calls, losses %v", len(states), want.NetworkCalls, want.Losses)
			}
			wantSame := func(what string, got *sdo.Result, more int) {
				t.Helper()
				if got.NetworkCalls != want.NetworkCalls+more {
					t.Errorf("%s: %d network calls, want %d", what, got.NetworkCalls, want.NetworkCalls+more)
				}
				g, w := *got, *want
				g.Counters, w.Counters = sdo.Counters{}, sdo.Counters{}
				if !reflect.DeepEqual(g, w) {
					t.Errorf("%s: the run ends elsewhere: losses %v, want %v", what, g.Losses, w.Losses)
				}
			}
			for u, state := range slices.Clone(states) {
				s := begin("4")
				steps := 0
				got, err := s.SteerFrom(ctx, state, func(e sdo.Event) {
					switch {
					case e.Kind == sdo.EventInversion:
						t.Error("the picture is inverted again")
					case e.Kind == sdo.EventStep && steps == 0:
						steps = e.Counters.NetworkCalls - state.Result.NetworkCalls
					}
					if u == 1 {
						save(e) // the counters of a state of a state
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				wantSame("resumed", got, calls)
				if steps != 1 {
					t.Errorf("resumed at update %d: the first step is call %d after the state's", u, steps)
				}
			}
			twice, err := begin("4").SteerFrom(ctx, states[len(states)-1], nil)
			if err != nil {
				t.Fatal(err)
			}
			wantSame("resumed twice", twice, 2*calls)

			// A run of fewer updates goes on to more, in the same session or not,
			// and leaves the session as it was.
			states = nil
			short := begin("2")
			if _, err := short.Steer(ctx, save); err != nil {
				t.Fatal(err)
			}
			longer, err := first.SteerFrom(ctx, states[2], nil)
			if err != nil {
				t.Fatal(err)
			}
			wantSame("continued", longer, calls)
			again, err := first.Steer(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			wantSame("begun anew", again, 0)
		})
	}
}

func TestSteeringFromAnotherRunIsRefused(t *testing.T) {
	ctx := context.Background()
	begin := func(overrides ...string) *Session {
		return session(t, cpu.New[float32](cpu.Options{}), glasses(t, append(overrides, "updates=1", "sampler.num_inference_steps=2")...), graph.F32)
	}
	var state *sdo.RunState
	if _, err := begin().Steer(ctx, func(e sdo.Event) {
		if e.Kind == sdo.EventUpdate && e.Update == 0 {
			var err error
			if state, err = e.Save(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	for want, s := range map[string]*Session{
		"began with another latent in row 0; resume with the same seed or picture": begin("seed=5"),
		"this run has 3 rows; it belongs to another":                               begin("num_images=3"),
	} {
		if _, err := s.SteerFrom(ctx, state, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	// A refused state leaves no trace in a session that begins from a picture.
	s := begin("start={seed: 7}")
	want, err := s.Steer(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	state.Result.Updates = 9
	if _, err := s.SteerFrom(ctx, state, nil); err == nil || !strings.Contains(err.Error(), "this run makes 1; raise updates") {
		t.Error(err)
	}
	delete(state.Tensors, "start")
	if _, err := s.SteerFrom(ctx, state, nil); err == nil {
		t.Error("a state without a start is taken")
	}
	got, err := s.Steer(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("losses %v after a refused state, want %v", got.Losses, want.Losses)
	}
}
