package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/recipes"
)

// recipeFlags are the recipe keys with a flag of their own; --set reaches the
// others.
var recipeFlags = []struct{ flag, path, usage string }{
	{"updates", "updates", "at most `N` updates; without a recipe 60"},
	{"steps", "sampler.num_inference_steps", "`N` steps of the sampler; without a recipe 20"},
	{"seed", "seed", "`NUMBER` that the starting noise is drawn from"},
	{"num-images", "num_images", "make `N` pictures at once; without a recipe 16, of a text-to-image model 1"},
	{"model", "model", "built-in `MODEL`, diffusers folder, or OWNER/NAME that was pulled"},
	{"lora", "lora.path", "merge the LoRA in `PATH` into the model: a PEFT folder or a safetensors file"},
	{"lora-scale", "lora.scale", "`FACTOR` on what the LoRA adds"},
	{"guidance-scale", "guidance_scale", "`SCALE` of classifier-free guidance, 1 for none; with a prompt 7.5 if no recipe says"},
	{"prompt", "prompt", "`TEXT` that says what pictures show, for a model that takes text"},
	{"negative-prompt", "negative_prompt", "`TEXT` that guidance leads away from, for a model that takes text"},
	{"height", "height", "`PIXELS`; default the model's own"},
	{"width", "width", "`PIXELS`; default the model's own"},
	{"decoder", "decoder", "`FOLDER` of another autoencoder for the pipeline's latents, such as a TAESD"},
	{"dtype", "dtype", "hold weights in `TYPE`: float16 packs those of float32 files into half the memory; default as in their files"},
	{"clip", "clip", "`FOLDER` of a CLIPModel, which clip_similarity, clip_style and aesthetic terms look with"},
	{"lr", "optimizer.lr", "learning `RATE` of variables without one of their own; without a recipe 0.05"},
	{"variables", "variables", "`NAMES` of what changes, for example '[latents, noises]'"},
	{"method", "method.name", "`NAME` of the method: " + strings.Join(recipes.Methods, ", ")},
	{"freeze", "method.freeze", "`NAME` of what is held: " + strings.Join(recipes.Freezes, ", ")},
	{"active", "method.active", "`CALLS` that are kept: " + strings.Join(recipes.Actives, ", ") + " or a number"},
	{"bridge", "method.bridge", "`SHARE` of the gradient passed from call to call, 0 to 1"},
}

// textFlags are those whose values are text and not YAML.
var textFlags = []string{"model", "lora", "prompt", "negative-prompt", "decoder", "dtype", "clip"}

// addRecipeFlags registers the flags among names, all of them for none.
func addRecipeFlags(flags *pflag.FlagSet, names ...string) {
	for _, f := range recipeFlags {
		wanted := len(names) == 0
		for _, n := range names {
			wanted = wanted || n == f.flag
		}
		if wanted {
			flags.String(f.flag, "", f.usage)
		}
	}
	flags.StringArray("set", nil, "override any key of the recipe by `KEY=VALUE`, for example optimizer.betas='[0.9, 0.99]'")
	flags.StringArray("condition", nil, "`NAME=VALUE` that conditions the model, for example mood=happy")
}

