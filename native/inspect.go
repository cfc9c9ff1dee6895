package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/native/hub"
	"github.com/sdo-go/sdo/recipes"
)

// inspection is what `sdo model inspect --json` prints. Keys are stable.
type inspection struct {
	Folder     string           `json:"folder"`
	Class      string           `json:"class"` // of the pipeline, or of the one network
	Source     *hub.Record      `json:"source,omitempty"`
	Parameters int              `json:"parameters"` // of all components that are used
	Stored     string           `json:"stored,omitempty"`
	Input      []int            `json:"input,omitempty"` // of the denoiser or classifier: channels, height, width
	Attributes model.Attributes `json:"attributes,omitempty"`
	Components []*component     `json:"components"`
	Fault      string           `json:"fault,omitempty"` // why the pipeline cannot be used, whatever its components

	// Bytes a call of the denoiser needs beside the parameters, by the memory
	// plan and without a budget; a kept call pins the tape on top of the arena.
	Images       int     `json:"images"`
	ScratchBytes int64   `json:"scratch_bytes,omitempty"`
	TapeBytes    int64   `json:"tape_bytes,omitempty"`
	Memory       *memory `json:"memory,omitempty"` // of whole runs

	Tensors []tensorStats `json:"tensors,omitempty"` // with --tensors
}

func (a *app) model() *cobra.Command {
	group := &cobra.Command{Use: "model", Short: "Bring models, look into them, merge adapters", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	options := inspectOptions{images: 1}
	inspect := &cobra.Command{
		Use:   "inspect PATH",
		Short: "Say what a model or an adapter holds and what it needs",
		Long: `Say what a diffusers folder, a built-in or pulled model, a LoRA or a file of
weights holds: its components, their architecture, parameters and files; and the
memory that sampling, steering and tuning take at a size and under a budget, by
the plan that would run on the device that --device takes.

Only headers are read, unless --tensors asks for every tensor's statistics; then
one tensor at a time.`,
		Example: `  sdo model inspect avatars-16-s
  sdo model inspect models/stable-diffusion --height 512 --width 512 --memory-budget 6GiB
  sdo model inspect models/stable-diffusion --decoder models/taesd
  sdo model inspect out/everyone-wears-glasses`,
		Args: one("PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := options.check(); err != nil {
				return usageError{err}
			}
			name := filepath.Clean(args[0])
			if isAdapter(name) {
				return a.inspectFile(name, options)
			}
			i, err := inspectFolder(name, options)
			if err != nil {
				return badInput(err)
			}
			if i.fault() == nil {
				if i.Memory, err = a.memoryOf(cmd.Context(), i, options); err != nil {
					return err
				}
			}
			if a.json {
				err = a.printJSON(i)
			} else {
				i.print(a)
			}
			return errors.Join(err, badInput(i.fault()))
		},
	}
	flags := inspect.Flags()
	flags.IntVar(&options.images, "num-images", 1, "pictures at once")
	flags.IntVar(&options.height, "height", 0, "pixels of a picture, for the memory (default the model's own)")
	flags.IntVar(&options.width, "width", 0, "pixels of a picture")
	flags.Float64Var(&options.guidance, "guidance-scale", 0, "1 asks the network once a step (default what the model is used with)")
	flags.StringVar(&options.decoder, "decoder", "", "`FOLDER` of another autoencoder for the pipeline's latents, such as a TAESD")
	flags.StringVar(&options.dtype, "dtype", "", "`TYPE` that runs hold weights in: float16 packs those of float32 files (default as in their files)")
	flags.StringVar(&options.budget, "memory-budget", "", "what a run may take in all, such as 6GiB")
	flags.BoolVar(&options.tensors, "tensors", false, "list every tensor with its statistics")
	group.AddCommand(inspect, a.pull(), a.merge())
	return group
}

// loraInspection is what `sdo model inspect --json` prints of an adapter. Keys are
// stable.
type loraInspection struct {
	File       string   `json:"file"`
	Class      string   `json:"class"`  // LoRA
	Naming     string   `json:"naming"` // peft, kohya or diffusers
	Rank       int      `json:"rank"`   // that most layers have, as alpha
	Alpha      *float64 `json:"alpha"`  // null where the file does not say
	Parameters int      `json:"parameters"`
	Stored     string   `json:"stored"`
	Modules    []string `json:"modules"`
}

// isAdapter reports whether a path is a file, or an adapter's folder.
func isAdapter(name string) bool {
	path, info, err := onDisk(name)
	if err != nil || !info.IsDir() {
		return err == nil
	}
	return !there(plainFiles(path), hub.IndexFile) && model.IsLoRAFolder(plainFiles(path), ".")
}

