package benchmark

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sdo-go/sdo/sdo"
)

// Grid says what is run. Stages follow each other, since the second runs at
// learning rates that the first has found.
type Grid struct {
	Models []string
	Quick  bool // a few small cells of everything, to see that it works
}

// LR the recipes take where they say nothing else.
const defaultLR = 0.05

// defaultTuneLR is that of the built-in recipes for tuning.
const defaultTuneLR = 0.003

// scale is how much of a model is run.
type scale struct {
	rows       int
	steps      []int // of the sampler; the first is the one that most is measured at
	rates      []float64
	tuneRates  []float64
	seeds      []uint64 // the first finds the learning rate, where not all are run at every rate
	tuneSteps  int
	tuneBatch  int
	tuneLosses int // how many losses are tuned for
}

func (g Grid) scale(model string) scale {
	switch {
	case g.Quick && model == Mixture:
		return scale{rows: 2, steps: []int{5, 10}, rates: []float64{0.05, 0.2}, tuneRates: []float64{0.003, 0.03},
			seeds: []uint64{1, 2}, tuneSteps: 5, tuneBatch: 4, tuneLosses: 1}
	case g.Quick:
		return scale{rows: 2, steps: []int{5, 10}, rates: []float64{0.05, 0.2}, tuneRates: []float64{0.003, 0.03},
			seeds: []uint64{1, 2}, tuneSteps: 5, tuneBatch: 2, tuneLosses: 1}
	case model == Mixture:
		return scale{rows: 12, steps: []int{20, 50, 10, 5, 100}, rates: []float64{0.025, 0.05, 0.1, 0.2, 0.4}, tuneRates: []float64{0.001, 0.003, 0.01, 0.03},
			seeds: []uint64{1, 2, 3}, tuneSteps: 50, tuneBatch: 8, tuneLosses: 1}
	}
	return scale{rows: 4, steps: []int{20, 50, 10, 5, 100}, rates: []float64{0.05, 0.1, 0.2, 0.4}, tuneRates: []float64{0.001, 0.003, 0.01, 0.03},
		seeds: []uint64{1, 2, 3, 4}, tuneSteps: 10, tuneBatch: 6, tuneLosses: 1}
}

// updates of a run: fewer of methods that are dear, more of those that are
// cheap, so that all can be compared both at equal updates and at equal compute.
func (g Grid) updates(model, method string, vary sdo.Variable) int {
	dear, usual, cheap := 12, 20, 40
	switch {
	case g.Quick:
		dear, usual, cheap = 4, 6, 10
	case vary == sdo.Parameters && model == Mixture:
		return 300
	case vary == sdo.Parameters:
		return 24
	case model == Mixture:
		dear, usual, cheap = 100, 150, 300
	}
	switch {
	case vary == sdo.Parameters:
		return dear
	case strings.HasPrefix(method, "stale"):
		return cheap
	case method == "full", method == "last call":
		return dear
	}
	return usual
}

// equalUpdates is how many updates methods are compared after.
func (g Grid) equalUpdates(model string, vary sdo.Variable) int {
	return g.updates(model, "full", vary)
}

// losses of a model, the one that most is measured of first.
func losses(model string) (names []string) {
	if model == Mixture {
		return MixtureLosses
	}
	for _, t := range tasks[model] {
		names = append(names, t.name)
	}
	return names
}

// mains are the methods that every loss and number of steps is run with.
var mains = []string{"full", "sdo", "identity", "stale-4"}

func names(settings []Setting) (all []string) {
	for _, s := range settings {
		all = append(all, s.Name)
	}
	return all
}

func (g Grid) cell(model, loss string, vary sdo.Variable, method string, steps int, lr float64, seed uint64) Cell {
	rows := g.scale(model).rows
	if vary == sdo.Parameters {
		rows = g.scale(model).tuneBatch
	}
	return Cell{model, loss, vary, method, steps, lr, seed, rows, g.updates(model, method, vary)}
}

