package sdo

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/sdo-go/sdo/sampler"
)

// saved is what an observer saw of a run: every update, the state saved at it and
// what its sample cost.
type saved struct {
	updates []Event // with samples in place of what the run owns
	samples [][]float64
	states  []*RunState // once through JSON
	costs   []Counters
}

// saving runs a problem and saves it at every update.
func saving(t *testing.T, ctx context.Context, p Problem, o Options, also Observer) (*Result, saved, error) {
	t.Helper()
	var s saved
	var since Counters // at the latest update, or what was differentiated since
	if o.Resume != nil {
		since = o.Resume.Result.Counters
	}
	r, err := Run(ctx, p, o, func(e Event) {
		if also != nil {
			defer also(e)
		}
		before := since
		if e.Kind != EventStep {
			since = e.Counters
		}
		if e.Kind != EventUpdate {
			if e.Save != nil {
				t.Errorf("a %s event can save", e.Kind)
			}
			return
		}
		state, err := e.Save(context.WithoutCancel(ctx))
		if err != nil {
			t.Fatal(err)
		}
		s.states = append(s.states, throughJSON(t, state))
		s.costs = append(s.costs, Counters{NetworkCalls: e.Counters.NetworkCalls - before.NetworkCalls, KeptCalls: e.Counters.KeptCalls - before.KeptCalls})
		s.samples = append(s.samples, slices.Clone(numbers(e.State)))
		counters := e.Counters
		e.State, e.Values, e.Save, e.Counters = nil, Values{}, nil, Counters{}
		s.updates = append(s.updates, e)
		// The state is the observer's own.
		for _, x := range state.Tensors {
			x[0] = 1e9
		}
		result := state.Result
		result.Losses[0][0], result.BestLoss[0], result.BestUpdate[0], result.RowUpdates[0] = -1e9, -1e9, 99, 99
		result.Stopped[0], result.Drifted[0], state.Norms[0] = true, true, 1e9
		if counters.KeptBytes != 0 && result.KeptBytes != 0 {
			t.Errorf("a state says that %d bytes are kept", result.KeptBytes)
		}
	})
	if live := p.Space.(*slices64).live; live != 1 || analyticOf(p).kept != 0 {
		t.Errorf("%d vectors and %d kept calls left", live, analyticOf(p).kept)
	}
	return r, s, err
}

// throughJSON writes a state and reads it back.
func throughJSON(t *testing.T, s *RunState) *RunState {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back RunState
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*s, back) {
		t.Errorf("a state changes on its way through JSON:\n%+v\n%+v", *s, back)
	}
	return &back
}

// shining is a judge that approves of bright samples.
type shining struct{ above float64 }

func (s shining) Approve(_ context.Context, x Vector) ([]bool, error) {
	approved := make([]bool, testRows)
	for row := range approved {
		approved[row] = numbers(x)[row*testCols]+numbers(x)[row*testCols+2] > s.above
	}
	return approved, nil
}

