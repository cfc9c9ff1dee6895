package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"gorgonia.org/tensor"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/model"
)

// mergedModel is what `sdo model merge --json` prints. Keys are stable.
type mergedModel struct {
	Folder     string   `json:"folder"`
	Layers     int      `json:"layers"`     // that the adapter changes
	Components []string `json:"components"` // whose weights were written anew; empty names the one network
	Bytes      int64    `json:"bytes"`
	Seconds    float64  `json:"seconds"`
}

func (a *app) merge() *cobra.Command {
	lora, to, scale := "", "", 1.0
	cmd := &cobra.Command{
		Use:   "merge MODEL",
		Short: "Write a model with an adapter merged into its weights",
		Long: `Write a diffusers folder in which a LoRA is part of the weights: of the denoiser
and, where the adapter has a part for it, of the text encoder. Every tensor keeps
its element type, and one is in memory at a time; everything else is copied.`,
		Example: `  sdo model merge OWNER/NAME --lora out/my-tuning --to models/tuned
  sdo sample --model models/tuned --prompt "a red fox"`,
		Args: one("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if lora == "" || to == "" {
				return usageError{errors.New("sdo model merge needs an adapter, --lora, and a folder to write, --to")}
			}
			return a.mergeInto(cmd.Context(), args[0], lora, scale, to)
		},
	}
	cmd.Flags().StringVar(&lora, "lora", "", "LoRA to merge: a PEFT folder or a safetensors file")
	cmd.Flags().Float64Var(&scale, "lora-scale", 1, "factor on what the LoRA adds")
	cmd.Flags().StringVar(&to, "to", "", "folder to write; it must not exist")
	return cmd
}

// part is a component whose weights are written anew.
type part struct {
	component, dir, base string // base as of model.OpenWeights
	half                 bool   // under the names of the variant fp16
	weights              model.Source
	dtype                func(name string) model.DType
	lora                 *model.LoRA
}

func (a *app) mergeInto(ctx context.Context, name, lora string, scale float64, to string) error {
	start := time.Now()
	folder, err := engine.OpenFolder(filepath.Clean(name), "model", openFolder)
	if err != nil {
		return badInput(err)
	}
	if _, err := os.Lstat(to); err == nil {
		return usageError{fmt.Errorf("%s is there already; give another folder with --to, or remove it", to)}
	}
	parts, err := mergeParts(folder, lora, scale)
	if err != nil {
		return badInput(fmt.Errorf("model %s: %w", name, err))
	}
	// Whole or not at all: what is half written has another name.
	parent := filepath.Dir(filepath.Clean(to))
	err = os.MkdirAll(parent, 0o755)
	unfinished := ""
	if err == nil {
		unfinished, err = os.MkdirTemp(parent, ".merge-*")
	}
	if of := (*fs.PathError)(nil); errors.As(err, &of) {
		err = of.Err
	}
	if err != nil {
		return usageError{fmt.Errorf("%s cannot be made: %w; give another folder with --to", to, err)}
	}
	defer os.RemoveAll(unfinished)
	if err := os.Chmod(unfinished, 0o755); err != nil {
		return err
	}
	result := mergedModel{Folder: to}
	if err := copyBeside(ctx, folder, unfinished, parts); err != nil {
		return unfilled(to, unfinished, err)
	}
	tensors := 0
	for _, p := range parts {
		tensors += len(p.weights.Names())
		result.Layers += len(p.lora.Weights) / 2
		result.Components = append(result.Components, p.component)
	}
	bar := a.newDisplay(tensors, "tensors")
	done := 0
	for _, p := range parts {
		m := &mergedSource{Source: p.weights, lora: p.lora, each: func(name string) error {
			done++
			bar.set(done, name)
			return ctx.Err()
		}}
		file := filepath.Join(unfinished, filepath.FromSlash(p.dir), p.file())
		err = model.WriteFileAtomic(file, func(w io.Writer) error {
			return model.WriteSource(w, m, p.dtype, map[string]string{"format": "pt"})
		})
		if err != nil {
			break
		}
		if stat, err := os.Stat(file); err == nil {
			result.Bytes += stat.Size()
		}
	}
	bar.end()
	if err != nil {
		return unfilled(to, unfinished, err)
	}
	if err := os.Rename(unfinished, to); err != nil {
		return err
	}
	result.Seconds = time.Since(start).Seconds()
	if a.json {
		return a.printJSON(result)
	}
	fmt.Fprintf(a.stdout, "%s merged, %s of weights, in %s: %s\n", noun(result.Layers, "layer"), engine.Bytes(result.Bytes), duration(result.Seconds), to)
	return nil
}

