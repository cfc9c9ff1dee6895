// Package report writes what a run leaves behind: pictures, a film, a chart, a
// page to look at and a file to repeat it from. It draws finished numbers; it
// computes none that a run is judged by, except how far pictures moved.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// Format is the version of run.json.
const Format = 1

// Run is a finished run, or one that was interrupted and kept its best.
type Run struct {
	Recipe  *recipes.Recipe
	Result  *sdo.Result
	Judge   *Judge // nil where the objective names no attribute
	Device  graph.Device
	Why     string   // why this device was taken
	Command []string // as typed
	Program Program
	Started time.Time
	Seconds float64

	Channels      int         // 1, grey, or 3
	Latent        graph.Shape // of one latent, [C H W]; nil for a model of pixels, whose latents are as its pictures
	Width, Height int
	Updates       []Frame // pictures over the updates, the first one before any; of a long run not every one
	Steps         []Frame // the first rollout on its way out of the noise; may be empty

	PlannedBytes int64 // activations by the memory plan
	PeakBytes    int64 // activations by the executor's ledger

	thinned int // updates from one that is kept to the next, less 1
}

// Frame is the whole batch at one moment, drawn for a film.
type Frame struct {
	At       int            // update or sampler step
	Pictures []*image.NRGBA // at most filmSide a side
}

// Judge is what a classifier that took no part in steering says.
type Judge struct {
	Label         string // what it was asked, for example "glasses: dark"
	Before, After []bool // per picture
	Stopped       bool   // it also decided when a picture is left alone
}

// Share returns the part of verdicts that are true.
func Share(verdicts []bool) float64 {
	n := 0
	for _, v := range verdicts {
		if v {
			n++
		}
	}
	return float64(n) / math.Max(1, float64(len(verdicts)))
}

// Program says which build ran.
type Program struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // the tree had changes the commit does not
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Drift is the root mean square change of each picture from before to after,
// in units of their -1..1 range.
func Drift(before, after []float64, rows int) []float64 {
	drift := make([]float64, rows)
	cols := len(before) / rows
	for r := range drift {
		sum := 0.0
		for i := r * cols; i < (r+1)*cols; i++ {
			d := after[i] - before[i]
			sum += d * d
		}
		drift[r] = math.Sqrt(sum / float64(cols))
	}
	return drift
}

// Summary is the object `sdo steer --json` prints last and the heart of
// run.json. Keys are stable.
type Summary struct {
	Name         string       `json:"name"`
	JudgeLabel   string       `json:"judge_label,omitempty"`
	JudgeBefore  *float64     `json:"judge_before"` // share of pictures, null without a judge
	JudgeAfter   *float64     `json:"judge_after"`
	JudgeStopped bool         `json:"judge_stopped,omitempty"` // the judge decided when to stop
	Drifted      int          `json:"drifted,omitempty"`       // pictures left alone for drift
	Updates      float64      `json:"updates"`                 // mean over pictures
	LossBefore   float64      `json:"loss_before"`
	LossAfter    float64      `json:"loss_after"`
	Drift        float64      `json:"drift"`       // mean over pictures
	LatentNorm   float64      `json:"latent_norm"` // mean, 1 is what noise has
	Seconds      float64      `json:"seconds"`
	Device       string       `json:"device"`
	Interrupted  bool         `json:"interrupted"`
	PlannedBytes int64        `json:"activation_bytes_planned"`
	PeakBytes    int64        `json:"activation_bytes_measured"`
	Counters     sdo.Counters `json:"counters"`
}

// Summary reduces the run to one line of numbers.
func (r *Run) Summary() Summary {
	res := r.Result
	s := Summary{
		Name: r.Recipe.Name, Seconds: r.Seconds, Device: r.Device.Name, Interrupted: res.Cancelled,
		PlannedBytes: r.PlannedBytes, PeakBytes: r.PeakBytes, Counters: res.Counters,
		LossAfter: mean(res.BestLoss),
		Drift:     mean(Drift(res.Before, res.Samples, r.rows())),
	}
	for _, drifted := range res.Drifted {
		if drifted {
			s.Drifted++
		}
	}
	for _, n := range res.RowUpdates {
		s.Updates += float64(n) / float64(len(res.RowUpdates))
	}
	if len(res.Losses) > 0 {
		s.LossBefore = mean(res.Losses[0])
	}
	s.LatentNorm = mean(res.LatentNorms) / math.Sqrt(float64(r.latent().Size()))
	if r.Judge != nil {
		before, after := Share(r.Judge.Before), Share(r.Judge.After)
		s.JudgeLabel, s.JudgeBefore, s.JudgeAfter, s.JudgeStopped = r.Judge.Label, &before, &after, r.Judge.Stopped
	}
	return s
}

