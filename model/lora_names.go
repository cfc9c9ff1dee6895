package model

import (
	"fmt"
	"strings"
)

// Namings, after whom the tensors of an adapter's file are named.
const (
	// PEFT's own: <module>.lora_A.weight, in folders after "base_model.model.",
	// in single files of diffusers' pipelines after "unet." or "text_encoder.".
	PEFTNaming = "peft"
	// kohya-ss' trainers': lora_unet_<module>.lora_down.weight, lora_te_ for the
	// text encoder, dots of the module's name turned into underscores.
	KohyaNaming = "kohya"
	// diffusers' before it used PEFT: <module>.lora.down.weight,
	// <module>.lora_linear_layer.down.weight, and of attention processors
	// <attention>.processor.to_q_lora.down.weight.
	DiffusersNaming = "diffusers"
)

// loraPart is the network of a pipeline that a tensor adapts.
type loraPart int

const (
	anyPart     loraPart = iota // the name does not say
	unetPart                    // the denoiser
	textPart                    // the text encoder
	foreignPart                 // something that the pipelines here have not
)

// loraRole is what a tensor is to its module.
type loraRole int

const (
	roleA loraRole = iota
	roleB
	roleAlpha
)

// loraName is the name of an adapter's tensor, taken apart.
type loraName struct {
	naming string
	part   loraPart
	role   loraRole
	module string // as the naming spells it: with underscores where kohya-ss' does
}

// foreignKinds are adapters of other sums than W + s B A, by what their tensors'
// names contain, or, before a dollar, end in.
var foreignKinds = []struct{ mark, kind string }{
	{"hada_w", "LoHa, a product of two low-rank matrices"},
	{"lokr_w", "LoKr, a Kronecker product"},
	{"lora_magnitude_vector", "DoRA, which also scales the weights' columns"},
	{"dora_scale", "DoRA, which also scales the weights' columns"},
	{"lora_mid.", "a LoRA of convolutions with a third matrix in between"},
	{"oft_blocks", "OFT, a rotation of the weights"},
	{"oft_diag", "OFT, a rotation of the weights"},
	{"oft_R", "OFT, a rotation of the weights"},
	{"lora_embedding_", "a LoRA of an embedding table"},
	{"lora_bias", "a LoRA with a bias"},
	{"lora_B.bias", "a LoRA with a bias"},
	{".diff$", "a difference of whole weights"},
	{".diff_b$", "a difference of whole biases"},
	{".w_norm$", "a difference of norms"},
	{".b_norm$", "a difference of norms"},
	{":down$", "cloneofsimo's LoRA, whose layers have numbers for names"},
	{":up$", "cloneofsimo's LoRA, whose layers have numbers for names"},
}

// ForeignAdapter is the error of an adapter of a kind that is not supported.
type ForeignAdapter struct{ Tensor, Kind, advice string }

func (e *ForeignAdapter) Error() string {
	return fmt.Sprintf("tensor %.200q belongs to %s; %s", e.Tensor, e.Kind, e.advice)
}

// loraPrefixes stand before the module's name.
var loraPrefixes = []struct {
	prefix string
	part   loraPart
}{
	{peftFolderPrefix, anyPart},
	{"unet.", unetPart},
	{"text_encoder.", textPart},
	{"text_encoder_2.", foreignPart},
	{"transformer.", foreignPart},
	{kohyaPrefix, unetPart},
	{"lora_te_", textPart},
	{"lora_te1_", textPart},
	{"lora_te2_", foreignPart},
	{"lora_prior_", foreignPart},
	{"lora_transformer_", foreignPart},
}

// loraSuffixes end the names. Those of attention processors take a part of the
// module's name with them.
var loraSuffixes = []struct {
	suffix string
	naming string
	role   loraRole
}{
	{loraA, PEFTNaming, roleA},
	{loraB, PEFTNaming, roleB},
	{kohyaDown, KohyaNaming, roleA},
	{kohyaUp, KohyaNaming, roleB},
	{".lora.down.weight", DiffusersNaming, roleA},
	{".lora.up.weight", DiffusersNaming, roleB},
	{".lora_linear_layer.down.weight", DiffusersNaming, roleA},
	{".lora_linear_layer.up.weight", DiffusersNaming, roleB},
	{"_lora.down.weight", DiffusersNaming, roleA},
	{"_lora.up.weight", DiffusersNaming, roleB},
	{"_lora.alpha", DiffusersNaming, roleAlpha},
	{kohyaAlpha, KohyaNaming, roleAlpha},
}

