package studio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/sdo"
)

// look is engine.Evaluation as the page gets it.
type look struct {
	Update     int               `json:"update"`
	Loss       float64           `json:"loss"`
	Drift      float64           `json:"drift"`
	Success    *float64          `json:"success,omitempty"`
	Attributes []attributeShares `json:"attributes"`
	Pictures   *Pictures         `json:"pictures"`
}

type attributeShares struct {
	Name   string    `json:"name"`
	Values []string  `json:"values"`
	Shares []float64 `json:"shares"`
	Shift  float64   `json:"shift"`
}

func (l *look) buffers() []*Buffer {
	if l == nil {
		return nil
	}
	return l.Pictures.buffers()
}

func newLook(e *engine.Evaluation, t *engine.Tuning) *look {
	l := &look{Update: e.Update, Loss: e.Loss, Drift: e.Drift, Attributes: []attributeShares{}, Pictures: newPictures(e.Images, t.Pictures())}
	if e.Approved != nil {
		share := e.Success()
		l.Success = &share
	}
	for _, a := range e.Attributes {
		l.Attributes = append(l.Attributes, attributeShares(a))
	}
	return l
}

// tuneEvent is an event of a tuning.
type tuneEvent struct {
	Kind     string   `json:"kind"`
	Update   int      `json:"update"`
	Updates  int      `json:"updates"`
	Step     int      `json:"step"`
	Steps    int      `json:"steps"`
	Seconds  float64  `json:"seconds"`
	Loss     *float64 `json:"loss,omitempty"`
	GradNorm float64  `json:"grad_norm,omitempty"`
	Look     *look    `json:"look,omitempty"`
	Warning  string   `json:"warning,omitempty"`
}

func (e tuneEvent) buffers() []*Buffer { return e.Look.buffers() }

// tuneResult is what a tuning has come to.
type tuneResult struct {
	Before     *look        `json:"before"`
	After      *look        `json:"after"`
	Updates    int          `json:"updates"`
	Stopped    string       `json:"stopped"`
	Cancelled  bool         `json:"cancelled"`
	Trained    int          `json:"trained"`
	LoRA       string       `json:"lora"`
	Warning    string       `json:"warning,omitempty"`
	File       *Buffer      `json:"file"`
	JudgeLabel string       `json:"judge_label"`
	Seconds    float64      `json:"seconds"`
	Planned    int64        `json:"planned_bytes"`
	Peak       int64        `json:"peak_bytes"`
	Counters   sdo.Counters `json:"counters"`
}

func (r *tuneResult) buffers() []*Buffer {
	return append(append(r.Before.buffers(), r.After.buffers()...), r.File)
}

type tuneParams struct {
	Recipe     recipeParam `json:"recipe"`
	Resume     bool        `json:"resume"`
	Checkpoint *bool       `json:"checkpoint"` // keep one; nil: yes
	Name       string      `json:"name"`       // of the adapter; the recipe's for none
}

func (p tuneParams) keeps() bool { return p.Checkpoint == nil || *p.Checkpoint }

// training is a tune request in progress.
type training struct {
	*request
	*job
	params tuneParams
	plan   *engine.TuningPlan
	tuning *engine.Tuning
	saved  time.Time
}

func tune(r *request, p tuneParams) (any, error) {
	s := r.server
	if p.Name == "" {
		p.Name = p.Recipe.Name
	}
	if err := checkName(p.Name); err != nil {
		return nil, err
	}
	m, err := s.load(p.Recipe.Recipe)
	if err != nil {
		return nil, err
	}
	plan, err := engine.NewTuningPlan(p.Recipe.Recipe, m, nil, m.Options())
	if err != nil {
		return nil, badInput(err)
	}
	if plan.Training.LoRA == nil {
		return nil, inputError{fmt.Errorf("recipe %q: trains parameters of the network itself, which a page does not keep; train a lora, or use sdo tune", p.Recipe.Name)}
	}
	if err := s.room(plan.Plan); err != nil {
		return nil, err
	}
	var tensors model.Weights
	var metadata map[string]string
	if p.Resume {
		if tensors, metadata, err = s.readCheckpoint(tuneCheckpoint, p.Recipe.Recipe); err != nil {
			return nil, err
		}
		p.Name = metadata[metadataName]
	}
	j, err := s.begin(r)
	if err != nil {
		return nil, err
	}
	defer s.end(j)
	tuning, err := engine.NewTuning(r, j.exec, plan, nil)
	if err != nil {
		return nil, err
	}
	defer tuning.Close()
	j.exec.ResetPeak()
	if tensors != nil {
		if err := tuning.Restore(r, tensors, metadata); err != nil {
			return nil, badInput(err)
		}
	}
	j.start(spent(metadata))
	t := &training{request: r, job: j, params: p, plan: plan, tuning: tuning, saved: time.Now()}
	return t.run()
}

