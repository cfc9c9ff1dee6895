package model

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/sdo-go/sdo/graph"
)

// LoRAInfo is what an adapter's files say of it, without the network it belongs
// to.
type LoRAInfo struct {
	Naming  string // "peft" or "kohya"
	Rank    int
	Alpha   float64  // 0 where the file does not say
	Modules []string // under the file's names
	Numbers int
	Stored  DType
}

// InspectLoRA reads the names, shapes and config of an adapter: PEFT's folder or a
// safetensors file. A file of something else is an error.
func InspectLoRA(fsys fs.FS, name string) (*LoRAInfo, error) {
	stat, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, err
	}
	info, file := &LoRAInfo{Naming: "peft"}, name
	if stat.IsDir() {
		text, err := fs.ReadFile(fsys, path.Join(name, adapterConfigFile))
		if err != nil {
			return nil, err
		}
		if _, info.Alpha, err = parseAdapterConfig(text, ""); err != nil {
			return nil, fmt.Errorf("%s: %w", adapterConfigFile, err)
		}
		file = path.Join(name, adapterWeightsFile)
	}
	s, close, err := openSafetensors(fsys, file)
	if err != nil {
		return nil, err
	}
	defer close()
	for _, tensor := range s.Names() {
		t := s.tensors[tensor]
		if stem, ok := strings.CutSuffix(tensor, kohyaAlpha); ok && strings.HasPrefix(stem, kohyaPrefix) {
			alpha, err := readFinite(s, tensor)
			if err != nil {
				return nil, err
			}
			if len(alpha.Data) == 1 {
				info.Alpha = float64(alpha.Data[0])
			}
			continue
		}
		part := false
		for suffix, naming := range map[string]string{loraA: "peft", loraB: "peft", kohyaDown: "kohya", kohyaUp: "kohya"} {
			stem, ok := strings.CutSuffix(tensor, suffix)
			if !ok || len(t.Shape) != 2 && len(t.Shape) != 4 {
				continue
			}
			part, info.Naming = true, naming
			if suffix == loraA || suffix == kohyaDown {
				info.Rank = t.Shape[0]
				info.Modules = append(info.Modules, strings.TrimPrefix(stem, peftPrefix(stem)))
			}
		}
		if !part {
			return nil, fmt.Errorf("%s: tensor %q is no part of a low-rank adapter under PEFT's or kohya-ss' names; for a model give the folder that holds config.json", file, tensor)
		}
		info.Numbers += graph.Shape(t.Shape).Size()
		info.Stored = t.DType
	}
	if text := s.Metadata[adapterMetadata]; text != "" && info.Alpha == 0 {
		if _, info.Alpha, err = parseAdapterConfig([]byte(text), peftPrefixes[1]); err != nil {
			return nil, fmt.Errorf("%s: metadata %s: %w", file, adapterMetadata, err)
		}
	}
	if len(info.Modules) == 0 {
		return nil, fmt.Errorf("%s: holds no low-rank adapter; for a model give the folder that holds config.json", file)
	}
	slices.Sort(info.Modules)
	return info, nil
}
