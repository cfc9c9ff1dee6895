package engine

import (
	"context"
	"fmt"
	"io/fs"
	"math"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// objective is a recipe's weighted sum of terms as one graph on the device: an
// sdo.Objective. Its first segment scores, its second differentiates.
type objective struct {
	*metric
	exec    graph.Executor
	program graph.Program
	tape    graph.Tape
	vectors vectors
	fixed   []graph.Feed   // the metric's given inputs
	losses  graph.Tensor   // of the sum
	terms   []graph.Tensor // of each term
	last    [][]float64    // of each term, from the last evaluation
}

// metric is the planned sum; nothing has been allocated for it yet.
type metric struct {
	rows               int
	plan               *graph.Plan
	image, total, grad *graph.Node
	parts              []part
	prepare            []*preparation // make the numbers of given
	given              []*given       // inputs beside the image, the same in every evaluation
}

// part is one term of the sum.
type part struct {
	name      string
	stopBelow *float64
	node      *graph.Node // unweighted loss per row
}

// smoothCorner rounds the absolute value of total variation: about one step of
// an 8-bit channel.
const smoothCorner = 1.0 / 128

// newMetric plans a recipe's terms for a batch of samples of shape [rows C H W],
// pictures in [-1, 1] or latents. m has the classifier that attribute terms
// differentiate; files is where pictures are looked up. Both may lack what no
// term needs.
func newMetric(r *recipes.Recipe, m *Model, shape graph.Shape, files fs.FS, o PlanOptions) (*metric, error) {
	if len(r.Objective) == 0 {
		return nil, fmt.Errorf("recipe %q: has no objective; add at least one term", r.Name)
	}
	c := &metric{rows: shape[0]}
	var broken error // of a term's own data, as opposed to its shapes
	g, err := graph.Build(func(g *graph.Graph) {
		c.image = g.Input("image", shape...)
		b := &termBuilder{Graph: g, image: c.image, guide: m.Guide, files: files}
		for i, t := range r.Objective {
			b.prefix = fmt.Sprintf("objective.%d", i)
			node, err := b.build(t)
			if err != nil {
				broken = fmt.Errorf("recipe %q: %s (%s): %w", r.Name, b.prefix, t.Term, err)
				return
			}
			c.parts = append(c.parts, part{name: t.Term, stopBelow: t.StopBelow, node: node})
			weighted := g.Affine(node, t.Weight, 0)
			if c.total == nil {
				c.total = weighted
			} else {
				c.total = g.Add(c.total, weighted)
			}
		}
		one := make([]float32, c.rows)
		for i := range one {
			one[i] = 1
		}
		seed := g.Const("loss_seed", one, c.rows)
		c.grad = graph.Grad(g, []*graph.Node{c.total}, []*graph.Node{seed}, []*graph.Node{c.image})[0]
	})
	if broken != nil {
		return nil, broken
	}
	if err == nil {
		scores := []*graph.Node{c.total}
		for _, p := range c.parts {
			scores = append(scores, p.node)
		}
		c.plan, err = graph.Compile(g, scores, []*graph.Node{c.grad})
	}
	if err != nil {
		return nil, fmt.Errorf("recipe %q: %w", r.Name, err)
	}
	return c, nil
}

// newObjective allocates a metric whose preparations were made; its weights are
// among the aids. On an error, too, the result must be released.
func newObjective(exec graph.Executor, m *metric, aids *resident) (*objective, error) {
	o := &objective{metric: m, exec: exec, vectors: vectors{exec: exec}, last: make([][]float64, len(m.parts))}
	var err error
	if o.program, err = aids.compile(m.plan); err != nil {
		return o, err
	}
	for _, g := range m.given {
		to, err := o.vectors.new(g.node.Shape.Size())
		if err != nil {
			return o, err
		}
		if err := exec.Write(context.Background(), to, g.values); err != nil {
			return o, err
		}
		o.fixed = append(o.fixed, graph.Feed{Node: g.node, From: to})
	}
	if o.tape, err = o.program.NewTape(); err != nil {
		return o, err
	}
	if o.losses, err = o.vectors.new(m.rows); err != nil {
		return o, err
	}
	for range m.parts {
		losses, err := o.vectors.new(m.rows)
		if err != nil {
			return o, err
		}
		o.terms = append(o.terms, losses)
	}
	return o, nil
}

// Evaluate returns the weighted sum per row and, where grad is not nil, the
// gradient of the sum over rows.
func (o *objective) Evaluate(ctx context.Context, x sdo.Vector, grad sdo.Vector) ([]float64, error) {
	fetches := []graph.Fetch{{Node: o.total, To: o.losses}}
	for i, p := range o.parts {
		fetches = append(fetches, graph.Fetch{Node: p.node, To: o.terms[i]})
	}
	if err := o.program.Run(ctx, o.tape, 0, append(o.fixed[:len(o.fixed):len(o.fixed)], graph.Feed{Node: o.image, From: x}), fetches); err != nil {
		return nil, err
	}
	if grad != nil {
		if err := o.program.Run(ctx, o.tape, 1, nil, []graph.Fetch{{Node: o.grad, To: grad}}); err != nil {
			return nil, err
		}
	}
	for i, losses := range o.terms {
		last, err := o.exec.Read(ctx, losses)
		if err != nil {
			return nil, err
		}
		o.last[i] = last
	}
	return o.exec.Read(ctx, o.losses)
}

// Satisfied says which rows of the last evaluation are good enough: every term
// with a stop_below is at or below it. Without such a term no row ever is.
func (o *objective) Satisfied() []bool {
	satisfied := make([]bool, o.rows)
	for row := range satisfied {
		any := false
		satisfied[row] = true
		for i, p := range o.parts {
			if p.stopBelow != nil {
				any = true
				satisfied[row] = satisfied[row] && o.last[i][row] <= *p.stopBelow
			}
		}
		satisfied[row] = satisfied[row] && any
	}
	return satisfied
}

// Release frees everything the objective holds on the device; its weights are
// the aids' owner's.
func (o *objective) Release() {
	if o.tape != nil {
		o.tape.Release()
	}
	if o.program != nil {
		o.program.Release()
	}
	o.vectors.free()
}

// termBuilder appends one term after another to a graph.
type termBuilder struct {
	*graph.Graph
	image  *graph.Node // [N C H W]
	guide  *model.Classifier
	files  fs.FS
	prefix string // names the constants of the current term
}

// build returns the term's loss per row, [N].
func (b *termBuilder) build(t recipes.Term) (*graph.Node, error) {
	switch t.Term {
	case "attribute":
		return b.attribute(t)
	case "region_color":
		return b.regionColor(t)
	case "pixels":
		s := b.image.Shape
		rgb, mask, err := t.Target(b.files, s[3], s[2])
		if err != nil {
			return nil, err
		}
		return b.match(rgb, mask)
	case "inpaint":
		return b.inpaint(t)
	case "symmetry":
		return b.MeanSquaredError(b.image, b.Flip(b.image)), nil
	case "total_variation":
		return b.totalVariation(), nil
	}
	return nil, fmt.Errorf("the term %q is unknown", t.Term)
}

// attribute is max(0, CE - softplus(-margin)), where CE is the cross entropy of
// the wanted value among the attribute's values, averaged over noisy copies of
// the image. CE = softplus(-o) for log-odds o of the value against all others
// together, so the loss and its gradient vanish once o reaches the margin: a
// satisfied picture is left alone, and no denormal gradients run through the
// network (docs/method.md, Around it). The noise is drawn once, so the loss stays a
// function of the image; averaging over it is randomised smoothing (Cohen et
// al., arXiv 1902.02918), which takes small adversarial directions away.
func (b *termBuilder) attribute(t recipes.Term) (*graph.Node, error) {
	if b.guide == nil {
		return nil, fmt.Errorf("the model has no classifier to steer by")
	}
	_, label, err := b.guide.Config.Attributes.Value(t.Attribute, t.Value)
	if err != nil {
		return nil, err
	}
	rows := b.image.Shape[0]
	size := b.image.Shape.Size() / rows
	labels := make([]float32, rows)
	for i := range labels {
		labels[i] = float32(label)
	}
	wanted := b.Const(b.prefix+".label", labels, rows)
	var sum *graph.Node
	for k := range t.Copies {
		copy := b.image
		if t.Noise != nil && *t.Noise > 0 {
			noise := make([]float32, size)
			for i := range noise {
				noise[i] = float32(*t.Noise * graph.Normal(smoothingSeed, uint32(k), uint32(i)))
			}
			copy = b.AddBroadcast(copy, b.Const(fmt.Sprintf("%s.noise.%d", b.prefix, k), noise, size), rows, size, 1)
		}
		logits := b.guide.Config.Build(b.Graph, copy, graph.F32)
		own, err := b.guide.Config.AttributeLogits(b.Graph, logits, t.Attribute)
		if err != nil {
			return nil, err
		}
		entropy := b.SoftmaxCrossEntropy(own, wanted)
		if sum == nil {
			sum = entropy
		} else {
			sum = b.Add(sum, entropy)
		}
	}
	return b.ReLU(b.Affine(sum, 1/float64(t.Copies), -math.Log1p(math.Exp(-t.Margin)))), nil
}

// smoothingSeed draws the copies' noise. It is not the recipe's seed: the
// metric stays the same when the pictures change.
const smoothingSeed = 0x5d0

// regionColor is the squared distance of the region's mean colour from the
// wanted one, averaged over the channels, in the network's units of [-1, 1].
func (b *termBuilder) regionColor(t recipes.Term) (*graph.Node, error) {
	s := b.image.Shape
	n, c, h, w := s[0], s[1], s[2], s[3]
	if c != 3 {
		return nil, fmt.Errorf("colours need 3 channels, the model has %d", c)
	}
	share := make([]float32, h*w)
	bounds := t.Region.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			share[y*w+x] = 1 / float32(bounds.Dx()*bounds.Dy())
		}
	}
	weighted := b.MulBroadcast(b.image, b.Const(b.prefix+".region", share, h*w), n*c, h*w, 1)
	mean := b.ReduceSum(weighted, 1, n*c, h*w, n, c)
	rgb := t.Color.RGB()
	color := make([]float32, c)
	for i, v := range rgb {
		color[i] = float32(1 - 2*v) // minus the colour in [-1, 1]
	}
	distance := b.AddBroadcast(mean, b.Const(b.prefix+".color", color, c), n, c, 1)
	return b.RowMean(b.Mul(distance, distance)), nil
}

