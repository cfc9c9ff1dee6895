package sdo

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/sdo-go/sdo/sampler"
)

// rowNetwork is a network that treats every row alike and knows its Jacobian.
// cond is the row's condition, nil for an unconditional call.
type rowNetwork interface {
	output(x []float64, timestep float64, cond, out []float64)
	// pullBack sets dst = J^T seed at x.
	pullBack(x []float64, timestep float64, cond, seed, dst []float64)
}

// trainedRow is a rowNetwork that can be differentiated by its weights and its
// condition.
type trainedRow interface {
	rowNetwork
	weights() [][]float64
	// pullBackRest adds the gradient at the weights, and sets the one at the
	// condition unless that is nil.
	pullBackRest(x []float64, timestep float64, cond, seed, atCond []float64, atWeights [][]float64)
}

// analytic makes a Network of a rowNetwork, a Trainable where that is a
// trainedRow. It computes with the values its parameters had at the last
// Changed. before, where set, may fail a call; calls count from 1.
type analytic struct {
	rowNetwork
	cols    int
	calls   int
	kept    int // graphs alive
	changed int // calls of Changed
	before  func(call int) error
	params  []Param
}

func (a *analytic) Params() []Param {
	trained, ok := a.rowNetwork.(trainedRow)
	if a.params == nil && ok {
		for i, w := range trained.weights() {
			a.params = append(a.params, Param{fmt.Sprintf("weight %d", i), &boxed{append(vector(nil), w...)}})
		}
	}
	return a.params
}

func (a *analytic) Changed(context.Context) error {
	a.changed++
	for i, w := range a.rowNetwork.(trainedRow).weights() {
		copy(w, numbers(a.params[i].Value))
	}
	return nil
}

// each shows every row: its numbers, from..to of the batch's, and its condition.
func (a *analytic) each(in Input, do func(row, from, to int, cond []float64)) {
	rows := in.X.Len() / a.cols
	for row := range rows {
		var cond []float64
		if in.Cond != nil {
			width := in.Cond.Len() / rows
			cond = numbers(in.Cond)[row*width : (row+1)*width]
		}
		do(row, row*a.cols, (row+1)*a.cols, cond)
	}
}

func (a *analytic) Predict(_ context.Context, in Input, out Vector) error {
	a.calls++
	if a.before != nil {
		if err := a.before(a.calls); err != nil {
			return err
		}
	}
	a.each(in, func(_, from, to int, cond []float64) {
		a.output(numbers(in.X)[from:to], in.Timestep, cond, numbers(out)[from:to])
	})
	return nil
}

func (a *analytic) Keep(ctx context.Context, in Input, wrt Wrt, out Vector) (Kept, error) {
	if err := a.Predict(ctx, in, out); err != nil {
		return nil, err
	}
	a.kept++
	in.X = &boxed{append(vector(nil), numbers(in.X)...)}
	return &analyticKept{a, in, wrt}, nil
}

type analyticKept struct {
	*analytic
	in  Input
	wrt Wrt
}

func (k *analyticKept) Backward(_ context.Context, seed Vector, into Gradients) error {
	if into.X != nil && k.wrt&WrtX == 0 || into.Cond != nil && k.wrt&WrtCond == 0 || into.Params != nil && k.wrt&WrtParams == 0 {
		panic("a gradient that the call was not kept for")
	}
	var atWeights [][]float64
	for _, p := range into.Params {
		clear(numbers(p))
		atWeights = append(atWeights, numbers(p))
	}
	k.each(k.in, func(row, from, to int, cond []float64) {
		x, along := numbers(k.in.X)[from:to], numbers(seed)[from:to]
		if into.X != nil {
			k.pullBack(x, k.in.Timestep, cond, along, numbers(into.X)[from:to])
		}
		var atCond []float64
		if into.Cond != nil {
			atCond = numbers(into.Cond)[row*len(cond) : (row+1)*len(cond)]
		}
		if atCond != nil || atWeights != nil {
			k.rowNetwork.(trainedRow).pullBackRest(x, k.in.Timestep, cond, along, atCond, atWeights)
		}
	})
	return nil
}

