package engine

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"slices"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sampler"
	"github.com/sdo-go/sdo/sdo"
	"github.com/sdo-go/sdo/train/avatars"
)

// inversion is how a run begins from a picture.
type inversion struct {
	table *sampler.Table // from the picture back into noise
	image []float64      // [C H W] as the network samples: in [-1, 1], or a latent once it is encoded
}

// Inversion is how many steps lead from the picture a recipe begins with to the
// latent of the run: the network calls made before the first sample, guidance
// aside. 0 for a run from noise.
func (p *Plan) Inversion() int {
	if p.inversion == nil {
		return 0
	}
	return len(p.inversion.table.Steps)
}

// beginFromPicture plans the way back and leaves of the sampler what remains to
// be walked: it begins where DDIM inversion ends.
func (p *Plan) beginFromPicture(files fs.FS) error {
	start, n := p.Recipe.Start, p.Recipe.Sampler.NumInferenceSteps
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("recipe %q: start: "+format, append([]any{p.Recipe.Name}, args...)...)
	}
	if guards := p.Recipe.Guards; guards.Whiteness == "project" || guards.LatentNorm == "penalty" {
		return refuse("what a picture is made of has neither the spectrum nor the norm of noise; set guards.whiteness to none and guards.latent_norm to project, which holds the norm it begins with")
	}
	image, err := startImage(start.Source, p.Pictures(), files)
	if err != nil {
		return refuse("%w", err)
	}
	inverse, err := sampler.Invert(p.Model.Scheduler, n)
	if err != nil {
		return refuse("%w", err)
	}
	calls := max(1, int(math.Round(start.Strength*float64(n))))
	table := *inverse
	table.Steps = table.Steps[:calls]
	end := table.Steps[calls-1]
	why := fmt.Errorf("%s does not pass the noise level that DDIM inversion of strength %v ends at; use ddim", p.Recipe.Sampler.Name, start.Strength)
	for k, step := range p.table.Steps {
		if step.Timestep != end.Timestep || !close(step.At, end.To) {
			continue
		}
		var tail *sampler.Table
		if tail, why = p.table.From(k); why == nil { // of Heun's calls at a level, the first
			p.table, p.inversion = tail, &inversion{&table, image}
			if p.decoding == nil {
				return nil
			}
			return p.planEncoding(image, func(latent []float64) { p.inversion.image = latent })
		}
	}
	return refuse("%w", why)
}

// close reports whether two levels are the same but for rounding.
func close(a, b sampler.Level) bool {
	return math.Abs(a.Signal-b.Signal)+math.Abs(a.Noise-b.Noise) < 1e-9
}

// startImage is the picture a run begins from, [C H W] in [-1, 1].
func startImage(source recipes.Source, shape graph.Shape, files fs.FS) ([]float64, error) {
	channels, height, width := shape[1], shape[2], shape[3]
	rgb, mask, err := picture(source, files, width, height)
	if err != nil {
		return nil, err
	}
	for _, m := range mask {
		if m == 0 {
			return nil, fmt.Errorf("the picture has transparent pixels, and every pixel is needed; fill them")
		}
	}
	image, err := inChannels(rgb, channels)
	for i, v := range image {
		image[i] = 2*v - 1
	}
	return image, err
}

// inChannels turns the red, green and blue planes of a picture into the planes
// that a model's images have: these, or their mean.
func inChannels(rgb []float64, channels int) ([]float64, error) {
	switch channels {
	case 3:
		return slices.Clone(rgb), nil
	case 1:
		size := len(rgb) / 3
		gray := make([]float64, size)
		for i := range gray {
			gray[i] = (rgb[i] + rgb[i+size] + rgb[i+2*size]) / 3
		}
		return gray, nil
	}
	return nil, fmt.Errorf("the model's images have %d channels, a picture has 1 or 3", channels)
}

// picture reads or draws a source as planes in 0..1, with a mask that is 0 where
// it is transparent.
func picture(source recipes.Source, files fs.FS, width, height int) (rgb, mask []float64, err error) {
	if source.Image != "" {
		shown := recipes.Term{Image: source.Image}
		return shown.Target(files, width, height)
	}
	if width != avatars.Size || height != avatars.Size {
		return nil, nil, fmt.Errorf("avatars are %dx%d, the model's images %dx%d; name an image instead",
			avatars.Size, avatars.Size, width, height)
	}
	drawn := make([]float32, 3*width*height)
	avatars.At(source.Seed, uint64(source.Index)).Draw(drawn)
	rgb, mask = make([]float64, len(drawn)), make([]float64, width*height)
	for i, v := range drawn {
		rgb[i] = (float64(v) + 1) / 2
	}
	for i := range mask {
		mask[i] = 1
	}
	return rgb, mask, nil
}

// invert makes the latent of a run that begins from a picture, in every row,
// once. The network is asked as the run will ask it, with its condition and
// guidance, so that the run's first sample is the picture again. Its steps are
// told as EventInversion.
func (s *Session) invert(ctx context.Context, observe sdo.Observer) error {
	if s.inversion == nil || s.inverted {
		return nil
	}
	problem := s.Problem()
	problem.Table, problem.Objective, problem.Judge = s.inversion.table, nil, nil
	chain, err := sdo.NewChain(problem, sdo.Surrogate{})
	if err != nil {
		return err
	}
	defer chain.Free()
	if observe != nil {
		chain.Observe(func(e sdo.Event) {
			e.Kind = sdo.EventInversion
			observe(e)
		})
	}
	var rows []float64
	for range s.Shape[0] {
		rows = append(rows, s.inversion.image...)
	}
	if err := s.Exec.Write(ctx, s.start, rows); err != nil {
		return err
	}
	latent, err := chain.Rollout(ctx, sdo.Values{Latents: s.start})
	if err != nil {
		return fmt.Errorf("inversion: %w", err)
	}
	s.spent, s.inverted = chain.Counters().NetworkCalls, true
	return s.Exec.Combine(s.start, []float64{1}, []graph.Tensor{latent})
}

// beginAgain takes the latent of a run that began from a picture out of its
// state. A new run of the session inverts the picture for itself.
func (s *Session) beginAgain(ctx context.Context, state *sdo.RunState) error {
	if s.inversion == nil {
		return nil
	}
	start := state.Tensors["start"]
	if len(start) != s.Shape.Size() {
		return nil // sdo.Run says so
	}
	s.inverted = false
	return s.Exec.Write(ctx, s.start, start)
}
