package benchmark

import (
	"context"
	"fmt"
	"strings"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// task is a loss of a trained network: the objective of a recipe.
type task struct {
	name  string
	label string // for a person
	terms string // YAML
}

// sketch is the doodle of the recipe match-sketch.
var sketch = func() string {
	r, err := recipes.Find("match-sketch", nil)
	if err != nil {
		panic("benchmark: " + err.Error()) // it is embedded
	}
	t := r.Objective[0]
	var palette []string
	for _, key := range []string{".", "h", "s", "k", "m", "g"} {
		palette = append(palette, fmt.Sprintf("%q: %q", key, t.Palette[key]))
	}
	return fmt.Sprintf(`{term: pixels, weight: 10, palette: {%s}, rows: ["%s"]}`, strings.Join(palette, ", "), strings.Join(t.Rows, `", "`))
}()

// smoothed is what an attribute term looks through: fewer copies than a user
// would take, so that the classifier does not outweigh the network.
const smoothed = "copies: 2, noise: 0.5"

// tasks are the losses of each trained network that is known here, the first
// the one that more is measured of.
var tasks = map[string][]task{
	"avatars-16-s": {
		{"glasses", "dark glasses, by the guide until it is sure", "{term: attribute, attribute: glasses, value: dark, margin: 4, " + smoothed + "}"},
		{"sketch", "the pixels of a sketch", sketch},
		{"mood", "a happy mood, by the guide's cross entropy", "{term: attribute, attribute: mood, value: happy, margin: 30, " + smoothed + "}"},
		{"shirt", "a red shirt, by the mean colour of a region", `{term: region_color, region: [4, 14, 8, 2], color: "#d1112d", weight: 10}`},
		{"symmetry", "being its own mirror image", "{term: symmetry, weight: 10}"},
	},
	"fashion-28": {
		{"bag", "a bag, by the guide until it is sure", "{term: attribute, attribute: class, value: bag, margin: 4, " + smoothed + "}"},
		{"smooth", "few edges, by total variation", "{term: total_variation, weight: 10}"},
		{"sneaker", "a sneaker, by the guide's cross entropy", "{term: attribute, attribute: class, value: sneaker, margin: 30, " + smoothed + "}"},
		{"symmetry", "being its own mirror image", "{term: symmetry, weight: 10}"},
	},
}

// Trained lists the networks that there are losses for.
func Trained() []string { return []string{"avatars-16-s", "fashion-28"} }

// Lab makes the runs: it holds the device and the networks that are loaded.
type Lab struct {
	Exec graph.Executor // nil where only the mixture is run
	Open engine.Open    // finds models

	models map[string]*engine.Model
}

// loraRank is that of the adapter on every linear layer and convolution.
const loraRank = 4

// recipe is a cell in the words a user would write.
func recipe(c Cell, s Setting, o sdo.Optimizer) (*recipes.Recipe, error) {
	var terms string
	for _, t := range tasks[c.Model] {
		if t.name == c.Loss {
			terms = t.terms
		}
	}
	if terms == "" {
		return nil, fmt.Errorf("benchmark: the model %s has no loss %q", c.Model, c.Loss)
	}
	variables, norm := "[latents]", "project"
	if c.Vary == sdo.Parameters {
		variables, norm = fmt.Sprintf(`{parameters: {lora: {rank: %d, alpha: %d, targets: ["**"]}}}`, loraRank, loraRank), "none"
	}
	method := fmt.Sprintf("name: %s", s.Method.Name)
	for _, word := range []struct{ key, value string }{{"freeze", s.Method.Freeze}, {"active", s.Method.Active}} {
		if word.value != "" {
			method += fmt.Sprintf(", %s: %s", word.key, word.value)
		}
	}
	if s.Method.Bridge != nil {
		method += fmt.Sprintf(", bridge: %v", *s.Method.Bridge)
	}
	if f := s.Method.Refresh; f != nil {
		method += fmt.Sprintf(", refresh: {calls: %d, every: %d, tolerance: %v, carry: %v, batched: %v}", f.Calls, f.Every, f.Tolerance, f.Carry, f.Batched)
	}
	text := fmt.Sprintf(`version: 1
name: benchmark
model: %s
seed: %d
num_images: %d
sampler: {name: ddim, num_inference_steps: %d, timestep_spacing: trailing}
variables: %s
objective: [%s]
method: {%s}
optimizer: {name: adam, lr: %v, betas: [%v, %v]}
updates: %d
guards: {latent_norm: %s, early_stop: false}
`, c.Model, c.Seed, c.Rows, c.Steps, variables, terms, method, o.LR, o.Beta1, o.Beta2, c.Updates, norm)
	return recipes.Parse([]byte(text), "benchmark")
}

// Run makes one cell.
func (l *Lab) Run(ctx context.Context, c Cell) (*Record, error) {
	s, err := setting(c.Vary, c.Method)
	if err != nil {
		return nil, err
	}
	at, err := l.subjectOf(c)
	if err != nil {
		return nil, err
	}
	defer at.close()
	return at.run(ctx, c, s.optimizer(c))
}

func (l *Lab) subjectOf(c Cell) (*subject, error) {
	if c.Model == Mixture {
		s, err := setting(c.Vary, c.Method)
		if err != nil {
			return nil, err
		}
		return mixtureSubject(c, s)
	}
	return l.subject(c)
}

// Plan is a run of a trained network that stands for all of them.
func (l *Lab) Plan(g Grid, model string) (*engine.Plan, error) {
	return l.plan(g.cell(model, losses(model)[0], sdo.Latents, "sdo", g.scale(model).steps[0], defaultLR, 1))
}

// plan is a cell's recipe made concrete.
func (l *Lab) plan(c Cell) (*engine.Plan, error) {
	s, err := setting(c.Vary, c.Method)
	if err != nil {
		return nil, err
	}
	r, err := recipe(c, s, s.optimizer(c))
	if err != nil {
		return nil, err
	}
	m, err := l.model(r)
	if err != nil {
		return nil, err
	}
	return engine.NewPlan(r, m, nil, m.Options())
}

// subject puts a cell's plan on the lab's device.
func (l *Lab) subject(c Cell) (*subject, error) {
	plan, err := l.plan(c)
	if err != nil {
		return nil, err
	}
	session, err := engine.NewSession(l.Exec, plan)
	if err != nil {
		return nil, err
	}
	surrogate, _ := plan.Surrogate()
	problem := session.Problem()
	return &subject{
		problem: problem, surrogate: surrogate, guard: plan.Options().NormGuard, heldOut: 24,
		latents: func(ctx context.Context, dst sdo.Vector, first int) error {
			noise := make([]float64, problem.Rows*problem.Cols)
			for i := range noise {
				noise[i] = graph.Normal(c.Seed, uint32(first+i/problem.Cols), uint32(i%problem.Cols))
			}
			return l.Exec.Write(ctx, dst, noise)
		},
		device: l.Exec.Device().Name,
		close:  session.Close,
	}, nil
}

func (l *Lab) model(r *recipes.Recipe) (*engine.Model, error) {
	if m := l.models[r.Model]; m != nil {
		return m, nil
	}
	m, err := engine.LoadModel(r, l.Open)
	if err != nil {
		return nil, err
	}
	if l.models == nil {
		l.models = map[string]*engine.Model{}
	}
	l.models[r.Model] = m
	return m, nil
}
