package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sdo-go/sdo/graph"
)

// IndexFile is the file in which diffusers lists a pipeline's components.
const IndexFile = "model_index.json"

// Names of weights as diffusers, transformers and PEFT write them, and of the
// indices of sharded ones:
//
//	diffusion_pytorch_model.safetensors
//	diffusion_pytorch_model.fp16.safetensors
//	model.fp16-00001-of-00002.safetensors      model-00001-of-00002.fp16.safetensors (older)
//	model.safetensors.index.fp16.json          model.safetensors.fp16.index.json (older)
//	                                           model.fp16.safetensors.index.json (by others)
var (
	weightsForm = regexp.MustCompile(`^(?:diffusion_pytorch_model|model|pytorch_model|adapter_model|pytorch_lora_weights)(?:\.([A-Za-z0-9_]+))??(?:-\d{5}-of-(\d{5}))?(?:\.([A-Za-z0-9_]+))??\.(safetensors|bin)$`)
	indexForm   = regexp.MustCompile(`^(?:diffusion_pytorch_model|model|pytorch_model)(?:\.([A-Za-z0-9_]+))??\.(safetensors|bin)(?:\.([A-Za-z0-9_]+))?\.index(?:\.([A-Za-z0-9_]+))?\.json$`)
)

// components are the folders of a model that has no model_index.json.
var components = []string{"image_encoder", "scheduler", "text_encoder", "tokenizer", "unet", "vae"}

// unused are components that pipelines have for pictures they would rather not
// show. Nothing here reads them, and they are a quarter of the download.
var unused = []string{"safety_checker", "feature_extractor"}

// edition is one of several sets of a component's weights that hold the same.
type edition struct{ format, variant string }

