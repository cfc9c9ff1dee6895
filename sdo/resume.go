package sdo

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// RunState is everything that the rest of a run depends on beside the problem
// and the options, on the host: see Event.Save and Options.Resume. It marshals
// as JSON; the tensors may be left out of that and kept elsewhere.
type RunState struct {
	// Result is the run's so far. Of its tensors it has none: those are below.
	Result Result                     `json:"result"`
	Rules  map[Variable]OptimizerRule `json:"rules"`        // of what varies
	Norms  []float64                  `json:"latent_norms"` // of the latents at hand
	// Tensors by name: "start" are the latents the run began with, "before" what
	// they sample to and "best_sample" what the best do. "value/", "best/",
	// "exp_avg/" and "exp_avg_sq/" are followed by the variable, as in
	// "value/latents"; of noises by the step's number from 0 and of parameters by
	// the parameter's name besides, as in "best/noises/3".
	Tensors map[string][]float64 `json:"tensors,omitempty"`
}

// StateError is why a run does not go on from a state: it is another's, or was
// changed.
type StateError struct{ why string }

func (e *StateError) Error() string { return "sdo: the state to resume from " + e.why }

func refuseState(format string, args ...any) error {
	return &StateError{fmt.Sprintf(format, args...)}
}

// save reads the state back.
func (r *run) save(ctx context.Context) (*RunState, error) {
	s := &RunState{Result: r.result.progress(), Rules: r.options.rules(), Norms: slices.Clone(r.norms)}
	s.Result.Counters = r.chain.Counters()
	s.Result.KeptBytes = 0 // no graph outlives the run
	s.Tensors = map[string][]float64{"before": slices.Clone(r.result.Before)}
	tensors := r.tensors()
	tensors["start"] = r.Start
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		numbers, err := r.Space.Read(ctx, tensors[name])
		if err != nil {
			return nil, fmt.Errorf("sdo: reading %s: %w", name, err)
		}
		s.Tensors[name] = numbers
	}
	return s, nil
}

// restore takes a state over, if it fits.
func (r *run) restore(ctx context.Context, s *RunState) error {
	if err := s.fits(r.options, r.Rows); err != nil {
		return err
	}
	tensors := r.tensors()
	if err := s.holds(tensors, r.size()); err != nil {
		return err
	}
	if err := r.beganAt(ctx, s.Tensors["start"]); err != nil {
		return err
	}
	if r.before != nil {
		tensors["before"] = r.before
	}
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		if err := r.Space.Write(ctx, tensors[name], s.Tensors[name]); err != nil {
			return fmt.Errorf("sdo: writing %s: %w", name, err)
		}
	}
	r.result, r.norms = s.Result.progress(), slices.Clone(s.Norms)
	r.result.Before = slices.Clone(s.Tensors["before"])
	r.chain.counters = s.Result.Counters
	if r.joint {
		if err := r.Network.(Trainable).Changed(ctx); err != nil {
			return fmt.Errorf("sdo: the network's saved parameters: %w", err)
		}
	}
	return nil
}

// progress is a copy of what a result holds while a run is under way, but for
// tensors.
func (r *Result) progress() Result {
	losses := make([][]float64, len(r.Losses))
	for u := range losses {
		losses[u] = slices.Clone(r.Losses[u])
	}
	return Result{
		Losses: losses, Stale: slices.Clone(r.Stale), BestLoss: slices.Clone(r.BestLoss), BestUpdate: slices.Clone(r.BestUpdate),
		RowUpdates: slices.Clone(r.RowUpdates), Stopped: slices.Clone(r.Stopped), Drifted: slices.Clone(r.Drifted), Updates: r.Updates,
	}
}

func (o Options) rules() map[Variable]OptimizerRule {
	rules := map[Variable]OptimizerRule{}
	for _, v := range o.Vary {
		rules[v.Variable] = v.Optimizer.Rule
	}
	return rules
}

// tensors are the vectors of a state, but for the first sample, of which there
// may be none, and the start, which is the problem's.
func (r *run) tensors() map[string]Vector {
	all := map[string]Vector{"best_sample": r.bestSample}
	moves := r.descent.moves
	for _, v := range r.options.Vary {
		values, _ := r.values.of(v.Variable)
		best, _ := r.best.of(v.Variable)
		for k, name := range r.names(v.Variable) {
			all["value/"+name], all["best/"+name] = values[k], best[k]
			if moves[0].first != nil {
				all["exp_avg/"+name], all["exp_avg_sq/"+name] = moves[0].first, moves[0].second
			}
			moves = moves[1:]
		}
	}
	return all
}

