package train

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model"
)

// tinyRecipe trains a denoiser of a few thousand numbers for four steps.
func tinyRecipe(t *testing.T, change ...string) *Recipe {
	t.Helper()
	text := strings.NewReplacer(change...).Replace(`{"name": "tiny", "task": "diffusion", "drop_each": 0.15, "drop_all": 0.1,
		"options": {"steps": 4, "batch_size": 2, "lr_warmup_steps": 1},
		"unet": {"_class_name": "UNet2DModel", "sample_size": 16, "in_channels": 3, "out_channels": 3, "block_out_channels": [4, 4],
			"layers_per_block": 1, "down_block_types": ["DownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "UpBlock2D"],
			"attention_head_dim": 4, "norm_num_groups": 2, "class_embed_type": "identity"},
		"scheduler": {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction", "clip_sample": false}}`)
	r, err := ParseRecipe([]byte(text), "tiny.json")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A session stopped and run again leaves the same model and the same steps in
// the log as one that was not, and nothing on the device.
func TestSessionResumes(t *testing.T) {
	exec := cpu.New[float32](cpu.Options{})
	weights := func(dir string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, "diffusion_pytorch_model.fp16.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	whole := &Session{Recipe: tinyRecipe(t), Dir: t.TempDir(), LogEvery: 1}
	if err := whole.Run(context.Background(), exec); err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancelCause(context.Background())
	s := &Session{Recipe: tinyRecipe(t), Dir: t.TempDir(), LogEvery: 1}
	s.Progress = func(p Progress) {
		if p.Step == 2 {
			stop(errors.New("enough"))
		}
	}
	sheets := 0
	s.Sheet = func(step int, unet *model.UNet2D) error { sheets++; return nil }
	if err := s.Run(ctx, exec); !errors.Is(err, context.Canceled) {
		t.Fatalf("a cancelled session returned %v", err)
	}
	if _, err := os.Stat(filepath.Join(s.Dir, "config.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("an unfinished model was published")
	}
	// Steps after the last checkpoint are made again: their lines go.
	log, err := os.OpenFile(filepath.Join(s.Dir, logFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.WriteString("{\"step\": 3, \"loss\": 9}\n{\"step\": 4, \"lo"); err != nil {
		t.Fatal(err)
	}
	log.Close()

	other := &Session{Recipe: tinyRecipe(t, `"drop_all": 0.1`, `"drop_all": 0.2`), Dir: s.Dir}
	if err := other.Run(context.Background(), exec); err == nil || !strings.Contains(err.Error(), "another recipe") {
		t.Errorf("resuming by another recipe gave %v", err)
	}
	for range 2 { // the second time there is nothing left to train
		if err := s.Run(context.Background(), exec); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(weights(s.Dir), weights(whole.Dir)) {
			t.Error("the resumed session ended in other weights")
		}
	}
	text, err := os.ReadFile(filepath.Join(s.Dir, logFile))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n != 4 || strings.Contains(string(text), `"loss":9`) {
		t.Errorf("the log has %d lines, want one for each of 4 steps:\n%s", n, text)
	}
	if sheets != 3 {
		t.Errorf("%d sample sheets for three checkpoints", sheets)
	}
	if u := exec.Usage(); u.Params != 0 || u.Vectors != 0 {
		t.Errorf("%d bytes of parameters and %d of vectors are still held", u.Params, u.Vectors)
	}
}

func TestOptionsRefuse(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"train: steps must be at least 1, got 0":                                            func(o *Options) { o.Steps = 0 },
		"train: batch size must lie in 1..4096, got 5000":                                   func(o *Options) { o.Batch = 5000 },
		"train: learning rate must be positive, got 0":                                      func(o *Options) { o.LR = 0 },
		"train: warm-up must be 0 steps or more, got -1":                                    func(o *Options) { o.Warmup = -1 },
		"train: betas must lie in [0, 1), got 0.9 and 1":                                    func(o *Options) { o.Beta2 = 1 },
		"train: weight decay and the highest gradient norm must be 0 or more, got -1 and 1": func(o *Options) { o.WeightDecay = -1 },
		"train: ema decay must lie in [0, 1), got 1":                                        func(o *Options) { o.EMADecay = 1 },
	} {
		o := DefaultOptions()
		change(&o)
		if err := o.Validate(); err == nil || err.Error() != want {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

func TestParseRecipeRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{"name": "x", "task": "classifier", "widhts": [8]}`:                                          `x.json: unknown key "widhts"`,
		`{"name": "x", "task": "classifier", "widths": "8"}`:                                          "x.json: widths is a string, want []int",
		`{"name": "x", "task": "classifier", "widths": [8]} {}`:                                       "x.json: something follows the JSON object",
		`{"name": "x", "task": "paint"}`:                                                              `x.json: task is "paint", want "diffusion" or "classifier"`,
		`{"task": "classifier", "widths": [8]}`:                                                       "x.json: the name is missing",
		`{"name": "x", "task": "classifier", "widths": [8], "augment": "twist"}`:                      `x.json: augment is "twist", want "guide", "judge" or nothing`,
		`{"name": "x", "task": "classifier", "widths": [9]}`:                                          "x.json: norm_num_groups 8 does not divide the width 9",
		`{"name": "x", "task": "classifier", "data": "mnist"}`:                                        `x.json: data is "mnist", want "avatars" or "fashion-mnist"`,
		`{"name": "x", "task": "classifier", "half": "first"}`:                                        `x.json: half is "first", but avatars are drawn without end and have no halves; remove it`,
		`{"name": "x", "task": "classifier", "data": "fashion-mnist", "half": "left", "widths": [8]}`: `x.json: half is "left", want "first", "second" or nothing`,
		`{"name": "x", "task": "diffusion", "drop_all": 1}`:                                           "x.json: drop_each 0 and drop_all 1 must lie in [0, 1)",
	} {
		if _, err := ParseRecipe([]byte(text), "x.json"); err == nil || err.Error() != want {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
	for _, name := range Recipes() {
		if _, err := FindRecipe(name); err != nil {
			t.Error(err)
		}
	}
}
