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
	"github.com/spf13/pflag"

	"github.com/sdo-go/sdo/engine"
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
		Long: `Make pictures without steering. Of the folder of a text-to-image
pipeline, it makes one picture under guidance 7.5 with the sampler that the folder
names, unless told otherwise.`,
		Example: `  sdo sample --num-images 32 --seed 3
  sdo sample --lora out/everyone-wears-glasses --lora-scale 0.7
  sdo sample --condition mood=happy --condition clothing=red --guidance-scale 3
  sdo sample --model sd15 --prompt "a red fox in the snow" --height 512 --width 768 --memory-budget 6GiB`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := overrides(cmd.Flags())
			if err != nil {
				return err
			}
			// A condition is meant to be seen; 1 would follow it loosely.
			if cmd.Flags().Changed("condition") && !cmd.Flags().Changed("guidance-scale") {
				list = append([]recipes.Override{{Path: "guidance_scale", Value: "2", From: "--condition"}}, list...)
			}
			list = append(a.promptDefaults(cmd.Flags(), list), list...)
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
			return a.sampleInto(cmd.Context(), plan, out)
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", filepath.Join("out", "sample"), "output `FOLDER`")
	addRecipeFlags(cmd.Flags(), "steps", "seed", "num-images", "model", "lora", "lora-scale", "guidance-scale", "prompt", "negative-prompt", "height", "width", "decoder")
	addBudget(cmd.Flags())
	return cmd
}

// promptDefaults are what diffusers' pipelines do with a prompt, unless the flags
// say otherwise: one picture, guidance strong enough to follow the words, and the
// sampler that the model's folder names. Without a prompt it is one picture, too,
// of a model that takes one, and nothing else. Where the folder's sampler is
// replaced by one near to it and said does not name another, it is told.
func (a *app) promptDefaults(flags *pflag.FlagSet, said []recipes.Override) (list []recipes.Override) {
	add := func(path, value string) {
		list = append(list, recipes.Override{Path: path, Value: value, From: "--prompt"})
	}
	folder, err := openFolder(flags.Lookup("model").Value.String())
	prompted := flags.Changed("prompt")
	text := prompted
	if !text && err == nil {
		_, missing := fs.Stat(folder, "text_encoder/config.json")
		text = missing == nil
	}
	if text && !flags.Changed("num-images") {
		add("num_images", "1")
	}
	if !prompted {
		return list
	}
	if !flags.Changed("guidance-scale") {
		add("guidance_scale", "7.5")
	}
	if err != nil {
		return list // whoever reads the recipe says so
	}
	config, err := fs.ReadFile(folder, "scheduler/scheduler_config.json")
	solver := string(sampler.SolverOf(config))
	if err != nil || solver == "" {
		return list
	}
	add("sampler.name", solver)
	named := slices.ContainsFunc(said, func(o recipes.Override) bool { return o.Path == "sampler.name" })
	if class := sampler.StandIn(config); class != "" && !named {
		a.say("the model's sampler is %s, which is not one of those here; %s stands in for it", class, solver)
	}
	if solver == "lcm" && !flags.Changed("steps") {
		add("sampler.num_inference_steps", "4")
	}
	return list
}

func (a *app) sampleInto(ctx context.Context, plan *engine.Plan, out string) error {
	if err := report.Ready(out); err != nil {
		return usageError{err}
	}
	exec, why, err := a.openDevice(ctx, callProbe(plan))
	if err != nil {
		return err
	}
	defer exec.Close()
	if plan, err = plan.For(exec); err != nil {
		return badInput(err)
	}
	memory := plan.Memory(exec)
	a.sayMemory(plan, exec, why, memory)
	if err := fits(exec, memory.Total()); err != nil {
		return err
	}
	session, err := engine.NewSession(exec, plan)
	if err != nil {
		return err
	}
	defer session.Close()

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
		return json.NewEncoder(a.stdout).Encode(sampled{plan.Recipe.NumImages, seconds, exec.Device().Name, files})
	}
	fmt.Fprintf(a.stdout, "%s in %s: %s\n", noun(plan.Recipe.NumImages, "picture"), duration(seconds), filepath.Join(out, files[0]))
	return nil
}
