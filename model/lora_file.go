package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sdo-go/sdo/graph"
)

// Names of a PEFT folder's files, and of what a single file says of its config.
const (
	adapterConfigFile  = "adapter_config.json"
	adapterWeightsFile = "adapter_model.safetensors"
	adapterMetadata    = "lora_adapter_metadata"
)

// peftPrefixes stand before module names in PEFT's folders and in the single
// files of diffusers' pipelines; a model's own file has none.
var peftPrefixes = []string{"base_model.model.", "unet."}

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
		tensors[peftPrefixes[0]+name] = t
	}
	if err := saveWeights(filepath.Join(dir, adapterWeightsFile), tensors, dtype); err != nil {
		return err
	}
	return saveJSON(filepath.Join(dir, adapterConfigFile), map[string]any{
		"peft_type": "LORA", "r": l.Rank, "lora_alpha": l.Alpha, "target_modules": l.modules(),
		"bias": "none", "lora_dropout": 0, "inference_mode": true,
	})
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
	alpha := float32(l.Alpha)
	if dtype == F16 {
		alpha = AsStored([]float32{alpha}, graph.F16)[0]
	}
	if float64(alpha) != l.Alpha {
		return fmt.Errorf("alpha %g is not a number of %s, in which the file holds it; choose another alpha or type", l.Alpha, dtype)
	}
	tensors := make(Weights, len(l.Weights))
	for _, module := range l.modules() {
		name := kohyaName(module)
		tensors[name+kohyaDown], tensors[name+kohyaUp] = l.Weights[module+loraA], l.Weights[module+loraB]
		tensors[name+kohyaAlpha] = Tensor{Shape: []int{}, Data: []float32{alpha}}
	}
	return WriteSafetensors(w, tensors, dtype, map[string]string{
		"format": "pt", "ss_network_module": "networks.lora",
		"ss_network_dim": strconv.Itoa(l.Rank), "ss_network_alpha": strconv.FormatFloat(l.Alpha, 'g', -1, 64),
	})
}

func kohyaName(module string) string { return kohyaPrefix + strings.ReplaceAll(module, ".", "_") }

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

// LoadLoRA reads an adapter of a network: PEFT's folder, or a safetensors file
// under PEFT's names (with diffusers' metadata or without; alpha is then the
// rank) or kohya-ss'. The targets of what it returns are the modules the file
// holds. Modules that the network lacks, shapes that do not fit, different ranks
// or alphas, and whatever would make another sum than LoRAConfig's are refused.
func LoadLoRA(fsys fs.FS, name string, network Adaptable) (*LoRA, error) {
	file, rank, alpha := name, 0, 0.0
	if stat, err := fs.Stat(fsys, name); err != nil {
		return nil, fmt.Errorf("%s: cannot be opened (%w); name a PEFT folder or a safetensors file", name, err)
	} else if stat.IsDir() {
		config := path.Join(name, adapterConfigFile)
		text, err := fs.ReadFile(fsys, config)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: the file is missing; name a folder that PEFT's save_pretrained wrote, or a safetensors file", config)
		}
		if err != nil {
			return nil, err
		}
		if rank, alpha, err = parseAdapterConfig(text, ""); err != nil {
			return nil, fmt.Errorf("%s: %w", config, err)
		}
		file = path.Join(name, adapterWeightsFile)
	}
	s, close, err := openSafetensors(fsys, file)
	if err != nil {
		return nil, err
	}
	defer close()
	modules, err := network.Modules()
	if err != nil {
		return nil, err
	}
	l, err := readLoRA(s, modules)
	if err != nil {
		return nil, err
	}
	if text := s.Metadata[adapterMetadata]; text != "" && alpha == 0 {
		if rank, alpha, err = parseAdapterConfig([]byte(text), peftPrefixes[1]); err != nil {
			return nil, fmt.Errorf("%s: metadata %s: %w", file, adapterMetadata, err)
		}
	}
	switch {
	case rank != 0 && rank != l.Rank:
		return nil, fmt.Errorf("%s: the config says rank %d, the tensors have %d; the files do not belong together", file, rank, l.Rank)
	case alpha != 0:
		l.Alpha = alpha
	case peftPrefix(s.Names()[0]) == peftPrefixes[0]:
		return nil, fmt.Errorf("%s: does not say its alpha; name the folder with its %s", file, adapterConfigFile)
	case l.Alpha == 0:
		l.Alpha = float64(l.Rank)
	}
	if err := l.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return l, nil
}

// told lists the keys of PEFT's config that change nothing in a trained
// adapter's numbers. r and lora_alpha are read; any other key must say nothing.
var told = []string{
	"peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode",
	"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "init_lora_weights", "lora_dropout",
	"megatron_config", "megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size",
	"ensure_weight_tying", "r", "lora_alpha",
}

