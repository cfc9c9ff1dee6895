package engine

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/sdo"
)

// planted is a session of the embedded network, one of whose weights is changed.
func planted(t *testing.T, exec graph.Executor, name string, change func([]float32), overrides ...string) *Session {
	t.Helper()
	r := glasses(t, overrides...)
	m, err := LoadModel(r, OpenBuiltin)
	if err != nil {
		t.Fatal(err)
	}
	w, ok := m.UNet.Weights[name]
	if !ok {
		t.Fatalf("the network has no %s", name)
	}
	data := slices.Clone(w.Data)
	change(data)
	m.UNet.Weights[name] = model.Tensor{Shape: w.Shape, Data: data}
	p, err := NewPlan(r, m, nil, PlanOptions{Storage: graph.F32})
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSession(exec, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

const someNorm, someConv = "down_blocks.0.resnets.0.norm2.weight", "mid_block.resnets.0.conv1.weight"

// What a run says of a network whose numbers are not finite: the first tensor
// inside the call that is not, by its parameter.
func testFirstBad(t *testing.T, exec graph.Executor) {
	nan := func(w []float32) { w[3] = float32(math.NaN()) }
	huge := func(w []float32) {
		for i := range w {
			w[i] = 1e38 // finite, but sums of it are not
		}
	}
	for name, c := range map[string]struct {
		weight, want string
		change       func([]float32)
	}{
		"NaN in a weight": {someNorm, "group_norm with " + someNorm + ", which is not finite itself;", nan},
		"overflow":        {someConv, "conv2d with " + someConv + ";", huge},
	} {
		t.Run(name, func(t *testing.T) {
			result, err := planted(t, exec, c.weight, c.change).Steer(context.Background(), nil)
			mustSay(t, result, err, c.want)
		})
	}
	t.Run("without the condition", func(t *testing.T) {
		s := planted(t, exec, someConv, func([]float32) {}, "condition={mood: happy}", "guidance_scale=2")
		null := make([]float64, s.denoiser.null.Len())
		null[0] = math.NaN()
		if err := exec.Write(context.Background(), s.denoiser.null, null); err != nil {
			t.Fatal(err)
		}
		result, err := s.Steer(context.Background(), nil)
		mustSay(t, result, err, "add after matmul with time_embedding.linear_2.weight, asked without the condition;")
	})
}

func mustSay(t *testing.T, result *sdo.Result, err error, where string) {
	t.Helper()
	want := "before the first update: the first tensor that is not finite is the network's output at step 1 of 4, timestep 999: " + where
	if result != nil || err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the run ended with %v,\nwant ... %s ...", err, want)
	}
}

func TestFirstBad(t *testing.T) { testFirstBad(t, cpu.New[float32](cpu.Options{})) }
