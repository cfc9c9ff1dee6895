package train

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// Checkpoint files are safetensors: for every parameter its value, both moments
// and the running average, in full float32, with the step and the options in
// the metadata.
const (
	metaStep    = "step"
	metaSmooth  = "smooth_loss"
	metaOptions = "options"
)

// parts pairs the tensors of one parameter with their prefix in a checkpoint.
func (p trained) parts() map[string]graph.Tensor {
	parts := map[string]graph.Tensor{"value": p.value, "exp_avg": p.moment, "exp_avg_sq": p.square}
	if p.average != nil {
		parts["ema"] = p.average
	}
	return parts
}

// Save writes a checkpoint. The file is replaced in one move, so an interrupted
// save leaves the previous checkpoint whole.
func (t *Trainer) Save(ctx context.Context, path string) error {
	tensors := model.Weights{}
	for _, p := range t.params {
		for part, v := range p.parts() {
			if err := t.read(ctx, tensors, part+"/"+p.Name, p.Shape, v); err != nil {
				return err
			}
		}
	}
	options, err := json.Marshal(t.options)
	if err != nil {
		return err
	}
	return model.SaveSafetensors(path, tensors, model.F32, map[string]string{
		metaStep:    strconv.Itoa(t.step),
		metaSmooth:  strconv.FormatFloat(t.smooth, 'g', -1, 64),
		metaOptions: string(options),
	})
}

// Load continues from a checkpoint written by Save with the same task and
// options. An absent file is reported as fs.ErrNotExist.
func (t *Trainer) Load(ctx context.Context, path string) error {
	dir, name := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	tensors, meta, err := model.LoadSafetensors(os.DirFS(dir), name)
	if err != nil {
		return err
	}
	var saved Options
	if err := json.Unmarshal([]byte(meta[metaOptions]), &saved); err != nil {
		return fmt.Errorf("%s: is not a training checkpoint (no options in its metadata)", path)
	}
	if saved != t.options {
		return fmt.Errorf("%s: was written with other options (%+v, now %+v); resume with the same ones or start in a new folder",
			path, saved, t.options)
	}
	step, err := strconv.Atoi(meta[metaStep])
	if err != nil || step < 0 {
		return fmt.Errorf("%s: metadata %q is %q, want a step number", path, metaStep, meta[metaStep])
	}
	smooth, err := strconv.ParseFloat(meta[metaSmooth], 64)
	if err != nil {
		return fmt.Errorf("%s: metadata %q is %q, want a number", path, metaSmooth, meta[metaSmooth])
	}
	for _, p := range t.params {
		for part, v := range p.parts() {
			saved, ok := tensors[part+"/"+p.Name]
			if !ok || !p.Shape.Equal(saved.Shape) {
				return fmt.Errorf("%s: holds no tensor %q of shape %v; it belongs to another network", path, part+"/"+p.Name, p.Shape)
			}
			wide := make([]float64, len(saved.Data))
			for i, x := range saved.Data {
				wide[i] = float64(x)
			}
			if err := t.exec.Write(ctx, v, wide); err != nil {
				return err
			}
		}
	}
	t.step, t.smooth = step, smooth
	return nil
}

// Exists reports whether a checkpoint is there to resume from.
func Exists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
