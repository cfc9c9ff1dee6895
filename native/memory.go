package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/native/hub"
	"github.com/sdo-go/sdo/recipes"
)

// memory is what runs of a model take, by the plans that would run. Keys are
// stable.
type memory struct {
	Images        int         `json:"images"`
	Height        int         `json:"height"` // pixels
	Width         int         `json:"width"`
	GuidanceScale float64     `json:"guidance_scale"`
	BudgetBytes   int64       `json:"budget_bytes,omitempty"`
	Runs          []runMemory `json:"runs"`
}

// runMemory is one kind of run.
type runMemory struct {
	Run string `json:"run"` // sample, steer or tune
	engine.Memory
	TotalBytes int64  `json:"total_bytes"`
	Fault      string `json:"fault,omitempty"` // why there is no such run; the bytes are 0 then
}

// runKinds are the recipes that memory is planned for, beside the model, the
// size and the guidance: updates of one kept call, as sdo steer and sdo tune
// make them unless told otherwise.
var runKinds = []struct{ name, recipe string }{
	{"sample", "updates: 0\n"},
	{"steer", "objective: [{term: total_variation}]\n"},
	{"tune", "objective: [{term: total_variation}]\nvariables: {parameters: {lora: {rank: 4, alpha: 4}}}\ntune: {batch_size: %d}\nguards: {latent_norm: none}\n"},
}

// memoryOf plans runs of a model without a device; nil where it has no denoiser.
func memoryOf(name string, i *inspection, o inspectOptions) *memory {
	m := &memory{Images: o.images, Height: o.height, Width: o.width, GuidanceScale: o.guidance, BudgetBytes: o.budgetBytes}
	var denoiser *component
	for _, c := range i.Components {
		if c.denoiser != nil {
			denoiser = c
		}
	}
	if denoiser == nil {
		return nil
	}
	m.GuidanceScale = cmp.Or(m.GuidanceScale, 1)
	for _, kind := range runKinds {
		row := runMemory{Run: kind.name}
		plan, err := planOf(name, kind.recipe, m)
		if err != nil {
			row.Fault = err.Error()
		} else {
			row.Memory = plan.Memory(nil)
			row.TotalBytes = row.Total()
			m.Height, m.Width = plan.Shape[2], plan.Shape[3]
		}
		m.Runs = append(m.Runs, row)
	}
	return m
}

func planOf(name, kind string, m *memory) (*engine.Plan, error) {
	if strings.Contains(kind, "%d") {
		kind = fmt.Sprintf(kind, m.Images)
	}
	text := fmt.Sprintf("version: 1\nname: inspect\nnum_images: %d\nguidance_scale: %g\n", m.Images, m.GuidanceScale) + kind
	if m.Height > 0 {
		text += fmt.Sprintf("height: %d\n", m.Height)
	}
	if m.Width > 0 {
		text += fmt.Sprintf("width: %d\n", m.Width)
	}
	r, err := recipes.Parse([]byte(text), "inspect", recipes.Override{Path: "model", Value: quoted(name), From: "PATH"})
	if err != nil {
		return nil, err
	}
	loaded, err := engine.LoadModel(r, openFolder)
	if err != nil {
		return nil, err
	}
	o := loaded.Options()
	o.MemoryBudget = m.BudgetBytes
	return engine.NewPlan(r, loaded, disk{}, o)
}

func (m *memory) print(out io.Writer) {
	if m == nil {
		return
	}
	if first := m.Runs[0].Fault; first != "" && !slices.ContainsFunc(m.Runs, func(r runMemory) bool { return r.Fault != first }) {
		fmt.Fprintf(out, "\n  memory of a run: %s\n", first)
		return
	}
	fmt.Fprintf(out, "\n  memory of a run, %s of %d x %d at once, guidance scale %g", noun(m.Images, "picture"), m.Height, m.Width, m.GuidanceScale)
	if m.BudgetBytes > 0 {
		fmt.Fprintf(out, ", at most %s", hub.Bytes(m.BudgetBytes))
	}
	fmt.Fprintln(out)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  run\tweights\tactivations\tstates\tin all")
	for _, r := range m.Runs {
		if r.Fault != "" {
			fmt.Fprintf(table, "  %s\t%s\n", r.Run, r.Fault)
			continue
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\t%s\n", r.Run, hub.Bytes(r.Params), hub.Bytes(r.Activations), hub.Bytes(r.States), hub.Bytes(r.TotalBytes))
	}
	table.Flush()
}