// resumable are runs whose every part of the state matters somewhere.
var resumable = map[string]func(t *testing.T) (Problem, Options){
	"sdo, early stop": func(t *testing.T) (Problem, Options) {
		p, o := steer(t), options(30)
		o.EarlyStop, o.StopBelow = EarlyStopObjective, 0.6
		return p, o
	},
	"sdo, norm of the start, whitened": func(t *testing.T) (Problem, Options) {
		p, o := steer(t), options(6)
		o.NormStart = true
		for row := range testRows {
			numbers(p.Start)[row*testCols] += float64(row)
		}
		o.Whiten = func(_ context.Context, noise Vector, moved []bool) error {
			for i, x := range numbers(noise) {
				if moved[i/testCols] {
					numbers(noise)[i] = max(-1.3, min(1.3, x))
				}
			}
			return nil
		}
		return p, o
	},
	"full, adamw, clipped, norm penalty": func(t *testing.T) (Problem, Options) {
		p, o := steer(t), options(6)
		o.Surrogate, o.NormGuard, o.MaxGradNorm = named(t, MethodFull, Latents), NormPenalty, 0.4
		o.Vary[0].Optimizer = Optimizer{Rule: AdamW, LR: 0.1, Beta1: 0.7, Beta2: 0.99, Eps: 1e-8, WeightDecay: 0.1}
		return p, o
	},
	"checkpointed, judge": func(t *testing.T) (Problem, Options) {
		p, o := steer(t), options(12)
		o.Surrogate, o.EarlyStop, o.NormGuard = named(t, MethodFullCheckpoint, Latents), EarlyStopJudge, NormNone
		p.Judge = shining{1.3}
		return p, o
	},
	"identity, sgd, overshoots": func(t *testing.T) (Problem, Options) {
		p, o := steer(t), options(8)
		o.Surrogate, o.NormGuard = named(t, MethodIdentity, Latents), NormNone
		o.Vary[0].Optimizer = Optimizer{Rule: SGD, LR: 0.3, WeightDecay: 0.01}
		return p, o
	},
	"drift limit": func(t *testing.T) (Problem, Options) {
		p, o := steer(t), options(20)
		o.NormGuard, o.DriftLimit = NormNone, 0.8
		return p, o
	},
	"jump": func(t *testing.T) (Problem, Options) {
		p, o := steer(t), options(6)
		o.Surrogate = named(t, MethodJump, Latents)
		return p, o
	},
	"several memories, all refreshed": func(t *testing.T) (Problem, Options) {
		p, o := steered(tables(t, sampler.PredictEpsilon, 5)["dpmpp-2m"]), options(6)
		o.Surrogate = named(t, "stale-2", Latents)
		o.Surrogate.Refresh.Every = 1
		return p, o
	},
	"latents and noises": func(t *testing.T) (Problem, Options) {
		p, o := running(t, MethodSDO, 6, Latents, Noises)
		o.NormGuard = NormProject
		o.Vary[1].Optimizer = Optimizer{Rule: SGD, LR: 0.1}
		return p, o
	},
	"noises alone": func(t *testing.T) (Problem, Options) { return running(t, MethodFull, 5, Noises) },
	"condition, drawn calls": func(t *testing.T) (Problem, Options) {
		p, o := running(t, MethodSDO, 8, Condition)
		o.Vary[0].Optimizer.LR = 0.5
		return p, o
	},
	"guidance scale": func(t *testing.T) (Problem, Options) {
		return running(t, MethodIdentity, 5, Latents, GuidanceScale)
	},
	"parameters, renoised": func(t *testing.T) (Problem, Options) { return running(t, MethodDRaFTLV, 5, Parameters) },
	"parameters, joint early stop": func(t *testing.T) (Problem, Options) {
		p, o := running(t, "draft-2", 30, Parameters)
		o.EarlyStop, o.StopBelow = EarlyStopObjective, 3.5
		o.Vary[0].Optimizer.LR = 0.1
		return p, o
	},
	"parameters, joint drift": func(t *testing.T) (Problem, Options) {
		p, o := running(t, MethodSDO, 30, Parameters)
		o.DriftLimit = 0.8
		return p, o
	},
	"everything, overshoots": func(t *testing.T) (Problem, Options) {
		p, o := running(t, MethodSDO, 8, Variables...)
		for k := range o.Vary {
			o.Vary[k].Optimizer.LR = 0.5
		}
		return p, o
	},
}

// weightsOf are the parameters a network ends with, as it computes with them.
func weightsOf(p Problem) (all []float64) {
	if trained, ok := analyticOf(p).rowNetwork.(trainedRow); ok {
		all = slices.Concat(trained.weights()...)
	}
	return all
}

// wantSame holds what came of a resumed run against the uninterrupted one, but
// for what it cost.
func wantSame(t *testing.T, what string, got, want *Result, p, q Problem) {
	t.Helper()
	g, w := *got, *want
	g.Counters, w.Counters = Counters{}, Counters{}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("%s:\n%+v\nuninterrupted:\n%+v", what, g, w)
	}
	if !slices.Equal(weightsOf(p), weightsOf(q)) {
		t.Errorf("%s: the network is left with other parameters", what)
	}
}

// A run that goes on from any of its updates ends as if it had never stopped, to
// the last bit, and tells the same; it costs the rollout of that update more.
func TestResumedRunGoesOn(t *testing.T) {
	for name, begin := range resumable {
		t.Run(name, func(t *testing.T) {
			p, o := begin(t)
			want, told, err := saving(t, t.Context(), p, o, nil)
			if err != nil {
				t.Fatal(err)
			}
			q, o := begin(t)
			wantSame(t, "without saving", mustRun(t, q, o), want, q, p)
			rollout := len(p.Table.Steps)
			if p.Cond != nil {
				rollout *= 2
			}
			for u, state := range told.states {
				q, o := begin(t)
				o.Resume = state
				before := throughJSON(t, state)
				got, again, err := saving(t, t.Context(), q, o, nil)
				if err != nil {
					t.Fatal(err)
				}
				wantSame(t, "resumed", got, want, q, p)
				if !reflect.DeepEqual(again.updates, told.updates[u:]) || !reflect.DeepEqual(again.samples, told.samples[u:]) {
					t.Errorf("resumed at update %d: told\n%+v\nuninterrupted:\n%+v", u, again.updates, told.updates[u:])
				}
				total := want.Counters
				total.NetworkCalls += rollout
				total.KeptCalls += told.costs[u].KeptCalls
				if got.Counters != total || told.costs[u].NetworkCalls != rollout {
					t.Errorf("resumed at update %d: %+v, want %+v", u, got.Counters, total)
				}
				if !reflect.DeepEqual(state, before) {
					t.Errorf("the state of update %d was used up", u)
				}
			}
		})
	}
}

