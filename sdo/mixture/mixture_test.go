package mixture

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/sdo-go/sdo/sampler"
	"github.com/sdo-go/sdo/sdo"
)

func ddim(t testing.TB, steps int) *sampler.Table {
	t.Helper()
	config := sampler.DefaultConfig()
	config.ClipSample = false
	table, err := sampler.DDIM(config, steps, 0)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// slope is the derivative of f at x along direction j by central differences.
func slope(x []float64, j int, f func([]float64) float64) float64 {
	const h = 1e-5
	at := append([]float64(nil), x...)
	at[j] = x[j] + h
	up := f(at)
	at[j] = x[j] - h
	return (up - f(at)) / (2 * h)
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*(1+math.Abs(want))) {
		t.Errorf("%s is %.10g, want %.10g", what, got, want)
	}
}

func TestSamplesHaveUnitSecondMomentAndTheMixturesMean(t *testing.T) {
	const n = 40000
	m := New(1)
	x := m.Draw(2, n)
	for j := range Dim {
		square, mean, want := 0.0, 0.0, 0.0
		for row := range n {
			square += x[row*Dim+j] * x[row*Dim+j] / n
			mean += x[row*Dim+j] / n
		}
		for k := range Modes {
			want += m.means[k][j] / Modes
		}
		near(t, "a second moment", square, 1, 0.03)
		near(t, "a mean", mean, want, 0.03)
	}
	for k := range Modes {
		for i := range Dim {
			if s := m.spread[k][i]; s < thinnest || s > widest {
				t.Errorf("an eigenvalue is %v, want %v to %v", s, thinnest, widest)
			}
			near(t, "an axis' length", dot(&m.axes[k][i], &m.axes[k][i]), 1, 1e-12)
		}
	}
	other := New(3)
	if other.means == m.means {
		t.Error("another seed gives the same mixture")
	}
}

// The density must integrate to one, or scores of modes would be mixed by wrong
// shares: checked by importance sampling from itself against a single Gaussian.
func TestDensityIsNormalised(t *testing.T) {
	m := New(4)
	d := m.at(sampler.LevelAt(0.3))
	random := rand.New(rand.NewPCG(5, 6))
	const n, width = 200000, 1.3
	sum := 0.0
	var v view
	for range n {
		var x point
		log := -Dim / 2 * math.Log(2*math.Pi*width*width)
		for j := range Dim {
			x[j] = width * random.NormFloat64()
			log -= x[j] * x[j] / (2 * width * width)
		}
		d.from(&x, &v)
		sum += math.Exp(v.log-log) / n
	}
	near(t, "the density's integral", sum, 1, 0.05)
}

func TestScoreIsTheLogDensitysGradient(t *testing.T) {
	m := New(7)
	for _, alphaBar := range []float64{1, 0.9, 0.4, 0.01} {
		d := m.at(sampler.LevelAt(alphaBar))
		x := m.Draw(8, 1)
		var v view
		d.from((*point)(x), &v)
		for j := range Dim {
			near(t, "a score", v.score[j], slope(x, j, func(x []float64) float64 {
				var v view
				d.from((*point)(x), &v)
				return v.log
			}), 1e-6)
		}
	}
}

