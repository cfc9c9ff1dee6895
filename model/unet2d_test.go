package model_test

import (
	"os"
	"testing"

	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model/modeltest"
)

// Fixtures are float64 rounded to float32, so float64 must come much closer
// than the 1e-4 that counts as agreement.
func TestUNet2DAgainstDiffusers(t *testing.T) {
	t.Run("float64", func(t *testing.T) {
		ex := cpu.New[float64](cpu.Options{})
		defer ex.Close()
		modeltest.UNet2D(t, os.DirFS("testdata"), ex, modeltest.Tolerance{Forward: 1e-6, Backward: 1e-6})
	})
	t.Run("float32", func(t *testing.T) {
		ex := cpu.New[float32](cpu.Options{})
		defer ex.Close()
		modeltest.UNet2D(t, os.DirFS("testdata"), ex, modeltest.Tolerance{Forward: 1e-5, Backward: 1e-4})
	})
}