func (t *training) run() (any, error) {
	updates := t.plan.Recipe.Updates
	t.told(tuneEvent{Kind: "look", Update: 0, Look: newLook(t.tuning.Before(), t.tuning)})
	t.tuning.Observe(func(e sdo.Event) {
		if e.Kind == sdo.EventStep || e.Kind == sdo.EventBackward {
			t.told(tuneEvent{Kind: string(e.Kind), Update: e.Update, Step: e.Step, Steps: e.Steps})
			t.gate(t)
		}
	})
	cancelled := false
	for !t.tuning.Done() && !cancelled {
		e, seen, err := t.tuning.Step(t)
		switch {
		case errors.Is(err, context.Canceled):
			cancelled = true
			continue
		case err != nil:
			return nil, err
		}
		loss := 0.0
		for _, l := range e.Losses {
			loss += l / float64(len(e.Losses))
		}
		told := tuneEvent{Kind: "update", Update: e.Update, Loss: &loss, GradNorm: e.GradNorm}
		if seen != nil {
			told.Look = newLook(seen, t.tuning)
		}
		if time.Since(t.saved) > checkpointEvery && e.Update < updates {
			if told.Warning, err = t.save(); err != nil {
				return nil, err
			}
		}
		t.told(told)
	}
	warning := ""
	if cancelled {
		if t.tuning.Update() == 0 {
			return nil, context.Canceled
		}
		var err error
		if warning, err = t.save(); err != nil {
			return nil, err
		}
	}
	return t.finish(cancelled, warning)
}

func (t *training) told(e tuneEvent) {
	e.Updates, e.Seconds = t.plan.Recipe.Updates, t.seconds()
	t.tell(e)
}

// save keeps a checkpoint, also of a job that is cancelled. The warning says
// where the store takes none.
func (t *training) save() (warning string, err error) {
	if !t.params.keeps() {
		return "", nil
	}
	tensors, metadata, err := t.tuning.Checkpoint(context.WithoutCancel(t.Context))
	if err != nil {
		return "", err
	}
	t.saved = time.Now()
	metadata[metadataName], metadata[metadataSeconds] = t.params.Name, seconds(t.job)
	return unkept(t.server.writeCheckpoint(tuneCheckpoint, t.params.Recipe.Recipe, metadata, func(w io.Writer) error {
		return model.WriteSafetensors(w, tensors, model.F32, metadata)
	})), nil
}

// finish hands the adapter to the page and keeps it where recipes find it, beside
// any that are there: under the first free name, one that was cut short with its
// number of updates.
func (t *training) finish(cancelled bool, warning string) (any, error) {
	tuned, err := t.tuning.Finish(context.WithoutCancel(t.Context), model.F16)
	if err != nil {
		return nil, err
	}
	var file bytes.Buffer
	if err := t.tuning.LoRA(tuned).WriteKohya(&file, model.F16); err != nil {
		return nil, err
	}
	name := t.params.Name
	if cancelled {
		name = fmt.Sprintf("%s-after-%d", name, t.tuning.Update())
	}
	kept, err := t.keep(name, file.Bytes())
	if err != nil { // a full store; the file itself is handed over all the same
		kept, warning = "", fmt.Sprintf("the adapter could not be kept here, so download it: %v", err)
	} else if !cancelled && t.params.keeps() {
		t.server.host.Remove(tuneCheckpoint) // one that stays is offered once more
	}
	return &tuneResult{
		Before: newLook(t.tuning.Before(), t.tuning), After: newLook(tuned.Look, t.tuning),
		Updates: t.tuning.Update(), Stopped: string(t.tuning.Stopped()), Cancelled: cancelled, Warning: warning,
		Trained: t.plan.Trained(), LoRA: kept, File: &Buffer{Data: file.Bytes()}, JudgeLabel: t.tuning.JudgeLabel(),
		Seconds: t.seconds(), Planned: t.plan.Memory(t.exec).Activations, Peak: t.exec.Usage().PeakActivations, Counters: t.tuning.Counters(),
	}, nil
}

// keep writes an adapter under a free name and returns that.
func (t *training) keep(name string, data []byte) (string, error) {
	file, err := t.server.freeAdapter(name)
	if err == nil {
		err = t.server.host.Write(loraFolder+file, data)
	}
	return file, err
}