// match is the mean squared difference from a picture, rgb planes in 0..1, over
// the pixels whose mask is 1, in the network's units of [-1, 1]. A model of one
// channel is held to the mean of the planes.
func (b *termBuilder) match(rgb, mask []float64) (*graph.Node, error) {
	s := b.image.Shape
	n, c, pixels := s[0], s[1], s[2]*s[3]
	planes, err := inChannels(rgb, c)
	if err != nil {
		return nil, err
	}
	target, weight := make([]float32, c*pixels), make([]float32, c*pixels)
	counted := 0.0
	for _, m := range mask {
		counted += m
	}
	if counted == 0 {
		return nil, fmt.Errorf("no pixel counts: the mask is empty")
	}
	for i, v := range planes {
		target[i] = float32(1 - 2*v)
		weight[i] = float32(mask[i%pixels] / (counted * float64(c)))
	}
	size := c * pixels
	d := b.AddBroadcast(b.image, b.Const(b.prefix+".target", target, size), n, size, 1)
	return b.RowSum(b.MulBroadcast(b.Mul(d, d), b.Const(b.prefix+".weight", weight, size), n, size, 1)), nil
}

func (b *termBuilder) inpaint(t recipes.Term) (*graph.Node, error) {
	s := b.image.Shape
	h, w := s[2], s[3]
	rgb, mask, err := inpaintTarget(t, b.files, w, h)
	if err != nil {
		return nil, err
	}
	return b.match(rgb, mask)
}