// The runs of TestResumedRunGoesOn are such that something of each part of the
// state is at stake.
func TestResumableRunsTestSomething(t *testing.T) {
	run := func(name string) *Result {
		p, o := resumable[name](t)
		return mustRun(t, p, o)
	}
	for _, name := range []string{"sdo, early stop", "checkpointed, judge"} {
		if r := run(name); slices.Max(r.RowUpdates) == slices.Min(r.RowUpdates) || !slices.Contains(r.Stopped, true) || r.Updates < 3 {
			t.Errorf("%s: %v updates, stopped %v", name, r.RowUpdates, r.Stopped)
		}
	}
	if r := run("drift limit"); !slices.Contains(r.Drifted, true) || !slices.Contains(r.Drifted, false) {
		t.Errorf("drifted %v", r.Drifted)
	}
	for _, name := range []string{"parameters, joint early stop", "parameters, joint drift"} {
		if r := run(name); r.Updates < 3 || r.Updates == 30 {
			t.Errorf("%s: ends after %d updates: %v", name, r.Updates, r.Losses)
		}
	}
	for _, name := range []string{"identity, sgd, overshoots", "everything, overshoots", "condition, drawn calls"} {
		if r := run(name); slices.Min(r.BestUpdate) == r.Updates || slices.Max(r.BestUpdate) == 0 {
			t.Errorf("%s: best updates %v", name, r.BestUpdate)
		}
	}
}

// A run cut short again and again, by whatever, ends as if it had not been, and
// its counters say what was spent in all.
func TestRunInPieces(t *testing.T) {
	lost := errors.New("device lost")
	for _, how := range []string{"cancelled", "device lost", "as many updates as wanted"} {
		p, o := steer(t), options(7)
		want := mustRun(t, p, o)
		var state *RunState
		spent, pieces := 0, 0
		for done := false; !done; pieces++ {
			q, o := steer(t), options(7)
			o.Resume = state
			ctx, cancel := context.WithCancel(t.Context())
			net := analyticOf(q)
			updates := 0
			if how == "as many updates as wanted" {
				o.Updates = min(7, 2*pieces)
			}
			r, told, err := saving(t, ctx, q, o, func(e Event) {
				if e.Kind == EventUpdate {
					updates++
				}
				if updates != 2 || e.Kind != EventStep || e.Step != 3 {
					return
				}
				switch how {
				case "cancelled":
					cancel()
				case "device lost":
					net.before = func(int) error { return lost }
				}
			})
			cancel()
			if how == "device lost" && err != nil && !errors.Is(err, lost) || how != "device lost" && err != nil {
				t.Fatal(err)
			}
			state = told.states[len(told.states)-1]
			spent += net.calls
			// What was spent on an update that was never made is not on record.
			if how == "as many updates as wanted" && (r.NetworkCalls != spent || state.Result.NetworkCalls != spent) {
				t.Errorf("%s: %d network calls on record, %d in the state; %d were made", how, r.NetworkCalls, state.Result.NetworkCalls, spent)
			}
			done = err == nil && !r.Cancelled && o.Updates == 7
			if done {
				wantSame(t, how, r, want, q, p)
			}
		}
		if pieces < 4 {
			t.Errorf("%s: the test tests nothing: %d pieces", how, pieces)
		}
	}
}

// A resumed run that is cancelled before it has made its first sample again
// still has the best so far.
func TestCancelledAtOnceAfterResuming(t *testing.T) {
	for _, at := range []int{0, 3} {
		p, o := steer(t), options(7)
		_, told, err := saving(t, t.Context(), p, o, nil)
		if err != nil {
			t.Fatal(err)
		}
		p, o = steer(t), options(at)
		short := mustRun(t, p, o)
		p, o = steer(t), options(7)
		o.Resume = told.states[at]
		ctx, cancel := context.WithCancel(t.Context())
		analyticOf(p).before = func(int) error { cancel(); return nil }
		r, err := Run(ctx, p, o, nil)
		if err != nil || !r.Cancelled || analyticOf(p).calls != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		r.Cancelled = false
		wantSame(t, "cancelled at once", r, short, p, p)
		if r.NetworkCalls != 10*(at+1)+1 {
			t.Errorf("%d network calls on record", r.NetworkCalls)
		}
	}
}

