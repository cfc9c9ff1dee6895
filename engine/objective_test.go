package engine

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/train/avatars"
)

// portraits are avatars first, first+1, ... of a seed, and their labels.
func portraits(seed uint64, n int) (images []float64, labels [][]int) {
	image := make([]float32, avatars.Pixels)
	for i := range n {
		labels = append(labels, avatars.Dataset{}.Example(seed, uint64(i), image))
		for _, v := range image {
			images = append(images, float64(v))
		}
	}
	return images, labels
}

func classifier(t *testing.T, name string) *model.Classifier {
	t.Helper()
	files, err := OpenBuiltin(name)
	if err != nil {
		t.Fatal(err)
	}
	c, err := model.LoadClassifier(files)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// score evaluates one term on images in float64 and returns the losses and the
// gradient.
func score(t *testing.T, yaml string, guide *model.Classifier, images []float64) (losses, grad []float64) {
	t.Helper()
	ctx := context.Background()
	r, err := recipes.Parse([]byte("version: 1\nname: x\nobjective: ["+yaml+"]\n"), "test")
	if err != nil {
		t.Fatal(err)
	}
	exec := cpu.New[float64](cpu.Options{})
	defer exec.Close()
	of := &Model{Guide: guide}
	m, err := newMetric(r, of, graph.Shape{len(images) / avatars.Pixels, 3, avatars.Size, avatars.Size}, nil, PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o, err := newObjective(exec, m, newResident(exec, of.aids()...))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Release()
	x, err := exec.NewVector(len(images))
	if err != nil {
		t.Fatal(err)
	}
	g, err := exec.NewVector(len(images))
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.Write(ctx, x, images); err != nil {
		t.Fatal(err)
	}
	if losses, err = o.Evaluate(ctx, x, g); err != nil {
		t.Fatal(err)
	}
	if grad, err = exec.Read(ctx, g); err != nil {
		t.Fatal(err)
	}
	return losses, grad
}

// A model of one channel is held to the mean of a picture's planes.
func TestPixelsOfOneChannel(t *testing.T) {
	r, err := recipes.Parse([]byte(`{version: 1, name: x, objective: [
		{term: pixels, rows: [ab, .a], palette: {a: "#ff8000", b: "#000000", .: free}}]}`), "test")
	if err != nil {
		t.Fatal(err)
	}
	for channels, want := range map[int]string{1: "", 2: "the model's images have 2 channels, a picture has 1 or 3"} {
		m, err := newMetric(r, &Model{}, graph.Shape{1, channels, 2, 2}, nil, PlanOptions{})
		if want != "" {
			if err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("%d channels: %v", channels, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		exec := cpu.New[float64](cpu.Options{})
		defer exec.Close()
		o, err := newObjective(exec, m, newResident(exec))
		if err != nil {
			t.Fatal(err)
		}
		defer o.Release()
		x, err := exec.NewVector(4)
		if err != nil {
			t.Fatal(err)
		}
		if err := exec.Write(context.Background(), x, []float64{0.1, -0.2, 5, 0.4}); err != nil {
			t.Fatal(err)
		}
		losses, err := o.Evaluate(context.Background(), x, nil)
		if err != nil {
			t.Fatal(err)
		}
		orange := 2*(1+128./255)/3 - 1
		wanted := (math.Pow(0.1-orange, 2) + math.Pow(-0.2+1, 2) + math.Pow(0.4-orange, 2)) / 3
		if math.Abs(losses[0]-wanted) > 1e-6 {
			t.Errorf("loss %v, want %v", losses[0], wanted)
		}
	}
}

// Every term is its sentence in docs/formats.md, computed here pixel by pixel,
// and its gradient is the slope of that.
func TestTermsMeanWhatTheySay(t *testing.T) {
	const size, pixels = avatars.Size, avatars.Size * avatars.Size
	source, _ := portraits(7, 4)
	source = source[3*avatars.Pixels:] // avatar 3
	at := func(x []float64, c, row, col int) float64 { return x[c*pixels+row*size+col] }
	square := func(x float64) float64 { return x * x }
	rows := ""
	for y := range size {
		line := []byte("................")
		if y == 5 {
			line[2], line[3] = 'a', 'b'
		}
		rows += `"` + string(line) + `",`
	}
	for name, term := range map[string]struct {
		yaml string
		want func(x []float64) float64
	}{
		"region_color": {`{term: region_color, region: [3, 5, 4, 2], color: "#ff8000", weight: 2}`, func(x []float64) (loss float64) {
			for c, wanted := range []float64{1, 2*128.0/255 - 1, -1} {
				mean := 0.0
				for row := 5; row < 7; row++ {
					for col := 3; col < 7; col++ {
						mean += at(x, c, row, col) / 8
					}
				}
				loss += 2 * square(mean-wanted) / 3
			}
			return loss
		}},
		"pixels": {`{term: pixels, palette: {".": free, a: "#ffffff", b: "#000000"}, rows: [` + rows + `]}`, func(x []float64) (loss float64) {
			for c := range 3 {
				loss += (square(at(x, c, 5, 2)-1) + square(at(x, c, 5, 3)+1)) / 6
			}
			return loss
		}},
		"inpaint": {`{term: inpaint, source: {seed: 7, index: 3}, hidden: right}`, func(x []float64) (loss float64) {
			for c := range 3 {
				for row := range size {
					for col := range size / 2 {
						loss += square(at(x, c, row, col)-at(source, c, row, col)) / (3 * pixels / 2)
					}
				}
			}
			return loss
		}},
		"symmetry": {`{term: symmetry}`, func(x []float64) (loss float64) {
			for c := range 3 {
				for row := range size {
					for col := range size {
						loss += square(at(x, c, row, col)-at(x, c, row, size-1-col)) / (3 * pixels)
					}
				}
			}
			return loss
		}},
		"total_variation": {`{term: total_variation}`, func(x []float64) (loss float64) {
			rounded := func(d float64) float64 {
				return (math.Sqrt(d*d+smoothCorner*smoothCorner) - smoothCorner) / (3 * size * (size - 1))
			}
			for c := range 3 {
				for i := range size {
					for j := range size - 1 {
						loss += rounded(at(x, c, i, j+1)-at(x, c, i, j)) + rounded(at(x, c, j+1, i)-at(x, c, j, i))
					}
				}
			}
			return loss
		}},
	} {
		t.Run(name, func(t *testing.T) {
			images := Noise(3, graph.Shape{2, 3, size, size})
			direction := Noise(4, graph.Shape{2, 3, size, size})
			losses, grad := score(t, term.yaml, nil, images)
			slope, want := 0.0, 0.0
			for i, d := range direction {
				slope += d * grad[i]
			}
			for row, loss := range losses {
				moved := func(h float64) float64 {
					x := make([]float64, avatars.Pixels)
					for i := range x {
						x[i] = images[row*avatars.Pixels+i] + h*direction[row*avatars.Pixels+i]
					}
					return term.want(x)
				}
				if math.Abs(loss-moved(0)) > 1e-6*moved(0) {
					t.Errorf("row %d: loss %v, by hand %v", row, loss, moved(0))
				}
				want += (moved(1e-5) - moved(-1e-5)) / 2e-5
			}
			if math.Abs(slope-want) > 1e-5*math.Abs(want) {
				t.Errorf("slope %v, by differences %v", slope, want)
			}
		})
	}
}

// An attribute term is max(0, CE - softplus(-margin)): zero with no gradient
// once the log-odds reach the margin, and otherwise above it by the difference
// of two margins' offsets.
func TestAttributeTermStopsAtItsMargin(t *testing.T) {
	images, labels := portraits(5, 8)
	guide := classifier(t, "avatars-16-guide")
	attribute, dark, err := guide.Config.Attributes.Value("glasses", "dark")
	if err != nil {
		t.Fatal(err)
	}
	term := func(margin string) string {
		return "{term: attribute, attribute: glasses, value: dark, copies: 1, noise: 0, margin: " + margin + "}"
	}
	small, grad := score(t, term("0.5"), guide, images)
	large, _ := score(t, term("2"), guide, images)
	offset := math.Log1p(math.Exp(-0.5)) - math.Log1p(math.Exp(-2))
	seen := map[bool]int{}
	for row, label := range labels {
		wears := label[attribute] == dark
		seen[wears]++
		length := 0.0
		for _, g := range grad[row*avatars.Pixels : (row+1)*avatars.Pixels] {
			length += g * g
		}
		if wears && (small[row] != 0 || length != 0) {
			t.Errorf("row %d wears dark glasses, its loss is %v and its gradient %v long", row, small[row], math.Sqrt(length))
		}
		if !wears && (small[row] < 1 || length == 0 || math.Abs(large[row]-small[row]-offset) > 1e-6) {
			t.Errorf("row %d wears none: loss %v at margin 0.5, %v at 2, want a gradient and a difference of %v", row, small[row], large[row], offset)
		}
	}
	if seen[true] == 0 || seen[false] == 0 {
		t.Fatalf("the pictures test nothing: %v wear dark glasses", seen)
	}
}

// The judge reads every row by itself, and on drawn avatars it is right.
func TestJudgeReadsEachPicture(t *testing.T) {
	const n = 32
	images, labels := portraits(1<<41, n)
	exec := cpu.New[float32](cpu.Options{})
	defer exec.Close()
	reading, err := newReading(classifier(t, "avatars-16-judge"), graph.Shape{n, 3, avatars.Size, avatars.Size}, PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	j, err := newJudge(exec, reading)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Release()
	read, err := j.Read(context.Background(), images)
	if err != nil {
		t.Fatal(err)
	}
	for a, attribute := range reading.classifier.Config.Attributes {
		right := 0
		for row := range labels {
			if read[row][a] == labels[row][a] {
				right++
			}
		}
		if right < n*9/10 {
			t.Errorf("%s is read right in %d of %d pictures", attribute.Name, right, n)
		}
	}
}

// Picture i starts from stream i, whatever else is in the batch.
func TestNoiseOfAPictureIsItsOwn(t *testing.T) {
	three := Noise(9, graph.Shape{3, 1, 2, 2})
	tail := noiseFrom(9, 2, graph.Shape{1, 1, 2, 2})
	for i, v := range tail {
		if three[8+i] != v || v != graph.Normal(9, 2, uint32(i)) {
			t.Errorf("number %d of picture 2 is %v in a batch, %v alone, want %v", i, three[8+i], v, graph.Normal(9, 2, uint32(i)))
		}
	}
}

// The verdict on a drawn avatar is the truth about it.
func TestVerdictsAreTheTruth(t *testing.T) {
	const n = 16
	images, labels := portraits(1<<41, n)
	s := session(t, cpu.New[float32](cpu.Options{}), glasses(t, "num_images=16"), graph.F32)
	attribute, dark, err := s.Model.Judge.Config.Attributes.Value("glasses", "dark")
	if err != nil {
		t.Fatal(err)
	}
	verdicts, err := s.Verdicts(context.Background(), images)
	if err != nil || len(verdicts) != n {
		t.Fatalf("%d verdicts, %v", len(verdicts), err)
	}
	for row, got := range verdicts {
		if want := labels[row][attribute] == dark; got != want {
			t.Errorf("picture %d wears dark glasses: %v, the verdict is %v", row, want, got)
		}
	}
}
