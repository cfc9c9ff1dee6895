package model

import (
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