// parseAdapterConfig reads r and lora_alpha of a LoraConfig as PEFT writes it,
// its keys with a prefix or without, and refuses one that asks for anything but
// W x + (lora_alpha/r) B A x in every module alike.
func parseAdapterConfig(text []byte, prefix string) (rank int, alpha float64, err error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		return 0, 0, plain(err)
	}
	config := map[string]json.RawMessage{}
	for key, value := range keys {
		config[strings.TrimPrefix(key, prefix)] = value
	}
	for _, key := range slices.Sorted(maps.Keys(config)) {
		silent := slices.Contains([]string{"null", "false", "{}", "[]", "0", `""`, `"none"`}, string(config[key]))
		if !silent && !slices.Contains(told, key) {
			return 0, 0, fmt.Errorf("%s %s is not supported, want a plain LoRA, the same in every module", key, config[key])
		}
	}
	if kind := config["peft_type"]; kind != nil && string(kind) != `"LORA"` {
		return 0, 0, fmt.Errorf(`peft_type %s is not supported, want "LORA"`, kind)
	}
	if err := json.Unmarshal(config["r"], &rank); err != nil || rank < 1 {
		return 0, 0, errors.New("r is not a positive whole number")
	}
	if err := json.Unmarshal(config["lora_alpha"], &alpha); err != nil || !(alpha > 0) {
		return 0, 0, errors.New("lora_alpha is not a positive number")
	}
	return rank, alpha, nil
}

// branchNames are a module's tensors by their names in a file; empty for none.
type branchNames struct{ a, b, alpha string }

// readLoRA reads the tensors of an adapter. Its alpha is kohya's, 0 where the
// file says none.
func readLoRA(s *Safetensors, modules []Module) (*LoRA, error) {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%s: %s", s.file, fmt.Sprintf(format, args...))
	}
	branches, err := identify(s.Names(), modules)
	if err != nil {
		return nil, wrong("%v", err)
	}
	l, alphas := &LoRA{Weights: Weights{}}, 0
	for _, m := range modules {
		names, ok := branches[m.Name]
		if !ok {
			continue
		}
		if names.a == "" || names.b == "" {
			return nil, wrong("module %q lacks A or B; the file is incomplete, fetch it again", m.Name)
		}
		if shape := s.tensors[names.a].Shape; l.Rank == 0 && len(shape) > 0 {
			if l.Rank = shape[0]; l.Rank < 1 || l.Rank > maxLoRARank {
				return nil, wrong("tensor %q has rank %d, want 1 to %d; the file is damaged, fetch it again", names.a, l.Rank, maxLoRARank)
			}
		}
		l.Targets = append(l.Targets, m.Name)
		wantA, wantB := m.lora(l.Rank)
		for source, want := range map[string]Param{names.a: wantA, names.b: wantB} {
			if got := graph.Shape(s.tensors[source].Shape); !got.Equal(want.Shape) {
				return nil, wrong("tensor %q has shape %v, want %v for rank %d of a %s layer %v; an adapter has one rank here and belongs to one network",
					source, got, want.Shape, l.Rank, m.Kind(), m.Weight)
			}
			if l.Weights[want.Name], err = readFinite(s, source); err != nil {
				return nil, err
			}
		}
		if names.alpha == "" {
			continue
		}
		t, err := readFinite(s, names.alpha)
		if err != nil {
			return nil, err
		}
		if len(t.Data) != 1 || !(t.Data[0] > 0) || alphas > 0 && float64(t.Data[0]) != l.Alpha {
			return nil, wrong("tensor %q of shape %v is not one positive number, the same in every module; an adapter has one alpha here",
				names.alpha, graph.Shape(t.Shape))
		}
		l.Alpha = float64(t.Data[0])
		alphas++
	}
	if alphas != 0 && alphas != len(l.Targets) {
		return nil, wrong("%d of %d modules have an alpha; an adapter has one alpha here", alphas, len(l.Targets))
	}
	return l, nil
}

// identify finds out what each tensor is, by module.
func identify(names []string, modules []Module) (map[string]branchNames, error) {
	if len(names) == 0 {
		return nil, errors.New("holds no tensors, so it is no adapter")
	}
	kohya := slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, kohyaPrefix) })
	prefix := peftPrefix(names[0])
	known := map[string]string{}
	for _, m := range modules {
		if kohya {
			known[kohyaName(m.Name)] = m.Name
		} else {
			known[prefix+m.Name] = m.Name
		}
	}
	branches := map[string]branchNames{}
	for _, name := range names {
		stem, suffix := name, ""
		for _, s := range []string{loraA, loraB, kohyaDown, kohyaUp, kohyaAlpha} {
			if cut, ok := strings.CutSuffix(name, s); ok && kohya == (s != loraA && s != loraB) {
				stem, suffix = cut, s
			}
		}
		if suffix == "" {
			return nil, fmt.Errorf("tensor %q is no part of a low-rank branch under PEFT's or kohya-ss' names; only plain LoRA is supported", name)
		}
		module, ok := known[stem]
		if !ok {
			return nil, fmt.Errorf("tensor %q is of a layer that the network does not have; the adapter belongs to another network", name)
		}
		b := branches[module]
		switch suffix {
		case loraA, kohyaDown:
			b.a = name
		case loraB, kohyaUp:
			b.b = name
		default:
			b.alpha = name
		}
		branches[module] = b
	}
	return branches, nil
}

// peftPrefix is what stands before the module in a name of PEFT's.
func peftPrefix(name string) string {
	for _, prefix := range peftPrefixes {
		if strings.HasPrefix(name, prefix) {
			return prefix
		}
	}
	return ""
}

// readFinite is Read for numbers that a network computes with.
func readFinite(s *Safetensors, name string) (Tensor, error) {
	t, err := s.Read(name)
	if err != nil {
		return Tensor{}, err
	}
	return t, finite(s.file, name, t.Data)
}
