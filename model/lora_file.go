package model

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sdo-go/sdo/graph"
)

// Names of a PEFT folder's files, and of what a single file says of its config.
const (
	adapterConfigFile  = "adapter_config.json"
	adapterWeightsBase = "adapter_model"
	adapterWeightsFile = "adapter_model.safetensors"
	adapterMetadata    = "lora_adapter_metadata"
)

// loraWeightsFiles are what diffusers' save_lora_weights calls the one file of its
// folder.
var loraWeightsFiles = []string{"pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin"}

// IsLoRAFolder reports whether a folder is an adapter's.
func IsLoRAFolder(fsys fs.FS, name string) bool {
	return slices.ContainsFunc(append([]string{adapterConfigFile}, loraWeightsFiles...), func(file string) bool { return exists(fsys, path.Join(name, file)) })
}

// peftFolderPrefix stands before module names in PEFT's folders.
const peftFolderPrefix = "base_model.model."

// maxAdapterConfigBytes bounds an adapter_config.json.
const maxAdapterConfigBytes = 1 << 20

// kohyaPrefix and the suffixes are those of kohya-ss' trainers.
const (
	kohyaPrefix = "lora_unet_"
	kohyaDown   = ".lora_down.weight"
	kohyaUp     = ".lora_up.weight"
	kohyaAlpha  = ".alpha"
)

// SavePEFT writes PEFT's folder, which PeftModel.from_pretrained opens over the
// same network: adapter_model.safetensors as F32 or F16, and last
// adapter_config.json. Each file is written atomically.
func (l *LoRA) SavePEFT(dir string, dtype DType) error {
	if err := l.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tensors := make(Weights, len(l.Weights))
	for name, t := range l.Weights {
		tensors[peftFolderPrefix+name] = t
	}
	if err := saveWeights(filepath.Join(dir, adapterWeightsFile), tensors, dtype); err != nil {
		return err
	}
	config := map[string]any{
		"peft_type": "LORA", "r": l.Rank, "lora_alpha": l.Alpha, "target_modules": l.modules(),
		"bias": "none", "lora_dropout": 0, "inference_mode": true,
	}
	if len(l.Ranks) > 0 {
		config["rank_pattern"] = exactly(l.Ranks)
	}
	if len(l.Alphas) > 0 {
		config["alpha_pattern"] = exactly(l.Alphas)
	}
	return saveJSON(filepath.Join(dir, adapterConfigFile), config)
}

// exactly turns modules' names into the regular expressions that PEFT's patterns
// are, each of which names its module only.
func exactly[V any](of map[string]V) map[string]V {
	patterns := make(map[string]V, len(of))
	for module, value := range of {
		patterns["^"+regexp.QuoteMeta(module)] = value
	}
	return patterns
}

