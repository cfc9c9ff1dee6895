package engine

import (
	"errors"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// glassesTuning is the embedded tuning recipe, small enough for a test.
func glassesTuning(t *testing.T, overrides ...string) *recipes.Recipe {
	t.Helper()
	small := []string{"sampler.num_inference_steps=2", "tune.batch_size=2", "tune.eval_images=3", "tune.eval_every=2", "updates=4", "objective.0.copies=1",
		"variables.parameters.lora.rank=1", "guards.early_stop=false", "guards.drift_limit=0", "tune.keep=0"}
	var set []recipes.Override
	for _, o := range append(small, overrides...) {
		path, value, _ := strings.Cut(o, "=")
		set = append(set, recipes.Override{Path: path, Value: value, From: "test"})
	}
	r, err := recipes.Find("everyone-wears-glasses", nil, set...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func tuningPlan(t *testing.T, r *recipes.Recipe) *TuningPlan {
	t.Helper()
	m, err := LoadModel(r, OpenBuiltin)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewTuningPlan(r, m, nil, m.Options())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newTuning(t *testing.T, r *recipes.Recipe) *Tuning {
	t.Helper()
	exec := cpu.New[float32](cpu.Options{})
	tuning, err := NewTuning(t.Context(), exec, tuningPlan(t, r), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tuning.Close()
		if u := exec.Usage(); u.Vectors != 0 || u.Params != 0 || u.Activations > 0 && tuning.tuner == nil {
			t.Errorf("still holds %+v", u)
		}
		exec.Close()
	})
	return tuning
}

// train makes all updates and returns the looks.
func (t *Tuning) train(tb testing.TB) (looks []*Evaluation) {
	tb.Helper()
	for !t.Done() {
		_, look, err := t.Step(tb.Context())
		if err != nil {
			tb.Fatal(err)
		}
		if look != nil {
			looks = append(looks, look)
		}
	}
	return looks
}

func (t *Tuning) finish(tb testing.TB) *Tuned {
	tb.Helper()
	tuned, err := t.Finish(tb.Context(), model.F16)
	if err != nil {
		tb.Fatal(err)
	}
	return tuned
}

// selects is what trains parameters of the network itself.
const selects = `variables.parameters={select: ["conv_out.*", "**.to_q.*"]}`

// The plan is what the device holds, to the byte.
func TestTuningMemory(t *testing.T) {
	for name, overrides := range map[string][]string{
		"lora":         nil,
		"select":       {selects},
		"everything":   {"tune.accumulate=2", "tune.ema_decay=0.9", "tune.keep=1", "method={name: drtune-2}", "guards.drift_limit=1"},
		"full, sgd":    {"method={name: full}", "optimizer={name: sgd, lr: 0.1}"},
		"checkpointed": {"method={name: full-checkpoint}"},
		"re-noised":    {"method={name: draft-lv}"},
		"guided":       {"condition={mood: happy}", "guidance_scale=2"},
		"noisy":        {"sampler.name=ddpm", "method={name: alignprop}"},
	} {
		t.Run(name, func(t *testing.T) {
			r := glassesTuning(t, append(overrides, "updates=1")...)
			plan := tuningPlan(t, r)
			exec := cpu.New[float32](cpu.Options{})
			defer exec.Close()
			want := plan.Memory(exec)
			tuning, err := NewTuning(t.Context(), exec, plan, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer tuning.Close()
			tuning.train(t)
			if got := exec.Usage(); got.Params != want.Params || got.PeakActivations != want.Activations || got.Vectors != want.States {
				t.Errorf("holds %+v, planned %+v", got, want)
			}
		})
	}
}

// A tuning that is stopped anywhere and continued elsewhere ends in the same
// bits: the parameters, every look, and what the guards decide.
func TestResumedTuningEndsInTheSameBits(t *testing.T) {
	for name, overrides := range map[string][]string{
		"lora":   {"tune.ema_decay=0.5", "tune.keep=1", "sampler.name=ddpm"},
		"select": {selects, "optimizer.lr=0.01", "guards.drift_limit=0.05"},
	} {
		t.Run(name, func(t *testing.T) {
			r := glassesTuning(t, overrides...)
			whole := newTuning(t, r)
			wantLooks := whole.train(t)
			want := whole.finish(t)
			if name == "select" && (whole.Stopped() != StoppedDrift || whole.Update() != 2 && whole.Update() != 4) {
				t.Fatalf("stopped by %q after %d updates; the test wants the drift guard at work", whole.Stopped(), whole.Update())
			}
			for stop := range whole.Update() {
				first := newTuning(t, r)
				var looks []*Evaluation
				for range stop {
					_, look, err := first.Step(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if look != nil {
						looks = append(looks, look)
					}
				}
				tensors, metadata, err := first.Checkpoint(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				file := filepath.Join(t.TempDir(), "checkpoint.safetensors")
				if err := model.SaveSafetensors(file, tensors, model.F32, metadata); err != nil {
					t.Fatal(err)
				}
				if _, _, err := first.Step(t.Context()); err != nil { // and is killed
					t.Fatal(err)
				}
				if tensors, metadata, err = model.LoadSafetensors(os.DirFS(filepath.Dir(file)), filepath.Base(file)); err != nil {
					t.Fatal(err)
				}
				second := newTuning(t, r)
				if err := second.Restore(t.Context(), tensors, metadata); err != nil {
					t.Fatal(err)
				}
				looks = append(looks, second.train(t)...)
				for i, look := range looks {
					if !slices.Equal(look.Images, wantLooks[i].Images) || look.Loss != wantLooks[i].Loss || look.Drift != wantLooks[i].Drift {
						t.Errorf("stopped after %d: look %d differs", stop, i)
					}
				}
				got := second.finish(t)
				if got.Update != want.Update || !slices.Equal(got.Look.Images, want.Look.Images) || second.Stopped() != whole.Stopped() {
					t.Errorf("stopped after %d: ended at %d by %q, want %d by %q", stop, got.Update, second.Stopped(), want.Update, whole.Stopped())
				}
				for name, tensor := range want.Weights {
					if !slices.Equal(got.Weights[name].Data, tensor.Data) {
						t.Errorf("stopped after %d: %s differs", stop, name)
					}
				}
			}
		})
	}
}

// What the drift guard keeps are the numbers of the last look within its limit;
// of none, those the network began with.
func TestDriftGuardOfTuning(t *testing.T) {
	free := newTuning(t, glassesTuning(t, "optimizer.lr=0.02", "tune.eval_every=1"))
	looks := free.train(t)
	if !(looks[0].Drift > 0 && looks[1].Drift > looks[0].Drift) {
		t.Fatalf("drifts %v and %v; the test wants them to rise", looks[0].Drift, looks[1].Drift)
	}
	limit := (looks[0].Drift + looks[1].Drift) / 2
	r := glassesTuning(t, "optimizer.lr=0.02", "tune.eval_every=1")
	r.Guards.DriftLimit = limit
	guarded := newTuning(t, r)
	guarded.train(t)
	tuned := guarded.finish(t)
	if guarded.Stopped() != StoppedDrift || guarded.Update() != 2 || tuned.Update != 1 || tuned.Look.Update != 1 {
		t.Errorf("stopped by %q after %d updates with those of update %d", guarded.Stopped(), guarded.Update(), tuned.Update)
	}
	if math.Abs(tuned.Look.Drift-looks[0].Drift) > 1e-3 {
		t.Errorf("drift %v of what is kept, want that of the first look, %v", tuned.Look.Drift, looks[0].Drift)
	}

	r.Guards.DriftLimit = 1e-9
	none := newTuning(t, r)
	none.train(t)
	if tuned := none.finish(t); tuned.Update != 0 || tuned.Look.Drift != 0 {
		t.Errorf("kept update %d with drift %v, want the untuned network", tuned.Update, tuned.Look.Drift)
	}
}

// The guards stop once nearly all held-out pictures are good.
func TestEarlyStopOfTuning(t *testing.T) {
	// Something that the judge sees in all of them anyway.
	everywhere := ""
	for _, a := range newTuning(t, glassesTuning(t)).Before().Attributes {
		if k := slices.Index(a.Shares, 1); k >= 0 {
			everywhere = "objective=[{term: attribute, attribute: " + a.Name + ", value: \"" + a.Values[k] + "\", copies: 1}]"
		}
	}
	for want, overrides := range map[Stopped][]string{
		StoppedObjective: {"guards.early_stop=true", "objective.0.stop_below=1000"},
		StoppedJudge:     {"guards.early_stop=judge", everywhere},
		StoppedNot:       {"guards.early_stop=true", "objective.0.stop_below=0"},
	} {
		tuning := newTuning(t, glassesTuning(t, append(overrides, "optimizer.lr=1e-6")...))
		tuning.train(t)
		if tuning.Stopped() != want || (want == StoppedNot) != (tuning.Update() == 4) {
			t.Errorf("stopped by %q after %d updates, want %q", tuning.Stopped(), tuning.Update(), want)
		}
	}
}

// The judge only reports: with another judge or none, the same is trained.
func TestTheJudgeTakesNoPartInTuning(t *testing.T) {
	run := func(judge bool) model.Weights {
		r := glassesTuning(t)
		m, err := LoadModel(r, OpenBuiltin)
		if err != nil {
			t.Fatal(err)
		}
		if !judge {
			m.Judge = nil
		}
		p, err := NewTuningPlan(r, m, nil, m.Options())
		if err != nil {
			t.Fatal(err)
		}
		exec := cpu.New[float32](cpu.Options{})
		defer exec.Close()
		tuning, err := NewTuning(t.Context(), exec, p, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tuning.Close()
		tuning.train(t)
		tuned := tuning.finish(t)
		if judge == (tuned.Look.Attributes == nil) {
			t.Errorf("attributes %v", tuned.Look.Attributes)
		}
		return tuned.Weights
	}
	with, without := run(true), run(false)
	for name, tensor := range with {
		if !slices.Equal(without[name].Data, tensor.Data) {
			t.Errorf("%s differs", name)
		}
	}
}

// The files of an adapter make the pictures of the last look again, by either
// name and merged; half its scale is something between.
func TestTunedLoRAIsUsed(t *testing.T) {
	r := glassesTuning(t, "optimizer.lr=0.02", "tune.batch_size=3")
	tuning := newTuning(t, r)
	tuning.train(t)
	tuned := tuning.finish(t)
	if tuned.Look.Drift < 0.02 {
		t.Fatalf("drift %v, too little to tell", tuned.Look.Drift)
	}
	dir := t.TempDir()
	lora := tuning.LoRA(tuned)
	if err := lora.SavePEFT(dir, model.F16); err != nil {
		t.Fatal(err)
	}
	kohya := filepath.Join(dir, "kohya.safetensors")
	if err := lora.SaveKohya(kohya, model.F16); err != nil {
		t.Fatal(err)
	}
	pictures := func(adapter *recipes.Adapter) []float64 {
		s := glassesTuning(t)
		s.Variables, s.Tune = map[string]recipes.Variable{"latents": {}}, nil
		s.NumImages, s.Updates, s.Objective, s.LoRA = 3, 0, nil, adapter
		m, err := LoadModel(s, onDisk)
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewPlan(s, m, nil, m.Options())
		if err != nil {
			t.Fatal(err)
		}
		exec := cpu.New[float32](cpu.Options{})
		defer exec.Close()
		session, err := NewSession(exec, p)
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close()
		if err := exec.Write(t.Context(), session.start, noiseFrom(s.Seed, sdo.HeldOut, p.Shape)); err != nil {
			t.Fatal(err)
		}
		images, err := session.Sample(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return images
	}
	for _, path := range []string{dir, kohya} {
		if off := MeanDrift(pictures(&recipes.Adapter{Path: path, Scale: 1}), tuned.Look.Images, 3); off > 1e-4 {
			t.Errorf("%s: pictures differ by %v from the last look", path, off)
		}
	}
	before, half := tuning.Before().Images, pictures(&recipes.Adapter{Path: dir, Scale: 0.5})
	if off := MeanDrift(pictures(&recipes.Adapter{Path: dir, Scale: 0}), before, 3); off > 1e-4 {
		t.Errorf("scale 0 differs by %v from the model", off)
	}
	if near := MeanDrift(half, before, 3); near < 0.1*tuned.Look.Drift || near > 0.9*tuned.Look.Drift {
		t.Errorf("at half the scale pictures moved %v of %v", near, tuned.Look.Drift)
	}
	unet, err := tuning.UNet(tuned)
	if err != nil || maps.EqualFunc(unet.Weights, tuning.Model.UNet.Weights, func(a, b model.Tensor) bool { return slices.Equal(a.Data, b.Data) }) {
		t.Errorf("merging changed nothing: %v", err)
	}
}

func onDisk(name string) (fs.FS, error) {
	if files, err := OpenBuiltin(name); err == nil {
		return files, nil
	}
	return os.DirFS(name), nil
}

// Untuned is the network as it was, and leaves it as it is.
func TestUntuned(t *testing.T) {
	for name, overrides := range map[string][]string{"lora": nil, "select": {selects}} {
		tuning := newTuning(t, glassesTuning(t, append(overrides, "optimizer.lr=0.02", "tune.batch_size=3")...))
		looks := tuning.train(t)
		var was *Evaluation
		err := tuning.denoiser.Untuned(t.Context(), func() (err error) {
			was, err = tuning.look(t.Context())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(was.Images, tuning.before.Images) {
			t.Errorf("%s: the untuned network is another one", name)
		}
		now, err := tuning.look(t.Context())
		if err != nil || !slices.Equal(now.Images, looks[len(looks)-1].Images) {
			t.Errorf("%s: the network is not what it was before: %v", name, err)
		}
		failure := errors.New("stop")
		if err := tuning.denoiser.Untuned(t.Context(), func() error { return failure }); err != failure {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Shares add up, and their shift is the total variation distance.
func TestDistribution(t *testing.T) {
	attributes := model.Attributes{{Name: "hat", Values: []string{"no", "yes"}}, {Name: "mood", Values: []string{"sad", "calm", "happy"}}}
	got := distribution(attributes, [][]int{{0, 2}, {1, 2}, {0, 0}, {0, 2}})
	if !slices.Equal(got[0].Shares, []float64{0.75, 0.25}) || !slices.Equal(got[1].Shares, []float64{0.25, 0, 0.75}) {
		t.Errorf("shares %v", got)
	}
	tuning := newTuning(t, glassesTuning(t, "optimizer.lr=0.05"))
	looks := tuning.train(t)
	last := looks[len(looks)-1]
	if len(last.Images) != 3*3*16*16 || len(last.Approved) != 3 || !(last.Loss < tuning.Before().Loss) {
		t.Errorf("%d numbers, %d verdicts, loss %v from %v", len(last.Images), len(last.Approved), last.Loss, tuning.Before().Loss)
	}
	for i, a := range last.Attributes {
		distance := 0.0
		for k := range a.Shares {
			distance += math.Abs(a.Shares[k]-tuning.before.Attributes[i].Shares[k]) / 2
		}
		if a.Shift != distance || math.Abs(sum(a.Shares)-1) > 1e-12 {
			t.Errorf("%s: shares %v, shift %v, want %v", a.Name, a.Shares, a.Shift, distance)
		}
	}
}

func sum(x []float64) (total float64) {
	for _, v := range x {
		total += v
	}
	return total
}

func TestTuningPlanRefuses(t *testing.T) {
	for want, overrides := range map[string][]string{
		"variables: latents would change with the parameters":   {"variables={latents: {}, parameters: {lora: {rank: 1}}}", "method={name: full}"},
		"has no objective to train towards":                     {"objective=[]", "updates=0"},
		"start: a tuning begins every picture from fresh noise": {"start={image: x.png}"},
		`pattern "nothing" names`:                               {`variables.parameters.lora.targets=["nothing"]`},
		`pattern "nothing" names nothing`:                       {`variables={parameters: {select: ["nothing"]}}`},
	} {
		r := glassesTuning(t, overrides...)
		m, err := LoadModel(r, OpenBuiltin)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = NewTuningPlan(r, m, nil, PlanOptions{Storage: graph.F16}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	r := glasses(t)
	m, err := LoadModel(r, OpenBuiltin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = NewTuningPlan(r, m, nil, PlanOptions{Storage: graph.F16}); err == nil || !strings.Contains(err.Error(), "variables: latents") {
		t.Errorf("a steering recipe: got %v", err)
	}
}

// A plan tells how many steps of the sampler come, for a display of what is left.
func TestTuningTellsItsSteps(t *testing.T) {
	for _, overrides := range [][]string{nil, {"tune.keep=0.5", "tune.accumulate=2", "updates=3"}} {
		r := glassesTuning(t, overrides...)
		exec := cpu.New[float32](cpu.Options{})
		defer exec.Close()
		p, steps := tuningPlan(t, r), 0
		tuning, err := NewTuning(t.Context(), exec, p, func(e sdo.Event) {
			if e.Kind == sdo.EventStep {
				steps++
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		defer tuning.Close()
		if steps != p.LookSteps() {
			t.Errorf("%v: a first look of %d steps, planned %d", overrides, steps, p.LookSteps())
		}
		for !tuning.Done() {
			steps = 0
			e, look, err := tuning.Step(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := p.UpdateSteps()
			if p.Looked(e.Update) {
				want += p.LookSteps()
			}
			if steps != want || (look != nil) != p.Looked(e.Update) {
				t.Errorf("%v: update %d of %d steps, planned %d, look %v", overrides, e.Update, steps, want, look != nil)
			}
		}
	}
}
