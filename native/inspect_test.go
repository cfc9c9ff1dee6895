package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/model"
)

// testdata are the models that PyTorch's libraries wrote.
const testdata = "../model/testdata"

func inspected(t *testing.T, args ...string) *inspection {
	t.Helper()
	code, stdout, stderr := invoke(t, append([]string{"model", "inspect", "--json", "--device", "cpu"}, args...)...)
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	i := &inspection{}
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(i); err != nil {
		t.Fatal(err)
	}
	return i
}

func TestInspectOfAPipeline(t *testing.T) {
	i := inspected(t, filepath.Join(testdata, "stable-diffusion"), "--num-images", "3")
	if i.Class != "StableDiffusionPipeline" || i.Images != 3 || len(i.Tensors) != 0 || i.Stored != "F16" || !slices.Equal(i.Input, []int{4, 8, 8}) || i.TapeBytes == 0 || i.ScratchBytes == 0 {
		t.Errorf("%+v", i)
	}
	sum := 0
	for _, want := range []component{
		{Name: "scheduler", Class: "PNDMScheduler", What: "1000 timesteps, scaled_linear 0.00085 to 0.012, predicts "},
		{Name: "text_encoder", Class: "CLIPTextModel", What: "2 layers of 16, 77 tokens of 754 words, quick_gelu", File: "text_encoder/model.safetensors", Stored: "F16"},
		{Name: "tokenizer", Class: "CLIPTokenizer", What: "754 words"},
		{Name: "unet", Class: "UNet2DConditionModel", What: "latents 4 x 8 x 8, channels 8 16, prompts of 16", File: "unet/diffusion_pytorch_model.safetensors", Stored: "F16"},
		{Name: "vae", Class: "AutoencoderKL", What: "4 x 4 pixels to 4 numbers, channels 8 8 16, scale 0.18215", File: "vae/diffusion_pytorch_model.safetensors", Stored: "F16"},
	} {
		at := slices.IndexFunc(i.Components, func(c *component) bool { return c.Name == want.Name })
		if at < 0 {
			t.Errorf("no component %s", want.Name)
			continue
		}
		got := *i.Components[at]
		if got.Class != want.Class || !strings.HasPrefix(got.What, want.What) || got.File != want.File || got.Stored != want.Stored || got.Fault != "" {
			t.Errorf("%s is %+v, want %+v", want.Name, got, want)
		}
		if want.File != "" {
			stat, err := os.Stat(filepath.Join(testdata, "stable-diffusion", want.File))
			// Two bytes a number, and the header.
			if err != nil || got.Bytes != 2*int64(got.Parameters) || got.Bytes > stat.Size() || got.Bytes < stat.Size()*3/4 {
				t.Errorf("%s: %d parameters in %d bytes, the file has %d: %v", want.Name, got.Parameters, got.Bytes, stat.Size(), err)
			}
		}
		sum += got.Parameters
	}
	if sum != i.Parameters || len(i.Components) != 5 {
		t.Errorf("%d parameters, the sum is %d; %d components", i.Parameters, sum, len(i.Components))
	}
	code, stdout, stderr := invoke(t, "model", "inspect", filepath.Join(testdata, "stable-diffusion"))
	for _, want := range []string{"StableDiffusionPipeline\n", "unet          UNet2DConditionModel  52004 ", "  unet reads unet/diffusion_pytorch_model.safetensors\n"} {
		if code != exitOK || !strings.Contains(stdout, want) {
			t.Errorf("exit code %d, %q lacks %q; standard error %q", code, stdout, want, stderr)
		}
	}
}