// unfilled tells of the folder that was asked for what went wrong in the unfinished
// one.
func unfilled(to, unfinished string, err error) error {
	var of *fs.PathError
	if !errors.As(err, &of) {
		return err
	}
	if name, inside := strings.CutPrefix(of.Path, unfinished); inside {
		return fmt.Errorf("%s: %w; nothing of it was kept; give another folder with --to", to+name, of.Err)
	}
	return err
}

// mergeParts loads the denoiser and what else the adapter changes.
func mergeParts(folder fs.FS, lora string, scale float64) ([]*part, error) {
	_, all, err := componentsOf(folder)
	if err != nil {
		return nil, err
	}
	path, _, _ := onDisk(filepath.Clean(lora)) // whoever opens it says that it is missing
	files, file := plainFiles(filepath.Dir(path)), filepath.Base(path)
	// The denoiser comes first: its part of the adapter says whether there is one of
	// the text encoder.
	if at := slices.IndexFunc(all, func(c *component) bool { return c.denoiser != nil }); at > 0 {
		all[0], all[at] = all[at], all[0]
	}
	var parts []*part
	for _, c := range all {
		p := &part{component: c.Name, dir: c.dir, base: "diffusion_pytorch_model"}
		var load func(fs.FS, string, model.Adaptable) (*model.LoRA, error)
		var network model.Adaptable
		switch {
		case c.denoiser != nil:
			load, network = model.LoadLoRA, c.denoiser
			p.weights, p.dtype, err = denoiserWeights(folder, c)
		case strings.HasPrefix(c.Class, "CLIPTextModel") && c.Fault == "" && len(parts) > 0 && parts[0].lora.Beside > 0:
			text, textErr := model.LoadCLIPText(folder, c.dir)
			if err = textErr; err == nil {
				load, network, p.base = model.LoadTextLoRA, text.Config, "model"
				p.weights, p.dtype = text.Weights, storedTypes(text.Weights)
			}
		case c.Fault != "" && !c.Unused:
			err = errors.New(c.Fault)
		default:
			continue
		}
		if err != nil {
			return nil, err
		}
		if p.lora, err = load(files, file, network); err != nil {
			return nil, fmt.Errorf("lora %s: %w", lora, err)
		}
		if p.lora == nil {
			continue
		}
		p.lora.LoRAConfig = p.lora.Strengthened(scale)
		p.half = strings.Contains(c.File, ".fp16")
		parts = append(parts, p)
	}
	if len(parts) == 0 {
		return nil, errors.New("holds no denoiser, so there is nothing to merge into")
	}
	return parts, nil
}

func denoiserWeights(folder fs.FS, c *component) (model.Source, func(string) model.DType, error) {
	if _, ok := c.denoiser.(model.UNet2DConfig); ok {
		unet, err := model.LoadUNet2D(folder)
		if err != nil {
			return nil, nil, err
		}
		// In memory all are single; in the file they were of one type.
		return unet.Weights, func(string) model.DType { return unet.Stored }, nil
	}
	unet, err := model.LoadUNet2DCondition(folder, c.dir)
	if err != nil {
		return nil, nil, err
	}
	return unet.Weights, storedTypes(unet.Weights), nil
}

// storedTypes keeps every tensor's element type; doubles become singles.
func storedTypes(s model.Source) func(name string) model.DType {
	return func(name string) model.DType {
		if info, ok := s.Info(name); ok && (info.DType == model.F16 || info.DType == model.BF16) {
			return info.DType
		}
		return model.F32
	}
}

// file is the name of a part's weights, one file whatever they were read from.
func (p *part) file() string {
	if p.half {
		return p.base + ".fp16.safetensors"
	}
	return p.base + ".safetensors"
}

