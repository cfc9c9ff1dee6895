package sampler

import (
	"fmt"
	"math"
	"testing"
)

// invertible are schedules whose steps join, both ways.
func invertible() map[string]Config {
	trailing := cosine()
	trailing.TimestepSpacing, trailing.PredictionType = SpacingTrailing, PredictV
	clean := stable()
	clean.PredictionType, clean.SetAlphaToOne = PredictSample, false
	return map[string]Config{"stable, epsilon": stable(), "stable, sample": clean, "cosine, v_prediction": trailing}
}

// thereAndBack inverts an image and samples from the noise found. output answers
// for the network, from what it is told and shown.
func thereAndBack(t *testing.T, config Config, n int, image float64, output func(table *Table, timestep, x float64) float64) (noise, again float64) {
	t.Helper()
	inversion, err := Invert(config, n)
	if err != nil {
		t.Fatal(err)
	}
	table, err := DDIM(config, n, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := inversion.Steps[n-1].To, table.StartLevel(); got != want {
		t.Errorf("inversion ends at %v, sampling starts at %v", got, want)
	}
	_, noise = roll(inversion, image, func(i int, x float64) float64 { return output(table, inversion.Steps[i].Timestep, x) }, nil)
	_, again = roll(table, noise, func(i int, x float64) float64 { return output(table, table.Steps[i].Timestep, x) }, nil)
	return noise, again
}

// TestInversionOfConstantNoise: a noise prediction that does not look at the
// state is the same both ways, and inversion is exact.
func TestInversionOfConstantNoise(t *testing.T) {
	for _, n := range []int{1, 2, 10, 50} {
		_, again := thereAndBack(t, stable(), n, 0.7, func(_ *Table, timestep, _ float64) float64 { return math.Sin(timestep) })
		near(t, fmt.Sprintf("%d steps", n), again, 0.7, 1e-11)
	}
}

// TestInversionConverges: with the optimal network of Gaussian data the image
// comes back, up to an error of first order, and the noise found approaches the
// flow's own.
func TestInversionConverges(t *testing.T) {
	const tau, image = 0.5, 0.7
	for name, config := range invertible() {
		var before struct{ n, image, noise float64 }
		for _, n := range []int{100, 200, 500} {
			levels := map[float64]Level{}
			noise, again := thereAndBack(t, config, n, image, func(table *Table, timestep, x float64) float64 {
				for _, step := range table.Steps {
					levels[step.Timestep] = step.At
				}
				return gaussian(table, tau)(levels[timestep], x)
			})
			table, err := DDIM(config, n, 0)
			if err != nil {
				t.Fatal(err)
			}
			exact := image * math.Sqrt(table.StartLevel().variance(tau)/table.Steps[n-1].To.variance(tau))
			failure := map[string]float64{"image": math.Abs(again - image), "noise": math.Abs(noise - exact)}
			for what, previous := range map[string]float64{"image": before.image, "noise": before.noise} {
				want := float64(n) / before.n
				if ratio := previous / failure[what]; before.n != 0 && (ratio < 0.8*want || ratio > 1.3*want) {
					t.Errorf("%s, %d steps: the error of the %s fell by %.2f to %.2g, want %v", name, n, what, ratio, failure[what], want)
				}
			}
			if failure["image"] > 4./float64(n) {
				t.Errorf("%s, %d steps: the image came back as %v, want %v", name, n, again, image)
			}
			before.n, before.image, before.noise = float64(n), failure["image"], failure["noise"]
		}
	}
}

func TestInvertRefuses(t *testing.T) {
	linspace := stable()
	linspace.TimestepSpacing = SpacingLinspace
	sample := cosine()
	sample.PredictionType = PredictSample
	for want, config := range map[string]Config{
		"ddim inversion: timestep_spacing is linspace, whose steps do not join; use leading or trailing":                                                       linspace,
		"ddim inversion: prediction_type sample is undefined at timestep 0, where signal is 1 and noise 0; use v_prediction, or set set_alpha_to_one to false": sample,
		"scheduler config: a network that predicts flow_prediction has no schedule of betas":                                                                   flow(3),
		"scheduler config: a network that predicts edm has no schedule of betas":                                                                               edm(),
	} {
		_, err := Invert(config, 10)
		wantError(t, err, want)
	}
}