// names are those of a variable's vectors, in the order of Values.of.
func (p Problem) names(v Variable) (names []string) {
	switch v {
	case Noises:
		for i, step := range p.Table.Steps {
			if step.Noise != 0 {
				names = append(names, fmt.Sprintf("%s/%d", v, i))
			}
		}
	case Parameters:
		for _, param := range p.Network.(Trainable).Params() {
			names = append(names, fmt.Sprintf("%s/%s", v, param.Name))
		}
	default:
		names = []string{string(v)}
	}
	return names
}

// fits refuses, with one sentence, a state that is no run's of these options and
// rows.
func (s *RunState) fits(o Options, rows int) error {
	r := s.Result
	if rules := o.rules(); !maps.Equal(s.Rules, rules) {
		return refuseState("is of a run that moves %s, this one moves %s; resume with the same variables and optimizers", listRules(s.Rules), listRules(rules))
	}
	switch {
	case r.Updates < 0:
		return refuseState("is after %d updates, want 0 or more", r.Updates)
	case r.Updates > o.Updates:
		return refuseState("is after %d updates, this run makes %d; raise updates", r.Updates, o.Updates)
	case len(r.Losses) != r.Updates+1:
		return refuseState("has losses of %d updates, want those before the first of %d and after each", len(r.Losses), r.Updates)
	case !o.Surrogate.Refresh.stale() && r.Stale != nil:
		return refuseState("is of a run that uses outputs of earlier updates, this one makes every call; resume with the same method")
	case o.Surrogate.Refresh.stale() && len(r.Stale) != len(r.Losses):
		return refuseState("says of %d updates whether they used outputs of earlier ones, want %d; resume with the same method", len(r.Stale), len(r.Losses))
	}
	type count struct {
		what string
		n    int
	}
	perRow := []count{
		{"best losses", len(r.BestLoss)}, {"best updates", len(r.BestUpdate)}, {"numbers of updates", len(r.RowUpdates)},
		{"rows stopped or not", len(r.Stopped)}, {"rows drifted or not", len(r.Drifted)}, {"latent norms", len(s.Norms)},
	}
	for _, losses := range r.Losses {
		perRow = append(perRow, count{"losses of an update", len(losses)})
	}
	for _, list := range perRow {
		if list.n != rows {
			return refuseState("has %d %s, this run has %d rows; it belongs to another", list.n, list.what, rows)
		}
	}
	for row, u := range r.BestUpdate {
		if u < 0 || u > r.Updates {
			return refuseState("has the best of row %d at update %d, want 0 to %d", row, u, r.Updates)
		}
	}
	return nil
}

// listRules is what moves and how, in words.
func listRules(rules map[Variable]OptimizerRule) string {
	var words []string
	for _, v := range slices.Sorted(maps.Keys(rules)) {
		words = append(words, fmt.Sprintf("%s by %s", v, rules[v]))
	}
	if words == nil {
		return "nothing"
	}
	return strings.Join(words, " and ")
}

// holds refuses a state whose tensors are not those that these vectors, and a
// batch of size numbers, need.
func (s *RunState) holds(vectors map[string]Vector, size int) error {
	want := map[string]int{"start": size, "before": size}
	for name, v := range vectors {
		want[name] = v.Len()
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got := len(s.Tensors[name]); got != want[name] {
			return refuseState("has %d numbers of %s, want %d; it belongs to another run", got, name, want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Tensors)) {
		if _, known := want[name]; !known {
			return refuseState("holds %s, which this run has not; it belongs to another", name)
		}
	}
	return nil
}

// beganAt refuses a start that is not the problem's but for rounding: another
// device may store fewer digits.
func (r *run) beganAt(ctx context.Context, start []float64) error {
	own, err := r.Space.Read(ctx, r.Start)
	if err != nil {
		return fmt.Errorf("sdo: reading the start: %w", err)
	}
	for i, x := range own {
		if !(math.Abs(x-start[i]) <= 1e-6*(1+math.Abs(x))) {
			return refuseState("began with another latent in row %d; resume with the same seed or picture", i/r.Cols)
		}
	}
	return nil
}
