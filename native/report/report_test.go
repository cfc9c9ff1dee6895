package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"image"
	"image/color"
	"image/gif"
	"image/png"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

var keep = flag.String("keep", "", "folder to leave the written example run in")

// example is a run made of numbers: faces drawn by hand that put on glasses.
func example(t *testing.T, rows, updates int) *Run {
	t.Helper()
	recipe, err := recipes.Find("dark-glasses", nil)
	if err != nil {
		t.Fatal(err)
	}
	const side = 16
	size := 3 * side * side
	paint := func(glasses float64) []float64 {
		batch := make([]float64, rows*size)
		for r := range rows {
			hue := func(k int) float64 { return math.Sin(float64(r*7+k*3)*1.3)*0.4 + 0.3 }
			for y := range side {
				for x := range side {
					c := [3]float64{hue(1) + 0.3, hue(2) + 0.3, hue(3) + 0.3}
					switch {
					case y > 12 && x > 1 && x < 14:
						c = [3]float64{hue(4), hue(5), hue(6)}
					case (y == 7 || y == 6) && x > 2 && x < 13:
						for k := range c {
							c[k] = 0.6*(1-glasses) - 0.8*glasses
						}
					case y < 4 && y > 0 && x > 1 && x < 14:
						c = [3]float64{-0.4 + hue(7)/2, -0.6 + hue(8)/2, -0.7}
					case y > 1 && y < 12 && x > 2 && x < 13:
						c = [3]float64{0.7 - hue(9)/3, 0.4 - hue(9)/3, 0.1 - hue(9)/3}
					case y == 12 && (x == 7 || x == 8):
						c = [3]float64{0.6, 0.3, 0}
					}
					for k := range c {
						batch[r*size+k*side*side+y*side+x] = c[k] + 0.05*math.Sin(float64(r+x*y+k))
					}
				}
			}
		}
		return batch
	}
	noise := make([]float64, rows*size)
	for i := range noise {
		noise[i] = graph.Normal(1, 0, uint32(i))
	}
	run := &Run{
		Recipe: recipe, Channels: 3, Width: side, Height: side, Seconds: 63.21, Started: time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC),
		Device:  graph.Device{Kind: "webgpu", Name: "llvmpipe (LLVM 15.0.6, 256 bits)", Driver: "Vulkan", Software: true},
		Why:     "software Vulkan took 41 ms a call, the CPU executor 96 ms",
		Command: []string{"sdo", "steer", "dark-glasses"}, Program: Program{Version: "v0.1.0", Go: "go1.26", Platform: "linux/amd64"},
		PlannedBytes: 12 << 20, PeakBytes: 12 << 20,
		Result: &sdo.Result{Before: paint(0), Samples: paint(1), Latents: noise, Updates: updates},
		Judge:  &Judge{Label: "glasses: dark"},
	}
	res := run.Result
	res.Counters = sdo.Counters{NetworkCalls: 20 * (updates + 1), BackwardCalls: updates, KeptCalls: updates}
	for u := range updates + 1 {
		losses := make([]float64, rows)
		for r := range losses {
			losses[r] = math.Max(0, (5+math.Sin(float64(r)*2))*math.Exp(-float64(u)/(6+float64(r%5)*2))-0.4)
		}
		res.Losses = append(res.Losses, losses)
		run.Keep(frame(run, u, paint(1-math.Exp(-float64(u)/8))))
	}
	for s := range 21 {
		a := float64(s) / 20
		mix := make([]float64, rows*size)
		for i := range mix {
			mix[i] = a*res.Samples[i] + math.Sqrt(1-a*a)*noise[i]
		}
		run.Steps = append(run.Steps, frame(run, s, mix))
	}
	for r := range rows {
		res.BestLoss = append(res.BestLoss, res.Losses[updates][r])
		res.BestUpdate = append(res.BestUpdate, updates)
		res.RowUpdates = append(res.RowUpdates, min(updates, 10+3*(r%6)))
		res.Stopped = append(res.Stopped, true)
		res.LatentNorms = append(res.LatentNorms, math.Sqrt(float64(size)))
		run.Judge.Before = append(run.Judge.Before, r%4 == 0)
		run.Judge.After = append(run.Judge.After, r != 5)
	}
	return run
}

