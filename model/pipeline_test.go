package model

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

// folderFiles is a folder in memory, to be changed.
func folderFiles(t *testing.T, dir string) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(os.DirFS(dir), name)
		files[name] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestLoadPipeline(t *testing.T) {
	p, err := LoadPipeline(os.DirFS("testdata/stable-diffusion"))
	if err != nil {
		t.Fatal(err)
	}
	if p.Class != "StableDiffusionPipeline" || p.UNet2D != nil || p.Autoencoder.Config.ScaleFactor() != 4 || p.UNet.Config.Tokens != 77 || p.UNet.Stored != F16 {
		t.Errorf("loaded %s with a scale factor of %d, %d tokens and weights of %s", p.Class, p.Autoencoder.Config.ScaleFactor(), p.UNet.Config.Tokens, p.UNet.Stored)
	}
	taesd, err := LoadAutoencoder(os.DirFS("testdata/taesd"), ".")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.UseDecoder("decoder", taesd); err != nil || p.Autoencoder != taesd {
		t.Errorf("another decoder: %v", err)
	}

	// Without its own decoder a folder need not hold one.
	files := folderFiles(t, "testdata/stable-diffusion")
	maps.DeleteFunc(files, func(name string, _ *fstest.MapFile) bool { return strings.HasPrefix(name, "vae/") })
	if p, err = LoadPipeline(files, "vae"); err != nil || p.Autoencoder != nil {
		t.Errorf("without the vae: %v", err)
	}

	// A pipeline of pixels is its network.
	pixels := folderFiles(t, "testdata/unet2d-attention")
	pixels[pipelineFile] = &fstest.MapFile{Data: []byte(`{"_class_name": "DDPMPipeline", "scheduler": ["diffusers", "DDPMScheduler"], "unet": ["diffusers", "UNet2DModel"]}`)}
	if p, err = LoadPipeline(pixels); err != nil || p.UNet2D == nil || p.UNet != nil || p.Scheduler == nil {
		t.Errorf("a pipeline of pixels: %v", err)
	}
}

// What cannot be run is refused by name before any weights are opened: here no
// folder has any.
func TestLoadPipelineRefuses(t *testing.T) {
	whole := folderFiles(t, "testdata/stable-diffusion")
	var index map[string]any
	if err := json.Unmarshal(whole[pipelineFile].Data, &index); err != nil {
		t.Fatal(err)
	}
	pair := func(library, class string) []string { return []string{library, class} }
	for want, change := range map[string]map[string]any{
		"Stable Diffusion XL is not supported yet":                                        {"_class_name": "StableDiffusionXLPipeline"},
		"Stable Diffusion 3 is not supported yet":                                         {"_class_name": "StableDiffusion3Pipeline"},
		"Flux is not supported yet":                                                       {"_class_name": "FluxPipeline"},
		"PixArt is not supported yet":                                                     {"_class_name": "PixArtAlphaPipeline"},
		"DiT is not supported yet":                                                        {"_class_name": "DiTPipeline"},
		`_class_name "SomePipeline" is not supported, want`:                               {"_class_name": "SomePipeline"},
		`_class_name "StableDiffusionInpaintPipeline" is not supported: its UNet is also`: {"_class_name": "StableDiffusionInpaintPipeline"},
		`its networks are`:                                                                {"_class_name": "StableDiffusionImg2ImgPipeline"},
		`it holds ONNX files; bring the folder with PyTorch's weights that they were exported from; want one of StableDiffusionPipeline`: {"_class_name": "OnnxStableDiffusionPipeline"},
		`it makes sounds`: {"_class_name": "AudioLDMPipeline"},
		`it makes videos`: {"_class_name": "TextToVideoSDPipeline"},
		`_class_name ["pipeline","OwnPipeline"] is a pipeline of its own code`: {"_class_name": pair("pipeline", "OwnPipeline")},
		`_class_name is missing or no name; want`:                              {"_class_name": 7},
		"unet is a UNetSpatioTemporalConditionModel":                           {"unet": pair("diffusers", "UNetSpatioTemporalConditionModel")},
		"vae is a VQModel, which is not supported, want":                       {"vae": pair("diffusers", "VQModel")},
		"text_encoder is a T5EncoderModel":                                     {"text_encoder": pair("transformers", "T5EncoderModel")},
		"the component text_encoder is missing":                                {"text_encoder": []any{nil, nil}},
		"the component controlnet, a ControlNetModel":                          {"controlnet": pair("diffusers", "ControlNetModel")},
		"want the pair of a library and a class":                               {"unet": []string{"diffusers"}},
		"the component x\ufffd, a \ufffd[2J, is not supported":                 {"x\a": pair("diffusers", "\x1b[2J")},
	} {
		files := maps.Clone(whole)
		maps.DeleteFunc(files, func(name string, _ *fstest.MapFile) bool { return strings.HasSuffix(name, ".safetensors") })
		changed := maps.Clone(index)
		maps.Copy(changed, change)
		text, err := json.Marshal(changed)
		if err != nil {
			t.Fatal(err)
		}
		files[pipelineFile] = &fstest.MapFile{Data: text}
		if _, err := LoadPipeline(files); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	files := maps.Clone(whole)
	files["unet/config.json"] = &fstest.MapFile{Data: []byte(strings.Replace(string(whole["unet/config.json"].Data), `"cross_attention_dim": 16`, `"cross_attention_dim": 24`, 1))}
	if _, err := LoadPipeline(files); err == nil {
		t.Error("a unet of another width than the text encoder's is not refused")
	}
	for _, name := range []string{pipelineFile, "tokenizer/vocab.json", "scheduler/scheduler_config.json", "unet/config.json"} {
		files := maps.Clone(whole)
		files[name] = &fstest.MapFile{Data: []byte("{")}
		if _, err := LoadPipeline(files); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("damaged %s: %v", name, err)
		}
	}
}

// Networks that are shown more than latents are refused by what they are shown.
func TestPipelineTakesLatentsOnly(t *testing.T) {
	p, err := LoadPipeline(os.DirFS("testdata/stable-diffusion"))
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[int]string{
		9:  "unet: takes 9 channels and gives 4: it is also shown a mask and the picture under it, to inpaint, which is not supported; use",
		8:  "it is also shown a picture that it edits",
		13: "it is also shown something",
	} {
		p.UNet.Config.InChannels = in
		if err := p.fits(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d channels: %v, want %q", in, err, want)
		}
	}
}

// Before version 0.9 diffusers' conversions wrote half the side of Stable
// Diffusion's latents; its pipeline corrects that, as this one does.
func TestPipelineSize(t *testing.T) {
	for version, want := range map[string]int{"0.6.0": stableDiffusionSize, "0.8.1": stableDiffusionSize, "0.9.0.dev0": 8, "0.10.2": 8, "1.0.0": 8} {
		files := folderFiles(t, "testdata/stable-diffusion")
		config := string(files["unet/config.json"].Data)
		at := strings.Index(config, `"_diffusers_version": "`) + len(`"_diffusers_version": "`)
		config = config[:at] + version + config[at+strings.Index(config[at:], `"`):]
		files["unet/config.json"] = &fstest.MapFile{Data: []byte(config)}
		p, err := LoadPipeline(files)
		if err != nil || p.UNet.Config.SampleSize != (SampleSize{want, want}) {
			t.Errorf("of version %s: %v, %v; want a side of %d", version, p.UNet.Config.SampleSize, err, want)
		}
	}
}