// processorLayers are the layers that attention processors' names end in: in the
// denoiser, and in the text encoder.
var processorLayers = map[string][2]string{
	"to_q": {"to_q", "q_proj"}, "to_k": {"to_k", "k_proj"}, "to_v": {"to_v", "v_proj"}, "to_out": {"to_out.0", "out_proj"},
}

// parseLoRAName takes the name of an adapter's tensor apart. Other kinds of
// adapters are refused by what they are.
func parseLoRAName(name string) (loraName, error) {
	for _, k := range foreignKinds {
		end, last := strings.CutSuffix(k.mark, "$")
		if last && strings.HasSuffix(name, end) || strings.Contains(name, k.mark) {
			return loraName{}, &ForeignAdapter{name, k.kind, "only plain LoRA is supported, merge it into the model with the tool that made it"}
		}
	}
	if strings.HasPrefix(name, "<") || name == "emb_params" {
		return loraName{}, &ForeignAdapter{name, "textual inversion, the embedding of a new word", "only plain LoRA is supported"}
	}
	n, rest := loraName{}, name
	for _, p := range loraPrefixes {
		if cut, ok := strings.CutPrefix(name, p.prefix); ok {
			n.part, rest = p.part, cut
			break
		}
	}
	for _, s := range loraSuffixes {
		cut, ok := strings.CutSuffix(rest, s.suffix)
		if !ok || cut == "" {
			continue
		}
		n.naming, n.role, n.module = s.naming, s.role, cut
		if strings.HasPrefix(name, "lora_") {
			n.naming = KohyaNaming
			return n, nil
		}
		n.module = strings.ReplaceAll(cut, ".processor.", ".")
		if strings.HasPrefix(s.suffix, "_lora.") {
			block, layer, _ := cutLast(n.module, ".")
			layers, known := processorLayers[layer]
			if !known {
				break
			}
			n.module = block + "." + layers[0]
			if n.part == textPart || strings.HasPrefix(block, "text_model.") {
				n.module = block + "." + layers[1]
			}
		}
		return n, nil
	}
	return loraName{}, fmt.Errorf("tensor %.200q is no part of a low-rank branch under PEFT's, kohya-ss' or diffusers' names; only plain LoRA is supported", name)
}

// cutLast is strings.Cut around the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}

// kohyaName is a module's name as kohya-ss' trainers spell it.
func kohyaName(module string) string { return strings.ReplaceAll(module, ".", "_") }

// originalBlocks begin module names of the network's first implementation, under
// which kohya-ss' trainers name adapters of larger models.
var originalBlocks = []string{"input_blocks_", "middle_block_", "output_blocks_", "input_blocks.", "middle_block.", "output_blocks."}

// moduleNames finds modules by the names that files give them.
type moduleNames struct{ plain, kohya map[string]Module }

func newModuleNames(modules []Module) moduleNames {
	n := moduleNames{map[string]Module{}, map[string]Module{}}
	for _, m := range modules {
		n.plain[m.Name], n.kohya[kohyaName(m.Name)] = m, m
	}
	return n
}

func (n moduleNames) find(name loraName, tensor string) (Module, error) {
	known := n.plain
	if name.naming == KohyaNaming && !strings.Contains(name.module, ".") {
		known = n.kohya
	}
	if m, ok := known[name.module]; ok {
		return m, nil
	}
	if name.part == textPart { // transformers since 5 leaves the tower's name out
		for _, tower := range []string{"text_model.", kohyaName("text_model.")} {
			if m, ok := known[tower+name.module]; ok {
				return m, nil
			}
		}
	}
	for _, block := range originalBlocks {
		if strings.HasPrefix(name.module, block) {
			return Module{}, fmt.Errorf("tensor %.200q is named after the blocks of the first implementation, as adapters of Stable Diffusion XL are; such models are not supported", tensor)
		}
	}
	return Module{}, fmt.Errorf("tensor %.200q is of a layer that the network does not have; the adapter belongs to another network", tensor)
}