// inspectFile tells of an adapter, an aesthetic head or any other file of
// weights.
func (a *app) inspectFile(name string, o inspectOptions) error {
	path, stat, err := onDisk(name)
	if err != nil {
		return usageError{err}
	}
	folder, file := plainFiles(filepath.Dir(path)), filepath.Base(path)
	info, err := model.InspectLoRA(folder, file)
	if err == nil {
		return a.printLoRA(name, folder, file, info, o)
	}
	if stat.IsDir() {
		return usageError{fmt.Errorf("lora %s: %w", name, err)}
	}
	weights, openErr := model.OpenCheckpoint(folder, file)
	if openErr != nil {
		return usageError{openErr}
	}
	defer weights.Close()
	c := &component{Class: "weights", What: "no adapter: give the folder that holds config.json for a model"}
	if slices.ContainsFunc(weights.Names(), func(name string) bool { return strings.HasPrefix(name, "model.diffusion_model.") }) {
		c.What = "a whole model in one file: make it a folder with diffusers' from_single_file and save_pretrained"
	}
	var foreign *model.ForeignAdapter
	if errors.As(err, &foreign) {
		c.What = "an adapter that is not supported, of " + foreign.Kind
	}
	c.weigh(weights)
	if head, err := model.LoadAestheticHead(folder, file); err == nil {
		widths := []int{head.Dim()}
		for _, layer := range head.Layers {
			widths = append(widths, layer.Weight[0])
		}
		c.Class, c.What = "AestheticHead", strings.Join(strings.Fields(join(widths)), " to ")
		if head.ReLU {
			c.What += ", ReLUs in between"
		}
	}
	i := &inspection{Folder: name, Class: c.Class, Parameters: c.Parameters, Stored: c.Stored, Components: []*component{c}, Images: o.images}
	if err := i.list(o); err != nil {
		return badInput(err)
	}
	if a.json {
		return a.printJSON(i)
	}
	i.print(a)
	return nil
}

