package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"gorgonia.org/tensor"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// openFolder finds a model by the name a recipe gives it: a built-in one, or
// else a folder on disk, or else one that was pulled from a hub under this name.
func openFolder(name string) (fs.FS, error) {
	folder, err := engine.OpenBuiltin(name)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return folder, err
	}
	info, statErr := os.Stat(name)
	if kept, keptErr := keptModels(); statErr != nil && keptErr == nil && strings.Contains(name, "/") && fs.ValidPath(name) {
		name = filepath.Join(kept, filepath.FromSlash(name))
		info, statErr = os.Stat(name)
	}
	switch {
	case statErr != nil:
		return nil, err
	case !info.IsDir():
		return nil, fmt.Errorf("model %s: is a file; give the folder that holds config.json", name)
	}
	return os.DirFS(name), nil
}

// inspection is what `sdo model inspect --json` prints. Keys are stable.
type inspection struct {
	Folder     string           `json:"folder"`
	Class      string           `json:"class"`
	Input      []int            `json:"input"` // channels, height, width
	Parameters int              `json:"parameters"`
	Stored     string           `json:"stored"`
	Attributes model.Attributes `json:"attributes,omitempty"`

	// Bytes a call needs beside the parameters, by the memory plan, per number
	// of pictures; a kept call pins the tape on top of the arena.
	Images       int   `json:"images"`
	ScratchBytes int64 `json:"scratch_bytes,omitempty"`
	TapeBytes    int64 `json:"tape_bytes,omitempty"`

	Tensors []tensorStats `json:"tensors"`
}

// tensorStats describes the numbers of one tensor.
type tensorStats struct {
	Name  string  `json:"name"`
	Shape []int   `json:"shape"`
	Mean  float64 `json:"mean"`
	Std   float64 `json:"std"`
	Min   float64 `json:"min"`
	Max   float64 `json:"max"`
	Bad   int     `json:"not_finite,omitempty"` // numbers that are NaN or infinite; the others are not given then
}

func (a *app) model() *cobra.Command {
	group := &cobra.Command{Use: "model", Short: "Bring models, and look into them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	images := 1
	inspect := &cobra.Command{
		Use:   "inspect FOLDER",
		Short: "Say what a diffusers folder, a built-in model or a LoRA holds and what it needs",
		Args:  one("FOLDER"),
		RunE: func(_ *cobra.Command, args []string) error {
			if images < 1 || images > 256 {
				return usageError{fmt.Errorf("--num-images is %d, want 1 to 256", images)}
			}
			if isLoRA(args[0]) {
				return a.inspectLoRA(args[0])
			}
			i, err := inspectFolder(args[0], images)
			if err != nil {
				return badInput(err)
			}
			if a.json {
				return a.printJSON(i)
			}
			i.print(a)
			return nil
		},
	}
	inspect.Flags().IntVar(&images, "num-images", 1, "pictures at once, for the memory a call needs")
	group.AddCommand(inspect, a.pull())
	return group
}

// loraInspection is what `sdo model inspect --json` prints of an adapter. Keys are
// stable.
type loraInspection struct {
	File       string   `json:"file"`
	Class      string   `json:"class"`  // LoRA
	Naming     string   `json:"naming"` // peft or kohya
	Rank       int      `json:"rank"`
	Alpha      *float64 `json:"alpha"` // null where the file does not say
	Parameters int      `json:"parameters"`
	Stored     string   `json:"stored"`
	Modules    []string `json:"modules"`
}

// isLoRA reports whether a path is a file, or PEFT's folder.
func isLoRA(name string) bool {
	info, err := os.Stat(name)
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join(name, "adapter_config.json"))
	return !info.IsDir() || err == nil
}

func (a *app) inspectLoRA(name string) error {
	info, err := model.InspectLoRA(os.DirFS(filepath.Dir(name)), filepath.Base(filepath.Clean(name)))
	if err != nil {
		return usageError{fmt.Errorf("lora %s: %w", name, err)}
	}
	i := loraInspection{name, "LoRA", info.Naming, info.Rank, nil, info.Numbers, string(info.Stored), info.Modules}
	alpha := "not said, so its rank"
	if info.Alpha != 0 {
		i.Alpha, alpha = &info.Alpha, fmt.Sprint(info.Alpha)
	}
	if a.json {
		return a.printJSON(i)
	}
	line := func(key, format string, args ...any) {
		fmt.Fprintf(a.stdout, "  %-13s%s\n", key, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(a.stdout, "%s, LoRA under %s names\n", name, map[string]string{"peft": "PEFT's", "kohya": "kohya-ss'", "diffusers": "diffusers' earlier"}[info.Naming])
	line("rank", "%d, alpha %s", info.Rank, alpha)
	line("parameters", "%d beside %d layers, stored as %s", info.Numbers, len(info.Modules), info.Stored)
	for _, m := range info.Modules {
		line("", "%s", m)
	}
	return nil
}

func inspectFolder(name string, images int) (*inspection, error) {
	folder, err := openFolder(filepath.Clean(name))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("model %s: there is no such folder or built-in model", name)
		}
		return nil, err
	}
	class, err := model.ClassName(folder)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	i := &inspection{Folder: name, Class: class, Images: images}
	var weights model.Weights
	switch class {
	case "UNet2DModel":
		unet, err := model.LoadUNet2D(folder)
		if err != nil {
			return nil, fmt.Errorf("model %s: %w", name, err)
		}
		weights, i.Stored = unet.Weights, string(unet.Stored)
		i.Input = unet.Config.SampleShape(1)[1:]
		if unet.Embedder != nil {
			i.Attributes = unet.Embedder.Attributes
		}
		if i.ScratchBytes, i.TapeBytes, err = planBytes(unet.Config, images); err != nil {
			return nil, fmt.Errorf("model %s: %w", name, err)
		}
	case "AttributeClassifier":
		classifier, err := model.LoadClassifier(folder)
		if err != nil {
			return nil, fmt.Errorf("model %s: %w", name, err)
		}
		weights, i.Stored, i.Attributes = classifier.Weights, string(classifier.Stored), classifier.Config.Attributes
		i.Input = []int{classifier.Config.InChannels, classifier.Config.SampleSize[0], classifier.Config.SampleSize[1]}
	default:
		return nil, fmt.Errorf("model %s: _class_name %q is not supported, want UNet2DModel or AttributeClassifier", name, class)
	}
	i.Parameters = weights.Count()
	for tensorName, t := range weights {
		stats, err := statistics(tensorName, t)
		if err != nil {
			return nil, err
		}
		i.Tensors = append(i.Tensors, stats)
	}
	slices.SortFunc(i.Tensors, func(a, b tensorStats) int { return strings.Compare(a.Name, b.Name) })
	return i, nil
}