// Predict is -s times the score, and Backward the transpose of its Jacobian in
// state, condition and parameters.
func TestNetworkGradients(t *testing.T) {
	const rows = 2
	m, table := New(9), ddim(t, 4)
	network, err := m.Network(table)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(10, 11))
	noise := func(n int, scale float64) *slice {
		v := &slice{make([]float64, n)}
		for i := range v.x {
			v.x[i] = scale * random.NormFloat64()
		}
		return v
	}
	step := table.Steps[1]
	x, cond, seed := noise(rows*Dim, 1), noise(rows*Dim, 0.3), noise(rows*Dim, 1)
	out := &slice{make([]float64, rows*Dim)}

	if err := network.Predict(t.Context(), sdo.Input{X: x, Timestep: step.Timestep}, out); err != nil {
		t.Fatal(err)
	}
	var v view
	m.at(step.At).from((*point)(x.x), &v)
	near(t, "the noise without adapter and condition", out.x[3], -step.At.Noise*v.score[3], 1e-12)

	copy(network.adapter.x, noise(Adapter, 0.1).x)
	value := func() float64 {
		if err := network.Predict(t.Context(), sdo.Input{X: x, Timestep: step.Timestep, Cond: cond}, out); err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for i, o := range out.x {
			sum += o * seed.x[i]
		}
		return sum
	}
	kept, err := network.Keep(t.Context(), sdo.Input{X: x, Timestep: step.Timestep, Cond: cond}, sdo.WrtX|sdo.WrtCond|sdo.WrtParams, out)
	if err != nil {
		t.Fatal(err)
	}
	gx, gc, gp := noise(rows*Dim, 1), noise(rows*Dim, 1), noise(Adapter, 1) // garbage: Backward overwrites
	if err := kept.Backward(t.Context(), seed, sdo.Gradients{X: gx, Cond: gc, Params: []sdo.Vector{gp}}); err != nil {
		t.Fatal(err)
	}
	for _, of := range []struct {
		name     string
		at, grad *slice
	}{{"state", x, gx}, {"condition", cond, gc}, {"adapter", network.adapter, gp}} {
		for i := range of.at.x {
			whole := of.at.x
			near(t, "a gradient at the "+of.name, of.grad.x[i], slope(whole, i, func(moved []float64) float64 {
				of.at.x = moved
				defer func() { of.at.x = whole }()
				return value()
			}), 1e-6)
		}
	}
	kept.Release()
	if err := kept.Backward(t.Context(), seed, sdo.Gradients{X: gx}); err == nil {
		t.Error("backward of a released call gives no error")
	}
}

func TestAConditionMovesTheSamples(t *testing.T) {
	m, table := New(12), ddim(t, 20)
	network, err := m.Network(table)
	if err != nil {
		t.Fatal(err)
	}
	start := &slice{m.Draw(13, 4)}
	shift := &slice{make([]float64, start.Len())}
	for i := range shift.x {
		shift.x[i] = 10
	}
	sample := func(cond sdo.Vector) []float64 {
		chain, err := sdo.NewChain(sdo.Problem{Space: Space{}, Network: network, Table: table, Rows: 4, Cols: Dim, Cond: cond}, sdo.Surrogate{})
		if err != nil {
			t.Fatal(err)
		}
		x, err := chain.Rollout(t.Context(), sdo.Values{Latents: start})
		if err != nil {
			t.Fatal(err)
		}
		return append([]float64(nil), Numbers(x)...)
	}
	before, after := sample(nil), sample(shift)
	for i := range before {
		if moved := after[i] - before[i]; moved < 5 || moved > 15 {
			t.Errorf("number %d moved by %.2f, want about 10", i, moved)
		}
	}
}

func TestObjectivesGradients(t *testing.T) {
	m := New(14)
	targets := m.Draw(15, 2)
	for name, o := range map[string]Objective{
		"target":     Target(targets),
		"projection": Projection(m.Draw(16, 1), 2),
		"gram":       Gram(targets),
		"member":     m.Member(2, math.Inf(1)),
		"margin":     m.Member(2, 30),
	} {
		x := m.Draw(17, 2)
		at, grad := &slice{x}, &slice{make([]float64, len(x))}
		losses, err := o.Evaluate(t.Context(), at, grad)
		if err != nil {
			t.Fatal(err)
		}
		for i := range x {
			near(t, name+": a gradient", grad.x[i], slope(x, i, func(x []float64) float64 {
				losses, _ := o.Evaluate(t.Context(), &slice{x}, nil)
				return losses[0] + losses[1]
			}), 1e-4)
		}
		if losses[0] < 0 {
			t.Errorf("%s: a loss of %v", name, losses[0])
		}
	}
	if losses, _ := Target(targets).Evaluate(t.Context(), &slice{targets}, nil); losses[1] != 0 {
		t.Errorf("a target is %v from itself", losses[1])
	}
	mean := &slice{append([]float64(nil), m.means[2][:]...)}
	grad := &slice{[]float64{1, 1, 1, 1, 1, 1, 1, 1}}
	losses, err := m.Member(2, 1).Evaluate(t.Context(), mean, grad)
	if err != nil || losses[0] != 0 || grad.x[0] != 0 {
		t.Errorf("beyond the margin the loss is %v with gradient %v, want 0 and 0", losses[0], grad.x[0])
	}
	if s := m.Surprise(mean.x); !(s[0] < m.Surprise([]float64{5, 5, 5, 5, 5, 5, 5, 5})[0]) {
		t.Error("a mode's mean surprises more than a far point")
	}
}
