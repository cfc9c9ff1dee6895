package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
)

// checkpointFile is what a run is continued from, in its folder.
const checkpointFile = "checkpoint.safetensors"

// metadataRecipe is the checkpoint's record of the recipe it belongs to.
const metadataRecipe = "recipe"

// addRestart registers the flag that begins a run anew.
func addRestart(flags *pflag.FlagSet, restart *bool) {
	flags.BoolVar(restart, "restart", false, "begin anew: discard the checkpoint in the folder, if there is one")
}

// toContinue names the command that continues a run from its checkpoint.
func toContinue(restart bool) string {
	if restart {
		return "the same command without --restart"
	}
	return "the same command"
}

// discardCheckpoint removes a folder's checkpoint, of a run that --restart begins
// anew.
func discardCheckpoint(out string) error {
	if err := os.Remove(filepath.Join(out, checkpointFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("--restart: %w", err)
	}
	return nil
}

// readCheckpoint reads a folder's checkpoint of a tuning, or of what else there is
// to continue; nil where there is none, or the run shall begin anew. It refuses one
// of another recipe, but how many updates there shall be may change: what is made is
// the same.
func readCheckpoint(out, what string, recipe *recipes.Recipe, restart bool) (model.Weights, map[string]string, error) {
	if _, err := os.Stat(filepath.Join(out, checkpointFile)); err != nil || restart {
		return nil, nil, nil
	}
	tensors, metadata, err := model.LoadSafetensors(plainFiles(out), checkpointFile)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w; begin anew with --restart", out, err)
	}
	other := func(format string, args ...any) (model.Weights, map[string]string, error) {
		return nil, nil, fmt.Errorf("%s: %s; give another folder with --out, or begin anew with --restart", filepath.Join(out, checkpointFile), fmt.Sprintf(format, args...))
	}
	r, err := recipes.Parse([]byte(metadata[metadataRecipe]), checkpointFile)
	if err != nil {
		return other("is no checkpoint of a %s", what)
	}
	if made, _ := engine.CheckpointUpdate(metadata); made > recipe.Updates {
		return other("has made %s, the recipe wants %d", noun(made, "update"), recipe.Updates)
	}
	r.Updates = recipe.Updates
	if now, then := lines(recipe), lines(r); !slices.Equal(now, then) {
		for i, line := range now {
			if i >= len(then) || then[i] != line {
				return other("belongs to another recipe than %q, which differs in %q", recipe.Name, strings.TrimSpace(line))
			}
		}
		return other("belongs to another recipe than %q", recipe.Name)
	}
	return tensors, metadata, nil
}

func lines(r *recipes.Recipe) []string { return strings.Split(string(r.Canonical()), "\n") }