func (r *Run) rows() int { return len(r.Result.BestLoss) }

func mean(xs []float64) float64 {
	sum := 0.0
	for _, x := range xs {
		sum += x
	}
	return sum / math.Max(1, float64(len(xs)))
}

// origin is what every record begins with: what was run, by what, where and when.
type origin struct {
	Format  int             `json:"format"`
	Program Program         `json:"program"`
	Command []string        `json:"command"`
	Started time.Time       `json:"started"`
	Device  device          `json:"device"`
	Recipe  *recipes.Recipe `json:"recipe"`
}

func originOf(p Program, command []string, started time.Time, d graph.Device, why string, r *recipes.Recipe) origin {
	return origin{Format, p, command, started.UTC().Truncate(time.Second), device{d.Kind, d.Name, d.Driver, d.Software, why}, r}
}

// record is run.json.
type record struct {
	origin
	Summary Summary     `json:"summary"`
	Judge   *verdicts   `json:"judge,omitempty"`
	Result  *sdo.Result `json:"result"`
	Drift   []float64   `json:"drift"`
}

type device struct {
	Kind     string `json:"kind"`
	Name     string `json:"name"`
	Driver   string `json:"driver,omitempty"`
	Software bool   `json:"software"`
	Why      string `json:"why,omitempty"`
}

type verdicts struct {
	Label   string `json:"label"`
	Before  []bool `json:"before"`
	After   []bool `json:"after"`
	Stopped bool   `json:"stopped,omitempty"`
}

func (r *Run) record() record {
	rec := record{
		origin:  originOf(r.Program, r.Command, r.Started, r.Device, r.Why, r.Recipe),
		Summary: r.Summary(), Result: r.Result,
		Drift: Drift(r.Result.Before, r.Result.Samples, r.rows()),
	}
	if r.Judge != nil {
		rec.Judge = &verdicts{r.Judge.Label, r.Judge.Before, r.Judge.After, r.Judge.Stopped}
	}
	return rec
}

// Write fills dir, making it where needed, and returns the names of the files
// in it. Every file is complete or absent; run.json is written last, so where
// it exists the others do.
func Write(dir string, r *Run) ([]string, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	// What was found cannot be drawn again from anything else, so it comes first.
	return writeAll(dir, []file{
		{VariablesFile, r.writeVariables},
		{"before.png", r.writeBefore},
		{"after.png", r.writeAfter},
		{"progress.gif", r.writeFilm},
		{"loss.png", r.writeChart},
		{"report.html", r.writePage},
		{"run.json", func(w io.Writer) error {
			e := json.NewEncoder(w)
			e.SetIndent("", "  ")
			return e.Encode(r.record())
		}},
	})
}

// VariablesFile holds what a run found.
const VariablesFile = "variables.safetensors"

// Keep writes what a run found and nothing else: of one whose pictures cannot be
// looked at.
func Keep(dir string, r *Run) error {
	_, err := writeAll(dir, []file{{VariablesFile, r.writeVariables}})
	return err
}

func (r *Run) writeVariables(w io.Writer) error {
	return model.WriteSafetensors(w, r.variables(), model.F32, map[string]string{"recipe": r.Recipe.Name, "program": r.Program.Version})
}