// overrides collects what the flags say about the recipe, in an order in which
// --set wins.
func overrides(flags *pflag.FlagSet) ([]recipes.Override, error) {
	var list []recipes.Override
	for _, f := range recipeFlags {
		// A command may have a flag of the same name that is a list: not a key.
		if flag := flags.Lookup(f.flag); flag != nil && flag.Changed && flag.Value.Type() == "string" {
			value := flag.Value.String()
			if slices.Contains(textFlags, f.flag) {
				value = quoted(value) // a path is text, whatever it looks like
			}
			list = append(list, recipes.Override{Path: f.path, Value: value, From: "--" + f.flag})
		}
	}
	pairs := func(flag string, entry func(key, value string)) error {
		values, err := flags.GetStringArray(flag)
		if err != nil {
			return err
		}
		for _, pair := range values {
			key, value, ok := strings.Cut(pair, "=")
			if !ok || key == "" {
				return usageError{fmt.Errorf("--%s %s: expected key=value", flag, pair)}
			}
			entry(key, value)
		}
		return nil
	}
	err := pairs("condition", func(key, value string) {
		list = append(list, recipes.Override{Path: "condition." + key, Value: quoted(value), From: "--condition " + key})
	})
	if err != nil {
		return nil, err
	}
	var set []recipes.Override
	err = pairs("set", func(key, value string) {
		set = append(set, recipes.Override{Path: key, Value: value, From: "--set " + key})
	})
	if err != nil {
		return nil, err
	}
	if flags.Changed("objective") {
		prompt := ""
		if said := words(slices.Concat(list, set)); said != nil {
			prompt = said.Prompt
		}
		terms, err := objective(flags, prompt)
		if err != nil {
			return nil, err
		}
		list = append(list, recipes.Override{Path: "objective", Value: terms, From: "--objective"})
	}
	return append(list, set...), nil
}

func quoted(s string) string {
	data, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings always marshal
	}
	return string(data)
}

// addBudget registers the flag that plans within a memory budget.
func addBudget(flags *pflag.FlagSet) {
	flags.String("memory-budget", "", "`SIZE` that the run may take in all, such as 6GiB or 800MB; what does not fit is computed again instead of kept")
}

// planOptions are a model's, with the flags on top.
func planOptions(m *engine.Model, flags *pflag.FlagSet) (engine.PlanOptions, error) {
	o := m.Options()
	text, err := flags.GetString("memory-budget")
	if err == nil && flags.Changed("memory-budget") {
		o.MemoryBudget, err = parseBytes(text)
	}
	if err != nil {
		err = usageError{fmt.Errorf("--memory-budget: %w", err)}
	}
	return o, err
}

// byteUnits are the units of a size, binary and decimal.
var byteUnits = map[string]float64{
	"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40,
}

// parseBytes reads a size such as 6GiB, 800 MB or 1.5gb.
func parseBytes(text string) (int64, error) {
	unit := strings.TrimLeft(text, "0123456789.")
	number, err := strconv.ParseFloat(text[:len(text)-len(unit)], 64)
	scale, known := byteUnits[strings.ToUpper(strings.TrimSpace(unit))]
	if bytes := number * scale; err == nil && known && bytes >= 1 && bytes < 1<<60 {
		return int64(bytes), nil
	}
	return 0, fmt.Errorf("%q is no size, want a number with its unit, such as 6GiB or 800MB", text)
}

// findRecipe reads a built-in recipe or a file, with the flags on top, and
// returns the files its pictures are looked up in.
func findRecipe(name string, flags *pflag.FlagSet) (*recipes.Recipe, fs.FS, error) {
	list, err := overrides(flags)
	if err != nil {
		return nil, nil, err
	}
	files := disk{}
	r, err := recipes.Find(filepath.ToSlash(name), files, list...)
	return r, files, badInput(err)
}

func (a *app) recipes() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "recipes [NAME]",
		Short: "List the built-in recipes, or print one to start from",
		Args:  optional("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 && a.json {
				r, err := recipes.Find(args[0], nil)
				if err != nil {
					return badInput(err)
				}
				return a.printJSON(r)
			}
			if len(args) == 1 {
				text, err := recipes.Text(args[0])
				if err != nil {
					_, err = recipes.Find(args[0], nil)
					return badInput(err)
				}
				_, err = a.stdout.Write(text)
				return err
			}
			var all []*recipes.Recipe
			steering := recipes.List()
			for _, name := range append(steering, recipes.Tunings()...) {
				r, err := recipes.Find(name, nil)
				if err != nil {
					return err
				}
				all = append(all, r)
			}
			if a.json {
				return a.printJSON(all)
			}
			for i, r := range all {
				if i == len(steering) {
					fmt.Fprintf(a.stdout, "\nfor sdo tune:\n")
				}
				fmt.Fprintf(a.stdout, "%-28s%s\n", r.Name, oneLine(r.Description))
			}
			return nil
		},
	}
	return cmd
}

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
