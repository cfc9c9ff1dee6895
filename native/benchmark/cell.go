// Package benchmark holds gradient methods against each other on the same
// problems: it plans a grid of runs, makes those that are missing, and reduces
// what they left to tables, charts and verdicts (docs/results).
//
// It computes no gradient of its own. Every latent run is an sdo.Run and every
// parameter run an sdo.Tuner, and what a trained network is steered by are terms
// of recipes, planned by package engine as for any user.
package benchmark

import (
	"fmt"
	"math"
	"strconv"

	"github.com/sdo-go/sdo/sdo"
)

// Cell is one run of the grid. Equal cells give equal records but for seconds.
type Cell struct {
	Model   string       `json:"model"` // Mixture, or a model as a recipe names it
	Loss    string       `json:"loss"`
	Vary    sdo.Variable `json:"vary"`   // sdo.Latents or sdo.Parameters
	Method  string       `json:"method"` // of Settings
	Steps   int          `json:"steps"`
	LR      float64      `json:"lr"`
	Seed    uint64       `json:"seed"`
	Rows    int          `json:"rows"` // latents steered at once, or a batch of training
	Updates int          `json:"updates"`
}

// Record is what a cell left behind.
type Record struct {
	Cell
	Points    []Point `json:"points"`           // rising by update
	PeakBytes int64   `json:"peak_bytes"`       // activations kept alive at once
	Failed    string  `json:"failed,omitempty"` // why the run ended early
	Device    string  `json:"device"`
}

// Point is a look at a run: the true sample of what the variables have come to,
// made for the look where the method had none. Looks are in no count.
type Point struct {
	Update   int      `json:"u"`
	Calls    int      `json:"calls"`    // network calls that led here
	Backward int      `json:"backward"` // calls differentiated
	Seconds  number   `json:"seconds"`
	Losses   []number `json:"losses"` // by row; of parameters by held-out row

	Judged   *number `json:"judged,omitempty"`   // share of rows that the judge approves
	Drift    number  `json:"drift"`              // root mean square change of a sample, mean over rows
	Norm     number  `json:"norm,omitempty"`     // of a latent over sqrt(its numbers), mean over rows
	Surprise *number `json:"surprise,omitempty"` // mixture: minus the data's log-density, mean over rows
}

// number is written with five digits, which is more than any seed repeats.
type number float64

func (n number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return nil, fmt.Errorf("benchmark: %v is no measurement", float64(n))
	}
	return strconv.AppendFloat(nil, float64(n), 'g', 5, 64), nil
}

func numbers(xs []float64) []number {
	ns := make([]number, len(xs))
	for i, x := range xs {
		ns[i] = number(x)
	}
	return ns
}

// Cost is the compute that led to a point in units of one forward call, a
// backward counted as so many.
func (p Point) Cost(backward float64) float64 {
	return float64(p.Calls) + backward*float64(p.Backward)
}

// looks are the updates of a run that are looked at: all of the first few, then
// about a fifth apart, whole tens among them since a stale run is fresh there.
func looks(updates int, sparse bool) map[int]bool {
	at := map[int]bool{0: true, updates: true}
	for u := 1.0; int(u) < updates; u = max(u+1, u*1.2) {
		if !sparse || int(u)%2 == 0 {
			at[int(u)] = true
		}
	}
	for u := 10; u < updates && u <= 100; u += 10 {
		at[u] = true
	}
	return at
}
