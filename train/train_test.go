package train

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model"
)

// stripes is a data set small enough to learn in a test: 8x8 images, dark or
// light, with a stripe across or down.
type stripes struct{}

func (stripes) Shape() graph.Shape { return graph.Shape{1, 8, 8} }

func (stripes) Attributes() model.Attributes {
	return model.Attributes{{Name: "shade", Values: []string{"dark", "light"}}, {Name: "stripe", Values: []string{"across", "down"}}}
}

func (stripes) Example(seed, index uint64, image []float32) []int {
	random := rand.New(rand.NewPCG(seed, index))
	shade, stripe, at := random.IntN(2), random.IntN(2), random.IntN(8)
	for i := range image {
		image[i] = float32(shade) - 0.5
		if (stripe == 0 && i/8 == at) || (stripe == 1 && i%8 == at) {
			image[i] = 1
		}
	}
	return []int{shade, stripe}
}

func tinyUNet(t *testing.T) model.UNet2DConfig {
	t.Helper()
	c, err := model.ParseUNet2DConfig([]byte(`{"_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 1, "out_channels": 1,
		"block_out_channels": [8, 16], "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
		"up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "layers_per_block": 1, "norm_num_groups": 4,
		"attention_head_dim": 8, "class_embed_type": "identity"}`))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tinyDiffusion(t *testing.T) Diffusion {
	alphaBar := make([]float64, 100)
	for i := range alphaBar {
		alphaBar[i] = 1 - float64(i+1)/101
	}
	return Diffusion{UNet: tinyUNet(t), Data: stripes{}, AlphaBar: alphaBar, DropEach: 0.15, DropAll: 0.1}
}

func tinyOptions(steps int) Options {
	o := DefaultOptions()
	o.Steps, o.Batch, o.Warmup, o.LR, o.EMADecay = steps, 8, 5, 4e-3, 0.9
	return o
}

func trainer(t *testing.T, task Task, o Options) *Trainer {
	t.Helper()
	tr, err := NewTrainer(cpu.New[float32](cpu.Options{}), task, o)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestDiffusionLearns(t *testing.T) {
	tr := trainer(t, tinyDiffusion(t), tinyOptions(120))
	var first, last float64
	err := tr.Run(context.Background(), func(p Progress) error {
		if p.Step <= 10 {
			first += p.Loss / 10
		}
		if p.Step > 110 {
			last += p.Loss / 10
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if last > 0.6*first {
		t.Errorf("loss went from %.3f to %.3f in 120 steps, want less than 0.6 of it", first, last)
	}
}

func TestClassifierLearns(t *testing.T) {
	task := Classifier{Config: model.NewClassifierConfig(8, []int{8, 16}, stripes{}.Attributes()), Data: stripes{}, Test: stripes{}}
	task.Config.InChannels = 1
	o := tinyOptions(150)
	tr := trainer(t, task, o)
	if err := tr.Run(context.Background(), func(Progress) error { return nil }); err != nil {
		t.Fatal(err)
	}
	weights, err := tr.Weights(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	exec := cpu.New[float32](cpu.Options{})
	accuracy, err := task.Accuracy(context.Background(), exec, weights, 99, 4, 32)
	if err != nil {
		t.Fatal(err)
	}
	if u := exec.Usage(); u.Params != 0 || u.Vectors != 0 {
		t.Errorf("%d bytes of parameters and %d of vectors are still held", u.Params, u.Vectors)
	}
	for a, share := range accuracy {
		if share < 0.9 {
			t.Errorf("%s is read right in %.2f of held-out images, want 0.9", stripes{}.Attributes()[a].Name, share)
		}
	}
}

// A run that is stopped at any step and resumed ends in the same bytes as one
// that was not.
func TestResumeIsExact(t *testing.T) {
	ctx := context.Background()
	final := func(t *testing.T, stopAt int) []byte {
		path := filepath.Join(t.TempDir(), "checkpoint.safetensors")
		tr := trainer(t, tinyDiffusion(t), tinyOptions(9))
		interrupted, cancel := context.WithCancel(ctx)
		defer cancel()
		err := tr.Run(interrupted, func(p Progress) error {
			if p.Step == stopAt {
				cancel()
			}
			return nil
		})
		if stopAt < 9 {
			if err != context.Canceled {
				t.Fatalf("a cancelled run returned %v", err)
			}
			if err := tr.Save(ctx, path); err != nil {
				t.Fatal(err)
			}
			tr = trainer(t, tinyDiffusion(t), tinyOptions(9))
			if err := tr.Load(ctx, path); err != nil {
				t.Fatal(err)
			}
			if tr.Step() != stopAt {
				t.Fatalf("resumed at step %d, want %d", tr.Step(), stopAt)
			}
			err = tr.Run(ctx, func(Progress) error { return nil })
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.Save(ctx, path); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	want := final(t, 9)
	for _, stopAt := range []int{1, 6} {
		if !bytes.Equal(final(t, stopAt), want) {
			t.Errorf("stopped at step %d and resumed, the checkpoint differs from the uninterrupted run's", stopAt)
		}
	}
}

func TestResumeRefusesOtherOptions(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "checkpoint.safetensors")
	if err := trainer(t, tinyDiffusion(t), tinyOptions(9)).Save(ctx, path); err != nil {
		t.Fatal(err)
	}
	other := tinyOptions(9)
	other.LR *= 2
	err := trainer(t, tinyDiffusion(t), other).Load(ctx, path)
	if err == nil || !strings.Contains(err.Error(), "other options") {
		t.Errorf("got %v, want a sentence about other options", err)
	}
	if err := os.Truncate(path, 500); err != nil {
		t.Fatal(err)
	}
	if err := trainer(t, tinyDiffusion(t), tinyOptions(9)).Load(ctx, path); err == nil {
		t.Error("a truncated checkpoint was accepted")
	}
}

func TestFillHidesAttributesAtTheirRate(t *testing.T) {
	d := tinyDiffusion(t)
	inputs := map[string][]float64{"labels": make([]float64, 2*64), "timestep": make([]float64, 64),
		"noisy": make([]float64, 64*64), "target": make([]float64, 64*64)}
	hidden, both, total := 0, 0, 0
	for step := range 50 {
		d.Fill(1, step, 64, inputs)
		for b := range 64 {
			first, second := inputs["labels"][b] == 2, inputs["labels"][64+b] == 2
			if first {
				hidden++
			}
			if first && second {
				both++
			}
			total++
		}
	}
	// P(hidden) = 0.1 + 0.9*0.15; P(both) = 0.1 + 0.9*0.15^2.
	if rate := float64(hidden) / float64(total); rate < 0.21 || rate > 0.26 {
		t.Errorf("an attribute is hidden with rate %.3f, want 0.235", rate)
	}
	if rate := float64(both) / float64(total); rate < 0.10 || rate > 0.14 {
		t.Errorf("both are hidden with rate %.3f, want 0.120", rate)
	}
}

// The network's input and target determine the image, a*noisy - s*target, and
// the noise, s*noisy + a*target: the definition of the velocity.
func TestFillMakesVelocities(t *testing.T) {
	d := tinyDiffusion(t)
	const batch, pixels = 32, 64
	inputs := map[string][]float64{"labels": make([]float64, 2*batch), "timestep": make([]float64, batch),
		"noisy": make([]float64, batch*pixels), "target": make([]float64, batch*pixels)}
	d.Fill(1, 3, batch, inputs)
	mean, square := 0.0, 0.0
	image := make([]float32, pixels)
	for b := range batch {
		d.Data.Example(1, uint64(3*batch+b), image)
		alphaBar := d.AlphaBar[int(inputs["timestep"][b])]
		signal, sigma := math.Sqrt(alphaBar), math.Sqrt(1-alphaBar)
		for i, want := range image {
			noisy, target := inputs["noisy"][b*pixels+i], inputs["target"][b*pixels+i]
			if got := signal*noisy - sigma*target; math.Abs(got-float64(want)) > 1e-9 {
				t.Fatalf("image %d, pixel %d: input and target say %v, drawn was %v", b, i, got, want)
			}
			noise := sigma*noisy + signal*target
			mean += noise / (batch * pixels)
			square += noise * noise / (batch * pixels)
		}
	}
	if math.Abs(mean) > 0.1 || math.Abs(square-1) > 0.1 {
		t.Errorf("the noise has mean %.3f and mean square %.3f, want 0 and 1", mean, square)
	}
}
