package train

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

	Checkpoint time.Duration // between checkpoints; 0 means every five minutes
	LogEvery   int           // steps between log lines; 0 means 100

	// Progress is called after every step, Sheet after every checkpoint with
	// the weights to publish. Both may be nil.
	Progress func(Progress)
	Sheet    func(step int, weights model.Weights) error
}

// LogLine is one line of log.jsonl.
type LogLine struct {
	Step    int     `json:"step"`
	Loss    float64 `json:"loss"`    // smoothed
	Seconds float64 `json:"seconds"` // of training so far, over all resumes
	Device  string  `json:"device"`
}

// Run trains to the recipe's last step and writes the finished model, weights
// as f16, into the folder. A cancelled context saves a checkpoint first and
// returns the context's error; the same call then continues exactly there.
func (s *Session) Run(ctx context.Context, exec graph.Executor) error {
	task, err := s.Recipe.task()
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
	checkpoint := filepath.Join(s.Dir, checkpointFile)
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
		weights, err := trainer.Weights(quiet)
		if err != nil {
			return err
		}
		return s.Sheet(trainer.Step(), weights)
	}
	every, logEvery := s.Checkpoint, s.LogEvery
	if every == 0 {
		every = 5 * time.Minute
	}
	if logEvery == 0 {
		logEvery = 100
	}
	start, saved := time.Now(), time.Now()
	device := exec.Device().Name
	err = trainer.Run(ctx, func(p Progress) error {
		if p.Step%logEvery == 0 || p.Step == p.Steps {
			line, err := json.Marshal(LogLine{p.Step, p.SmoothLoss, spent + time.Since(start).Seconds(), device})
			if err != nil {
				return err
			}
			if _, err := log.Write(append(line, '\n')); err != nil {
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
	if err != nil && !errors.Is(err, context.Canceled) {
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
	return s.publish(task, weights)
}

// publish writes the trained network as a model folder, with the recipe.
func (s *Session) publish(task Task, weights model.Weights) error {
	recipe, err := json.MarshalIndent(s.Recipe, "", "  ")
	if err != nil {
		return err
	}
	err = os.WriteFile(filepath.Join(s.Dir, recipeFile), append(recipe, '\n'), 0o644)
	if err != nil {
		return err
	}
	switch task := task.(type) {
	case Diffusion:
		embedder := task.embedder()
		embedder.Weights = model.Weights{}
		for _, p := range embedder.Params() {
			embedder.Weights[p.Name] = weights[p.Name]
			delete(weights, p.Name)
		}
		unet := model.UNet2D{Config: task.UNet, Scheduler: s.Recipe.Scheduler, Weights: weights, Embedder: &embedder}
		return unet.Save(s.Dir, model.F16)
	case Classifier:
		classifier := model.Classifier{Config: task.Config, Weights: weights}
		return classifier.Save(s.Dir, model.F16)
	}
	return fmt.Errorf("train: a %T cannot be published", task)
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
	if err := os.WriteFile(path, kept, 0o644); err != nil {
		return nil, 0, err
	}
	log, err = os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o644)
	return log, spent, err
}