// missing lists the cells that are planned and not made, the most wanted first,
// as far as what is made lets them be planned; when it is empty all are made.
func (g Grid) missing(s *Store) (cells []Cell) {
	for _, model := range g.Models {
		for _, stage := range g.stages(model, s) {
			for _, c := range stage {
				if !s.Has(c) && !slices.Contains(cells, c) {
					cells = append(cells, c)
				}
			}
		}
	}
	return cells
}

// stages of one model, each of cells that are equally wanted. Where a rate is
// not found yet, the cells that need it are left out.
func (g Grid) stages(model string, s *Store) (stages [][]Cell) {
	stage := func(fill func(add func(Cell))) {
		var cells []Cell
		fill(func(c Cell) { cells = append(cells, c) })
		stages = append(stages, cells)
	}
	at, all := g.scale(model), names(latentSettings)
	sweep := func(add func(Cell), loss string, vary sdo.Variable, methods []string, steps int, rates []float64, seeds []uint64) {
		for _, seed := range seeds {
			for _, method := range methods {
				for _, lr := range rates {
					add(g.cell(model, loss, vary, method, steps, lr, seed))
				}
			}
		}
	}
	tuning := func() {
		steps := []int{at.tuneSteps}
		for _, loss := range tuneLosses(model)[:at.tuneLosses] {
			if model == Mixture {
				stage(func(add func(Cell)) {
					sweep(add, loss, sdo.Parameters, names(parameterSettings), steps[0], at.tuneRates, at.seeds)
				})
				continue
			}
			stage(func(add func(Cell)) {
				sweep(add, loss, sdo.Parameters, names(parameterSettings), steps[0], at.tuneRates, at.seeds[:1])
			})
			stage(func(add func(Cell)) {
				g.atBest(add, s, model, loss, sdo.Parameters, names(parameterSettings), steps, at.seeds[1:min(3, len(at.seeds))])
			})
		}
	}
	if model == Mixture { // cheap enough for every rate and seed
		for i, loss := range losses(model) {
			stage(func(add func(Cell)) {
				for k, steps := range at.steps {
					switch {
					case i < 2 && k < 2:
						sweep(add, loss, sdo.Latents, all, steps, at.rates, at.seeds)
					case i == 0 || k == 0:
						sweep(add, loss, sdo.Latents, mains, steps, at.rates, at.seeds)
					}
				}
			})
		}
		tuning()
		return stages
	}
	// The first seed finds each method's learning rate, the others measure.
	measured := func(loss string, methods []string) {
		stage(func(add func(Cell)) {
			sweep(add, loss, sdo.Latents, methods, at.steps[0], at.rates, at.seeds[:1])
		})
		stage(func(add func(Cell)) {
			g.atBest(add, s, model, loss, sdo.Latents, methods, at.steps[:1], at.seeds[1:])
		})
	}
	others := []string{"stale-2", "stale-4, not carried", "jump"}
	some := at.seeds[1:min(3, len(at.seeds))]
	for i, loss := range losses(model) {
		measured(loss, mains)
		if i < 2 {
			stage(func(add func(Cell)) {
				g.atBest(add, s, model, loss, sdo.Latents, mains, at.steps[1:2], some)
			})
		}
	}
	tuning()
	stage(func(add func(Cell)) {
		g.atBest(add, s, model, steppedLoss(model), sdo.Latents, mains, at.steps[2:], at.seeds[1:2])
	})
	for _, loss := range losses(model)[:2] {
		measured(loss, others)
		stage(func(add func(Cell)) {
			g.atBest(add, s, model, loss, sdo.Latents, without(others, []string{"jump"}), at.steps[1:2], some)
		})
	}
	for _, loss := range losses(model) {
		stage(func(add func(Cell)) {
			sweep(add, loss, sdo.Latents, mains, at.steps[0], []float64{defaultLR}, at.seeds[1:])
		})
	}
	measured(losses(model)[0], without(without(all, mains), others))
	return stages
}

// atBest adds cells at each method's best learning rate, once it is known.
func (g Grid) atBest(add func(Cell), s *Store, model, loss string, vary sdo.Variable, methods []string, steps []int, seeds []uint64) {
	at := g.scale(model)
	for _, n := range steps {
		for _, seed := range seeds {
			for _, method := range methods {
				if lr, ok := g.bestLR(s, model, loss, vary, method, at); ok {
					add(g.cell(model, loss, vary, method, n, lr, seed))
				}
			}
		}
	}
}

