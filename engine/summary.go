package engine

import (
	"context"
	"math"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/sdo"
)

// Summary is what a run came to, its pictures aside: the words in which the page
// and the edge tell of a result.
type Summary struct {
	Losses      [][]float64  `json:"losses"` // by update and row
	BestLoss    []float64    `json:"best_loss"`
	BestUpdate  []int        `json:"best_update"`
	RowUpdates  []int        `json:"row_updates"`
	Stopped     []bool       `json:"stopped"`
	Drifted     []bool       `json:"drifted"`
	Updates     int          `json:"updates"`
	Cancelled   bool         `json:"cancelled"`
	JudgeLabel  string       `json:"judge_label"`
	JudgeBefore []bool       `json:"judge_before,omitempty"`
	JudgeAfter  []bool       `json:"judge_after,omitempty"`
	Drift       float64      `json:"drift"`
	Seconds     float64      `json:"seconds"`
	Counters    sdo.Counters `json:"counters"`
	Planned     int64        `json:"planned_bytes"` // of activations
	Peak        int64        `json:"peak_bytes"`    // of activations, by the executor's ledger
}

// Summarise asks the judge for its verdicts and says what a run of the session
// came to in so many seconds.
func (s *Session) Summarise(ctx context.Context, r *sdo.Result, seconds float64) (sum Summary, err error) {
	sum = Summary{
		Losses: r.Losses, BestLoss: r.BestLoss, BestUpdate: r.BestUpdate, RowUpdates: r.RowUpdates,
		Stopped: r.Stopped, Drifted: r.Drifted, Updates: r.Updates, Cancelled: r.Cancelled,
		JudgeLabel: s.JudgeLabel(), Drift: MeanDrift(r.Before, r.Samples, s.Shape[0]),
		Seconds: seconds, Counters: r.Counters,
		Planned: s.Memory(s.Exec).Activations, Peak: s.Exec.Usage().PeakActivations,
	}
	if sum.JudgeBefore, err = s.Verdicts(ctx, r.Before); err == nil {
		sum.JudgeAfter, err = s.Verdicts(ctx, r.Samples)
	}
	return sum, err
}

// RGBA turns images [N C H W] in [-1, 1] of one or three channels into bytes,
// row-major, one after the other, rounding to nearest as the native reports do.
func RGBA(images []float64, shape graph.Shape) []byte {
	count, channels, size := len(images)/(shape[1]*shape[2]*shape[3]), shape[1], shape[2]*shape[3]
	rgba := make([]byte, 4*count*size)
	for n := range count {
		planes := images[n*channels*size:]
		for i := range size {
			out := rgba[4*(n*size+i):]
			for c := range 3 { // the first channel and the last are the same one in a grey picture
				out[c] = level(planes[c*(channels-1)/2*size+i])
			}
			out[3] = 255
		}
	}
	return rgba
}

func level(v float64) byte { return byte(math.Round(255 * min(1, max(0, (v+1)/2)))) }