func (a *app) printLoRA(name string, folder fs.FS, file string, info *model.LoRAInfo, o inspectOptions) error {
	i := loraInspection{name, "LoRA", info.Naming, info.Rank, nil, info.Numbers, string(info.Stored), info.Modules}
	alpha := "not said, so its rank"
	if info.Alone {
		alpha = "in adapter_config.json, which is missing beside it"
	}
	if info.Alpha != 0 {
		i.Alpha, alpha = &info.Alpha, fmt.Sprintf("%.4g", info.Alpha)
	}
	if a.json {
		return a.printJSON(i)
	}
	line := func(key, format string, args ...any) {
		fmt.Fprintf(plainly{a.stdout}, "  %-13s%s\n", key, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(plainly{a.stdout}, "%s, LoRA under %s names\n", name, map[string]string{"peft": "PEFT's", "kohya": "kohya-ss'", "diffusers": "diffusers' earlier"}[info.Naming])
	line("rank", "%d%s, alpha %s%s", info.Rank, others(info.Ranks, "%d"), alpha, others(info.Alphas, "%.4g"))
	text := ""
	if info.Text > 0 {
		text = fmt.Sprintf(", %d of them the text encoder's", info.Text)
	}
	line("parameters", "%d beside %s%s, stored as %s", info.Numbers, noun(len(info.Modules), "layer"), text, info.Stored)
	for _, m := range info.Modules {
		line("", "%s", m)
	}
	return nil
}

// others says from where to where the values of several layers go.
func others[V any](ascending []V, format string) string {
	if len(ascending) < 2 {
		return ""
	}
	return fmt.Sprintf(" of most layers ("+format+" to "+format+")", ascending[0], ascending[len(ascending)-1])
}

// inspectOptions are the flags of sdo model inspect.
type inspectOptions struct {
	images, height, width int
	guidance              float64 // 0 for what the model is used with
	decoder               string  // folder; empty for the pipeline's own
	dtype                 string  // that weights are held in; empty for the files' own
	budget                string
	budgetBytes           int64
	tensors               bool
}

// sized reports whether the flags say what pictures are made or decoded with,
// which a model may not take.
func (o *inspectOptions) sized() bool { return o.height != 0 || o.width != 0 || o.decoder != "" }

func (o *inspectOptions) check() (err error) {
	if o.images < 1 || o.images > recipes.MaxImages {
		return fmt.Errorf("--num-images is %d, want 1 to %d", o.images, recipes.MaxImages)
	}
	for flag, side := range map[string]int{"--height": o.height, "--width": o.width} {
		if side < 0 || side > recipes.MaxSide {
			return fmt.Errorf("%s is %d, want 1 to %d", flag, side, recipes.MaxSide)
		}
	}
	if o.budget == "" {
		return nil
	}
	if o.budgetBytes, err = parseBytes(o.budget); err != nil {
		err = fmt.Errorf("--memory-budget: %w", err)
	}
	return err
}

func inspectFolder(name string, o inspectOptions) (*inspection, error) {
	folder, err := engine.OpenFolder(name, "model", openFolder)
	if err != nil {
		return nil, err
	}
	i := &inspection{Folder: name, Images: o.images}
	if i.Class, i.Components, err = componentsOf(folder); err != nil {
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	if i.Source, err = hub.ReadRecord(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	if i.Source != nil {
		i.Source.Files = nil // what it is from; the files are told by component
	}
	for _, c := range i.Components {
		if c.Unused {
			continue
		}
		i.Parameters += c.Parameters
		if i.Stored == "" || c.denoiser != nil {
			i.Stored = c.Stored
		}
		if c.attributes != nil {
			i.Attributes = c.attributes
		}
		if c.denoiser == nil || c.Fault != "" {
			continue
		}
		i.Input = c.denoiser.SampleShape(1)[1:]
		if i.ScratchBytes, i.TapeBytes, err = planBytes(c.denoiser, o.images); err != nil {
			return nil, fmt.Errorf("model %s: %w", name, err)
		}
	}
	// Of what the components are together the pipeline judges.
	if index, err := model.ReadConfig(folder, hub.IndexFile); err == nil {
		err = model.JudgePipeline(index)
		if err == nil && i.fault() == nil {
			_, err = model.LoadPipeline(folder)
		}
		if err != nil {
			i.Fault = err.Error()
		}
	}
	return i, i.list(o)
}

// fault is what is wrong with the pipeline or a component that a run would need.
func (i *inspection) fault() error {
	if i.Fault != "" {
		return fmt.Errorf("model %s: %s", i.Folder, i.Fault)
	}
	for _, c := range i.Components {
		if c.Fault != "" && !c.Unused {
			return fmt.Errorf("model %s: %s", i.Folder, strings.TrimPrefix(c.Name+": "+c.Fault, ": "))
		}
	}
	return nil
}

// list makes the statistics of every tensor, where they are asked for.
func (i *inspection) list(o inspectOptions) error {
	if !o.tensors {
		return nil
	}
	i.Tensors = []tensorStats{}
	for _, c := range i.Components {
		if c.weights == nil {
			continue
		}
		err := statistics(c.weights, func(s tensorStats) {
			if c.Name != "" {
				s.Name = c.Name + ": " + s.Name
			}
			i.Tensors = append(i.Tensors, s)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// planBytes compiles the kept call without a device and reads its plan.
func planBytes(config model.Denoiser, images int) (scratch, tape int64, err error) {
	var out, grad *graph.Node
	g, err := graph.Build(func(g *graph.Graph) {
		sample := g.Input("sample", config.SampleShape(images)...)
		o := model.BuildOptions{}
		if unet, ok := config.(model.UNet2DConditionConfig); ok {
			o.Class = unet.ClassNode(g, "class", images)
		}
		out = config.BuildWith(g, sample, g.Input("timestep", images), config.ConditionNode(g, "condition", images), o)
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

func (i *inspection) print(a *app) {
	out := plainly{a.stdout}
	fmt.Fprintf(out, "%s, %s\n", i.Folder, i.Class)
	if s := i.Source; s != nil {
		fmt.Fprintf(out, "pulled from %s/%s at %.12s\n", s.Endpoint, s.Name, s.Commit)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\n  component\tclass\tparameters\tstored\tbytes\twhat it is")
	for _, c := range i.Components {
		what := c.What
		switch {
		case c.Unused:
			what = "not read here"
		case c.Fault != "":
			what = strings.TrimPrefix(what+"; cannot be used, see below", "; ")
		}
		parameters, size := "", ""
		if c.Parameters > 0 {
			parameters = fmt.Sprint(c.Parameters)
		}
		if c.Bytes > 0 {
			size = engine.Bytes(c.Bytes)
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\t%s\t%s\n", cmp.Or(c.Name, "model"), c.Class, parameters, c.Stored, size, what)
	}
	table.Flush()
	for _, c := range i.Components {
		if c.File != "" {
			fmt.Fprintf(out, "  %s reads %s\n", cmp.Or(c.Name, "model"), c.File)
		}
	}
	last := i.fault() // ends the command
	for _, c := range i.Components {
		if c.Fault != "" && !c.Unused && !strings.HasSuffix(last.Error(), c.Fault) {
			fmt.Fprintf(out, "  %s cannot be used: %s\n", cmp.Or(c.Name, "model"), c.Fault)
		}
	}
	for _, at := range i.Attributes {
		fmt.Fprintf(out, "  %-13s%s\n", at.Name, strings.Join(at.Values, ", "))
	}
	i.Memory.print(out)
	if len(i.Tensors) == 0 {
		return
	}
	fmt.Fprintln(out)
	table = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  tensor\tshape\tstored\tmean\tstd\tmin\tmax")
	for _, t := range i.Tensors {
		numbers := fmt.Sprintf("%.4g\t%.4g\t%.4g\t%.4g", t.Mean, t.Std, t.Min, t.Max)
		switch {
		case t.Bad > 0:
			numbers = fmt.Sprintf("%d numbers are not finite", t.Bad)
		case !isFloat(model.DType(t.DType)):
			numbers = ""
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", t.Name, times(t.Shape), t.DType, numbers)
	}
	table.Flush()
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
