package model

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// released are configs as checkpoints were released with them, each with the keys
// that the versions of diffusers and transformers of its day wrote.
func released(t *testing.T, part string) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/released/*." + part + ".json")
	if err != nil || len(names) == 0 {
		t.Fatalf("no released %s: %v", part, err)
	}
	texts := map[string][]byte{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[strings.TrimSuffix(filepath.Base(name), "."+part+".json")] = text
	}
	return texts
}

// Configs of released checkpoints are read as they are, and their networks have
// as many parameters as the checkpoints where those are known.
func TestReleasedConfigs(t *testing.T) {
	for part, parse := range map[string]func(text []byte) (declarer, error){
		"unet": func(text []byte) (declarer, error) {
			if strings.Contains(string(text), `"UNet2DModel"`) {
				return ParseUNet2DConfig(text)
			}
			return ParseUNet2DConditionConfig(text)
		},
		"vae":  func(text []byte) (declarer, error) { return ParseAutoencoderConfig(text) },
		"text": func(text []byte) (declarer, error) { return ParseCLIPTextConfig(text) },
	} {
		for name, text := range released(t, part) {
			config, err := parse(text)
			if err != nil {
				t.Errorf("%s of %s: %v", part, name, err)
				continue
			}
			params, err := config.Params()
			if err != nil {
				t.Errorf("%s of %s: %v", part, name, err)
			}
			want := map[string]int{
				"stable-diffusion-v1-4.unet": 859_520_964, "stable-diffusion-v1-5.unet": 859_520_964, "text-to-image-ema.unet": 859_520_964,
				"stable-diffusion-2.unet": 865_910_724, "stable-diffusion-2-1.unet": 865_910_724, "sd-turbo.unet": 865_910_724,
				"lcm-dreamshaper-v7.unet": 859_520_964 + 256*320, "tiny-sd.unet": 323_384_964,
				"ddpm-cifar10-32.unet": 35_746_307, "ddpm-celebahq-256.unet": 113_673_219,
				"stable-diffusion-v1-4.vae": 83_653_863, "sd-vae-ft-mse.vae": 83_653_863, "taesd.vae": 2_445_063,
				"stable-diffusion-v1-5.text": 123_060_480, "stable-diffusion-2.text": 340_387_840,
			}[name+"."+part]
			if got := ParamCount(params); want != 0 && got != want {
				t.Errorf("%s of %s has %d parameters, want %d", part, name, got, want)
			}
		}
	}
	for name, text := range released(t, "clip") {
		for _, parse := range []func(text []byte) (declarer, error){
			func(text []byte) (declarer, error) { return ParseCLIPTextConfig(text) },
			func(text []byte) (declarer, error) { return ParseCLIPVisionConfig(text) },
		} {
			config, err := parse(text)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			params, err := config.Params()
			want := map[string]map[bool]int{
				"clip-vit-large-patch14": {false: 123_650_304, true: 303_966_208},
				"clip-vit-h-14-laion2b":  {false: 354_032_640, true: 632_076_800},
			}[name]
			_, vision := config.(CLIPVisionConfig)
			if got := ParamCount(params); err != nil || got != want[vision] {
				t.Errorf("%s has %d parameters, %v; want %d", name, got, err, want[vision])
			}
		}
	}
	for name, text := range released(t, "preprocessor") {
		if p, err := ParseCLIPPreprocess(text); err != nil || p != DefaultCLIPPreprocess(224) {
			t.Errorf("preprocessor of %s: %+v, %v", name, p, err)
		}
	}
}

// Pipelines are known by their model_index.json, whatever else it says; what
// cannot be run is refused by name.
func TestReleasedPipelines(t *testing.T) {
	for name, text := range released(t, "index") {
		want := map[string]string{"ncsnpp-church-256": `_class_name "ScoreSdeVePipeline" is not supported`}[name]
		err := JudgePipeline(text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// Released adapters of Stable Diffusion 1.5 find a layer for every tensor: the
// LCM-LoRA, kohya-ss' usual 192 layers of the denoiser and 72 of the text encoder,
// and what diffusers first wrote.
func TestReleasedAdapters(t *testing.T) {
	unet, err := ParseUNet2DConditionConfig(released(t, "unet")["stable-diffusion-v1-5"])
	if err != nil {
		t.Fatal(err)
	}
	text, err := ParseCLIPTextConfig(released(t, "text")["stable-diffusion-v1-5"])
	if err != nil {
		t.Fatal(err)
	}
	var transformers, lcm, words []string
	attention := func(block string, n int) {
		for i := range n {
			name := fmt.Sprintf("%s_attentions_%d_", block, i)
			transformers = append(transformers, name+"proj_in", name+"proj_out")
			for _, layer := range strings.Fields("attn1_to_q attn1_to_k attn1_to_v attn1_to_out_0 attn2_to_q attn2_to_k attn2_to_v attn2_to_out_0 ff_net_0_proj ff_net_2") {
				transformers = append(transformers, name+"transformer_blocks_0_"+layer)
			}
		}
	}
	resnets := func(block string, n, shortcuts int) {
		for i := range n {
			name := fmt.Sprintf("%s_resnets_%d_", block, i)
			lcm = append(lcm, name+"conv1", name+"conv2", name+"time_emb_proj")
			if i < shortcuts {
				lcm = append(lcm, name+"conv_shortcut")
			}
		}
	}
	for level := range 4 {
		down, up := fmt.Sprintf("down_blocks_%d", level), fmt.Sprintf("up_blocks_%d", level)
		if level < 3 {
			attention(down, 2)
			attention(fmt.Sprintf("up_blocks_%d", level+1), 3)
			lcm = append(lcm, down+"_downsamplers_0_conv", up+"_upsamplers_0_conv")
		}
		resnets(down, 2, level%3&1+level%3>>1) // where the width changes
		resnets(up, 3, 3)
	}
	attention("mid_block", 1)
	resnets("mid_block", 2, 0)
	lcm = append(lcm, transformers...)
	for i := range 12 {
		for _, layer := range strings.Fields("self_attn_q_proj self_attn_k_proj self_attn_v_proj self_attn_out_proj mlp_fc1 mlp_fc2") {
			words = append(words, fmt.Sprintf("text_model_encoder_layers_%d_%s", i, layer))
		}
	}
	var processors []string
	for _, name := range transformers {
		if at := strings.Index(name, "_to_"); at >= 0 {
			attention := strings.NewReplacer("down_blocks_", "down_blocks.", "up_blocks_", "up_blocks.", "_attentions_", ".attentions.", "_transformer_blocks_0_", ".transformer_blocks.0.").Replace(name[:at])
			processors = append(processors, attention+".processor."+strings.TrimSuffix(name[at+1:], "_0"))
		}
	}
	for _, c := range []struct {
		of        Adaptable
		names     []string
		count     int
		before    string
		after     []string
		part      loraPart
		reference string
	}{
		{unet, lcm, 278, "lora_unet_", []string{".lora_down.weight", ".lora_up.weight", ".alpha"}, unetPart, "LCM-LoRA"},
		{unet, transformers, 192, "lora_unet_", []string{".lora_down.weight", ".lora_up.weight", ".alpha"}, unetPart, "kohya-ss"},
		{text, words, 72, "lora_te_", []string{".lora_down.weight", ".lora_up.weight", ".alpha"}, textPart, "kohya-ss' text encoder"},
		{unet, processors, 128, "", []string{"_lora.down.weight", "_lora.up.weight"}, anyPart, "diffusers of 2023"},
	} {
		if len(c.names) != c.count {
			t.Errorf("%s: %d layers, want %d", c.reference, len(c.names), c.count)
		}
		modules, err := c.of.Modules()
		if err != nil {
			t.Fatal(err)
		}
		known, found := newModuleNames(modules), map[string]bool{}
		for _, name := range c.names {
			for _, after := range c.after {
				parsed, err := parseLoRAName(c.before + name + after)
				if err != nil || parsed.part != c.part {
					t.Errorf("%s: %v of part %d", c.reference, err, parsed.part)
					continue
				}
				m, err := known.find(parsed, name)
				if err != nil {
					t.Errorf("%s: %v", c.reference, err)
				}
				found[m.Name] = true
			}
		}
		if len(found) != c.count {
			t.Errorf("%s: %d layers are found, want %d", c.reference, len(found), c.count)
		}
	}
}
