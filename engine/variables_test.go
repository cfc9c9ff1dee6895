package engine

import (
	"context"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/sdo"
)

// Whatever varies, the loss falls, what was found is told, only what varies
// moves, and the plan counts what is held.
func TestEveryVariableSteers(t *testing.T) {
	happy := []string{"objective.0={term: attribute, attribute: mood, value: happy, copies: 2}", "guards.early_stop=false", "updates=6"}
	for _, c := range []struct {
		name string
		set  []string
	}{
		{"latents and noises", []string{"variables=[latents, noises]", "sampler.name=ddpm"}},
		{"noises", []string{"variables={noises: {lr: 0.1}}", "sampler.name=ddpm"}},
		{"guidance", []string{"variables={guidance_scale: {optimizer: sgd, lr: 0.5}}", "condition={mood: happy}", "guidance_scale=1"}},
		{"condition", []string{"variables=[condition]", "condition={mood: sad}"}},
		{"condition from nothing", []string{"variables=[condition]"}},
		{"condition under guidance, all calls", []string{"variables=[condition]", "condition={mood: sad}", "guidance_scale=2", "method.name=full"}},
		{"all of a picture's own", []string{"variables={latents: {lr: 0.05}, noises: {lr: 0.02}, condition: {optimizer: adamw, lr: 0.1, weight_decay: 0.01}, guidance_scale: {lr: 0.05}}",
			"condition={mood: sad}", "guidance_scale=1.5", "sampler.name=ddim", "sampler.eta=0.5"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			exec := cpu.New[float32](cpu.Options{})
			r := glasses(t, append(happy, c.set...)...)
			s := session(t, exec, r, graph.F32)
			ctx, most := context.Background(), int64(0)
			result, err := s.Steer(ctx, func(sdo.Event) { most = max(most, exec.Usage().Vectors) })
			if err != nil {
				t.Fatal(err)
			}
			if first, best := result.Losses[0][0]+result.Losses[0][1], result.BestLoss[0]+result.BestLoss[1]; !(best < first) {
				t.Errorf("the loss went from %g to %g", first, best)
			}
			varies := func(name string) bool { _, ok := r.Variables[name]; return ok }
			if (result.Noises != nil) != varies("noises") || (result.Condition != nil) != varies("condition") || (result.GuidanceScale != nil) != varies("guidance_scale") {
				t.Errorf("found %d noises, a condition of %d and %d scales", len(result.Noises), len(result.Condition), len(result.GuidanceScale))
			}
			began := Noise(r.Seed, s.Shape)
			if moved := relative(result.Latents, began) > 1e-6; moved != varies("latents") {
				t.Errorf("the latents moved: %v", moved)
			}
			// Beside states the ledger has a few losses.
			if planned := s.Memory(exec).States; most > planned+512 || most < planned*9/10 {
				t.Errorf("%d bytes of states planned, %d held", planned, most)
			}
		})
	}
}

// A judge that stops must have something to say.
func TestEarlyStopByTheJudge(t *testing.T) {
	m, err := LoadModel(glasses(t), OpenBuiltin)
	if err != nil {
		t.Fatal(err)
	}
	r := glasses(t, "guards.early_stop=judge", "sampler.num_inference_steps=10", "updates=40")
	p, err := NewPlan(r, m, nil, PlanOptions{Storage: graph.F32})
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSession(cpu.New[float32](cpu.Options{}), p)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := context.Background()
	result, err := s.Steer(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	verdicts, err := s.Verdicts(ctx, result.Samples)
	if err != nil {
		t.Fatal(err)
	}
	for row, stopped := range result.Stopped {
		if stopped != verdicts[row] || !stopped {
			t.Errorf("row %d: stopped %v after %d updates, the judge says %v", row, stopped, result.RowUpdates[row], verdicts[row])
		}
	}

	blind := *m
	blind.Judge = nil
	if _, err := NewPlan(r, &blind, nil, PlanOptions{Storage: graph.F32}); err == nil || !strings.Contains(err.Error(), "guards.early_stop: judge, but no classifier judges images of model avatars-16-s's size; name one with judge, or let the objective stop with true") {
		t.Errorf("without a judge: %v", err)
	}
}

// A picture that moves too far is left alone, and none beyond the limit kept.
func TestDriftLimit(t *testing.T) {
	const limit = 0.2
	s := session(t, cpu.New[float32](cpu.Options{}), glasses(t, "guards.drift_limit=0.2", "guards.early_stop=false", "updates=12"), graph.F32)
	result, err := s.Steer(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	cols := len(result.Samples) / 2
	for row := range 2 {
		if !result.Drifted[row] || !result.Stopped[row] || result.RowUpdates[row] == 12 {
			t.Errorf("row %d: drifted %v, stopped %v after %d updates", row, result.Drifted[row], result.Stopped[row], result.RowUpdates[row])
		}
		square := 0.0
		for i := row * cols; i < (row+1)*cols; i++ {
			square += (result.Samples[i] - result.Before[i]) * (result.Samples[i] - result.Before[i]) / float64(cols)
		}
		if square > limit*limit || result.BestUpdate[row] == 0 {
			t.Errorf("row %d: kept the sample of update %d, %.3g from the first; the limit is %v", row, result.BestUpdate[row], square, limit)
		}
	}
}