// inpaintTarget is the picture an inpaint term restores, planes in 0..1, with a
// mask that is 0 where it is hidden.
func inpaintTarget(t recipes.Term, files fs.FS, width, height int) (rgb, mask []float64, err error) {
	if rgb, mask, err = picture(*t.Source, files, width, height); err != nil {
		return nil, nil, err
	}
	hidden := t.Hidden.In(width, height)
	for y := hidden.Min.Y; y < hidden.Max.Y; y++ {
		for x := hidden.Min.X; x < hidden.Max.X; x++ {
			mask[y*width+x] = 0
		}
	}
	return rgb, mask, nil
}

// totalVariation is the mean rounded absolute difference of neighbouring
// pixels, across and down.
func (b *termBuilder) totalVariation() *graph.Node {
	s := b.image.Shape
	var sum *graph.Node
	for axis := 2; axis <= 3; axis++ {
		if s[axis] < 2 {
			continue
		}
		d := b.Sub(b.Slice(b.image, axis, 1, s[axis]), b.Slice(b.image, axis, 0, s[axis]-1))
		mean := b.RowMean(b.SmoothAbs(d, smoothCorner))
		if sum == nil {
			sum = mean
		} else {
			sum = b.Add(sum, mean)
		}
	}
	if sum == nil {
		return b.RowMean(b.Affine(b.image, 0, 0))
	}
	return sum
}
