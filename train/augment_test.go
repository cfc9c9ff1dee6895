package train

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sdo-go/sdo/train/avatars"
)

func TestAugmentation(t *testing.T) {
	original, image := make([]float32, avatars.Pixels), make([]float32, avatars.Pixels)
	avatars.At(1, 0).Draw(original)
	apply := func(a Augmentation, seed uint64) []float32 {
		copy(image, original)
		a.Apply(image, avatars.Dataset{}.Shape(), rand.New(avatars.Source(seed, 0)))
		return image
	}
	if !slices.Equal(apply(Augmentation{}, 1), original) {
		t.Error("the empty augmentation changes the picture")
	}
	for name, a := range augmentations {
		first := slices.Clone(apply(a, 1))
		if !slices.Equal(first, apply(a, 1)) {
			t.Errorf("%s: the same source gives different pictures", name)
		}
		if name != "" && slices.Equal(first, apply(a, 2)) {
			t.Errorf("%s: different sources give the same picture", name)
		}
	}

	// Only the mirrored and the plain picture come out of Flip alone.
	mirrored := slices.Clone(original)
	for row := range slices.Chunk(mirrored, avatars.Size) {
		slices.Reverse(row)
	}
	seen := [2]int{}
	for seed := range uint64(40) {
		switch got := apply(Augmentation{Flip: true}, seed); {
		case slices.Equal(got, original):
			seen[0]++
		case slices.Equal(got, mirrored):
			seen[1]++
		default:
			t.Fatal("flip made a third picture")
		}
	}
	if seen[0] < 8 || seen[1] < 8 {
		t.Errorf("%d plain and %d mirrored of 40", seen[0], seen[1])
	}

	// A shift of one moves rows and columns by at most one.
	for seed := range uint64(20) {
		got := apply(Augmentation{Shift: 1}, seed)
		found := false
		for shift := range 9 {
			dx, dy := shift%3-1, shift/3-1
			same := true
			for i := range avatars.Size * avatars.Size {
				x, y := clamp(i%avatars.Size+dx, avatars.Size), clamp(i/avatars.Size+dy, avatars.Size)
				same = same && got[i] == original[y*avatars.Size+x]
			}
			found = found || same
		}
		if !found {
			t.Fatal("shift did something else")
		}
	}

	// Noise up to s has a mean square of s^2/3.
	var sum float64
	const n = 200
	for seed := range uint64(n) {
		for i, v := range apply(Augmentation{Noise: .4}, seed) {
			d := float64(v - original[i])
			sum += d * d
		}
	}
	if got, want := sum/n/avatars.Pixels, .4*.4/3; math.Abs(got-want) > .15*want {
		t.Errorf("noise has mean square %.4f, want %.4f", got, want)
	}
}

func BenchmarkAugment(b *testing.B) {
	image := make([]float32, avatars.Pixels)
	random := rand.New(avatars.Source(1, 1))
	for b.Loop() {
		avatars.At(1, 0).Draw(image)
		augmentations["judge"].Apply(image, avatars.Dataset{}.Shape(), random)
	}
}
