package model_test

import (
	"os"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model/modeltest"
)

// The fixtures are float64 rounded to float32, so float64 must come much closer
// than the 1e-4 that counts as agreement. Weights rounded to float16 are another
// network, close by.
func TestAgainstPyTorch(t *testing.T) {
	double, single := cpu.New[float64](cpu.Options{}), cpu.New[float32](cpu.Options{})
	defer double.Close()
	defer single.Close()
	for _, c := range []struct {
		name      string
		ex        graph.Executor
		storage   graph.Storage
		tolerance modeltest.Tolerance
	}{
		{"float64", double, graph.F32, modeltest.Tolerance{Forward: 1e-6, Backward: 1e-6, Tensor: 1e-5}},
		{"float32", single, graph.F32, modeltest.Tolerance{Forward: 1e-5, Backward: 1e-4, Tensor: 1e-4}},
		{"float16 weights", double, graph.F16, modeltest.Tolerance{Forward: 2e-3, Backward: 2e-3, Tensor: 1e-2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			modeltest.Check(t, os.DirFS("testdata"), c.ex, c.storage, c.tolerance)
		})
	}
}

// Configs that tools/golden/random_configs.py drew, more than are committed, load
// as they are and compute what diffusers computes.
func TestRandomConfigs(t *testing.T) {
	folder := os.Getenv("SDO_RANDOM_CONFIGS")
	if folder == "" {
		t.Skip("SDO_RANDOM_CONFIGS names no folder made by tools/golden/random_configs.py; eight of its configs are in TestAgainstPyTorch")
	}
	double := cpu.New[float64](cpu.Options{})
	defer double.Close()
	modeltest.Check(t, os.DirFS(folder), double, graph.F32, modeltest.Tolerance{Forward: 1e-5, Backward: 1e-5, Tensor: 1e-4})
}