// SaveKohya writes one file under kohya-ss' names, F32 or F16, atomically.
func (l *LoRA) SaveKohya(file string, dtype DType) error {
	err := WriteFileAtomic(file, func(w io.Writer) error { return l.WriteKohya(w, dtype) })
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// WriteKohya writes what SaveKohya makes a file of.
func (l *LoRA) WriteKohya(w io.Writer, dtype DType) error {
	if err := l.check(); err != nil {
		return err
	}
	tensors := make(Weights, len(l.Weights))
	for _, module := range l.modules() {
		alpha := float32(l.AlphaOf(module))
		if dtype == F16 {
			alpha = AsStored([]float32{alpha}, graph.F16)[0]
		}
		if float64(alpha) != l.AlphaOf(module) {
			return fmt.Errorf("alpha %g is not a number of %s, in which the file holds it; choose another alpha or type", l.AlphaOf(module), dtype)
		}
		name := kohyaPrefix + kohyaName(module)
		tensors[name+kohyaDown], tensors[name+kohyaUp] = l.Weights[module+loraA], l.Weights[module+loraB]
		tensors[name+kohyaAlpha] = Tensor{Shape: []int{}, Data: []float32{alpha}}
	}
	return WriteSafetensors(w, tensors, dtype, map[string]string{
		"format": "pt", "ss_network_module": "networks.lora",
		"ss_network_dim": strconv.Itoa(l.Rank), "ss_network_alpha": strconv.FormatFloat(l.Alpha, 'g', -1, 64),
	})
}

// check reports what keeps an adapter from being written.
func (l *LoRA) check() error {
	if err := l.Validate(); err != nil {
		return err
	}
	if n := len(l.modules()); n == 0 || 2*n != len(l.Weights) {
		return fmt.Errorf("lora: %d tensors of %d modules, want an A and a B of each", len(l.Weights), n)
	}
	return nil
}

// LoadLoRA reads the adapter of a denoiser: PEFT's folder or diffusers', or a file
// under PEFT's names (with diffusers' metadata or without), kohya-ss' or those of
// diffusers before it used PEFT. A branch's alpha is what the file says, or else its
// rank, as kohya-ss' trainers have it, and diffusers where a file says none. The
// targets of what it returns are the modules the file holds. What the file holds for a text encoder is counted in Beside and left
// alone; see LoadTextLoRA. Modules that the network lacks, shapes that do not fit
// and whatever would make another sum than LoRAConfig's are refused.
func LoadLoRA(fsys fs.FS, name string, network Adaptable) (*LoRA, error) {
	l, err := loadLoRA(fsys, name, network, unetPart)
	if err == nil && l == nil {
		err = fmt.Errorf("%s: adapts the text encoder only; name an adapter of the denoiser, too", name)
	}
	return l, err
}

// LoadTextLoRA reads what the file of an adapter holds for the text encoder; nil
// where that is nothing.
func LoadTextLoRA(fsys fs.FS, name string, encoder Adaptable) (*LoRA, error) {
	return loadLoRA(fsys, name, encoder, textPart)
}

func loadLoRA(fsys fs.FS, name string, network Adaptable, part loraPart) (*LoRA, error) {
	f, err := openLoRA(fsys, name)
	if err != nil {
		return nil, err
	}
	defer f.weights.Close()
	modules, err := network.Modules()
	if err != nil {
		return nil, err
	}
	l, err := f.read(modules, part)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.weights.File, err)
	}
	if l == nil {
		return nil, nil
	}
	if err := l.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", f.weights.File, err)
	}
	return l, nil
}

// loraFile is an adapter's opened file with what stands beside its tensors.
type loraFile struct {
	weights *Checkpoint
	configs map[loraPart]*adapterConfig // of PEFT's folder under anyPart
}

// openLoRA opens PEFT's folder, diffusers' folder or a file.
func openLoRA(fsys fs.FS, name string) (f *loraFile, err error) {
	f = &loraFile{configs: map[loraPart]*adapterConfig{}}
	if stat, err := fs.Stat(fsys, name); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: there is no such file or folder; name a PEFT folder or a safetensors file", name)
	} else if err != nil {
		return nil, fmt.Errorf("%s: cannot be opened (%w); name a PEFT folder or a safetensors file", name, err)
	} else if !stat.IsDir() {
		return f, f.openFile(fsys, name)
	}
	if !exists(fsys, path.Join(name, adapterConfigFile)) {
		for _, file := range loraWeightsFiles {
			if file = path.Join(name, file); exists(fsys, file) {
				return openLoRA(fsys, file)
			}
		}
	}
	if err := f.readConfig(fsys, name); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: the file is missing; name a folder that PEFT's save_pretrained wrote, or a safetensors file", path.Join(name, adapterConfigFile))
	} else if err != nil {
		return nil, err
	}
	f.weights, err = OpenWeights(fsys, name, adapterWeightsBase)
	return f, err
}

// readConfig reads what PEFT's folder says of its adapter.
func (f *loraFile) readConfig(fsys fs.FS, folder string) error {
	config := path.Join(folder, adapterConfigFile)
	text, err := readLimited(fsys, config, maxAdapterConfigBytes)
	if err != nil {
		return err
	}
	if f.configs[anyPart], err = parseAdapterConfig(text, ""); err != nil {
		return fmt.Errorf("%s: %w", config, err)
	}
	if f.configs[anyPart] == nil {
		return fmt.Errorf("%s: r is not a positive whole number", config)
	}
	return nil
}