// bestLR is the rate of the lowest median final loss on the seeds that look for
// it, at the number of steps that most is measured at. Where several rates leave
// next to nothing, the median at a quarter of the way decides, and then means. Of
// parameters it is the mean, and of rates that leave next to nothing the one that
// the samples drift least by: a fast one ruins the network while it pleases.
func (g Grid) bestLR(s *Store, model, loss string, vary sdo.Variable, method string, at scale) (best float64, ok bool) {
	rates, steps, seeds, updates := at.rates, at.steps[0], at.seeds[:1], g.equalUpdates(model, vary)
	if vary == sdo.Parameters {
		rates, steps = at.tuneRates, at.tuneSteps
	}
	if model == Mixture {
		seeds = at.seeds
	}
	var lowest []float64
	for _, lr := range rates {
		var final, early, start []float64
		var drift float64
		for _, seed := range seeds {
			r := s.cells[g.cell(model, loss, vary, method, steps, lr, seed)]
			if r == nil {
				return 0, false
			}
			final, early, start = append(final, r.final(updates)...), append(early, r.final(updates/4)...), append(start, r.start()...)
			drift += float64(r.at(updates).Drift)
		}
		enough := reached * centre(vary, start)
		score := []float64{max(enough, centre(vary, final)), max(enough, centre(vary, early)), max(enough, mean(final)), mean(early)}
		if vary == sdo.Parameters {
			score = []float64{max(enough, centre(vary, final)), drift}
		}
		if lowest == nil || slices.Compare(score, lowest) < 0 {
			best, lowest = lr, score
		}
	}
	return best, true
}

// steppedLoss is the one that all numbers of steps are run with: one that takes a
// while.
func steppedLoss(model string) string {
	if model == Mixture {
		return losses(model)[0]
	}
	return losses(model)[1]
}

// tuneLosses are what parameters are tuned for, the first first.
func tuneLosses(model string) []string {
	if model == Mixture {
		return []string{"brightness", "target"}
	}
	return losses(model)
}

func without(all, some []string) (rest []string) {
	for _, x := range all {
		if !slices.Contains(some, x) {
			rest = append(rest, x)
		}
	}
	return rest
}

// Fill makes the missing cells and tells of each before it is made: how many are
// made, how many are known to be missing, and about how long those will take.
func (g Grid) Fill(ctx context.Context, l *Lab, s *Store, tell func(made, missing int, left time.Duration, c Cell)) error {
	for _, model := range g.Models {
		if s.rates[model] == nil {
			rates, err := l.measureRates(ctx, g, model)
			if err != nil {
				return err
			}
			if err := s.add(line{Rates: rates}); err != nil {
				return err
			}
		}
	}
	pace := 1.0 // measured over estimated seconds, lately
	for {
		cells := g.missing(s)
		if len(cells) == 0 {
			return nil
		}
		// What is known by now may want cells before those that were planned, so
		// the list is made anew every so often.
		for i, c := range cells[:min(len(cells), 40)] {
			left := 0.0
			for _, later := range cells[i:] {
				left += s.rates[later.Model].estimate(later)
			}
			tell(s.Len(), len(cells)-i, time.Duration(left*pace*float64(time.Second)), c)
			began := time.Now()
			r, err := l.Run(ctx, c)
			if err != nil {
				return fmt.Errorf("%s, %s, %s at %v: %w", c.Model, c.Loss, c.Method, c.LR, err)
			}
			if err := s.add(line{Record: r}); err != nil {
				return err
			}
			if expected := s.rates[c.Model].estimate(c); expected > 0 {
				pace = 0.9*pace + 0.1*time.Since(began).Seconds()/expected
			}
		}
	}
}

// Calls are the forward calls and the calls differentiated that the missing cells
// will make of a model, so far as they are known.
func (g Grid) Calls(s *Store, model string) (cells, forward, backward int) {
	for _, c := range g.missing(s) {
		if c.Model == model {
			f, b := calls(c)
			cells, forward, backward = cells+1, forward+f, backward+b
		}
	}
	return cells, forward, backward
}