func TestWriteLeavesEveryFile(t *testing.T) {
	dir := *keep
	if dir == "" {
		dir = filepath.Join(t.TempDir(), "made", "on the way")
	}
	run := example(t, 16, 40)
	names, err := Write(dir, run)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 7 || len(names) != 7 {
		t.Errorf("folder holds %v, Write returned %v", entries, names)
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for _, name := range []string{"before.png", "after.png", "loss.png"} {
		img, err := png.Decode(bytes.NewReader(read(name)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if name != "loss.png" {
			// The first tile's top left pixel is the first picture's.
			want := level(run.Result.Before[0])
			if r, _, _, _ := img.At(sheetMargin, sheetMargin+headingBand).RGBA(); uint8(r>>8) != want {
				t.Errorf("%s: top left tile has red %d, want %d", name, r>>8, want)
			}
		}
	}
	film, err := gif.DecodeAll(bytes.NewReader(read("progress.gif")))
	if err != nil {
		t.Fatal(err)
	}
	if len(film.Image) != 41 {
		t.Errorf("film of %d frames, want one per update and one before", len(film.Image))
	}
	var rec map[string]any
	if err := json.Unmarshal(read("run.json"), &rec); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"format", "program", "command", "started", "device", "recipe", "summary", "judge", "result", "drift"} {
		if _, ok := rec[key]; !ok {
			t.Errorf("run.json has no key %q", key)
		}
	}
	embedded, err := json.Marshal(rec["recipe"])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := recipes.Parse(embedded, "run.json"); err != nil {
		t.Errorf("the recipe inside run.json does not parse: %v", err)
	}
	tensors, _, err := model.LoadSafetensors(os.DirFS(dir).(fs.FS), "variables.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	if got := tensors["latents"]; len(got.Data) != 16*768 || got.Data[5] != float32(run.Result.Latents[5]) {
		t.Errorf("latents read back as %v", got.Shape)
	}
	html := string(read("report.html"))
	for _, want := range []string{"25 % ", "94 %", "glasses: dark", "llvmpipe", "num_inference_steps: 20"} {
		if !strings.Contains(html, want) {
			t.Errorf("report.html does not mention %q", want)
		}
	}
	for _, bad := range []string{"ZgotmplZ", "http://", "https://", "<no value>"} {
		if strings.Contains(html, bad) {
			t.Errorf("report.html contains %q", bad)
		}
	}
}

// What a run found is kept where its pictures are not to be had.
func TestKeptWithoutPictures(t *testing.T) {
	run, dir := example(t, 3, 2), t.TempDir()
	run.Result.Before, run.Result.Samples = nil, nil
	if err := Keep(dir, run); err != nil {
		t.Fatal(err)
	}
	tensors, _, err := model.LoadSafetensors(os.DirFS(dir), VariablesFile)
	if err != nil {
		t.Fatal(err)
	}
	if got := tensors["latents"]; len(tensors) != 1 || len(got.Data) != len(run.Result.Latents) || got.Data[5] != float32(run.Result.Latents[5]) {
		t.Errorf("kept %d tensors, latents %v", len(tensors), got.Shape)
	}
}

// All that varied is saved, and what ended the run is told.
func TestWhatWasFoundIsSavedAndTold(t *testing.T) {
	run := example(t, 3, 2)
	run.Judge.Stopped = true
	res := run.Result
	res.Noises = [][]float64{nil, res.Samples}
	res.Condition, res.GuidanceScale = []float64{1, 2, 3, 4, 5, 6}, []float64{1.5, 2, 2.5}
	res.Drifted = []bool{true, false, true}
	dir := t.TempDir()
	if _, err := Write(dir, run); err != nil {
		t.Fatal(err)
	}
	tensors, _, err := model.LoadSafetensors(os.DirFS(dir), "variables.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	for name, shape := range map[string][]int{"latents": {3, 3, 16, 16}, "samples": {3, 3, 16, 16}, "noises.1": {3, 3, 16, 16}, "condition": {3, 2}, "guidance_scale": {3, 1}} {
		if !slices.Equal(tensors[name].Shape, shape) {
			t.Errorf("%s has shape %v, want %v", name, tensors[name].Shape, shape)
		}
	}
	if len(tensors) != 5 || tensors["guidance_scale"].Data[2] != 2.5 || tensors["condition"].Data[3] != 4 {
		t.Errorf("%d tensors, scales %v", len(tensors), tensors["guidance_scale"].Data)
	}
	if s := run.Summary(); s.Drifted != 2 || !s.JudgeStopped {
		t.Errorf("summary %+v", s)
	}
	html, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"pictures 1, 3, at the limit of 1.5", "the judge, whose share is therefore no second opinion", number(1.5) + ", " + number(2) + ", " + number(2.5)} {
		if !strings.Contains(string(html), want) {
			t.Errorf("report.html does not say %q", want)
		}
	}
}

func TestSmallAndInterruptedRuns(t *testing.T) {
	run := example(t, 1, 0)
	run.Judge, run.Steps, run.Updates, run.Result.Cancelled = nil, nil, nil, true
	dir := t.TempDir()
	if _, err := Write(dir, run); err != nil {
		t.Fatal(err)
	}
	if s := run.Summary(); s.JudgeBefore != nil || !s.Interrupted {
		t.Errorf("summary %+v", s)
	}
	run.Result.Latents = run.Result.Latents[:10]
	if _, err := Write(dir, run); err == nil || !strings.Contains(err.Error(), "latents holds 10 numbers, 1 pictures of 3x16x16 need 768") {
		t.Errorf("short latents: %v", err)
	}
}

// One channel is drawn grey; what is no colour is refused.
func TestPicturesOfOneChannel(t *testing.T) {
	pics, err := pictures([]float64{-1, 0, 1, 1, 1, -1}, 3, 1, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][2]uint8{{0, 128}, {255, 255}, {255, 0}} {
		for x, v := range want {
			if got := pics[i].NRGBAAt(x, 0); got != (color.NRGBA{v, v, v, 255}) {
				t.Errorf("picture %d has %v at %d, want the grey %d", i, got, x, v)
			}
		}
	}
	recipe := recipes.Defaults()
	recipe.NumImages = 2
	files, err := WriteSamples(t.TempDir(), &recipe, make([]float64, 2*28*28), graph.Shape{2, 1, 28, 28})
	if err != nil || len(files) != 3 {
		t.Errorf("%v, %v", files, err)
	}
	_, err = WriteSamples(t.TempDir(), &recipe, make([]float64, 2*2*4*4), graph.Shape{2, 2, 4, 4})
	if err == nil || err.Error() != "report: pictures of 2 channels cannot be drawn, want 1 or 3" {
		t.Errorf("two channels: %v", err)
	}
}

func TestQuantizeIsExactForFewColoursAndCloseForMany(t *testing.T) {
	run := example(t, 16, 4)
	pics, err := pictures(run.Result.Before, 16, 3, 16, 16)
	if err != nil {
		t.Fatal(err)
	}
	canvas, err := sheet{heading: "x", scale: 2, done: 0.5}.draw(pics)
	if err != nil {
		t.Fatal(err)
	}
	flat := quantize(canvas)
	worst, sum := 0, 0
	for y := range canvas.Rect.Dy() {
		for x := range canvas.Rect.Dx() {
			a, b := canvas.RGBAAt(x, y), flat.At(x, y)
			r, g, bl, _ := b.RGBA()
			d := max(abs(int(a.R)-int(r>>8)), abs(int(a.G)-int(g>>8)), abs(int(a.B)-int(bl>>8)))
			worst, sum = max(worst, d), sum+d
		}
	}
	if average := float64(sum) / float64(canvas.Rect.Dx()*canvas.Rect.Dy()); average > 2 || worst > 40 {
		t.Errorf("palette is off by %.2f levels on average, %d at worst", average, worst)
	}
	if flat.At(0, 0) != paper || flat.At(sheetMargin-1, sheetMargin+headingBand) != rule {
		t.Errorf("the sheet's paper became %v, its rule %v", flat.At(0, 0), flat.At(sheetMargin-1, sheetMargin+headingBand))
	}
	fill(canvas, canvas.Rect, paper)
	fill(canvas, canvas.Rect.Inset(9), good)
	if flat := quantize(canvas); len(flat.Palette) != 2 || flat.At(0, 0) != paper {
		t.Errorf("two colours became %d, %v first", len(flat.Palette), flat.At(0, 0))
	}
}

func abs(x int) int { return max(x, -x) }

func TestColumns(t *testing.T) {
	for n, want := range map[int]int{1: 1, 2: 2, 5: 5, 8: 8, 9: 3, 12: 6, 16: 8, 32: 8, 7: 7, 13: 8, 256: 8} {
		if got := columns(n); got != want {
			t.Errorf("columns(%d) = %d, want %d", n, got, want)
		}
	}
}

func TestDriftIsTheRootMeanSquareOfEachPicture(t *testing.T) {
	got := Drift([]float64{0, 0, 0, 0, 1, 1, 1, 1}, []float64{0.5, 0.5, 0.5, 0.5, 1, 1, 1, -1}, 2)
	if got[0] != 0.5 || got[1] != 1 {
		t.Errorf("drift is %v, want [0.5 1]", got)
	}
}

func frame(r *Run, at int, images []float64) Frame {
	f, err := r.Frame(at, images)
	if err != nil {
		panic(err)
	}
	return f
}

// Pictures of a photograph's size keep their shape on the page, and a film of them
// weighs no more than they do.
func TestLargePictures(t *testing.T) {
	run := example(t, 2, 4)
	run.Width, run.Height, run.Judge, run.Steps, run.Updates = 384, 256, nil, nil, nil
	run.Latent, run.Recipe.Description, run.Recipe.Prompt = graph.Shape{3, 16, 16}, "", "a fox in its den"
	run.Command = []string{"sdo", "steer", "--prompt", "a fox's den", "--set", "guards.early_stop=false", "--objective", "{term: symmetry}", ""}
	paint := func(u int) []float64 {
		batch := make([]float64, 2*3*384*256)
		for i := range batch {
			x, y := i%384, i/384%256
			batch[i] = math.Sin(float64(x)/(90+float64(u))) * math.Cos(float64(y)/(70-float64(u)))
		}
		return batch
	}
	run.Result.Before, run.Result.Samples = paint(0), paint(9)
	for u := range 5 {
		run.Keep(frame(run, u, paint(u)))
	}
	dir := t.TempDir()
	if _, err := Write(dir, run); err != nil {
		t.Fatal(err)
	}
	html, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`<main class="photos" style="--shape:384/256;--across:2;--film:2">`, "update 4", `<p class="lead">a fox in its den</p>`,
		"sdo steer --prompt &#39;a fox&#39;\\&#39;&#39;s den&#39; --set guards.early_stop=false --objective &#39;{term: symmetry}&#39; &#39;&#39;",
	} {
		if !strings.Contains(string(html), want) {
			t.Errorf("report.html does not say %q", want)
		}
	}
	film, err := os.Open(filepath.Join(dir, "progress.gif"))
	if err != nil {
		t.Fatal(err)
	}
	defer film.Close()
	moving, err := gif.DecodeAll(film)
	if err != nil {
		t.Fatal(err)
	}
	if w := moving.Config.Width; w > 2*filmSide+2*sheetMargin+sheetGap || len(moving.Image) != 5 {
		t.Errorf("the film has %d frames of width %d", len(moving.Image), w)
	}
	if size := run.Updates[0].Pictures[0].Bounds().Size(); size != image.Pt(256, 170) {
		t.Errorf("a frame has pictures of %v", size)
	}
}

