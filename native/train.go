package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/native/report"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/train"
	"github.com/sdo-go/sdo/train/fashion"
)

// train is the thin command over train.Session: which recipe, where to, and a
// display.
func (a *app) train() *cobra.Command {
	out, data, steps := "", "", 0
	cmd := &cobra.Command{
		Use:   "train RECIPE",
		Short: "Train a built-in network again, or one of your own",
		Long: `Train a network by a training recipe: ` + strings.Join(train.Recipes(), ", ") + `, or a JSON file
of the same form. The run logs and checkpoints into its folder; the same
command continues an interrupted run exactly where it stopped.

The avatars are drawn as training goes. Fashion-MNIST is read from the folder
of --data: its four files, as Debian's package dataset-fashion-mnist installs
them.`,
		Args: one("RECIPE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			recipe, err := trainingRecipe(args[0])
			if err != nil {
				return badInput(err)
			}
			if cmd.Flags().Changed("steps") {
				if recipe.Options.Steps = steps; steps < 1 {
					return usageError{fmt.Errorf("--steps is %d, want 1 or more", steps)}
				}
			}
			if out == "" {
				out = filepath.Join("runs", recipe.Name)
			}
			return a.trainInto(cmd.Context(), recipe, data, out)
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "", "`FOLDER` of the run (default runs/NAME)")
	cmd.Flags().StringVar(&data, "data", fashion.Folder, "folder of Fashion-MNIST, for the recipes that train on it")
	cmd.Flags().IntVar(&steps, "steps", 0, "train this many steps instead of the recipe's")
	return cmd
}

// trained is what `sdo train --json` prints. Keys are stable.
type trained struct {
	Name    string  `json:"name"`
	Steps   int     `json:"steps"`
	Seconds float64 `json:"seconds"` // of this command, not of what it continued
	Device  string  `json:"device"`
	Folder  string  `json:"folder"`
}

func trainingRecipe(name string) (*train.Recipe, error) {
	text, err := model.ReadConfig(disk{}, name)
	if err == nil {
		return train.ParseRecipe(text, name)
	}
	recipe, unknown := train.FindRecipe(name)
	if unknown != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return recipe, unknown
}

func (a *app) trainInto(ctx context.Context, recipe *train.Recipe, data, dir string) error {
	if err := report.Ready(dir, 0); err != nil {
		return usageError{err}
	}
	// Training is one large product after another: what multiplies matrices
	// faster trains faster.
	exec, why, err := a.openDevice(ctx, func(ctx context.Context, exec graph.Executor) (float64, error) {
		return engine.MatMulSeconds(ctx, exec)
	})
	if err != nil {
		return err
	}
	defer exec.Close()
	a.say("training %s on %s: %s", recipe.Name, describe(exec.Device()), why)

	var bar *display
	session := &train.Session{Recipe: recipe, Dir: dir, Data: plainFiles(data), Progress: func(p train.Progress) {
		if bar == nil {
			bar = a.newDisplay(p.Steps, "steps")
		}
		bar.set(p.Step, fmt.Sprintf("loss %.4f, %.0f images/s", p.SmoothLoss, p.ImagesPerSecond))
	}}
	session.Sheet = func(step int, unet *model.UNet2D) error {
		return sampleSheet(context.WithoutCancel(ctx), exec, unet, recipe.Name, step, dir)
	}
	start := time.Now()
	err = session.Run(ctx, exec)
	if bar != nil {
		bar.end()
	}
	if errors.Is(err, context.Canceled) {
		a.say("interrupted; %s holds a checkpoint, and the same command continues from it", dir)
		return errInterrupted
	}
	if errors.Is(err, fashion.ErrMissing) {
		return usageError{fmt.Errorf("%s: %w; --data names another folder", data, err)}
	}
	if err != nil {
		return err
	}
	seconds := time.Since(start).Seconds()
	if a.json {
		return json.NewEncoder(a.stdout).Encode(trained{recipe.Name, recipe.Options.Steps, seconds, exec.Device().Name, dir})
	}
	a.say("%s is trained, in %s: %s", recipe.Name, duration(seconds), dir)
	return nil
}

// sampleSheet draws what a network in training makes of thirty-two fixed
// noises, unconditionally, into a folder of its own.
func sampleSheet(ctx context.Context, exec graph.Executor, unet *model.UNet2D, name string, step int, dir string) error {
	r := recipes.Defaults()
	r.Name, r.NumImages, r.Updates = fmt.Sprintf("%s, step %d", name, step), 32, 0
	m, err := engine.NewModel(name, unet, &r)
	if err != nil {
		return err
	}
	plan, err := engine.NewPlan(&r, m, nil, engine.PlanOptions{Storage: graph.F32})
	if err != nil {
		return err
	}
	session, err := engine.NewSession(exec, plan)
	if err != nil {
		return err
	}
	defer session.Close()
	images, err := session.Sample(ctx, nil)
	if err != nil {
		return err
	}
	out := filepath.Join(dir, "sheets", fmt.Sprintf("step-%06d", step))
	_, err = report.WriteSamples(out, &r, images, plan.Shape)
	return err
}
