package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sdo-go/sdo/native/benchmark"
	"github.com/sdo-go/sdo/native/report"
)

func (a *app) benchMethod() *cobra.Command {
	var out, cells string
	var models []string
	grid, made := benchmark.Grid{}, false
	cmd := &cobra.Command{
		Use:   "method",
		Short: "Gradient methods against each other: losses, compute, drift, memory",
		Long: `Run every gradient method on the same problems, an exact mixture and trained
networks, and write what comes of it: tables, charts and verdicts. Finished runs
are kept in a file of their own, so that a bench that was ended takes up where it
stopped, and one that is made already only writes.`,
		Example: `  sdo bench method --quick --models mixture -o out/results
  sdo bench method`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, m := range models {
				if m != benchmark.Mixture && !slices.Contains(benchmark.Trained(), m) {
					return usageError{fmt.Errorf("--models has %q, want some of %s, %s", m, benchmark.Mixture, strings.Join(benchmark.Trained(), ", "))}
				}
			}
			grid.Models = models
			return a.runMethod(cmd.Context(), grid, made, cells, out)
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", filepath.Join("out", "bench-method"), "output `FOLDER`")
	cmd.Flags().StringVar(&cells, "cells", filepath.Join("out", "bench-method", "cells.jsonl"), "file of finished runs")
	cmd.Flags().StringSliceVar(&models, "models", []string{benchmark.Mixture, "avatars-16-s"}, benchmark.Mixture+", "+strings.Join(benchmark.Trained(), ", "))
	cmd.Flags().BoolVar(&made, "made", false, "run nothing, write what is made")
	cmd.Flags().BoolVar(&grid.Quick, "quick", false, "a few small runs of everything, to see that it works; the numbers mean nothing")
	return cmd
}

func (a *app) runMethod(ctx context.Context, grid benchmark.Grid, made bool, cells, out string) error {
	if err := report.Ready(out, 0); err != nil {
		return usageError{err}
	}
	store, err := benchmark.OpenStore(cells)
	if err != nil {
		return usageError{fmt.Errorf("--cells: %w", err)}
	}
	if !made {
		err = a.fill(ctx, grid, store)
	}
	interrupted := errors.Is(err, context.Canceled)
	if err != nil && !interrupted {
		return err
	}
	if store.Len() > 0 {
		names, failed := benchmark.Write(out, grid, store, command(grid, out))
		if failed != nil {
			return failed
		}
		a.say("wrote %s into %s", strings.Join(names, ", "), out)
		if a.json {
			if err := a.printJSON(benchmark.Verdicts(grid, store)); err != nil {
				return err
			}
		}
	}
	if interrupted {
		return errInterrupted
	}
	return nil
}

// command makes the same page again.
func command(grid benchmark.Grid, out string) string {
	words := []string{"sdo bench method"}
	if grid.Quick {
		words = append(words, "--quick")
	}
	return strings.Join(append(words, "--models "+strings.Join(grid.Models, ","), "-o "+out), " ")
}

// fill makes the runs that are missing.
func (a *app) fill(ctx context.Context, grid benchmark.Grid, store *benchmark.Store) error {
	lab := &benchmark.Lab{Open: openFolder}
	if i := slices.IndexFunc(grid.Models, func(m string) bool { return m != benchmark.Mixture }); i >= 0 {
		plan, err := lab.Plan(grid, grid.Models[i])
		if err != nil {
			return badInput(err)
		}
		why := ""
		if lab.Exec, why, err = a.openDevice(ctx, callProbe(plan)); err != nil {
			return err
		}
		defer lab.Exec.Close()
		a.say("networks on %s: %s", describe(lab.Exec.Device()), why)
	}
	for _, model := range grid.Models {
		n, forward, backward := grid.Calls(store, model)
		a.say("%s: %s to make, %d forward calls and %d differentiated, and more once learning rates are found", model, noun(n, "run"), forward, backward)
	}
	bar := a.newDisplay(1, "runs")
	defer bar.end()
	return grid.Fill(ctx, lab, store, func(made, missing int, left time.Duration, c benchmark.Cell) {
		bar.total = made + missing
		bar.set(made, fmt.Sprintf("%s, %s, %s, N = %d; about %s of work", c.Model, c.Loss, c.Method, c.Steps, left.Round(time.Second)))
	})
}