// planBytes compiles the kept call without a device and reads its plan.
func planBytes(config model.UNet2DConfig, images int) (scratch, tape int64, err error) {
	var out, grad *graph.Node
	g, err := graph.Build(func(g *graph.Graph) {
		sample := g.Input("sample", config.SampleShape(images)...)
		out = config.Build(g, sample, g.Input("timestep", images), config.ClassNode(g, "class", images), graph.F32)
		seed := g.Input("seed", out.Shape...)
		grad = graph.Grad(g, []*graph.Node{out}, []*graph.Node{seed}, []*graph.Node{sample})[0]
	})
	if err != nil {
		return 0, 0, err
	}
	plan, err := graph.Compile(g, []*graph.Node{out}, []*graph.Node{grad})
	if err != nil {
		return 0, 0, err
	}
	return plan.ScratchBytes, plan.TapeBytes, nil
}

// statistics reduces a tensor in float64, on the host.
func statistics(name string, t model.Tensor) (tensorStats, error) {
	s := tensorStats{Name: name, Shape: t.Shape}
	values := make([]float64, len(t.Data))
	for i, v := range t.Data {
		if values[i] = float64(v); math.IsNaN(values[i]) || math.IsInf(values[i], 0) {
			s.Bad++
		}
	}
	if s.Bad > 0 || len(values) == 0 {
		return s, nil
	}
	x := tensor.New(tensor.WithShape(len(values)), tensor.WithBacking(values))
	reduce := func(f func(*tensor.Dense, ...int) (*tensor.Dense, error), of *tensor.Dense) (float64, error) {
		r, err := f(of)
		if err != nil {
			return 0, fmt.Errorf("tensor %q: %w", name, err)
		}
		return r.Data().(float64), nil
	}
	sum, err := reduce((*tensor.Dense).Sum, x)
	if err != nil {
		return s, err
	}
	if s.Min, err = reduce((*tensor.Dense).Min, x); err != nil {
		return s, err
	}
	if s.Max, err = reduce((*tensor.Dense).Max, x); err != nil {
		return s, err
	}
	s.Mean = sum / float64(len(values))
	centred, err := x.SubScalar(s.Mean, true)
	if err != nil {
		return s, fmt.Errorf("tensor %q: %w", name, err)
	}
	squares, err := centred.Mul(centred)
	if err != nil {
		return s, fmt.Errorf("tensor %q: %w", name, err)
	}
	variance, err := reduce((*tensor.Dense).Sum, squares)
	s.Std = math.Sqrt(variance / float64(len(values)))
	return s, err
}

func (i *inspection) print(a *app) {
	line := func(key, format string, args ...any) {
		fmt.Fprintf(a.stdout, "  %-13s%s\n", key, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(a.stdout, "%s, %s\n", i.Folder, i.Class)
	line("input", "%s", times(i.Input))
	line("parameters", "%d in %d tensors, stored as %s", i.Parameters, len(i.Tensors), i.Stored)
	if i.TapeBytes > 0 {
		line("activations", "%.2f MiB to sample %d at once, %.2f MiB more to keep a call",
			float64(i.ScratchBytes)/(1<<20), i.Images, float64(i.TapeBytes)/(1<<20))
	}
	for _, at := range i.Attributes {
		line(at.Name, "%s", strings.Join(at.Values, ", "))
	}
	width := 0
	for _, t := range i.Tensors {
		width = max(width, len(t.Name))
	}
	fmt.Fprintf(a.stdout, "\n  %-*s  %-16s%10s%10s%10s%10s\n", width, "tensor", "shape", "mean", "std", "min", "max")
	for _, t := range i.Tensors {
		if t.Bad > 0 {
			fmt.Fprintf(a.stdout, "  %-*s  %-16s%d numbers are not finite\n", width, t.Name, times(t.Shape), t.Bad)
			continue
		}
		fmt.Fprintf(a.stdout, "  %-*s  %-16s%10.4f%10.4f%10.4f%10.4f\n", width, t.Name, times(t.Shape), t.Mean, t.Std, t.Min, t.Max)
	}
}

// times writes a shape as 3 x 16 x 16.
func times(shape []int) string {
	if len(shape) == 0 {
		return "1"
	}
	parts := make([]string, len(shape))
	for i, d := range shape {
		parts[i] = fmt.Sprint(d)
	}
	return strings.Join(parts, " x ")
}
