package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/model"
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
	Run string `json:"run"` // sample, steer_latents, steer or tune
	engine.Memory
	TotalBytes int64    `json:"total_bytes"`
	Recomputed []string `json:"recomputed,omitempty"` // blocks that kept calls compute again to stay within the budget
	Share      float64  `json:"recomputed_share,omitempty"`
	Fault      string   `json:"fault,omitempty"` // why there is no such run; the bytes are 0 then
}

// runKinds are the recipes that memory is planned for, beside the model, the
// size and the guidance: updates of one kept call, as sdo steer and sdo tune
// make them unless told otherwise. Steering by what is in the latents needs no
// decoder; by what is in the pictures, the decoder is differentiated, too.
var runKinds = []struct{ name, says, recipe string }{
	{"sample", "sample", "updates: 0\n"},
	{"steer_latents", "steer, latents looked at", "objective: [{term: total_variation, space: latents}]\n"},
	{"steer", "steer, pictures looked at", "objective: [{term: total_variation}]\n"},
	{"tune", "tune, a LoRA of rank 4", "objective: [{term: total_variation, space: latents}]\nvariables: {parameters: {lora: {rank: 4, alpha: 4}}}\nguards: {latent_norm: none, early_stop: false}\n"},
}

// memoryOf plans runs of a model without a device; nil where it has no denoiser.
func memoryOf(name string, i *inspection, o inspectOptions) *memory {
	at := slices.IndexFunc(i.Components, func(c *component) bool { return c.denoiser != nil })
	if at < 0 {
		return nil
	}
	_, prompted := i.Components[at].denoiser.(model.UNet2DConditionConfig)
	m := &memory{Images: o.images, Height: o.height, Width: o.width, GuidanceScale: o.guidance, BudgetBytes: o.budgetBytes}
	if m.GuidanceScale == 0 {
		m.GuidanceScale = 1
		if prompted {
			m.GuidanceScale = 7.5
		}
	}
	var networks *engine.Networks
	for _, kind := range runKinds {
		if kind.name == "steer_latents" && !prompted {
			continue // its pictures are its latents
		}
		run := runMemory{Run: kind.name}
		recipe := kind.recipe
		if prompted {
			recipe += "prompt: a picture\n"
		} else {
			recipe = strings.ReplaceAll(recipe, ", space: latents", "")
		}
		if err := m.plan(name, kind.name, recipe, &networks, &run); err != nil {
			run.Fault = oneLine(err.Error())
		}
		m.Runs = append(m.Runs, run)
	}
	return m
}

// plan counts one kind of run. The networks are read for the first.
func (m *memory) plan(name, kind, recipe string, networks **engine.Networks, run *runMemory) error {
	text := fmt.Sprintf("version: 1\nname: %s\nnum_images: %d\nguidance_scale: %g\ntune: {batch_size: %[2]d}\n", kind, m.Images, m.GuidanceScale) + recipe
	if kind != "tune" {
		text = strings.Replace(text, fmt.Sprintf("tune: {batch_size: %d}\n", m.Images), "", 1)
	}
	if m.Height > 0 {
		text += fmt.Sprintf("height: %d\n", m.Height)
	}
	if m.Width > 0 {
		text += fmt.Sprintf("width: %d\n", m.Width)
	}
	r, err := recipes.Parse([]byte(text), "inspect", recipes.Override{Path: "model", Value: quoted(name), From: "PATH"})
	if err != nil {
		return err
	}
	if *networks == nil {
		if *networks, err = engine.LoadNetworks(r, openFolder); err != nil {
			return err
		}
	}
	loaded, err := (*networks).Model(r)
	if err != nil {
		return err
	}
	o := loaded.Options()
	o.MemoryBudget = m.BudgetBytes
	var plan *engine.Plan
	if kind == "tune" {
		tuning, err := engine.NewTuningPlan(r, loaded, disk{}, o)
		if err != nil {
			return err
		}
		plan, run.Memory = tuning.Plan, tuning.Memory(nil)
	} else {
		if plan, err = engine.NewPlan(r, loaded, disk{}, o); err != nil {
			return err
		}
		run.Memory = plan.Memory(nil)
	}
	run.TotalBytes = run.Total()
	again := plan.Recomputation()
	run.Recomputed, run.Share = again.Blocks, again.Share
	m.Height, m.Width = plan.Pictures()[2], plan.Pictures()[3]
	return nil
}

func (m *memory) print(out io.Writer) {
	if m == nil {
		return
	}
	if first := m.Runs[0].Fault; first != "" && !slices.ContainsFunc(m.Runs, func(r runMemory) bool { return r.Fault != first }) {
		fmt.Fprintf(out, "\n  memory of a run: %s\n", first)
		return
	}
	fmt.Fprintf(out, "\n  memory of a run, %s of %d x %d at once, guidance scale %g", noun(m.Images, "picture"), m.Width, m.Height, m.GuidanceScale)
	if m.BudgetBytes > 0 {
		fmt.Fprintf(out, ", at most %s", engine.Bytes(m.BudgetBytes))
	}
	fmt.Fprintln(out)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  run\tin all\tweights\tactivations\tstates\tcomputed again")
	for _, r := range m.Runs {
		at := slices.IndexFunc(runKinds, func(k struct{ name, says, recipe string }) bool { return k.name == r.Run })
		says := runKinds[at].says
		switch {
		case r.Run == "steer" && !slices.ContainsFunc(m.Runs, func(r runMemory) bool { return r.Run == "steer_latents" }):
			says = "steer"
		}
		if r.Fault != "" {
			fmt.Fprintf(table, "  %s\t%s\n", says, r.Fault)
			continue
		}
		again := "nothing"
		if len(r.Recomputed) > 0 {
			again = fmt.Sprintf("%s, %.0f %% more work", noun(len(r.Recomputed), "block"), 100*r.Share)
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\t%s\t%s\n", says, engine.Bytes(r.TotalBytes), engine.Bytes(r.Params), engine.Bytes(r.Activations), engine.Bytes(r.States), again)
	}
	table.Flush()
}