// openFile opens one file, which may be the weights of PEFT's folder.
func (f *loraFile) openFile(fsys fs.FS, name string) (err error) {
	if f.weights, err = OpenCheckpoint(fsys, name); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.weights.Close()
		}
	}()
	if folder, file := path.Split(name); strings.HasPrefix(file, adapterWeightsBase+".") {
		if err := f.readConfig(fsys, path.Clean(folder)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	text := f.weights.Metadata[adapterMetadata]
	if text == "" {
		return nil
	}
	if len(text) > maxAdapterConfigBytes {
		return fmt.Errorf("%s: metadata %s has %d bytes, the limit is %d", name, adapterMetadata, len(text), maxAdapterConfigBytes)
	}
	for part, prefix := range map[loraPart]string{anyPart: "", unetPart: "unet.", textPart: "text_encoder."} {
		if f.configs[part], err = parseAdapterConfig([]byte(text), prefix); err != nil {
			return fmt.Errorf("%s: metadata %s: %w", name, adapterMetadata, err)
		}
	}
	return nil
}

// ofFolder reports whether the names are those of PEFT's folder, whose config says
// the alphas.
func (f *loraFile) ofFolder() bool { return strings.HasPrefix(f.weights.Names()[0], peftFolderPrefix) }

// branchNames are a module's tensors by their names in a file; empty for none.
type branchNames struct{ a, b, alpha string }

// names takes the tensors' names apart and counts them by part.
func (f *loraFile) names() (parsed map[string]loraName, parts map[loraPart]int, err error) {
	parsed, parts = map[string]loraName{}, map[loraPart]int{}
	all := f.weights.Names()
	if len(all) == 0 {
		return nil, nil, errors.New("holds no tensors, so it is no adapter")
	}
	for _, tensor := range all {
		n, err := parseLoRAName(tensor)
		if err != nil {
			return nil, nil, err
		}
		if n.part == foreignPart {
			return nil, nil, &ForeignAdapter{tensor, "a network that the supported pipelines do not have, as Stable Diffusion XL's second text encoder and transformers are",
				"take an adapter that was made for one of them"}
		}
		parsed[tensor] = n
		parts[n.part]++
	}
	return parsed, parts, nil
}

// read reads what a file holds for the modules of one part; nil for nothing.
func (f *loraFile) read(modules []Module, part loraPart) (*LoRA, error) {
	parsed, parts, err := f.names()
	if err != nil {
		return nil, err
	}
	if parts[anyPart]+parts[part] == 0 {
		return nil, nil
	}
	known := newModuleNames(modules)
	branches := map[string]branchNames{}
	for _, tensor := range f.weights.Names() {
		n := parsed[tensor]
		if n.part != anyPart && n.part != part {
			continue
		}
		m, err := known.find(n, tensor)
		if err != nil {
			return nil, err
		}
		b := branches[m.Name]
		slot := map[loraRole]*string{roleA: &b.a, roleB: &b.b, roleAlpha: &b.alpha}[n.role]
		if *slot != "" {
			return nil, fmt.Errorf("tensors %.200q and %.200q mean the same; the file is damaged, fetch it again", *slot, tensor)
		}
		*slot = tensor
		branches[m.Name] = b
	}
	l := &LoRA{Weights: Weights{}, Beside: parts[unetPart] + parts[textPart] - parts[part]}
	config := f.configs[anyPart]
	if own := f.configs[part]; own != nil {
		config = own
	}
	ranks, alphas, said := map[string]int{}, map[string]float64{}, 0
	for _, m := range modules {
		names, ok := branches[m.Name]
		if !ok {
			continue
		}
		if names.a == "" || names.b == "" {
			return nil, fmt.Errorf("module %q lacks A or B; the file is incomplete, fetch it again", m.Name)
		}
		l.Targets = append(l.Targets, m.Name)
		if ranks[m.Name], err = f.readBranch(l, m, names); err != nil {
			return nil, err
		}
		switch {
		case config != nil:
			rank, alpha := config.of(m.Name)
			if rank != ranks[m.Name] {
				return nil, fmt.Errorf("the config says rank %d for %q, the tensors have %d; they do not belong together", rank, m.Name, ranks[m.Name])
			}
			alphas[m.Name] = alpha
		case names.alpha != "":
			if alphas[m.Name], err = f.readAlpha(names.alpha); err != nil {
				return nil, err
			}
			said++
		default:
			alphas[m.Name] = float64(ranks[m.Name])
		}
	}
	if config == nil && said == 0 && f.ofFolder() {
		return nil, fmt.Errorf("does not say its alpha; name the folder with its %s", adapterConfigFile)
	}
	l.Rank, l.Ranks = mostly(l.Targets, ranks)
	l.Alpha, l.Alphas = mostly(l.Targets, alphas)
	return l, nil
}

// readBranch reads A and B of a module and returns their rank. Those of a linear
// layer may be stored as of the 1x1 convolution that computes the same, and the
// other way round.
func (f *loraFile) readBranch(l *LoRA, m Module, names branchNames) (int, error) {
	info, _ := f.weights.Info(names.a)
	if len(info.Shape) < 2 || info.Shape[0] < 1 || info.Shape[0] > maxLoRARank {
		return 0, fmt.Errorf("tensor %.200q of shape %v has no rank from 1 to %d; the file is damaged, fetch it again", names.a, graph.Shape(info.Shape), maxLoRARank)
	}
	rank := info.Shape[0]
	a, b := m.lora(rank)
	for _, t := range []struct {
		source string
		want   Param
	}{{names.a, a}, {names.b, b}} {
		info, _ := f.weights.Info(t.source)
		if got := graph.Shape(info.Shape); !got.Equal(t.want.Shape) && !pointwise(got, t.want.Shape) {
			return 0, fmt.Errorf("tensor %.200q has shape %v, want %v for rank %d of a %s layer %v; the adapter belongs to another network",
				t.source, got, t.want.Shape, rank, m.Kind(), m.Weight)
		}
		read, err := checked{f.weights}.Read(t.source)
		if err != nil {
			return 0, unnamed(err, f.weights.File)
		}
		l.Weights[t.want.Name] = Tensor{t.want.Shape, read.Data}
	}
	return rank, nil
}

// readAlpha reads one number, of whatever type trainers store it in.
func (f *loraFile) readAlpha(tensor string) (float64, error) {
	info, _ := f.weights.Info(tensor)
	alpha := math.NaN()
	if graph.Shape(info.Shape).Size() == 1 {
		if s, ok := f.weights.parts[tensor].(*Safetensors); ok && !info.DType.floating() {
			_, n, err := s.ReadInts(tensor)
			if err != nil {
				return 0, unnamed(err, f.weights.File)
			}
			alpha = float64(n[0])
		} else {
			t, err := checked{f.weights}.Read(tensor)
			if err != nil {
				return 0, unnamed(err, f.weights.File)
			}
			alpha = float64(t.Data[0])
		}
	}
	if !(alpha > 0) {
		return 0, fmt.Errorf("tensor %.200q of shape %v is not one positive number", tensor, graph.Shape(info.Shape))
	}
	return alpha, nil
}

// unnamed takes the file's name from an error that is about to get it.
func unnamed(err error, file string) error {
	return errors.New(strings.TrimPrefix(err.Error(), file+": "))
}

// mostly returns the value that most modules have, the earliest of several, and
// those of the others.
func mostly[V comparable](modules []string, of map[string]V) (common V, others map[string]V) {
	counts := map[V]int{}
	for _, m := range modules {
		counts[of[m]]++
	}
	for _, m := range modules {
		if counts[of[m]] > counts[common] {
			common = of[m]
		}
	}
	for _, m := range modules {
		if of[m] != common {
			if others == nil {
				others = map[string]V{}
			}
			others[m] = of[m]
		}
	}
	return common, others
}