// What is kept of a long run's film does not grow with the run, and shows all of it
// evenly.
func TestFilmOfALongRun(t *testing.T) {
	run := example(t, 1, 0)
	run.Updates, run.Result.Updates = nil, 1003
	shown := frame(run, 0, run.Result.Before)
	for u := range 1004 {
		if run.Films(u) {
			shown.At = u
			run.Keep(shown)
		}
		if len(run.Updates) > 2*frameLimit {
			t.Fatalf("%d frames are kept after update %d", len(run.Updates), u)
		}
	}
	run.Keep(run.Updates[len(run.Updates)-1]) // a stale look that is made again
	if n := len(run.Updates); n < frameLimit || run.Updates[0].At != 0 {
		t.Errorf("%d frames are kept, from update %d", n, run.Updates[0].At)
	}
	for i := range run.Updates {
		if i > 0 && run.Updates[i].At-run.Updates[i-1].At != run.Updates[1].At {
			t.Errorf("frame %d is of update %d, after %d", i, run.Updates[i].At, run.Updates[i-1].At)
		}
	}
	frames, err := run.film(frameLimit)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(frames); n != frameLimit || frames[0].At != 0 || frames[n-1].At != 1003 {
		t.Errorf("the film has %d frames, from %d to %d", n, frames[0].At, frames[n-1].At)
	}
}