func TestInspectOfOneNetwork(t *testing.T) {
	for folder, want := range map[string]string{
		"clip":                 "2 layers of 16, 77 tokens of 754 words, quick_gelu, projected to 12; 2 layers of 16, pictures of 24 in patches of 8, quick_gelu, projected to 12",
		"taesd":                "4 x 4 pixels to 4 numbers, channels 8 8 8",
		"unet2d-no-middle":     "pixels 3 x 4 x 4, channels 4 8",
		"unet2d-condition-lcm": "told the guidance scale",
	} {
		i := inspected(t, filepath.Join(testdata, folder))
		if c := i.Components[0]; !strings.Contains(c.What, want) || c.Fault != "" || c.Parameters == 0 || c.Parameters != i.Parameters || i.Class != c.Class {
			t.Errorf("%s: %+v, want %q", folder, c, want)
		}
	}
	// A pipeline without model_index.json, in its folders.
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "unet"), os.DirFS(filepath.Join(testdata, "unet2d-scale-shift"))); err != nil {
		t.Fatal(err)
	}
	if i := inspected(t, dir); len(i.Components) != 1 || i.Components[0].Name != "unet" || i.Components[0].Class != "UNet2DModel" {
		t.Errorf("%+v", i)
	}
}

// What cannot be used is told beside what can, and ends with the reason.
func TestInspectOfFaults(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		unet  string // what its row says
		want  string // the sentence at the end
	}{
		{"key of a later model", func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "unet"), "config.json", func(b []byte) []byte {
				return bytes.Replace(b, []byte(`"addition_embed_type": null`), []byte(`"addition_embed_type": "text_time"`), 1)
			})
		}, "cannot be used, see below", "addition_embed_type"},
		{"class", func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "unet"), "config.json", func(b []byte) []byte {
				return bytes.Replace(b, []byte("UNet2DConditionModel"), []byte("FluxTransformer2DModel"), 1)
			})
		}, "cannot be used, see below", `unet: unet/config.json: class "FluxTransformer2DModel" is not supported`},
		{"pipeline", func(t *testing.T, dir string) {
			edit(t, dir, "model_index.json", func(b []byte) []byte {
				return bytes.Replace(b, []byte("StableDiffusionPipeline"), []byte("StableDiffusionXLPipeline"), 1)
			})
		}, "latents 4 x 8 x 8", "Stable Diffusion XL is not supported yet"},
		{"parts of several models", func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "tokenizer"), "tokenizer_config.json", func(b []byte) []byte {
				return regexp.MustCompile(`"model_max_length": \d+`).ReplaceAll(b, []byte(`"model_max_length": 78`))
			})
		}, "latents 4 x 8 x 8", "the text encoder has room for 77"},
		{"missing weights", func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, "unet"), "diffusion_pytorch_model.safetensors")
		}, "prompts of 16; cannot be used, see below", "unet/diffusion_pytorch_model.safetensors: the file is missing"},
		{"missing component", func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "vae")); err != nil {
				t.Fatal(err)
			}
		}, "latents 4 x 8 x 8", "vae: vae/config.json: the file is missing"},
		{"cut weights", func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "vae"), "diffusion_pytorch_model.safetensors", func(b []byte) []byte { return b[:len(b)-7] })
		}, "latents 4 x 8 x 8", "vae/diffusion_pytorch_model.safetensors"},
		{"scheduler", func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "scheduler"), "scheduler_config.json", func(b []byte) []byte {
				return bytes.Replace(b, []byte("scaled_linear"), []byte("hopeful"), 1)
			})
		}, "latents 4 x 8 x 8", "scheduler: scheduler/scheduler_config.json"},
		{"tokenizer", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "tokenizer"), "vocab.json") }, "latents 4 x 8 x 8", "tokenizer: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "sd")
			if err := os.CopyFS(dir, os.DirFS(filepath.Join(testdata, "stable-diffusion"))); err != nil {
				t.Fatal(err)
			}
			tt.spoil(t, dir)
			code, stdout, stderr := invoke(t, "model", "inspect", dir)
			row := ""
			for line := range strings.Lines(stdout) {
				if strings.HasPrefix(line, "  unet ") && row == "" {
					row = line
				}
			}
			if code != exitUsage || !strings.Contains(stderr, tt.want) || !strings.Contains(row, tt.unet) || strings.Count(strings.TrimSpace(stderr), "\n") > 0 {
				t.Errorf("exit code %d, standard error %q, want %q; row %q, want %q", code, stderr, tt.want, row, tt.unet)
			}
		})
	}
	// A folder without any weights is told by its configs, and everything that is
	// missing is listed.
	bare := filepath.Join(t.TempDir(), "sd")
	if err := os.CopyFS(bare, os.DirFS(filepath.Join(testdata, "stable-diffusion"))); err != nil {
		t.Fatal(err)
	}
	for part, file := range map[string]string{"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"} {
		remove(t, filepath.Join(bare, part), file+".safetensors")
	}
	code, stdout, stderr := invoke(t, "model", "inspect", bare)
	for _, want := range []string{"prompts of 16; cannot", "pixels to 4 numbers", "  unet cannot be used: unet/diffusion_pytorch_model.safetensors: the file is missing", "  vae cannot be used: vae/diffusion_pytorch_model.safetensors: the file is missing"} {
		if code != exitUsage || !strings.Contains(stdout, want) || !strings.Contains(stderr, "text_encoder/model.safetensors: the file is missing") || strings.Contains(stdout, "text_encoder/model.safetensors: ") {
			t.Errorf("exit code %d, %s%s, want %q", code, stdout, stderr, want)
		}
	}
	// A list of nothing, as of modular pipelines, and a class that is a file's and a
	// name are refused by the class.
	for index, want := range map[string]string{
		`{"_class_name": "SomeModularPipeline", "_blocks_class_name": "SomeBlocks"}`:                  `_class_name "SomeModularPipeline" is not supported`,
		`{"_class_name": ["pipeline", "OwnPipeline"], "unet": ["diffusers", "UNet2DConditionModel"]}`: `_class_name ["pipeline","OwnPipeline"] is a pipeline of its own code`,
	} {
		edit(t, bare, "model_index.json", func([]byte) []byte { return []byte(index) })
		if code, stdout, stderr := invoke(t, "model", "inspect", bare); code != exitUsage || !strings.Contains(stderr, want) || strings.Contains(stdout, "_class_name") {
			t.Errorf("exit code %d, %s%s, want %q", code, stdout, stderr, want)
		}
	}
	// What nothing reads may be missing or of any kind.
	dir := filepath.Join(t.TempDir(), "sd")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(testdata, "stable-diffusion"))); err != nil {
		t.Fatal(err)
	}
	edit(t, dir, "model_index.json", func(b []byte) []byte {
		var index map[string]any
		if err := json.Unmarshal(b, &index); err != nil {
			t.Fatal(err)
		}
		index["safety_checker"] = []string{"stable_diffusion", "StableDiffusionSafetyChecker"}
		index["image_encoder"] = []any{nil, nil}
		b, _ = json.Marshal(index)
		return b
	})
	if i := inspected(t, dir); len(i.Components) != 6 || !i.Components[0].Unused {
		t.Errorf("%+v", i.Components)
	}
	if code, _, stderr := invoke(t, "model", "inspect", t.TempDir()); code != exitUsage || !strings.Contains(stderr, "config.json: the file is missing") {
		t.Errorf("an empty folder: exit code %d, %s", code, stderr)
	}
}