func (k *analyticKept) Bytes() int64 { return int64(8 * k.in.X.Len()) }

func (k *analyticKept) Release() {
	k.kept--
	k.in.X = nil // a late Backward or a second Release's use panics
}

// batching is an analytic that answers several calls as one.
type batching struct {
	*analytic
	wide []int // how many at once
}

func (b *batching) PredictBatch(ctx context.Context, ins []Input, outs []Vector) error {
	b.wide = append(b.wide, len(ins))
	for k, in := range ins {
		if err := b.Predict(ctx, in, outs[k]); err != nil {
			return err
		}
	}
	return nil
}

// linear is o = scale(t)*M x, M its weight.
type linear struct {
	matrix [][]float64
	scale  func(timestep float64) float64
}

func (l linear) output(x []float64, timestep float64, _, out []float64) {
	for i, row := range l.matrix {
		out[i] = 0
		for j, m := range row {
			out[i] += l.scale(timestep) * m * x[j]
		}
	}
}

func (l linear) pullBack(_ []float64, timestep float64, _, seed, dst []float64) {
	clear(dst)
	for i, row := range l.matrix {
		for j, m := range row {
			dst[j] += l.scale(timestep) * m * seed[i]
		}
	}
}

func (l linear) weights() [][]float64 { return l.matrix }

func (l linear) pullBackRest(x []float64, timestep float64, _, seed, _ []float64, atWeights [][]float64) {
	for i, row := range atWeights {
		for j := range row {
			row[j] += l.scale(timestep) * seed[i] * x[j]
		}
	}
}

// perceptron is o = V tanh(W x + t b + c), c the condition or zero. W and V are
// its weights.
type perceptron struct {
	in, out [][]float64 // W hidden x cols, V cols x hidden
	time    []float64   // b
	flat    [][]float64 // W and V again, each in one piece
}

func newPerceptron(cols, hidden int) perceptron {
	random := rand.New(rand.NewPCG(1, 2))
	fill := func(rows, cols int, scale float64) (m [][]float64, flat []float64) {
		flat = make([]float64, rows*cols)
		for i := range flat {
			flat[i] = scale * random.NormFloat64()
		}
		for i := range rows {
			m = append(m, flat[i*cols:(i+1)*cols])
		}
		return m, flat
	}
	in, w := fill(hidden, cols, 0.5)
	out, v := fill(cols, hidden, 0.4)
	_, time := fill(1, hidden, 1)
	return perceptron{in, out, time, [][]float64{w, v}}
}

func (p perceptron) weights() [][]float64 { return p.flat }

func (p perceptron) pullBackRest(x []float64, timestep float64, cond, seed, atCond []float64, atWeights [][]float64) {
	for k, h := range p.hidden(x, timestep, cond) {
		at := 0.0 // the argument of tanh
		for i, row := range p.out {
			at += row[k] * seed[i] * (1 - h*h)
		}
		if atCond != nil {
			atCond[k] = at
		}
		if atWeights == nil {
			continue
		}
		for j := range x {
			atWeights[0][k*len(x)+j] += at * x[j]
		}
		for i := range seed {
			atWeights[1][i*len(p.in)+k] += seed[i] * h
		}
	}
}

func (p perceptron) hidden(x []float64, timestep float64, cond []float64) []float64 {
	h := make([]float64, len(p.in))
	for i, row := range p.in {
		sum := timestep / 1000 * p.time[i]
		if cond != nil {
			sum += cond[i]
		}
		for j, w := range row {
			sum += w * x[j]
		}
		h[i] = math.Tanh(sum)
	}
	return h
}

func (p perceptron) output(x []float64, timestep float64, cond, out []float64) {
	h := p.hidden(x, timestep, cond)
	for i, row := range p.out {
		out[i] = 0
		for j, w := range row {
			out[i] += w * h[j]
		}
	}
}

