package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
)

// memory is what runs of a model take, by the plans that would run. Keys are
// stable.
type memory struct {
	Device        string      `json:"device"` // whose kernels' working memory counts
	Why           string      `json:"why"`    // it is this one
	Images        int         `json:"images"`
	Height        int         `json:"height"` // pixels
	Width         int         `json:"width"`
	GuidanceScale float64     `json:"guidance_scale"`
	Decoder       string      `json:"decoder,omitempty"` // class of what decodes latents into pictures
	BudgetBytes   int64       `json:"budget_bytes,omitempty"`
	Runs          []runMemory `json:"runs"`
}

// runMemory is one kind of run. Where the budget is too small for it the bytes
// are the least it can do with.
type runMemory struct {
	Run string `json:"run"` // of runKinds
	engine.Memory
	TotalBytes int64    `json:"total_bytes"`
	Recomputed []string `json:"recomputed,omitempty"` // blocks that kept calls compute again to stay within the budget
	Share      float64  `json:"recomputed_share,omitempty"`
	Fault      string   `json:"fault,omitempty"` // why there is no such run
}

// runKind is a run that memory is planned for: what sdo sample, sdo steer or
// sdo tune makes of the model, the size and the guidance unless told more. What
// goes by latents differentiates no decoder.
type runKind struct {
	name, says string
	latents    bool // looked at, of a model that has them
	pipelines  bool // alone make such runs
}

var runKinds = []runKind{
	{"sample", "sample", false, false},
	{"steer_latents", "steer by latents", true, true},
	{"steer", "steer by pictures", false, false},
	{"tune", "tune a LoRA of rank 4 by latents", true, false},
	{"tune_pictures", "tune a LoRA of rank 4 by pictures", false, true},
}