func TestInspectOfFiles(t *testing.T) {
	head := filepath.Join(t.TempDir(), "head.safetensors")
	if err := model.SaveSafetensors(head, model.Init([]model.Param{{Name: "layers.0.weight", Shape: []int{5, 12}}, {Name: "layers.0.bias", Shape: []int{5}},
		{Name: "layers.1.weight", Shape: []int{1, 5}}, {Name: "layers.1.bias", Shape: []int{1}}}, 1), model.F32, nil); err != nil {
		t.Fatal(err)
	}
	word := filepath.Join(t.TempDir(), "learned_embeds.safetensors")
	if err := model.SaveSafetensors(word, model.Weights{"<cat-toy>": {Shape: []int{4}, Data: make([]float32, 4)}}, model.F32, nil); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ path, class, what string }{
		{word, "weights", "an adapter that is not supported, of textual inversion, the embedding of a new word"},
		{head, "AestheticHead", "12 to 5 to 1"},
		{filepath.Join(testdata, "aesthetic", "relu.pth"), "AestheticHead", "4 to 1, ReLUs in between"},
		{filepath.Join(testdata, "torch", "state_dict.pth"), "weights", "no adapter"},
	} {
		i := inspected(t, tt.path, "--tensors")
		if i.Class != tt.class || !strings.Contains(i.Components[0].What, tt.what) || len(i.Tensors) == 0 || i.Parameters == 0 {
			t.Errorf("%s: %+v, %+v", tt.path, i, i.Components[0])
		}
	}
	if code, stdout, stderr := invoke(t, "model", "inspect", filepath.Join(testdata, "unet2d-condition-sd1", "lora")); code != exitOK || !strings.Contains(stdout, "LoRA under PEFT's names") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	for path, want := range map[string]string{
		filepath.Join(testdata, "torch", "script.pt"): "TorchScript archive",
		"inspect_test.go": "inspect_test.go: ",
	} {
		if code, _, stderr := invoke(t, "model", "inspect", path); code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d: %s", path, code, stderr)
		}
	}
}

