package model

import (
	"fmt"
	"io/fs"
	"slices"

	"github.com/sdo-go/sdo/graph"
)

// LoRAInfo is what an adapter's files say of it, without the network it belongs
// to.
type LoRAInfo struct {
	Naming  string    // PEFTNaming, KohyaNaming or DiffusersNaming
	Rank    int       // that most modules have
	Alpha   float64   // that most modules have; 0 where the file does not say, so that it is the rank
	Alone   bool      // whether it is PEFT's file without its config, which says the alpha
	Ranks   []int     // of all modules, each once, ascending
	Alphas  []float64 // of all modules, each once, ascending; empty where the file does not say
	Modules []string  // under the file's names, those of the text encoder after TextPrefix
	Text    int       // how many of them are the text encoder's
	Numbers int
	Stored  DType
}

// TextPrefix stands before modules of a text encoder in LoRAInfo.Modules.
const TextPrefix = "text_encoder."

// InspectLoRA reads the names, shapes and config of an adapter: PEFT's folder or a
// file. A file of something else is an error.
func InspectLoRA(fsys fs.FS, name string) (*LoRAInfo, error) {
	f, err := openLoRA(fsys, name)
	if err != nil {
		return nil, err
	}
	defer f.weights.Close()
	info, err := f.inspect()
	if err != nil {
		return nil, fmt.Errorf("%s: %w; for a model give the folder that holds config.json", f.weights.File, err)
	}
	return info, nil
}

func (f *loraFile) inspect() (*LoRAInfo, error) {
	parsed, _, err := f.names()
	if err != nil {
		return nil, err
	}
	info := &LoRAInfo{Stored: f.weights.Stored()}
	ranks, alphas := map[string]int{}, map[string]float64{}
	for _, tensor := range f.weights.Names() {
		n := parsed[tensor]
		stored, _ := f.weights.Info(tensor)
		module, part := n.module, unetPart
		if n.part == textPart {
			module, part = TextPrefix+n.module, textPart
		}
		if n.role == roleAlpha {
			if alphas[module], err = f.readAlpha(tensor); err != nil {
				return nil, err
			}
			continue
		}
		if len(stored.Shape) != 2 && len(stored.Shape) != 4 {
			return nil, fmt.Errorf("tensor %.200q of shape %v is neither a linear layer's nor a convolution's", tensor, graph.Shape(stored.Shape))
		}
		info.Naming = n.naming
		info.Numbers += graph.Shape(stored.Shape).Size()
		if n.role != roleA {
			continue
		}
		ranks[module] = stored.Shape[0]
		info.Modules = append(info.Modules, module)
		if part == textPart {
			info.Text++
		}
		config := f.configs[anyPart]
		if own := f.configs[part]; own != nil {
			config = own
		}
		if config != nil {
			_, alphas[module] = config.of(n.module)
		}
	}
	if len(info.Modules) == 0 {
		return nil, fmt.Errorf("holds no low-rank adapter")
	}
	slices.Sort(info.Modules)
	info.Alone = len(alphas) == 0 && f.ofFolder()
	for _, module := range info.Modules {
		if _, said := alphas[module]; !said && len(alphas) > 0 {
			alphas[module] = float64(ranks[module])
		}
	}
	info.Rank, _ = mostly(info.Modules, ranks)
	info.Alpha, _ = mostly(info.Modules, alphas)
	for _, module := range info.Modules {
		info.Ranks = append(info.Ranks, ranks[module])
		if alpha, ok := alphas[module]; ok {
			info.Alphas = append(info.Alphas, alpha)
		}
	}
	slices.Sort(info.Ranks)
	slices.Sort(info.Alphas)
	info.Ranks, info.Alphas = slices.Compact(info.Ranks), slices.Compact(info.Alphas)
	return info, nil
}
