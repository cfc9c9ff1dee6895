package avatars

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"image"
	"image/png"
	"os"
	"slices"
	"strings"
	"testing"
)

func parseHex(t testing.TB, text string) (c RGB) {
	t.Helper()
	if n, err := hex.Decode(c[:], []byte(strings.TrimPrefix(text, "#"))); err != nil || n != 3 {
		t.Fatalf("colour %q", text)
	}
	return c
}

// The references come from another rasteriser and compositor, fed with the SVG
// source (tools/avatars/bake.js).
func TestDrawMatchesReferences(t *testing.T) {
	var references []struct {
		Background string
		Parts      map[string]string
		Inks       map[string]string
	}
	data, err := os.ReadFile("testdata/references.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &references); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open("testdata/references.png")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	sheet, err := png.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	columns := sheet.Bounds().Dx() / Size
	if rows := sheet.Bounds().Dy() / Size; rows*columns != len(references) {
		t.Fatalf("%d x %d pictures for %d references", columns, rows, len(references))
	}

	exact, worst := 0, 0
	seen := map[string]bool{}
	for i, reference := range references {
		a := Avatar{Background: parseHex(t, reference.Background)}
		for kind, name := range kindNames {
			if ink, ok := reference.Inks[name]; ok {
				a.Inks[kind] = parseHex(t, ink)
			}
			if drawing, ok := reference.Parts[name]; ok {
				place := partIndex(Kind(kind), drawing)
				if place < 0 {
					t.Fatalf("reference %d: no %s %s", i, name, drawing)
				}
				a.Parts[kind] = uint8(place)
				seen[name+" "+drawing] = true
			}
		}
		difference := compare(a.Image(), sheet, i%columns*Size, i/columns*Size)
		if difference == 0 {
			exact++
		}
		worst = max(worst, difference)
		if difference > 1 {
			t.Errorf("reference %d (%+v): a channel differs by %d", i, reference.Parts, difference)
		}
	}
	for kind := Skin + 1; kind < Kinds; kind++ {
		for _, name := range PartNames(kind)[1:] {
			if !seen[kind.String()+" "+name] {
				t.Errorf("no reference shows %s %s", kind, name)
			}
		}
	}
	t.Logf("%d of %d pictures exact, worst difference %d/255", exact, len(references), worst)
}

// compare returns the largest difference of a channel, in steps of 1/255.
func compare(got *image.RGBA, sheet image.Image, left, top int) (worst int) {
	for y := range Size {
		for x := range Size {
			r, g, b, _ := sheet.At(left+x, top+y).RGBA()
			c := got.RGBAAt(x, y)
			for _, d := range []int{int(r>>8) - int(c.R), int(g>>8) - int(c.G), int(b>>8) - int(c.B)} {
				worst = max(worst, d, -d)
			}
		}
	}
	return worst
}

// Picture i of a seed must never change: checkpoints of training count on it.
func TestAtIsDeterministic(t *testing.T) {
	for i := range uint64(100) {
		if At(3, i) != At(3, i) {
			t.Fatalf("avatar %d differs from itself", i)
		}
	}
	if At(3, 5) == At(4, 5) || At(3, 5) == At(3, 6) {
		t.Error("neighbouring seeds or indices give the same avatar")
	}
	hash := fnv.New64a()
	images, labels := make([]float32, 64*Pixels), make([]float32, 64*len(Attributes()))
	Batch(1, 1<<40, images, labels)
	for _, v := range append(images, labels...) {
		fmt.Fprintf(hash, "%.6f ", v)
	}
	if got, want := hash.Sum64(), uint64(0x8e769a0c7605c830); got != want {
		t.Errorf("the 64 avatars from 2^40 of seed 1 hash to %#x, not %#x: a data set of old is gone", got, want)
	}
}

func TestBatchContinues(t *testing.T) {
	whole, half := make([]float32, 8*Pixels), make([]float32, 4*Pixels)
	Batch(9, 100, whole, nil)
	Batch(9, 104, half, nil)
	if !slices.Equal(whole[4*Pixels:], half) {
		t.Error("a batch that starts later is not the tail of one that starts earlier")
	}
	lo, hi := slices.Min(whole), slices.Max(whole)
	if lo < -1 || hi > 1 || hi-lo < 1 {
		t.Errorf("values from %g to %g", lo, hi)
	}
}

func TestLabelsAreBalanced(t *testing.T) {
	const n = 20000
	attributes := Attributes()
	counts := make([][]int, len(attributes))
	for i := range counts {
		counts[i] = make([]int, len(attributes[i].Values))
	}
	for i := range uint64(n) {
		for j, label := range At(1, i).Labels() {
			if label < 0 {
				t.Fatalf("avatar %d: %s has no label", i, attributes[j].Name)
			}
			counts[j][label]++
		}
	}
	// Lowest and highest share a value may have.
	bounds := [][2]float64{
		background: {.11, .14}, skin: {.09, .15}, hair: {.09, .25}, hairColor: {.045, .22},
		mood: {.48, .52}, glasses: {.24, .52}, hat: {.23, .77}, beard: {.18, .82},
		clothing: {.06, .105}, accessories: {.22, .78},
	}
	for j, attribute := range attributes {
		line := attribute.Name
		for k, count := range counts[j] {
			share := float64(count) / n
			line += fmt.Sprintf("  %s %.3f", attribute.Values[k], share)
			if share < bounds[j][0] || share > bounds[j][1] {
				t.Errorf("%s %s: share %.3f", attribute.Name, attribute.Values[k], share)
			}
		}
		t.Log(line)
	}
}

// What is labelled must be there to see, not counting lenses and highlights.
func TestLabelsAreVisible(t *testing.T) {
	least := map[Kind]int{Hair: 10, Hat: 20, Beard: 9, Glasses: 2, Mouth: 4, Clothing: 12, Accessories: 2}
	found := map[Kind]int{}
	for i := range uint64(20000) {
		a := At(2, i)
		for kind, want := range least {
			if a.Parts[kind] == 0 {
				continue
			}
			count := a.visible(kind)
			if n, ok := found[kind]; !ok || count < n {
				found[kind] = count
			}
			if count < want {
				t.Fatalf("avatar %d: %s %s shows %d pixels", i, kind, PartNames(kind)[a.Parts[kind]], count)
			}
		}
	}
	t.Log("fewest pixels shown:", found)
}

func BenchmarkBatch(b *testing.B) {
	const n = 64
	images, labels := make([]float32, n*Pixels), make([]float32, n*len(Attributes()))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		Batch(1, uint64(i*n), images, labels)
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "avatars/s")
}
