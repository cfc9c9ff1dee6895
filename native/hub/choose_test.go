package hub

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

// listed makes files of one byte each.
func listed(paths ...string) (files []File) {
	for _, p := range paths {
		files = append(files, File{Path: p, Size: 1})
	}
	return files
}

const stableDiffusion = `{
	"_class_name": "StableDiffusionPipeline",
	"_diffusers_version": "0.6.0",
	"requires_safety_checker": true,
	"feature_extractor": ["transformers", "CLIPImageProcessor"],
	"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
	"image_encoder": [null, null],
	"scheduler": ["diffusers", "PNDMScheduler"],
	"text_encoder": ["transformers", "CLIPTextModel"],
	"tokenizer": ["transformers", "CLIPTokenizer"],
	"unet": ["diffusers", "UNet2DConditionModel"],
	"vae": ["diffusers", "AutoencoderKL"]
}`

func TestChoose(t *testing.T) {
	// As the hub lists the well-known one, with what other models have besides.
	sd := listed(".gitattributes", "README.md", "v1-5-pruned.ckpt", "v1-5-pruned.safetensors", "v1-inference.yaml", "model_index.json", "sample.png",
		"feature_extractor/preprocessor_config.json",
		"safety_checker/config.json", "safety_checker/model.safetensors", "safety_checker/model.fp16.safetensors",
		"scheduler/scheduler_config.json",
		"text_encoder/config.json", "text_encoder/model.safetensors", "text_encoder/model.fp16.safetensors", "text_encoder/pytorch_model.bin", "text_encoder/pytorch_model.fp16.bin", "text_encoder/flax_model.msgpack", "text_encoder/model.onnx", "text_encoder/openvino_model.bin",
		"tokenizer/merges.txt", "tokenizer/special_tokens_map.json", "tokenizer/tokenizer_config.json", "tokenizer/vocab.json",
		"unet/config.json", "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors", "unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.onnx",
		"vae/config.json", "vae/diffusion_pytorch_model.bin", "vae/diffusion_pytorch_model.fp16.bin", "vae/diffusion_pytorch_model.safetensors",
		"vae_decoder/config.json", "vae_decoder/model.onnx", "unet/deeper/config.json")
	texts := []string{"README.md", "model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json",
		"tokenizer/merges.txt", "tokenizer/special_tokens_map.json", "tokenizer/tokenizer_config.json", "tokenizer/vocab.json", "unet/config.json", "vae/config.json"}
	for i := range sd {
		if sd[i].Path == "safety_checker/model.safetensors" {
			sd[i].Size = 1_216_061_799
		}
	}
	tests := []struct {
		name    string
		files   []File
		index   string
		variant string
		want    []string // the weights; of sd the texts besides
		notes   string
		err     string
	}{
		{"plain", sd, stableDiffusion, "", []string{"text_encoder/model.safetensors", "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"},
			"safety_checker is left out, 1.13 GiB that nothing here reads; diffusers then wants safety_checker=None", ""},
		{"variant", sd, stableDiffusion, "fp16", []string{"text_encoder/model.fp16.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors", "vae/diffusion_pytorch_model.safetensors"},
			"vae has no variant fp16, its plain weights are taken", ""},
		{"another variant", sd, stableDiffusion, "non_ema", []string{"text_encoder/model.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors", "vae/diffusion_pytorch_model.safetensors"},
			"text_encoder has no variant non_ema", ""},
		{"no such variant", sd, stableDiffusion, "bf16", nil, "", `nothing in it has a variant "bf16"; it has fp16, non_ema`},
		{"variant of none", listed("config.json", "diffusion_pytorch_model.safetensors"), "", "fp16", nil, "", "it has none, so leave --variant out"},
		{"one network at the root", listed("config.json", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin", "taesd.pth", "unet/config.json"), "", "",
			[]string{"config.json", "diffusion_pytorch_model.safetensors"}, "", ""},
		{"pickled only", listed("config.json", "model_index.json", "diffusion_pytorch_model.bin", "scheduler_config.json"), `{"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDPMScheduler"]}`, "",
			[]string{"config.json", "diffusion_pytorch_model.bin", "model_index.json", "scheduler_config.json"}, "", ""},
		{"CLIP", listed("config.json", "preprocessor_config.json", "merges.txt", "vocab.json", "tokenizer.json", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "model.safetensors"), "", "",
			[]string{"config.json", "merges.txt", "model.safetensors", "preprocessor_config.json", "tokenizer.json", "vocab.json"}, "", ""},
		{"only a variant", listed("config.json", "diffusion_pytorch_model.fp16.safetensors"), "", "",
			[]string{"config.json", "diffusion_pytorch_model.fp16.safetensors"}, "the model has only the variant fp16, which is taken", ""},
		{"folders without an index", listed("unet/config.json", "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json", "onnx/config.json", "onnx/model.safetensors"), "", "",
			[]string{"scheduler/scheduler_config.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"}, "", ""},
		{"shards", listed("config.json", "diffusion_pytorch_model-00001-of-00002.safetensors", "diffusion_pytorch_model-00002-of-00002.safetensors", "diffusion_pytorch_model.safetensors.index.json", "diffusion_pytorch_model.bin"), "", "",
			[]string{"config.json", "diffusion_pytorch_model-00001-of-00002.safetensors", "diffusion_pytorch_model-00002-of-00002.safetensors", "diffusion_pytorch_model.safetensors.index.json"}, "", ""},
		{"shards of a variant", listed("config.json", "model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors", "model.safetensors.index.fp16.json", "model-00001-of-00001.safetensors", "model.safetensors.index.json"), "", "fp16",
			[]string{"config.json", "model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors", "model.safetensors.index.fp16.json"}, "", ""},
		{"shards of a variant, older names", listed("config.json", "model-00001-of-00002.fp16.safetensors", "model-00002-of-00002.fp16.safetensors", "model.safetensors.fp16.index.json"), "", "fp16",
			[]string{"config.json", "model-00001-of-00002.fp16.safetensors", "model-00002-of-00002.fp16.safetensors", "model.safetensors.fp16.index.json"}, "", ""},
		{"a shard is missing, the pickled are whole", listed("config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "pytorch_model.bin"), "", "",
			[]string{"config.json", "pytorch_model.bin"}, "", ""},
		{"a shard is missing", listed("config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json"), "", "", nil, "", "its weights are in several files, and not all of them are there"},
		{"the index is missing", listed("config.json", "model-00001-of-00001.safetensors"), "", "", nil, "", "not all of them are there"},
		{"whole and in shards", listed("config.json", "model-00001-of-00001.safetensors", "model.safetensors", "model.safetensors.index.json"), "", "", []string{"config.json", "model.safetensors"}, "", ""},
		{"an adapter", listed(".gitattributes", "README.md", "pytorch_lora_weights.safetensors", "other.safetensors", "picture.png"), "", "",
			[]string{"README.md", "pytorch_lora_weights.safetensors"}, "", ""},
		{"PEFT's adapter", listed("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"), "", "", []string{"adapter_config.json", "adapter_model.safetensors"}, "", ""},
		{"an adapter under its own name", listed("my-style.safetensors", "my-style.ckpt"), "", "", []string{"my-style.safetensors"}, "", ""},
		{"a head", listed("LICENSE", "sac+logos+ava1-l14-linearMSE.pth", "train.py"), "", "", []string{"LICENSE", "sac+logos+ava1-l14-linearMSE.pth"}, "", ""},
		{"a checkpoint in one file", listed("README.md", "model.ckpt", "model.onnx"), "", "", nil, "", "it holds no weights in a form that can be read"},
		{"a pipeline in one file", listed("model_index.json", "pipeline.safetensors"), "{}", "", nil, "", "it holds no weights in a form that can be read"},
		{"a broken index", sd, "[", "", nil, "", "model_index.json: not a JSON object"},
		{"an index that leads elsewhere", listed("model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.bin", "a/b/config.json"), `{"unet": ["diffusers", "x"], "a/b": ["diffusers", "x"], "../c": ["diffusers", "x"], "vae": ["diffusers", "x"], "n": 4}`, "",
			[]string{"model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.bin"}, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var index []byte
			if tt.index != "" {
				index = []byte(tt.index)
			}
			chosen, notes, err := Choose(tt.files, index, tt.variant)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if refusal := (Refusal{}); err != nil && !errors.As(err, &refusal) && tt.index != "[" {
				t.Errorf("%v is not the user's to put right", err)
			}
			var got []string
			for _, f := range chosen {
				got = append(got, f.Path)
			}
			want := tt.want
			if len(want) > 0 && &tt.files[0] == &sd[0] {
				want = append(slices.Clone(texts), want...)
				slices.Sort(want)
			}
			if !slices.Equal(got, want) {
				t.Errorf("chosen\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if said := strings.Join(notes, "\n"); !strings.Contains(said, tt.notes) || tt.notes == "" && said != "" {
				t.Errorf("notes %q, want %q", said, tt.notes)
			}
		})
	}
	if !json.Valid([]byte(stableDiffusion)) {
		t.Error("the index is not JSON")
	}
}
