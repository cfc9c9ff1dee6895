package engine

import (
	"context"
	"math"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/sdo"
)

// metered is an executor that counts the multiply-adds of what its programs run.
type metered struct {
	graph.Executor
	made int64
}

func (m *metered) Compile(plan *graph.Plan, params map[*graph.Node]graph.Tensor) (graph.Program, error) {
	program, err := m.Executor.Compile(plan, params)
	return meteredProgram{program, m}, err
}

type meteredProgram struct {
	graph.Program
	by *metered
}

func (p meteredProgram) Run(ctx context.Context, tape graph.Tape, segment int, feeds []graph.Feed, fetches []graph.Fetch) error {
	p.by.made += p.Plan().Segments[segment].MultiplyAdds()
	return p.Program.Run(ctx, tape, segment, feeds, fetches)
}

// What a run is said to take before it begins is what it then asks for, or more
// where draws or staleness decide, whatever the method; a run that goes on from a
// saved state makes one rollout more. The multiply-adds are enough for a judge
// that is asked of every update and of the pictures at both ends, but not much
// more.
func TestEffortsAreWhatRunsTake(t *testing.T) {
	const (
		updates   = 2
		happy     = "condition={mood: happy}"
		condition = "variables=[condition]"
		guided    = "guidance_scale=2"
	)
	m, err := LoadModel(glasses(t), OpenBuiltin)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		drawn     bool // how many calls are made is not known beforehand
		overrides []string
	}{
		"sdo":                   {},
		"sdo of the condition":  {true, []string{condition, happy, guided, "method={name: sdo}"}},
		"sdo of the scale":      {false, []string{"variables=[latents, guidance_scale]", happy}},
		"sdo of noises":         {false, []string{"variables=[latents, noises]", "sampler.name=ddpm"}},
		"full of the condition": {false, []string{condition, happy, guided, "method={name: full}"}},
		"full-checkpoint":       {false, []string{"method={name: full-checkpoint}"}},
		"jump":                  {false, []string{"method={name: jump}"}},
		"draft-lv":              {false, []string{condition, happy, guided, "method={name: draft-lv}"}},
		"refl":                  {true, []string{condition, "method={name: refl}"}},
		"alignprop":             {true, []string{condition, "method={name: alignprop}"}},
		"stale-1":               {true, []string{"method={name: stale-1}"}},
		"stale at once":         {true, []string{"method={name: stale-1, refresh: {batched: true}}", happy, guided}},
		"picture of the scale":  {false, []string{"variables=[guidance_scale]", happy, "start={seed: 7, index: 3, strength: 0.6}"}},
		"guided picture":        {false, []string{happy, guided, "start={seed: 7, index: 3, strength: 0.6}"}},
		"heun":                  {false, []string{"sampler.name=heun"}},
	} {
		t.Run(name, func(t *testing.T) {
			exec := &metered{Executor: cpu.New[float32](cpu.Options{})}
			r := glasses(t, append([]string{"num_images=1", "sampler.num_inference_steps=3", "updates=2", "guards.early_stop=false", "guards.drift_limit=0"}, test.overrides...)...)
			p, err := NewPlan(r, m, nil, PlanOptions{Storage: graph.F32})
			if err != nil {
				t.Fatal(err)
			}
			s, err := NewSession(exec, p)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			var saved *sdo.RunState
			show := func(e sdo.Event) { // as a page does
				if e.Kind != sdo.EventUpdate {
					return
				}
				if _, err := s.Approve(context.Background(), e.State); err != nil {
					t.Fatal(err)
				}
			}
			report := func(result *sdo.Result) {
				for _, images := range [][]float64{result.Before, result.Samples} {
					if _, err := s.Verdicts(context.Background(), images); err != nil {
						t.Fatal(err)
					}
				}
			}
			e := s.Efforts()
			said := e.Inversion.Plus(e.Rollout).Plus(e.Update.Plus(e.Rollout).Times(updates))
			check := func(what string, got sdo.Counters, want Effort) {
				t.Helper()
				calls, backward := got.NetworkCalls, got.BackwardCalls
				if calls > want.NetworkCalls || backward > want.BackwardCalls || !test.drawn && (calls != want.NetworkCalls || backward != want.BackwardCalls) {
					t.Errorf("%s: %d network calls and %d differentiated, said were %d and %d", what, calls, backward, want.NetworkCalls, want.BackwardCalls)
				}
				if exec.made > want.MultiplyAdds || !test.drawn && float64(want.MultiplyAdds) > 1.1*float64(exec.made) {
					t.Errorf("%s: %d multiply-adds, said were %d", what, exec.made, want.MultiplyAdds)
				}
			}
			var then int64
			exec.made = 0
			result, err := s.Steer(context.Background(), func(e sdo.Event) {
				show(e)
				if e.Kind == sdo.EventUpdate && e.Update == 1 {
					saved, _ = e.Save(context.Background())
					then = exec.made
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			report(result)
			check("whole", result.Counters, said)
			exec.made = then
			if result, err = s.SteerFrom(context.Background(), saved, show); err != nil {
				t.Fatal(err)
			}
			report(result)
			check("in two parts", result.Counters, said.Plus(e.Rollout))
			if calls, backward := s.Cost(); calls != e.Rollout.NetworkCalls+e.Update.NetworkCalls || backward != e.Update.BackwardCalls {
				t.Errorf("an update costs %d calls and %d differentiated, its efforts are %+v and %+v", calls, backward, e.Rollout, e.Update)
			}
		})
	}
}

// A recipe that only samples is said to take its steps and no more; one that makes
// no updates, its score, the judge's early stop and three more looks besides.
func TestEffortsWithoutUpdates(t *testing.T) {
	exec := &metered{Executor: cpu.New[float32](cpu.Options{})}
	sample := glasses(t, "objective=[]", "updates=0")
	sample.Updates = 2 // which a program may leave where it means to sample
	s := session(t, exec, sample, graph.F32)
	exec.made = 0
	if _, err := s.Sample(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	e := s.Efforts()
	if want := (Effort{NetworkCalls: 4, MultiplyAdds: exec.made}); e.Rollout != want || e.Update != (Effort{}) {
		t.Errorf("%+v, want a rollout of %+v", e, want)
	}
	s = session(t, exec, glasses(t, "updates=0", "guards.early_stop=judge"), graph.F32)
	exec.made = 0
	result, err := s.Steer(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := s.Verdicts(context.Background(), result.Samples); err != nil {
			t.Fatal(err)
		}
	}
	e = s.Efforts()
	if want := (Effort{NetworkCalls: 4, MultiplyAdds: exec.made}); e.Rollout != want || e.Update != (Effort{}) {
		t.Errorf("%+v, want a rollout of %+v", e, want)
	}
}

// An adapter that is differentiated is a branch beside its layers, which is more
// to compute than the merged weights of every other call.
func TestEffortsOfAnAdapter(t *testing.T) {
	exec := &metered{Executor: cpu.New[float32](cpu.Options{})}
	s := session(t, exec, glasses(t, `variables={parameters: {lora: {rank: 8, targets: ["**"]}}}`, "method={name: draft-2}",
		"updates=1", "guards={latent_norm: none, early_stop: false}"), graph.F32)
	exec.made = 0
	if _, err := sdo.Run(context.Background(), s.Problem(), s.Options(), nil); err != nil {
		t.Fatal(err)
	}
	e, last := s.Efforts(), s.effort(sdo.Work{Kept: 2, Gradients: 1})
	said := e.Rollout.Times(2).Plus(e.Update).MultiplyAdds - last.MultiplyAdds - 2*looks*forward(s.reading.plan)
	if said != exec.made {
		t.Errorf("%d multiply-adds, said were %d", exec.made, said)
	}
}

// The small model takes about 38 million multiply-adds for a picture, forward.
func TestMultiplyAddsGrowWithPictures(t *testing.T) {
	of := func(pictures string) Efforts {
		r := glasses(t, "num_images="+pictures)
		m, err := LoadModel(r, OpenBuiltin)
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewPlan(r, m, nil, m.Options())
		if err != nil {
			t.Fatal(err)
		}
		return p.Efforts()
	}
	one, three := of("1"), of("3")
	for part, pair := range map[string][2]Effort{"rollout": {one.Rollout, three.Rollout}, "update": {one.Update, three.Update}} {
		if ratio := float64(pair[1].MultiplyAdds) / float64(pair[0].MultiplyAdds); math.Abs(ratio-3) > 0.05 {
			t.Errorf("%s: three pictures take %.2f times one's multiply-adds", part, ratio)
		}
	}
	perCall := one.Rollout.MultiplyAdds / int64(one.Rollout.NetworkCalls)
	if perCall < 35e6 || perCall > 55e6 {
		t.Errorf("a call of one picture, its share of the loss with it, takes %d multiply-adds", perCall)
	}
}
