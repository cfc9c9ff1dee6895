package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/native/report"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sampler"
	"github.com/sdo-go/sdo/sdo"
)

// sampleRecipe is a recipe that only samples; flags say the rest.
const sampleRecipe = "version: 1\nname: sample\nupdates: 0\n"

// sampled is what `sdo sample --json` prints. Keys are stable.
type sampled struct {
	Images  int      `json:"images"`
	Seconds float64  `json:"seconds"`
	Device  string   `json:"device"`
	Files   []string `json:"files"`
}

func (a *app) sample() *cobra.Command {
	out := ""
	cmd := &cobra.Command{
		Use:   "sample",
		Short: "Make pictures without steering",
		Long: `Make pictures without steering. Of the folder of a text-to-image pipeline
and a prompt, it makes one picture under guidance 7.5 (8.5 of a latent consistency
model) with the sampler that the folder names, its timesteps and its noise levels,
unless told otherwise.`,
		Example: `  sdo sample --num-images 32 --seed 3
  sdo sample --lora out/everyone-wears-glasses --lora-scale 0.7
  sdo sample --condition mood=happy --condition clothing=red --guidance-scale 3
  sdo sample --model sd15 --prompt "a red fox in the snow" --height 512 --width 768 --memory-budget 6GiB`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("sdo sample takes flags alone, got %q; a text is given by --prompt, a model by --model", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				out = filepath.Join("out", "sample")
			}
			list, err := overrides(cmd.Flags())
			if err != nil {
				return err
			}
			// A condition is meant to be seen; 1 would follow it loosely.
			if cmd.Flags().Changed("condition") && !cmd.Flags().Changed("guidance-scale") {
				list = append([]recipes.Override{{Path: "guidance_scale", Value: "2", From: "--condition"}}, list...)
			}
			list = append(a.promptDefaults(list), list...)
			r, err := recipes.Parse([]byte(sampleRecipe), "sample", list...)
			if err != nil {
				return badInput(err)
			}
			r.Updates, r.Objective = 0, nil
			m, err := engine.LoadModel(r, openFolder)
			if err != nil {
				return badInput(err)
			}
			o, err := planOptions(m, cmd.Flags())
			if err != nil {
				return err
			}
			plan, err := engine.NewPlan(r, m, disk{}, o)
			if err != nil {
				return badInput(err)
			}
			a.sayNotes(plan)
			return a.sampleInto(cmd.Context(), plan, out)
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", filepath.Join("out", "sample"), "output `FOLDER`")
	addRecipeFlags(cmd.Flags(), "steps", "seed", "num-images", "model", "lora", "lora-scale", "guidance-scale", "prompt", "negative-prompt", "height", "width", "decoder", "dtype")
	addBudget(cmd.Flags())
	return cmd
}

// promptDefaults are what diffusers' pipelines do with a prompt, unless it is said
// otherwise, in a flag or by --set: one picture, guidance strong enough to follow
// the words, and the sampler that the model's folder names, with its timesteps and
// noise levels. Without a prompt it is one picture, too, of a model that takes one,
// and nothing else. Where the folder's sampler is replaced by one near to it and
// said does not name another, it is told.
func (a *app) promptDefaults(said []recipes.Override) (list []recipes.Override) {
	add := func(path, value string) {
		list = append(list, recipes.Override{Path: path, Value: value, From: "what a prompt is sampled with"})
	}
	r := words(said)
	if r == nil {
		return nil // whoever reads the recipe says why
	}
	folder, err := openFolder(r.Model)
	if err != nil {
		return list // whoever reads the recipe says so
	}
	if _, missing := fs.Stat(folder, "text_encoder/config.json"); r.Prompt != "" || missing == nil {
		add("num_images", "1")
	}
	if r.Prompt == "" {
		return list
	}
	class, _ := model.PipelineClass(folder)
	consistency := class == "LatentConsistencyModelPipeline"
	if consistency {
		add("guidance_scale", "8.5")
	} else {
		add("guidance_scale", "7.5")
	}
	text, err := model.ReadConfig(folder, "scheduler/scheduler_config.json")
	solver := sampler.SolverOf(text)
	if err != nil || solver == "" {
		return list
	}
	add("sampler.name", string(solver))
	named := slices.ContainsFunc(said, func(o recipes.Override) bool { return o.Path == "sampler.name" || o.Path == "sampler" })
	if class := sampler.StandIn(text); class != "" && !named {
		a.notes = append(a.notes, fmt.Sprintf("the model's sampler is %s, which is not one of those here; %s stands in for it", class, solver))
	}
	if solver == sampler.SolverLCM || consistency {
		add("sampler.num_inference_steps", "4")
	}
	config, err := sampler.ParseConfig(text)
	if err != nil {
		return list // whoever loads the model says so
	}
	if config.ClipSample {
		a.notes = append(a.notes, "the model's sampler clips what it takes for the finished sample; here nothing is clipped, for gradients end there (clip_sample)")
	}
	if solver != sampler.SolverLCM { // which has timesteps of its own
		add("sampler.timestep_spacing", string(config.TimestepSpacing))
	}
	if config.UseKarrasSigmas && solver.TakesKarras() && !named {
		add("sampler.use_karras_sigmas", "true")
	}
	return list
}

// words are a recipe's model and prompt as flags say them, nil where they say
// them wrong.
func words(said []recipes.Override) *recipes.Recipe {
	said = slices.DeleteFunc(slices.Clone(said), func(o recipes.Override) bool { return o.Path != "model" && o.Path != "prompt" })
	r, err := recipes.Parse([]byte(sampleRecipe), "flags", said...)
	if err != nil {
		return nil
	}
	return r
}

func (a *app) sampleInto(ctx context.Context, plan *engine.Plan, out string) error {
	if err := report.Ready(out, 5*int64(plan.Pictures().Size())); err != nil {
		return usageError{err}
	}
	session, _, err := a.openSession(ctx, plan)
	if err != nil {
		return err
	}
	defer session.Exec.Close()
	defer session.Close()
	plan = session.Plan

	bar := a.newDisplay(plan.Inversion()+plan.Calls(), "steps")
	start := time.Now()
	images, err := session.Sample(ctx, func(e sdo.Event) {
		switch e.Kind {
		case sdo.EventInversion:
			bar.set(e.Step, "inversion")
		case sdo.EventStep:
			bar.set(plan.Inversion()+e.Step, "sampling")
		}
	})
	bar.end()
	if err != nil {
		return err
	}
	seconds := time.Since(start).Seconds()
	for _, x := range images {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return fmt.Errorf("the pictures hold %g: the numbers of model %s are too large to sample with; look at them with sdo model inspect", x, plan.Recipe.Model)
		}
	}
	files, err := report.WriteSamples(out, plan.Recipe, images, plan.Pictures())
	if err != nil {
		return err
	}
	if a.json {
		return json.NewEncoder(a.stdout).Encode(sampled{plan.Recipe.NumImages, seconds, session.Exec.Device().Name, files})
	}
	fmt.Fprintf(a.stdout, "%s in %s: %s\n", noun(plan.Recipe.NumImages, "picture"), duration(seconds), filepath.Join(out, files[0]))
	return nil
}
