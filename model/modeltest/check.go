package modeltest

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
)

// Tolerance bounds relative errors in the Euclidean norm: of the output, of a
// column of gradients as one vector, and of each tensor of it.
type Tolerance struct{ Forward, Backward, Tensor float64 }

// Check compares every fixture below testdata (model/testdata) on ex with the
// weights stored as told.
func Check(t *testing.T, testdata fs.FS, ex graph.Executor, storage graph.Storage, tolerance Tolerance) {
	fixtures, err := Fixtures(testdata)
	if err != nil {
		t.Fatal(err)
	}
	if len(fixtures) == 0 {
		t.Fatal("no fixtures, make them with the programs of tools/golden")
	}
	for _, f := range fixtures {
		t.Run(f.Name, func(t *testing.T) {
			e, err := Compare(ex, f, storage)
			if err != nil {
				t.Fatalf("%v; the fixture is of %v", err, f.MadeBy)
			}
			var told []string
			for _, column := range append(Columns, withLoRA) {
				found, ok := e[column]
				if !ok {
					continue
				}
				told = append(told, fmt.Sprintf("%s %.1e (%.1e)", column, found.Relative, found.Worst))
				whole, tensor := tolerance.Backward, tolerance.Tensor
				if column == Forward || column == withLoRA {
					whole, tensor = tolerance.Forward, tolerance.Forward
				}
				if !(found.Relative <= whole) || !(found.Worst <= tensor) {
					t.Errorf("%s: relative error %.3g, allowed %.3g, and %.3g at %s, allowed %.3g; the fixture is of %v",
						column, found.Relative, whole, found.Worst, found.Tensor, tensor, f.MadeBy)
				}
			}
			t.Log(strings.Join(told, ", "))
		})
	}
}