func (p perceptron) pullBack(x []float64, timestep float64, cond, seed, dst []float64) {
	clear(dst)
	for k, h := range p.hidden(x, timestep, cond) {
		atHidden := 0.0
		for i, row := range p.out {
			atHidden += row[k] * seed[i]
		}
		for j, w := range p.in[k] {
			dst[j] += w * (1 - h*h) * atHidden
		}
	}
}

// mixture is the exact noise prediction for data from an equal mixture of
// Gaussians with diagonal covariances.
type mixture struct {
	means, variances [][]float64
	level            map[float64]sampler.Level // by timestep
}

func newMixture(table *sampler.Table, cols, modes int) mixture {
	random := rand.New(rand.NewPCG(3, 4))
	m := mixture{level: map[float64]sampler.Level{}}
	for range modes {
		mean, variance := make([]float64, cols), make([]float64, cols)
		for j := range mean {
			mean[j] = 0.8 * random.NormFloat64()
			variance[j] = 0.02 + 0.3*random.Float64()
		}
		m.means, m.variances = append(m.means, mean), append(m.variances, variance)
	}
	for _, step := range table.Steps {
		m.level[step.Timestep] = step.At
	}
	return m
}

// scores returns each mode's responsibility, score and variance at x.
func (m mixture) scores(x []float64, l sampler.Level) (weights []float64, scores, variances [][]float64) {
	highest := math.Inf(-1)
	for k := range m.means {
		log, score, variance := 0.0, make([]float64, len(x)), make([]float64, len(x))
		for j := range x {
			variance[j] = l.Signal*l.Signal*m.variances[k][j] + l.Noise*l.Noise
			score[j] = (l.Signal*m.means[k][j] - x[j]) / variance[j]
			log -= 0.5*score[j]*score[j]*variance[j] + 0.5*math.Log(variance[j])
		}
		weights, scores, variances = append(weights, log), append(scores, score), append(variances, variance)
		highest = max(highest, log)
	}
	total := 0.0
	for k := range weights {
		weights[k] = math.Exp(weights[k] - highest)
		total += weights[k]
	}
	for k := range weights {
		weights[k] /= total
	}
	return weights, scores, variances
}

func (m mixture) output(x []float64, timestep float64, _, out []float64) {
	l := m.level[timestep]
	weights, scores, _ := m.scores(x, l)
	clear(out)
	for k, score := range scores {
		for j := range out {
			out[j] -= l.Noise * weights[k] * score[j]
		}
	}
}

// pullBack uses the symmetric Hessian of the log-density: the mean of
// score score^T - 1/variance over modes, less the outer product of the mean.
func (m mixture) pullBack(x []float64, timestep float64, _, seed, dst []float64) {
	l := m.level[timestep]
	weights, scores, variances := m.scores(x, l)
	mean := make([]float64, len(x))
	clear(dst)
	for k, score := range scores {
		along := dot(score, seed)
		for j := range x {
			mean[j] += weights[k] * score[j]
			dst[j] -= l.Noise * weights[k] * (score[j]*along - seed[j]/variances[k][j])
		}
	}
	along := dot(mean, seed)
	for j := range x {
		dst[j] += l.Noise * mean[j] * along
	}
}

func dot(x, y []float64) float64 {
	sum := 0.0
	for i := range x {
		sum += x[i] * y[i]
	}
	return sum
}

// nearTarget is |x - target|^2/2 per row, its target shared by the rows.
type nearTarget struct {
	target []float64
	// change, where set, may spoil the losses of an evaluation (from 0).
	change      func(evaluation int, losses []float64)
	evaluations int
}

func (o *nearTarget) Evaluate(_ context.Context, x, grad Vector) ([]float64, error) {
	cols := len(o.target)
	losses := make([]float64, x.Len()/cols)
	for i, value := range numbers(x) {
		difference := value - o.target[i%cols]
		losses[i/cols] += difference * difference / 2
		if grad != nil {
			numbers(grad)[i] = difference
		}
	}
	if o.change != nil {
		o.change(o.evaluations, losses)
	}
	o.evaluations++
	return losses, nil
}