// Names in a stranger's file are shown and not obeyed, and a model in one file is
// told from an adapter.
func TestInspectOfHostileNames(t *testing.T) {
	dir := t.TempDir()
	for file, names := range map[string][]string{
		"lora.safetensors":  {"unet.\x1b]0;x\a.lora_A.weight", "unet.\x1b]0;x\a.lora_B.weight"},
		"whole.safetensors": {"model.diffusion_model.\x1b[2J.weight"},
	} {
		weights := model.Weights{}
		for _, name := range names {
			weights[name] = model.Tensor{Shape: []int{1, 1}, Data: []float32{1}}
		}
		name := filepath.Join(dir, file)
		if err := model.SaveSafetensors(name, weights, model.F32, nil); err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := invoke(t, "model", "inspect", name, "--tensors")
		if want := map[string]string{"lora.safetensors": "\ufffd]0;x\ufffd", "whole.safetensors": "a whole model in one file"}[file]; !strings.Contains(stdout, want) || strings.ContainsAny(stdout+stderr, "\x1b\a") {
			t.Errorf("%s: exit code %d, want %q: %q%q", file, code, want, stdout, stderr)
		}
	}
	if code, _, stderr := invoke(t, "sample", "--model", filepath.Join(dir, "whole.safetensors")); code != exitUsage || !strings.Contains(stderr, "from_single_file") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestInspectOptions(t *testing.T) {
	for _, tt := range []struct{ flag, value, want string }{
		{"--num-images", "0", "--num-images is 0, want 1 to 256"},
		{"--height", "-8", "--height is -8, want 1 to 4096"},
		{"--width", "5000", "--width is 5000, want 1 to 4096"},
		{"--memory-budget", "much", `--memory-budget: "much" is no size`},
	} {
		if code, _, stderr := invoke(t, "model", "inspect", "avatars-16-s", tt.flag, tt.value); code != exitUsage || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s %s: exit code %d, %s", tt.flag, tt.value, code, stderr)
		}
	}
}

// Statistics are those of the plain loop, whatever the chunks.
func TestStatistics(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		size         int
		scale, shift float64
	}{{1, 3, 5}, {2, 1, 0}, {chunk, 1, 0}, {chunk + 1, 2, -3}, {2*chunk + 777, 1e-3, 1e4}, {1000, 0, 4}} {
		data := make([]float32, c.size)
		for i := range data {
			data[i] = float32(c.shift + c.scale*random.NormFloat64())
		}
		s := tensorStats{}
		if err := s.reduce(data); err != nil {
			t.Fatal(err)
		}
		mean, square := 0.0, 0.0
		low, high := data[0], data[0]
		for _, v := range data {
			mean += float64(v) / float64(c.size)
			low, high = min(low, v), max(high, v)
		}
		for _, v := range data {
			square += (float64(v) - mean) * (float64(v) - mean) / float64(c.size)
		}
		near := func(a, b, size float64) bool { return math.Abs(a-b) <= 1e-12*size+1e-9*math.Abs(b) }
		if !near(s.Mean, mean, math.Abs(mean)) || !near(s.Std, math.Sqrt(square), math.Abs(mean)) || s.Min != float64(low) || s.Max != float64(high) {
			t.Errorf("%+v: %+v, want mean %g, std %g, from %g to %g", c, s, mean, math.Sqrt(square), low, high)
		}
	}
	bad := tensorStats{}
	if err := bad.reduce([]float32{1, float32(math.NaN()), float32(math.Inf(-1))}); err != nil || bad.Bad != 2 || bad.Max != 0 {
		t.Errorf("%+v, %v", bad, err)
	}
	if empty := (tensorStats{}); empty.reduce(nil) != nil || empty.Min != 0 {
		t.Errorf("%+v", empty)
	}
}