// Choose takes from a listing what a diffusers pipeline, a single model or an
// adapter is loaded from: configs, tokenizers and one edition of every
// component's weights, by diffusers' rules. Safetensors are taken before
// pickled .bin files; the variant where a component has it, and its plain
// weights otherwise. Checkpoints in one file, ONNX, Flax and TensorFlow are
// never taken. index is the contents of model_index.json, nil without one.
// notes say in sentences what a user may not expect.
func Choose(files []File, index []byte, variant string) (chosen []File, notes []string, err error) {
	folders := map[string][]File{}
	for _, f := range files {
		folder := path.Dir(f.Path)
		folders[folder] = append(folders[folder], f)
	}
	names, err := chosenFolders(folders, index)
	if err != nil {
		return nil, nil, err
	}
	found := false // the variant, anywhere
	for _, name := range names {
		if slices.Contains(unused, name) {
			if size := total(folders[name]); size > 1<<20 {
				notes = append(notes, fmt.Sprintf("%s is left out, %s that nothing here reads; diffusers then wants %s=None", name, graph.Bytes(size), name))
			}
			continue
		}
		weights, which, err := chooseWeights(folders[name], variant)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		found = found || variant != "" && which.variant == variant
		if len(weights) > 0 && which.variant != variant {
			switch {
			case which.variant == "":
				notes = append(notes, fmt.Sprintf("%s has no variant %s, its plain weights are taken", place(name), variant))
			case variant == "":
				notes = append(notes, fmt.Sprintf("%s has only the variant %s, which is taken", place(name), which.variant))
			default:
				notes = append(notes, fmt.Sprintf("%s has no variant %s and no plain weights, its variant %s is taken", place(name), variant, which.variant))
			}
		}
		chosen = append(chosen, weights...)
		for _, f := range folders[name] {
			if isText(f.Path) {
				chosen = append(chosen, f)
			}
		}
	}
	if variant != "" && !found {
		return nil, nil, Refusal{fmt.Errorf("nothing in it has a variant %q; %s", variant, variants(folders, names))}
	}
	if !slices.ContainsFunc(chosen, func(f File) bool { return !isText(f.Path) }) {
		return nil, nil, Refusal{errors.New("it holds no weights in a form that can be read, safetensors or .bin under diffusers', transformers' or PEFT's names; --all takes all there is")}
	}
	slices.SortFunc(chosen, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return chosen, notes, nil
}

// chosenFolders says which folders of a model are loaded from: the root, and
// what model_index.json lists.
func chosenFolders(folders map[string][]File, index []byte) ([]string, error) {
	names := []string{"."}
	if index != nil {
		var entries map[string]json.RawMessage
		if err := json.Unmarshal(index, &entries); err != nil {
			return nil, fmt.Errorf("%s: not a JSON object; the model is damaged at its source", IndexFile)
		}
		for name, entry := range entries {
			var class []*string // [library, class], of nulls where there is none
			if json.Unmarshal(entry, &class) == nil && len(class) == 2 && class[1] != nil && folders[name] != nil && !strings.Contains(name, "/") {
				names = append(names, name)
			}
		}
	} else if !has(folders["."], "config.json") {
		for _, name := range components {
			if folders[name] != nil {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// chooseWeights picks one edition of a folder's weights, with its index where
// it is sharded.
func chooseWeights(files []File, variant string) ([]File, edition, error) {
	sets, shards := editions(files)
	order := []edition{{"safetensors", variant}, {"safetensors", ""}, {"bin", variant}, {"bin", ""}}
	rest := make([]edition, 0, len(sets))
	for e := range sets {
		// Weights that training averages from are no edition of the same.
		if e.variant != "non_ema" {
			rest = append(rest, e)
		}
	}
	slices.SortFunc(rest, func(a, b edition) int {
		return strings.Compare(b.format+a.variant, a.format+b.variant)
	})
	for _, e := range append(order, rest...) {
		set := sets[e]
		if set == nil {
			continue
		}
		if want := shards[e]; want > 0 {
			parts := 0
			for _, f := range set {
				if !strings.HasSuffix(f.Path, ".json") {
					parts++
				}
			}
			if parts != want || len(set) != want+1 {
				continue // shards or their index are missing
			}
		}
		return set, e, nil
	}
	if len(sets) > 0 {
		return nil, edition{}, Refusal{errors.New("its weights are in several files, and not all of them are there")}
	}
	if path.Dir(first(files).Path) != "." || has(files, IndexFile) || has(files, "config.json") {
		return nil, edition{}, nil // configs, or a tokenizer; Choose wants weights somewhere
	}
	// A folder without a config holds adapters or heads under any name.
	for _, extension := range []string{".safetensors", ".bin", ".pth", ".pt"} {
		var all []File
		for _, f := range files {
			if path.Ext(f.Path) == extension {
				all = append(all, f)
			}
		}
		if len(all) > 0 {
			return all, edition{strings.TrimPrefix(extension, "."), variant}, nil
		}
	}
	return nil, edition{}, nil
}

// editions sorts a folder's weights by format and variant; shards is how many
// files an edition should have where it is sharded. Weights in one file are
// taken before the same in several.
func editions(files []File) (sets map[edition][]File, shards map[edition]int) {
	sets, shards = map[edition][]File{}, map[edition]int{}
	whole := map[edition]bool{}
	for _, f := range files {
		m := weightsForm.FindStringSubmatch(path.Base(f.Path))
		if m == nil || m[1] != "" && m[3] != "" {
			continue
		}
		e := edition{m[4], m[1] + m[3]}
		switch {
		case m[2] == "":
			sets[e], whole[e] = []File{f}, true
			delete(shards, e)
		case !whole[e]:
			sets[e] = append(sets[e], f)
			shards[e], _ = strconv.Atoi(m[2]) // five digits
		}
	}
	for _, f := range files {
		if m := indexForm.FindStringSubmatch(path.Base(f.Path)); m != nil {
			if e := (edition{m[2], m[1] + m[3] + m[4]}); shards[e] > 0 {
				sets[e] = append(sets[e], f)
			}
		}
	}
	return sets, shards
}

// isText tells a config, a tokenizer's file or a licence from weights. The tables
// of a network's attributes go with its config.
func isText(name string) bool {
	base := path.Base(name)
	if base == "attribute_embedder.safetensors" {
		return true
	}
	switch path.Ext(base) {
	case ".json":
		return !indexForm.MatchString(base)
	case ".txt", ".model":
		return true
	case ".md":
		return path.Dir(name) == "."
	}
	return strings.HasPrefix(strings.ToUpper(base), "LICENSE")
}

// variants says what could be asked for instead.
func variants(folders map[string][]File, names []string) string {
	var all []string
	for _, name := range names {
		sets, _ := editions(folders[name])
		for e := range sets {
			if e.variant != "" {
				all = append(all, e.variant)
			}
		}
	}
	slices.Sort(all)
	if all = slices.Compact(all); len(all) == 0 {
		return "it has none, so leave --variant out"
	}
	return "it has " + strings.Join(all, ", ")
}

func place(folder string) string {
	if folder == "." {
		return "the model"
	}
	return folder
}

func has(files []File, base string) bool {
	return slices.ContainsFunc(files, func(f File) bool { return path.Base(f.Path) == base })
}

func first(files []File) File {
	if len(files) == 0 {
		return File{}
	}
	return files[0]
}

func total(files []File) (bytes int64) {
	for _, f := range files {
		bytes += f.Size
	}
	return bytes
}
