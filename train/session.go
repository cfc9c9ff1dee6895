package train

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// Names of the files in a training folder, beside the finished model.
const (
	checkpointFile = "checkpoint.safetensors"
	logFile        = "log.jsonl"
	recipeFile     = "recipe.json"
)

// Session is a training run in a folder: it resumes from the folder's
// checkpoint where there is one, logs, and leaves the finished model there.
type Session struct {
	Recipe *Recipe
	Dir    string
	Data   fs.FS // the files of a data set that is stored; may be nil for avatars

	Checkpoint time.Duration // between checkpoints; 0 means every five minutes
	LogEvery   int           // steps between log lines; 0 means 100

	// Progress is called after every step. Sheet is called after every
	// checkpoint of a denoiser with the network as it would be published, to
	// draw what it makes. Both may be nil.
	Progress func(Progress)
	Sheet    func(step int, unet *model.UNet2D) error
}

// LogLine is one line of log.jsonl.
type LogLine struct {
	Step    int     `json:"step"`
	Loss    float64 `json:"loss"`    // smoothed
	Seconds float64 `json:"seconds"` // of training so far, over all resumes
	Device  string  `json:"device"`

	// Of a finished classifier: the share of held-out images it reads right.
	Accuracy map[string]float64 `json:"accuracy,omitempty"`
}

// Run trains to the recipe's last step and writes the finished model, weights
// as f16, into the folder. A cancelled context saves a checkpoint first and
// returns the context's error; the same call then continues exactly there.
func (s *Session) Run(ctx context.Context, exec graph.Executor) error {
	task, err := s.Recipe.open(s.Data)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return err
	}
	trainer, err := NewTrainer(exec, task, s.Recipe.Options)
	if err != nil {
		return err
	}
	defer trainer.Release()
	checkpoint := filepath.Join(s.Dir, checkpointFile)
	if err := s.writeRecipe(Exists(checkpoint)); err != nil {
		return err
	}
	if Exists(checkpoint) {
		if err := trainer.Load(ctx, checkpoint); err != nil {
			return err
		}
	}
	log, spent, err := openLog(filepath.Join(s.Dir, logFile), trainer.Step())
	if err != nil {
		return err
	}
	defer log.Close()

	save := func() error {
		quiet := context.WithoutCancel(ctx)
		if err := trainer.Save(quiet, checkpoint); err != nil || s.Sheet == nil {
			return err
		}
		diffusion, ok := task.(Diffusion)
		if !ok {
			return nil
		}
		weights, err := trainer.Weights(quiet)
		if err != nil {
			return err
		}
		return s.Sheet(trainer.Step(), diffusion.network(s.Recipe, weights))
	}
	every, logEvery := s.Checkpoint, s.LogEvery
	if every == 0 {
		every = 5 * time.Minute
	}
	if logEvery == 0 {
		logEvery = 100
	}
	start, saved := time.Now(), time.Now()
	write := func(line LogLine) error {
		line.Seconds, line.Device = spent+time.Since(start).Seconds(), exec.Device().Name
		text, err := json.Marshal(line)
		if err == nil {
			_, err = log.Write(append(text, '\n'))
		}
		return err
	}
	err = trainer.Run(ctx, func(p Progress) error {
		if p.Step%logEvery == 0 || p.Step == p.Steps {
			if err := write(LogLine{Step: p.Step, Loss: p.SmoothLoss}); err != nil {
				return err
			}
		}
		if s.Progress != nil {
			s.Progress(p)
		}
		if p.Step < p.Steps && time.Since(saved) > every {
			saved = time.Now()
			return save()
		}
		return nil
	})
	if err != nil && !errors.Is(err, ctx.Err()) {
		return err
	}
	if failure := save(); failure != nil {
		return failure
	}
	if err != nil {
		return err
	}
	weights, err := trainer.Weights(ctx)
	if err != nil {
		return err
	}
	switch task := task.(type) {
	case Diffusion:
		return task.network(s.Recipe, weights).Save(s.Dir, model.F16)
	case Classifier:
		accuracy, err := task.Accuracy(ctx, exec, weights, heldOut, testBatches, testBatch)
		if err != nil {
			return err
		}
		last := LogLine{Step: trainer.Step(), Loss: trainer.smooth, Accuracy: map[string]float64{}}
		for i, a := range task.Config.Attributes {
			last.Accuracy[a.Name] = accuracy[i]
		}
		if err := write(last); err != nil {
			return err
		}
		return (&model.Classifier{Config: task.Config, Weights: weights}).Save(s.Dir, model.F16)
	}
	return fmt.Errorf("train: a %T cannot be published", task)
}

// writeRecipe puts the recipe into the folder. A run that resumes must have the
// one that is there, if one is: options alone do not say what the data were.
func (s *Session) writeRecipe(resume bool) error {
	recipe, err := json.MarshalIndent(s.Recipe, "", "  ")
	if err != nil {
		return err
	}
	recipe = append(recipe, '\n')
	path := filepath.Join(s.Dir, recipeFile)
	if before, err := os.ReadFile(path); err == nil && resume && !bytes.Equal(before, recipe) {
		return fmt.Errorf("%s: the checkpoint beside it was made by another recipe than %q; resume with the same one or start in a new folder", path, s.Recipe.Name)
	}
	return writeFile(path, recipe)
}

func writeFile(path string, text []byte) error {
	return model.WriteFileAtomic(path, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// A finished classifier is tested on 10 000 images, all that Fashion-MNIST has.
const testBatches, testBatch = 100, 100

// heldOut is the seed of the test set's stream. No recipe trains on it, which is
// what holds avatars out.
const heldOut = 1 << 40

// network is the trained denoiser as a model folder holds it.
func (d Diffusion) network(r *Recipe, weights model.Weights) *model.UNet2D {
	embedder := d.embedder()
	embedder.Weights = model.Weights{}
	unet := model.Weights{}
	maps.Copy(unet, weights)
	for _, p := range embedder.Params() {
		embedder.Weights[p.Name] = weights[p.Name]
		delete(unet, p.Name)
	}
	return &model.UNet2D{Config: d.UNet, Scheduler: r.Scheduler, Weights: unet, Embedder: &embedder}
}

// openLog opens a log for appending, dropping lines after step: they belong to
// steps that will be made again. spent is the training time of what is left.
func openLog(path string, step int) (log *os.File, spent float64, err error) {
	var kept []byte
	if old, err := os.Open(path); err == nil {
		lines := bufio.NewScanner(old)
		for lines.Scan() {
			var line LogLine
			if json.Unmarshal(lines.Bytes(), &line) != nil || line.Step > step {
				break
			}
			kept = append(append(kept, lines.Bytes()...), '\n')
			spent = line.Seconds
		}
		old.Close()
	}
	if err := writeFile(path, kept); err != nil {
		return nil, 0, err
	}
	log, err = os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o644)
	return log, spent, err
}
