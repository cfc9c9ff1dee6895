package edge

import (
	"fmt"
	"math"

	"github.com/sdo-go/sdo/engine"
)

// Budget is what runs may take of a deployment. A platform that ends what takes
// longer does so without a word, so a run is counted before it begins: in network
// calls, and in the multiply-adds that they and the objective take.
type Budget struct {
	// Seconds a request may compute.
	Seconds float64 `json:"cpu_seconds"`
	// Rate is how many multiply-adds are made in a second here.
	Rate float64 `json:"multiply_adds_per_second"`
	// Bytes that all runs of an instance may hold at once.
	Bytes int64 `json:"bytes"`
}

// Estimate is what a run is expected to take, at most: one that stops early
// takes less.
type Estimate struct {
	NetworkCalls  int     `json:"network_calls"`
	BackwardCalls int     `json:"backward_calls"`
	MultiplyAdds  int64   `json:"multiply_adds"`
	Seconds       float64 `json:"seconds"` // of computing
	Slices        int     `json:"slices"`  // requests it takes
	Bytes         int64   `json:"bytes"`   // held while it runs
}

// seconds is how long an effort takes.
func (b Budget) seconds(e engine.Effort) float64 { return float64(e.MultiplyAdds) / b.Rate }

// slicing is how a run divides into requests.
type slicing struct {
	first, later int // updates of the first request, and of each after it; 0 for not even one
	total        engine.Effort
	slices       int
}

// slice divides the updates a run has still to make. A saved run makes the
// rollout of its latest update again, and its inversion never.
func (b Budget) slice(e engine.Efforts, updates int, resumed bool) slicing {
	begin := e.Rollout
	if !resumed {
		begin = begin.Plus(e.Inversion)
	}
	whole := begin.Plus(e.Update.Plus(e.Rollout).Times(updates))
	if b.seconds(whole) <= b.Seconds {
		return slicing{first: updates, total: whole, slices: 1}
	}
	fit := func(begin engine.Effort) int {
		left, each := b.Seconds-b.seconds(begin), b.seconds(e.Update.Plus(e.Rollout))
		return min(updates, max(0, int(math.Floor(left/each))))
	}
	s := slicing{first: fit(begin), later: fit(e.Rollout), total: whole}
	if s.first == 0 || s.later == 0 {
		return s
	}
	more := (updates - s.first + s.later - 1) / s.later
	s.slices = 1 + more
	s.total = whole.Plus(e.Rollout.Times(more))
	return s
}

// tooLarge refuses a run that does not fit.
type tooLarge struct {
	estimate Estimate
	budget   Budget
	why      string // what to do
}

func (e *tooLarge) Error() string {
	return fmt.Sprintf("this run is estimated at %d network calls and %d differentiated ones, %.3g s of computing and %s; a request here may take %.3g s and %s: %s",
		e.estimate.NetworkCalls, e.estimate.BackwardCalls, e.estimate.Seconds, mebibytes(e.estimate.Bytes), e.budget.Seconds, mebibytes(e.budget.Bytes), e.why)
}

func mebibytes(n int64) string { return fmt.Sprintf("%.3g MiB", float64(n)/(1<<20)) }