// What a stale run had of earlier updates is gone: it makes every call at the
// update it goes on from, and its losses there are the sample's own.
func TestResumedStaleRunStartsFresh(t *testing.T) {
	begin := func() (Problem, Options) {
		p, o := steer(t), options(12)
		o.Surrogate = named(t, "stale-2", Latents)
		o.Surrogate.Refresh.Every = 5
		return p, o
	}
	p, o := begin()
	want, told, err := saving(t, t.Context(), p, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	differ := false
	for u, state := range told.states {
		q, o := begin()
		o.Resume = state
		got, again, err := saving(t, t.Context(), q, o, nil)
		if err != nil {
			t.Fatal(err)
		}
		if again.updates[0].Stale || got.Stale[u] || again.costs[0].NetworkCalls != 10 || len(got.Stale) != 13 {
			t.Errorf("resumed at update %d: made %d calls, stale %v", u, again.costs[0].NetworkCalls, got.Stale)
		}
		if !reflect.DeepEqual(got.Losses[:u], want.Losses[:u]) || !slices.Equal(got.Stale[:u], want.Stale[:u]) {
			t.Errorf("resumed at update %d: the record before it has changed", u)
		}
		if u%5 == 0 || u == 12 { // where the run itself made every call
			wantSame(t, "resumed where all was fresh", got, want, q, p)
			continue
		}
		differ = differ || !reflect.DeepEqual(got.Losses[u:], want.Losses[u:])
		check := mustSample(t, withLatents(q, state.Tensors["value/latents"]))
		if !slices.Equal(got.Losses[u], check.Losses[0]) {
			t.Errorf("resumed at update %d: losses %v, the sample's own are %v", u, got.Losses[u], check.Losses[0])
		}
	}
	if !differ {
		t.Error("the run tests nothing: no outputs were stale")
	}
}

// withLatents is a problem that begins elsewhere.
func withLatents(p Problem, x []float64) Problem {
	p.Start = &boxed{slices.Clone(x)}
	return p
}

// A run is saved while its observer is told of an update, and not later.
func TestSaveAfterTheEvent(t *testing.T) {
	var late func(context.Context) (*RunState, error)
	p := steer(t)
	if _, err := Run(t.Context(), p, options(1), func(e Event) {
		if e.Kind != EventUpdate {
			return
		}
		if late != nil {
			_, err := late(t.Context())
			wantError(t, err, "sdo: a run is saved while its observer is told of an update; call Save before the observer returns")
		}
		late = e.Save
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if state, err := e.Save(ended); state != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("saved %v, %v after the end of the context", state, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	_, err := late(t.Context())
	wantError(t, err, "sdo: a run is saved while its observer is told of an update; call Save before the observer returns")
}

// A state of another run is refused, before anything is done.
func TestStatesThatAreRefused(t *testing.T) {
	begin := func() (Problem, Options) { return running(t, MethodSDO, 4, Latents, Noises, Parameters) }
	p, o := begin()
	_, told, err := saving(t, t.Context(), p, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	type change = func(*Problem, *Options, *RunState)
	state := func(do func(*RunState)) change { return func(_ *Problem, _ *Options, s *RunState) { do(s) } }
	option := func(do func(*Options)) change { return func(_ *Problem, o *Options, _ *RunState) { do(o) } }
	for want, change := range map[string]change{
		"is after 3 updates, this run makes 2; raise updates":                                                               option(func(o *Options) { o.Updates = 2 }),
		"is after -1 updates, want 0 or more":                                                                               state(func(s *RunState) { s.Result.Updates = -1 }),
		"has losses of 3 updates, want those before the first of 3 and after each":                                          state(func(s *RunState) { s.Result.Losses = s.Result.Losses[1:] }),
		"has 2 losses of an update, this run has 3 rows; it belongs to another":                                             state(func(s *RunState) { s.Result.Losses[1] = s.Result.Losses[1][1:] }),
		"has 0 best losses, this run has 3 rows; it belongs to another":                                                     state(func(s *RunState) { s.Result.BestLoss = nil }),
		"has 4 best updates, this run has 3 rows; it belongs to another":                                                    state(func(s *RunState) { s.Result.BestUpdate = append(s.Result.BestUpdate, 1) }),
		"has 2 numbers of updates, this run has 3 rows; it belongs to another":                                              state(func(s *RunState) { s.Result.RowUpdates = s.Result.RowUpdates[1:] }),
		"has 2 rows stopped or not, this run has 3 rows; it belongs to another":                                             state(func(s *RunState) { s.Result.Stopped = s.Result.Stopped[1:] }),
		"has 2 rows drifted or not, this run has 3 rows; it belongs to another":                                             state(func(s *RunState) { s.Result.Drifted = s.Result.Drifted[1:] }),
		"has 2 latent norms, this run has 3 rows; it belongs to another":                                                    state(func(s *RunState) { s.Norms = s.Norms[1:] }),
		"has the best of row 1 at update 4, want 0 to 3":                                                                    state(func(s *RunState) { s.Result.BestUpdate[1] = 4 }),
		"has the best of row 2 at update -1, want 0 to 3":                                                                   state(func(s *RunState) { s.Result.BestUpdate[2] = -1 }),
		"is of a run that uses outputs of earlier updates, this one makes every call; resume with the same method":          state(func(s *RunState) { s.Result.Stale = make([]bool, 4) }),
		"has 0 numbers of value/latents, want 12; it belongs to another run":                                                state(func(s *RunState) { delete(s.Tensors, "value/latents") }),
		"has 11 numbers of before, want 12; it belongs to another run":                                                      state(func(s *RunState) { s.Tensors["before"] = s.Tensors["before"][1:] }),
		"has 0 numbers of best_sample, want 12; it belongs to another run":                                                  state(func(s *RunState) { s.Tensors["best_sample"] = nil }),
		"has 0 numbers of start, want 12; it belongs to another run":                                                        state(func(s *RunState) { delete(s.Tensors, "start") }),
		"has 0 numbers of exp_avg/noises/3, want 12; it belongs to another run":                                             state(func(s *RunState) { delete(s.Tensors, "exp_avg/noises/3") }),
		"has 1 numbers of exp_avg_sq/parameters/weight 1, want 24; it belongs to another run":                               state(func(s *RunState) { s.Tensors["exp_avg_sq/parameters/weight 1"] = []float64{1} }),
		"holds value/latent, which this run has not; it belongs to another":                                                 state(func(s *RunState) { s.Tensors["value/latent"] = nil }),
		"began with another latent in row 1; resume with the same seed or picture":                                          func(p *Problem, _ *Options, _ *RunState) { numbers(p.Start)[testCols] += 1e-4 },
		"began with another latent in row 2; resume with the same seed or picture":                                          state(func(s *RunState) { s.Tensors["start"][2*testCols] = math.NaN() }),
		"is of a run that moves nothing, this one moves latents by adam and noises by adam and parameters by adam; " + same: state(func(s *RunState) { s.Rules = nil }),
		"is of a run that moves latents by adam and noises by adam and parameters by adam, this one moves latents by adam; " + same: option(func(o *Options) {
			o.Vary, o.Surrogate.Active = o.Vary[:1], ActiveFirst
		}),
		"is of a run that moves latents by adam and noises by adam and parameters by adam, this one moves latents by adamw and noises by adam and parameters by adam; " + same: option(func(o *Options) {
			o.Vary[0].Optimizer.Rule = AdamW
		}),
	} {
		p, o := begin()
		o.Resume = throughJSON(t, told.states[3])
		change(&p, &o, o.Resume)
		before := weightsOf(p)
		r, err := Run(t.Context(), p, o, nil)
		wantError(t, err, "sdo: the state to resume from "+want)
		if r != nil || analyticOf(p).calls != 0 || analyticOf(p).changed != 0 || !slices.Equal(weightsOf(p), before) || !slices.Equal(before, slices.Concat(numbers(analyticOf(p).Params()[0].Value), numbers(analyticOf(p).Params()[1].Value))) {
			t.Errorf("%s: the run had begun", want)
		}
		wantNothingLeft(t, p)
	}

	stale := steer(t)
	_, told, err = saving(t, t.Context(), stale, options(2), nil)
	if err != nil {
		t.Fatal(err)
	}
	o = options(2)
	o.Surrogate, o.Resume = named(t, "stale-2", Latents), told.states[1]
	_, err = Run(t.Context(), steer(t), o, nil)
	wantError(t, err, "sdo: the state to resume from says of 0 updates whether they used outputs of earlier ones, want 2; resume with the same method")

	// Rounding is no other latent.
	p, o = steer(t), options(2)
	o.Resume = told.states[1]
	for i, x := range numbers(p.Start) {
		numbers(p.Start)[i] = float64(float32(x))
	}
	mustRun(t, p, o)
}

const same = "resume with the same variables and optimizers"