// memoryOf plans runs of a model for the device that they would take; nil where
// the model has no denoiser. An error is about what was asked, not about a run.
func (a *app) memoryOf(ctx context.Context, i *inspection, o inspectOptions) (*memory, error) {
	at := slices.IndexFunc(i.Components, func(c *component) bool { return c.denoiser != nil })
	if at < 0 {
		return nil, nil
	}
	exec, why, err := a.openDevice(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer exec.Close()
	if why == untried {
		why = "the GPU is software; a run may try both"
	}
	_, prompted := i.Components[at].denoiser.(model.UNet2DConditionConfig)
	m := &memory{Device: describe(exec.Device()), Why: why, Images: o.images, Height: o.height, Width: o.width, BudgetBytes: o.budgetBytes}
	var networks *engine.Networks // which the first run reads for all
	for _, kind := range runKinds {
		if kind.pipelines && !prompted {
			continue
		}
		run := runMemory{Run: kind.name}
		r, err := o.recipe(i.Folder, kind.name, kind.latents && prompted, prompted)
		if err != nil {
			return nil, badInput(err)
		}
		m.GuidanceScale = r.GuidanceScale
		if networks == nil {
			networks, err = engine.LoadNetworks(r, openFolder)
		}
		var loaded *engine.Model
		if err == nil {
			loaded, err = networks.Model(r)
		}
		if err != nil && o.sized() {
			return nil, badInput(errors.New(untold(err, r)))
		}
		if err == nil {
			err = m.plan(r, loaded, exec, &run)
		}
		if err != nil {
			run.Fault = strings.TrimPrefix(untold(err, r), "model "+i.Folder+": ")
		}
		m.Runs = append(m.Runs, run)
	}
	return m, nil
}

// untold is an error without the recipe's name, which the user did not give.
func untold(err error, r *recipes.Recipe) string {
	return strings.TrimPrefix(oneLine(err.Error()), fmt.Sprintf("recipe %q: ", r.Name))
}

// recipe is what one kind of run does.
func (o inspectOptions) recipe(name, kind string, latents, prompted bool) (*recipes.Recipe, error) {
	var list []recipes.Override
	set := func(path, value, from string) {
		list = append(list, recipes.Override{Path: path, Value: value, From: from})
	}
	set("name", kind, "PATH")
	set("model", quoted(name), "PATH")
	if prompted {
		set("prompt", "a picture", "PATH")
	}
	if o.guidance != 0 {
		set("guidance_scale", fmt.Sprint(o.guidance), "--guidance-scale")
	}
	if o.height != 0 {
		set("height", fmt.Sprint(o.height), "--height")
	}
	if o.width != 0 {
		set("width", fmt.Sprint(o.width), "--width")
	}
	if o.decoder != "" {
		set("decoder", quoted(o.decoder), "--decoder")
	}
	if o.dtype != "" {
		set("dtype", quoted(o.dtype), "--dtype")
	}
	switch {
	case kind == "sample":
	case latents:
		set("objective", "[{term: total_variation, space: latents}]", "PATH")
	default:
		set("objective", "[{term: total_variation}]", "PATH")
	}
	text, defaults := bareRecipe, (&app{}).promptDefaults(list)
	switch {
	case strings.HasPrefix(kind, "tune"):
		text = bareTuning
		set("tune.batch_size", fmt.Sprint(o.images), "--num-images")
	case kind == "sample":
		text = sampleRecipe
		fallthrough
	default:
		set("num_images", fmt.Sprint(o.images), "--num-images")
	}
	list = append(defaults, list...)
	r, err := recipes.Parse([]byte(text), "inspect", list...)
	if err == nil && kind == "sample" {
		r.Updates, r.Objective = 0, nil
	}
	return r, err
}

// plan counts one run, as the command that makes it does before it allocates.
func (m *memory) plan(r *recipes.Recipe, loaded *engine.Model, exec graph.Executor, run *runMemory) error {
	shape := loaded.Denoiser.SampleShape(1)
	if loaded.Decoder != nil {
		m.Decoder = decoderClass(loaded.Decoder)
		var err error
		if shape, err = loaded.Decoder.Config.ImageShape(shape); err != nil {
			return err
		}
	}
	m.Height, m.Width = shape[2], shape[3]
	o := loaded.Options()
	o.MemoryBudget = m.BudgetBytes
	plan, err := m.fit(r, loaded, exec, o, run)
	var over *engine.OverBudget
	if errors.As(err, &over) && o.Exec == nil { // what it takes at least was not counted for the device yet
		o.Exec = exec
		plan, err = m.fit(r, loaded, exec, o, run)
	}
	if errors.As(err, &over) {
		run.Memory, run.TotalBytes = over.Least, over.Least.Total()
	}
	if err != nil {
		return err
	}
	run.TotalBytes = run.Total()
	again := plan.Recomputation()
	run.Recomputed, run.Share = again.Blocks, again.Share
	return nil
}

// fit plans as a command does: without a device, then for the one that is open.
func (m *memory) fit(r *recipes.Recipe, loaded *engine.Model, exec graph.Executor, o engine.PlanOptions, run *runMemory) (*engine.Plan, error) {
	if strings.HasPrefix(run.Run, "tune") {
		t, err := engine.NewTuningPlan(r, loaded, disk{}, o)
		if err == nil {
			t, err = t.For(exec)
		}
		if err != nil {
			return nil, err
		}
		run.Memory = t.Memory(exec)
		return t.Plan, nil
	}
	p, err := engine.NewPlan(r, loaded, disk{}, o)
	if err == nil {
		p, err = p.For(exec)
	}
	if err != nil {
		return nil, err
	}
	run.Memory = p.Memory(exec)
	return p, nil
}

// decoderClass is the class of an autoencoder, which says how much it takes.
func decoderClass(m *model.AutoencoderModel) string {
	if _, tiny := m.Config.(model.AutoencoderTinyConfig); tiny {
		return "AutoencoderTiny"
	}
	return "AutoencoderKL"
}

// says names a run for a person.
func (m *memory) says(r runMemory) string {
	at := slices.IndexFunc(runKinds, func(k runKind) bool { return k.name == r.Run })
	says := runKinds[at].says
	if m.Decoder == "" {
		says, _, _ = strings.Cut(says, " by ") // which are the same
	} else if strings.HasSuffix(says, "by pictures") {
		says += " through " + m.Decoder
	}
	return says
}

func (m *memory) print(out io.Writer) {
	if m == nil {
		return
	}
	if first := m.Runs[0]; first.Fault != "" && first.TotalBytes == 0 && !slices.ContainsFunc(m.Runs, func(r runMemory) bool { return r.Fault != first.Fault }) {
		fmt.Fprintf(out, "\n  memory of a run: %s\n", first.Fault)
		return
	}
	fmt.Fprintf(out, "\n  memory of a run, %s of %d x %d at once, guidance scale %g", noun(m.Images, "picture"), m.Width, m.Height, m.GuidanceScale)
	if m.BudgetBytes > 0 {
		fmt.Fprintf(out, ", at most %s", engine.Bytes(m.BudgetBytes))
	}
	fmt.Fprintf(out, "\n  on %s: %s\n", m.Device, m.Why)
	prepares := slices.ContainsFunc(m.Runs, func(r runMemory) bool { return r.Prepared > 0 })
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	before := ""
	if prepares {
		before = "\tbefore"
	}
	fmt.Fprintf(table, "  run\tin all\tweights\tactivations\tstates%s\tcomputed again\n", before)
	for _, r := range m.Runs {
		if r.Fault != "" && r.TotalBytes == 0 {
			continue
		}
		again, total := "nothing", engine.Bytes(r.TotalBytes)
		if len(r.Recomputed) > 0 {
			again = fmt.Sprintf("%s, %.0f %% more work", noun(len(r.Recomputed), "block"), 100*r.Share)
		}
		if r.Fault != "" {
			again, total = "does not fit", "at least "+total
		}
		if prepares {
			before = "\t" + engine.Bytes(r.Prepared)
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\t%s%s\t%s\n", m.says(r), total, engine.Bytes(r.Params), engine.Bytes(r.Activations), engine.Bytes(r.States), before, again)
	}
	table.Flush()
	for _, r := range m.Runs {
		if r.Fault != "" && r.TotalBytes == 0 {
			fmt.Fprintf(out, "  %s: %s\n", m.says(r), r.Fault)
		}
	}
	if prepares {
		fmt.Fprintln(out, "  before the rest comes what encodes the prompt, and is freed again")
	}
}