// weightsOf matches the names that weights of a part can have, their indices
// included.
var weightsOf = regexp.MustCompile(`^(diffusion_pytorch_model|model|pytorch_model|flax_model|tf_model|openvino_model)[.-]`)

// copyBeside copies all of a folder but the weights of the parts and what a
// download keeps for itself. Links are copied as what they lead to.
func copyBeside(ctx context.Context, folder fs.FS, to string, parts []*part) error {
	file := func(name string) error {
		from, err := folder.Open(name)
		if err != nil {
			return err
		}
		defer from.Close()
		return model.WriteFileAtomic(filepath.Join(to, filepath.FromSlash(name)), func(w io.Writer) error {
			_, err := io.Copy(w, contextReader{ctx, from})
			return err
		})
	}
	var inside func(dir string, within []fs.FileInfo) error
	inside = func(dir string, within []fs.FileInfo) error {
		entries, err := fs.ReadDir(folder, dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			info, err := fs.Stat(folder, name)
			switch {
			case err != nil:
			case !info.IsDir():
				if !slices.ContainsFunc(parts, func(p *part) bool { return dir == p.dir && weightsOf.MatchString(e.Name()) }) {
					err = file(name)
				}
			case strings.HasPrefix(e.Name(), "."):
			case slices.ContainsFunc(within, func(outer fs.FileInfo) bool { return os.SameFile(outer, info) }):
				err = fmt.Errorf("%s: links to a folder that it is in; remove the link", name)
			default:
				if err = os.MkdirAll(filepath.Join(to, filepath.FromSlash(name)), 0o755); err == nil {
					err = inside(name, append(within, info))
				}
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	root, err := fs.Stat(folder, ".")
	if err != nil {
		return err
	}
	return inside(".", []fs.FileInfo{root})
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}

// mergedSource is a network's weights with an adapter in them.
type mergedSource struct {
	model.Source
	lora *model.LoRA
	each func(name string) error // before a tensor is read
}

// Read computes W + (Alpha/Rank) B A in double precision, on the host.
func (m *mergedSource) Read(name string) (model.Tensor, error) {
	if err := m.each(name); err != nil {
		return model.Tensor{}, err
	}
	w, err := m.Source.Read(name)
	module, ok := strings.CutSuffix(name, ".weight")
	nameA, nameB := model.LoRANames(module)
	a, changed := m.lora.Weights[nameA]
	if err != nil || !ok || !changed {
		return w, err
	}
	rank, out := m.lora.RankOf(module), w.Shape[0]
	width := len(w.Data) / out
	sum, err := matrix(w.Data, out, width)
	if err != nil {
		return w, fmt.Errorf("tensor %q: %w", name, err)
	}
	down, err := matrix(a.Data, rank, width)
	if err != nil {
		return w, fmt.Errorf("tensor %q: %w", nameA, err)
	}
	up, err := matrix(m.lora.Weights[nameB].Data, out, rank)
	if err != nil {
		return w, fmt.Errorf("tensor %q: %w", nameB, err)
	}
	product, err := up.MatMul(down)
	if err == nil {
		product, err = product.MulScalar(m.lora.Scale(module), true, tensor.UseUnsafe())
	}
	if err == nil {
		sum, err = sum.Add(product, tensor.UseUnsafe())
	}
	if err != nil {
		return w, fmt.Errorf("tensor %q: %w", name, err)
	}
	merged := model.Tensor{Shape: w.Shape, Data: make([]float32, len(w.Data))}
	for i, v := range sum.Data().([]float64) {
		merged.Data[i] = float32(v)
	}
	return merged, nil
}

// matrix is numbers as a host tensor in double precision. A convolution's are
// those of the matrix from its patches to its outputs.
func matrix(data []float32, rows, columns int) (*tensor.Dense, error) {
	if rows*columns != len(data) {
		return nil, fmt.Errorf("%d numbers are no matrix of %d x %d; the adapter belongs to another network", len(data), rows, columns)
	}
	values := make([]float64, len(data))
	for i, v := range data {
		values[i] = float64(v)
	}
	return tensor.New(tensor.WithShape(rows, columns), tensor.WithBacking(values)), nil
}
