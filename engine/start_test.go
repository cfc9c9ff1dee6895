package engine

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/sdo"
)

// reconstructed is the peak signal-to-noise ratio in decibels of the pictures
// that recipes make of ten avatars without changing anything.
func reconstructed(t *testing.T, exec graph.Executor, overrides ...string) (mean, worst float64) {
	t.Helper()
	pictures := 10
	if testing.Short() {
		pictures = 2
	}
	worst = math.Inf(1)
	for index := range pictures {
		s := session(t, exec, glasses(t, append(overrides, "num_images=1", fmt.Sprintf("start={seed: 7, index: %d}", index))...), graph.F32)
		made, err := s.Sample(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		square := 0.0
		for i, v := range made {
			square += (v - s.inversion.image[i]) * (v - s.inversion.image[i]) / float64(len(made))
		}
		db := 10 * math.Log10(4/square) // of the range -1..1
		mean, worst = mean+db/float64(pictures), min(worst, db)
	}
	return mean, worst
}

// A run that begins from a picture and changes nothing gives it again, the
// better the more steps.
func TestInversionGivesThePictureAgain(t *testing.T) {
	exec := cpu.New[float32](cpu.Options{})
	before := 0.0
	for _, c := range []struct {
		steps int
		least float64 // decibels
	}{{5, 12}, {20, 20}, {50, 25}} {
		if c.steps > 20 && testing.Short() {
			continue
		}
		mean, worst := reconstructed(t, exec, fmt.Sprintf("sampler.num_inference_steps=%d", c.steps))
		t.Logf("%d steps: %.1f dB on average, %.1f at the worst", c.steps, mean, worst)
		if mean < c.least || mean < before {
			t.Errorf("%d steps: %.1f dB, want at least %v and more than with fewer steps", c.steps, mean, c.least)
		}
		before = mean
	}
}

// The parts of a table that are walked back and forth have the same levels, for
// every solver that passes those of DDIM.
func TestStrengthIsAShareOfTheSteps(t *testing.T) {
	m, err := LoadModel(glasses(t), OpenBuiltin)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sampler  string
		strength float64
		back     int
		calls    int
		refused  string
	}{
		{"ddim", 1, 8, 8, ""},
		{"ddim", 0.5, 4, 4, ""},
		{"ddim", 0.01, 1, 1, ""},
		{"ddpm", 0.5, 4, 4, ""},
		{"euler", 0.5, 4, 4, ""},
		{"heun", 0.5, 4, 7, ""},
		{"dpmpp-2m", 1, 8, 8, ""},
		{"dpmpp-2m", 0.5, 0, 0, "needs what the call before it remembered"},
		{"euler;sampler.use_karras_sigmas=true", 0.5, 0, 0, "euler does not pass the noise level that DDIM inversion of strength 0.5 ends at; use ddim"},
	} {
		r := glasses(t, append(strings.Split("sampler.name="+c.sampler, ";"), "sampler.num_inference_steps=8", fmt.Sprintf("start={seed: 7, index: 3, strength: %v}", c.strength))...)
		model := *m
		model.Scheduler.UseKarrasSigmas = r.Sampler.UseKarrasSigmas
		p, err := NewPlan(r, &model, nil, PlanOptions{Storage: graph.F32})
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s, strength %v: %v, want %s", c.sampler, c.strength, err, c.refused)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s, strength %v: %v", c.sampler, c.strength, err)
			continue
		}
		if p.Inversion() != c.back || p.Calls() != c.calls {
			t.Errorf("%s, strength %v: %d calls back and %d forth, want %d and %d", c.sampler, c.strength, p.Inversion(), p.Calls(), c.back, c.calls)
		}
		if got, want := p.table.StartLevel(), p.inversion.table.Steps[c.back-1].To; !close(got, want) {
			t.Errorf("%s, strength %v: begins at %v, the way back ends at %v", c.sampler, c.strength, got, want)
		}
	}
}

// Steering a picture changes it and its calls are counted, those of the
// inversion too; its latent keeps the norm it began with.
func TestSteeringAPicture(t *testing.T) {
	s := session(t, cpu.New[float32](cpu.Options{}), glasses(t, "num_images=1", "updates=3", "guards.early_stop=false",
		"sampler.num_inference_steps=10", "start={seed: 7, index: 3, strength: 0.6}"), graph.F32)
	inverted, first := 0, 0
	result, err := s.Steer(context.Background(), func(e sdo.Event) {
		switch {
		case e.Kind == sdo.EventInversion:
			inverted++
		case first == 0:
			first = e.Counters.NetworkCalls
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if inverted != 6 || first != 7 || result.NetworkCalls != 6+4*6 {
		t.Errorf("%d steps of inversion told, %d calls at the first of the run, %d in all; want 6, 7 and 30", inverted, first, result.NetworkCalls)
	}
	if !(result.BestLoss[0] < result.Losses[0][0]) {
		t.Errorf("the loss went from %v to %v", result.Losses[0], result.BestLoss)
	}
	latent, err := s.Exec.Read(context.Background(), s.start)
	if err != nil {
		t.Fatal(err)
	}
	if began := norm(latent); math.Abs(result.LatentNorms[0]-began) > 1e-3*began || math.Abs(began-math.Sqrt(768)) < 1 {
		t.Errorf("the norm is %v, began at %v, noise has %v", result.LatentNorms[0], began, math.Sqrt(768))
	}
}

func TestStartsThatAreRefused(t *testing.T) {
	m, err := LoadModel(glasses(t), OpenBuiltin)
	if err != nil {
		t.Fatal(err)
	}
	file := func(size int, alpha uint8) *fstest.MapFile {
		img := image.NewNRGBA(image.Rect(0, 0, size, size))
		for i := range size * size {
			img.SetNRGBA(i%size, i/size, color.NRGBA{200, 100, 50, alpha})
		}
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		return &fstest.MapFile{Data: b.Bytes()}
	}
	files := fstest.MapFS{"big.png": file(32, 255), "glass.png": file(16, 0), "text.png": {Data: []byte("hello")}}
	for _, c := range []struct{ want, overrides string }{
		{"picture big.png: is 32x32 pixels, the model draws 16x16", "start={image: big.png}"},
		{"picture text.png: not a PNG file", "start={image: text.png}"},
		{"picture none.png: there is no such file", "start={image: none.png}"},
		{"the picture has transparent pixels, and every pixel is needed; fill them", "start={image: glass.png}"},
		{"has neither the spectrum nor the norm of noise", "start={seed: 7};guards.whiteness=project"},
		{"has neither the spectrum nor the norm of noise", "start={seed: 7};guards.latent_norm=penalty"},
		{"timestep_spacing is linspace, whose steps do not join; use leading or trailing", "start={seed: 7};sampler.timestep_spacing=linspace"},
	} {
		r := glasses(t, strings.Split(c.overrides, ";")...)
		model := *m
		model.Scheduler.TimestepSpacing = "trailing"
		if strings.Contains(c.overrides, "linspace") {
			model.Scheduler.TimestepSpacing = "linspace"
		}
		_, err := NewPlan(r, &model, files, PlanOptions{Storage: graph.F32})
		if err == nil || !strings.HasPrefix(err.Error(), `recipe "dark-glasses": start: `) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.overrides, err, c.want)
		}
	}
	if _, err := NewAuditPlan(glasses(t, "start={seed: 7}"), m, nil, PlanOptions{Storage: graph.F32}, nil); err == nil || !strings.Contains(err.Error(), "leave start out") {
		t.Errorf("an audit of a start: %v", err)
	}
}