// variables is what the run found and what it samples to, if that is known.
func (r *Run) variables() model.Weights {
	latents := func(values []float64) model.Tensor {
		return model.Tensor{Shape: append([]int{r.rows()}, r.latent()...), Data: single(values)}
	}
	w := model.Weights{"latents": latents(r.Result.Latents)}
	if r.Result.Samples != nil {
		w["samples"] = r.tensor(r.Result.Samples)
	}
	for step, noise := range r.Result.Noises {
		if noise != nil { // nil where the sampler adds none
			w[fmt.Sprintf("noises.%d", step)] = latents(noise)
		}
	}
	for name, values := range map[string][]float64{"condition": r.Result.Condition, "guidance_scale": r.Result.GuidanceScale} {
		if values != nil {
			w[name] = model.Tensor{Shape: []int{r.rows(), len(values) / r.rows()}, Data: single(values)}
		}
	}
	return w
}

// file is one file to be written.
type file struct {
	name  string
	write func(io.Writer) error
}

// Ready makes dir where needed and finds out whether as many bytes can be written
// to it as a run will at least, so that the run does not learn so at its end.
func Ready(dir string, bytes int64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("output folder: %w; give another one with --out", err)
	}
	probe, err := os.CreateTemp(dir, ".ready.*")
	if err != nil {
		return fmt.Errorf("output folder %s cannot be written to: %w; give another one with --out", dir, cause(err))
	}
	defer os.Remove(probe.Name())
	if _, err = io.CopyN(probe, zeros{}, bytes); err == nil {
		err = probe.Sync()
	}
	if closed := probe.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("output folder %s has no room for the %d kB that the run leaves at least: %w; make room, or give another one with --out", dir, (bytes+999)/1000, cause(err))
	}
	return nil
}

// cause is an error without the name of a file that only Ready knows.
func cause(err error) error {
	var of *fs.PathError
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

// zeros reads as zeros without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// File is an output that someone else draws.
type File struct {
	Name  string
	Write func(io.Writer) error
}

// WriteFiles makes the folder and writes the files in order, each complete or not
// at all, and returns the names of those that were.
func WriteFiles(dir string, files []File) ([]string, error) {
	var all []file
	for _, f := range files {
		all = append(all, file{f.Name, f.Write})
	}
	return writeAll(dir, all)
}

// writeAll makes the folder and writes the files in order, each complete or
// not at all.
func writeAll(dir string, files []file) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("output folder: %w", err)
	}
	var names []string
	for _, f := range files {
		if err := model.WriteFileAtomic(filepath.Join(dir, f.name), f.write); err != nil {
			return names, fmt.Errorf("output %s: %w", f.name, err)
		}
		names = append(names, f.name)
	}
	return names, nil
}

// latent is the shape of what one picture was made from.
func (r *Run) latent() graph.Shape {
	if r.Latent != nil {
		return r.Latent
	}
	return graph.Shape{r.Channels, r.Height, r.Width}
}

func (r *Run) tensor(values []float64) model.Tensor {
	return model.Tensor{Shape: []int{r.rows(), r.Channels, r.Height, r.Width}, Data: single(values)}
}

func single(values []float64) []float32 {
	data := make([]float32, len(values))
	for i, v := range values {
		data[i] = float32(v)
	}
	return data
}

// check holds the run against the sizes every writer relies on.
func (r *Run) check() error {
	if r.Channels != 1 && r.Channels != 3 {
		return fmt.Errorf("report: pictures of %d channels cannot be drawn, want 1 or 3", r.Channels)
	}
	size := r.rows() * r.Channels * r.Width * r.Height
	if size == 0 {
		return fmt.Errorf("report: a run of %d pictures of %dx%d pixels", r.rows(), r.Width, r.Height)
	}
	for _, v := range []struct {
		name   string
		values []float64
		size   int
	}{{"before", r.Result.Before, size}, {"samples", r.Result.Samples, size}, {"latents", r.Result.Latents, r.rows() * r.latent().Size()}} {
		if len(v.values) != v.size {
			return fmt.Errorf("report: %s holds %d numbers, %d pictures of %dx%dx%d need %d",
				v.name, len(v.values), r.rows(), r.Channels, r.Height, r.Width, v.size)
		}
	}
	for _, f := range append(r.Updates[:len(r.Updates):len(r.Updates)], r.Steps...) {
		if len(f.Pictures) != r.rows() {
			return fmt.Errorf("report: frame %d holds %d pictures, want %d", f.At, len(f.Pictures), r.rows())
		}
	}
	return nil
}