// Memory is that of the plans that run, within the budget or not at all.
func TestInspectOfMemory(t *testing.T) {
	folder := filepath.Join(testdata, "stable-diffusion")
	runs := func(args ...string) (all map[string]runMemory, m *memory) {
		t.Helper()
		m = inspected(t, append([]string{folder}, args...)...).Memory
		all = map[string]runMemory{}
		for _, r := range m.Runs {
			all[r.Run] = r
		}
		return all, m
	}
	free, m := runs()
	if m.Height != 32 || m.Width != 32 || m.GuidanceScale != 7.5 || m.Images != 1 || m.BudgetBytes != 0 || len(m.Runs) != 5 || m.Decoder != "AutoencoderKL" || m.Device == "" || m.Why != "as asked for" {
		t.Errorf("%+v", m)
	}
	for name, r := range free {
		if r.Fault != "" || r.TotalBytes != r.Total() || r.Params == 0 || r.Activations == 0 || r.States == 0 || len(r.Recomputed) != 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if !(free["sample"].TotalBytes < free["steer_latents"].TotalBytes && free["steer_latents"].TotalBytes <= free["steer"].TotalBytes && free["steer_latents"].TotalBytes < free["tune"].TotalBytes) { // the tuning looks at latents
		t.Errorf("%+v", free)
	}
	large, m := runs("--width", "64", "--height", "48", "--num-images", "3", "--guidance-scale", "1")
	if m.Height != 48 || m.Width != 64 || m.GuidanceScale != 1 {
		t.Errorf("%+v", m)
	}
	for name, r := range large {
		if r.Activations <= free[name].Activations {
			t.Errorf("%s: %d bytes of activations, and %d of a larger picture", name, free[name].Activations, r.Activations)
		}
	}
	budget := free["tune"].TotalBytes - 1
	tight, _ := runs("--memory-budget", fmt.Sprintf("%dB", budget))
	if r := tight["tune"]; r.TotalBytes > budget || r.TotalBytes == 0 || len(r.Recomputed) == 0 {
		t.Errorf("within %d bytes: %+v", budget, r)
	}
	if r := tight["sample"]; r.TotalBytes != free["sample"].TotalBytes {
		t.Errorf("what fits changes: %+v", r)
	}
	for name, r := range func() map[string]runMemory { r, _ := runs("--memory-budget", "9KB"); return r }() {
		if !strings.Contains(r.Fault, "the memory budget is") || r.TotalBytes <= 9000 || r.TotalBytes != r.Total() || r.TotalBytes > free[name].TotalBytes {
			t.Errorf("%s within 9 KB: %+v", name, r)
		}
	}
	// One network of pixels has three kinds of runs, a decoder none.
	m = inspected(t, "avatars-16-s").Memory
	if len(m.Runs) != 3 || m.GuidanceScale != 1 || m.Runs[1].Run != "steer" || m.Decoder != "" {
		t.Errorf("%+v", m)
	}
	if m := inspected(t, filepath.Join(testdata, "taesd")).Memory; m != nil {
		t.Errorf("%+v", m)
	}
}

// What inspecting counts is what a run says that it needs, to the last digit,
// before it allocates anything.
func TestInspectCountsWhatRunsSay(t *testing.T) {
	folder, taesd := filepath.Join(testdata, "stable-diffusion"), filepath.Join(testdata, "taesd")
	for _, common := range [][]string{
		{"--model", folder, "--prompt", "a red fox", "--height", "24", "--width", "40"},
		{"--model", folder, "--prompt", "a red fox", "--decoder", taesd, "--memory-budget", "800KiB"},
		{"--model", "avatars-16-s", "--num-images", "4", "--memory-budget", "4MiB"},
	} {
		var asked []string
		for at := 0; at < len(common); at += 2 {
			if name := common[at]; name != "--model" && name != "--prompt" {
				asked = append(asked, name, common[at+1])
			}
		}
		m := inspected(t, append([]string{common[1]}, asked...)...).Memory
		for _, counted := range m.Runs {
			args, space := []string{"steer", "--updates", "1"}, ""
			if counted.Run == "steer_latents" || counted.Run == "tune" && m.Decoder != "" {
				space = ", space: latents"
			}
			switch objective := "{term: total_variation" + space + "}"; counted.Run {
			case "sample":
				args = []string{"sample"}
			case "tune", "tune_pictures":
				args = []string{"tune", "--updates", "1", "--objective", objective, "--set", fmt.Sprintf("tune.batch_size=%d", m.Images), "--set", "tune.eval_images=1"}
			default:
				args = append(args, "--objective", objective)
			}
			for at := 0; at < len(common); at += 2 {
				if args[0] != "tune" || common[at] != "--num-images" {
					args = append(args, common[at:at+2]...)
				}
			}
			code, _, stderr := invoke(t, append(args, "--device", "cpu", "--out", t.TempDir())...)
			want := fmt.Sprintf("; needs %s: %s weights, %s activations, %s states\n", engine.Bytes(counted.TotalBytes), engine.Bytes(counted.Params), engine.Bytes(counted.Activations), engine.Bytes(counted.States))
			bare := want
			if counted.Fault != "" { // which a run may find before it has a device
				want, bare = fmt.Sprintf("needs at least %s (", engine.Bytes(counted.TotalBytes)), "and what a device's kernels work with, and the memory budget is"
			}
			if (code != exitOK) != (counted.Fault != "") || !strings.Contains(stderr, want) && !strings.Contains(stderr, bare) {
				t.Errorf("%v: inspecting counts %q (%s)\n%s", args, want, counted.Fault, stderr)
			}
		}
	}
}

// What the flags ask for and the model does not have is the user's to mend.
func TestInspectRefusesWhatTheModelDoesNotHave(t *testing.T) {
	folder := filepath.Join(testdata, "stable-diffusion")
	for _, tt := range []struct{ model, flag, value, want string }{
		{folder, "--height", "33", "sdo: height: 33, want a multiple of 4"},
		{folder, "--decoder", "nowhere", `sdo: decoder "nowhere" does not exist`},
		{"avatars-16-s", "--decoder", filepath.Join(testdata, "taesd"), "sdo: decoder: model avatars-16-s makes pixels"},
		{"avatars-16-s", "--width", "32", "sdo: height and width: model avatars-16-s makes pictures of 16x16"},
	} {
		if code, _, stderr := invoke(t, "model", "inspect", tt.model, tt.flag, tt.value, "--device", "cpu"); code != exitUsage || !strings.HasPrefix(stderr, tt.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s %s: exit code %d, %q", tt.flag, tt.value, code, stderr)
		}
	}
}

// Every model that PyTorch's libraries wrote for the tests is told, in columns and
// as JSON, and what no run is made of says why in words of the model.
func TestInspectOfEveryFixture(t *testing.T) {
	configs, err := filepath.Glob(filepath.Join(testdata, "*", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, config := range configs {
		folder := filepath.Dir(config)
		if name := filepath.Base(config); seen[folder] || name != "config.json" && name != "model_index.json" {
			continue
		}
		seen[folder] = true
		code, stdout, stderr := invoke(t, "model", "inspect", folder+"/", "--device", "cpu", "--memory-budget", "64MiB")
		if filepath.Base(folder) == "clip-model" { // it lacks preprocessor_config.json, whose defaults are of other pictures
			if code != exitUsage || !strings.Contains(stderr, "preprocessor_config.json") {
				t.Errorf("%s: exit code %d: %s", folder, code, stderr)
			}
			continue
		}
		if code != exitOK || stderr != "" || !strings.HasPrefix(stdout, folder+", ") {
			t.Errorf("%s: exit code %d: %s%s", folder, code, stderr, stdout)
		}
		for _, odd := range []string{"unknown key", "%!", "  \n", " 1 layers", "<nil>"} {
			if strings.Contains(stdout, odd) {
				t.Errorf("%s: %q in\n%s", folder, odd, stdout)
			}
		}
		i := inspected(t, folder, "--memory-budget", "64MiB")
		if (i.Memory == nil) == slices.ContainsFunc(i.Components, func(c *component) bool { return strings.HasPrefix(c.Class, "UNet2D") }) {
			t.Errorf("%s: memory %+v", folder, i.Memory)
		}
		checkColumns(t, folder, stdout, "  component")
		if strings.Contains(stdout, "\n  run ") {
			checkColumns(t, folder, stdout, "  run ")
		}
	}
	if len(seen) < 20 {
		t.Errorf("%d models are there", len(seen))
	}
}

// checkColumns looks at the table whose first line begins so: nothing reaches from
// one column into the next.
func checkColumns(t *testing.T, what, text, begins string) {
	t.Helper()
	_, table, ok := strings.Cut(text, "\n"+begins)
	if !ok {
		t.Errorf("%s: no table begins with %q", what, begins)
		return
	}
	table, _, _ = strings.Cut(begins+table, "\n\n")
	lines := strings.Split(strings.TrimRight(table, "\n"), "\n")
	for _, at := range regexp.MustCompile(`  (\S)`).FindAllStringSubmatchIndex(lines[0], -1) {
		for _, line := range lines[1:] {
			if strings.HasPrefix(line, "  before the rest") || strings.Contains(line, " reads ") {
				break // the table is over
			}
			if column := at[2]; column < len(line) && line[column-1] != ' ' {
				t.Errorf("%s: column %d of\n%s", what, column, table)
			}
		}
	}
}

// A folder in shards is told as one component; a file that is cut short by its
// name.
func TestInspectOfShardsAndBrokenFiles(t *testing.T) {
	whole := filepath.Join(testdata, "unet2d-no-middle")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
		t.Fatal(err)
	}
	weights, _, err := model.LoadSafetensors(os.DirFS(whole), "diffusion_pytorch_model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	remove(t, dir, "diffusion_pytorch_model.safetensors")
	shards, places := []model.Weights{{}, {}}, map[string]string{}
	for i, name := range weights.Names() {
		shards[i%2][name] = weights[name]
		places[name] = fmt.Sprintf("diffusion_pytorch_model-0000%d-of-00002.safetensors", i%2+1)
	}
	for i, shard := range shards {
		if err := model.SaveSafetensors(filepath.Join(dir, fmt.Sprintf("diffusion_pytorch_model-0000%d-of-00002.safetensors", i+1)), shard, model.F32, nil); err != nil {
			t.Fatal(err)
		}
	}
	index, err := json.Marshal(map[string]any{"metadata": map[string]any{}, "weight_map": places})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "diffusion_pytorch_model.safetensors.index.json"), index, 0o600); err != nil {
		t.Fatal(err)
	}
	one, several := inspected(t, whole), inspected(t, dir)
	if several.Parameters != one.Parameters || several.Components[0].Bytes != one.Components[0].Bytes || several.Components[0].File != "diffusion_pytorch_model.safetensors.index.json" {
		t.Errorf("in shards it is %+v, whole %+v", several.Components[0], one.Components[0])
	}
	if several.Memory.Runs[1].TotalBytes != one.Memory.Runs[1].TotalBytes {
		t.Errorf("runs take %+v, whole %+v", several.Memory, one.Memory)
	}
	edit(t, dir, "diffusion_pytorch_model-00002-of-00002.safetensors", func(b []byte) []byte { return b[:len(b)-4] })
	if code, _, stderr := invoke(t, "model", "inspect", dir); code != exitUsage || !strings.Contains(stderr, "diffusion_pytorch_model-00002-of-00002.safetensors") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("a shard cut short: exit code %d: %s", code, stderr)
	}
}
