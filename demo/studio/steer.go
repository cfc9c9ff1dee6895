package studio

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/sdo"
	"github.com/sdo-go/sdo/train/avatars"
)

// steerEvent is sdo.Event with what a page shows of it.
type steerEvent struct {
	sdo.Event
	Kept     bool      `json:"kept"` // also where it is false
	Seconds  float64   `json:"seconds"`
	Verdicts []bool    `json:"verdicts,omitempty"`
	Pictures *Pictures `json:"pictures,omitempty"`
	Warning  string    `json:"warning,omitempty"`
}

func (e steerEvent) buffers() []*Buffer { return e.Pictures.buffers() }

// steerResult is what a page shows of a run that ended.
type steerResult struct {
	Before *Pictures `json:"before"`
	After  *Pictures `json:"after"`
	engine.Summary
}

func (r *steerResult) buffers() []*Buffer { return append(r.Before.buffers(), r.After.buffers()...) }

type steerParams struct {
	Recipe     recipeParam `json:"recipe"`
	Resume     bool        `json:"resume"`
	Previews   float64     `json:"previews"`   // least milliseconds between pictures
	Checkpoint bool        `json:"checkpoint"` // keep one
}

// steering is a steer request in progress.
type steering struct {
	*request
	*job
	session   *engine.Session
	params    steerParams
	pictured  time.Time // when pictures were last sent
	firstLook bool      // the rollout whose states are shown
	saver     engine.Saver
	written   time.Time // when a state was last written to the store
	scored    bool      // there was an update
	err       error     // of what an observer did
}

func steer(r *request, p steerParams) (any, error) {
	s := r.server
	made, err := s.planned(p.Recipe.Recipe)
	if err != nil {
		return nil, err
	}
	var from *sdo.RunState
	before := 0.0
	if p.Resume {
		if from, before, err = s.readSteering(p.Recipe.Recipe); err != nil {
			return nil, err
		}
	}
	j, session, over, err := s.session(r, made)
	if err != nil {
		return nil, err
	}
	defer over()
	run := &steering{request: r, job: j, session: session, params: p, firstLook: true}
	if p.Checkpoint {
		j.bePatient()
	}
	j.start(before)
	result, err := session.SteerFrom(r, from, run.observe)
	if err == nil {
		err = run.err
	}
	if err != nil {
		if run.saver.State != nil {
			err = errors.Join(err, run.write()) // the page offers to go on from there
		}
		return nil, err
	}
	if p.Checkpoint && !result.Cancelled {
		s.host.Remove(steerCheckpoint) // one that stays is offered once more, and no result is lost for it
	}
	return run.report(result)
}

// observe tells the page of an event, with pictures where they are due.
func (s *steering) observe(e sdo.Event) {
	if s.err != nil || s.Err() != nil {
		return
	}
	told := steerEvent{Event: e, Kept: e.Kept, Seconds: s.seconds()}
	switch e.Kind {
	case sdo.EventUpdate:
		s.firstLook = false
		from, last := time.Now(), e.Update == e.Updates || allTrue(e.Stopped)
		if s.due() || last || !s.scored {
			s.err = s.look(&told, true)
		}
		if s.err == nil && s.params.Checkpoint {
			told.Warning, s.err = s.save(e)
		}
		s.waited += time.Since(from) // looking is not the run's work
	case sdo.EventStep, sdo.EventInversion:
		if s.firstLook && s.session.Cheap() && s.due() {
			s.err = s.look(&told, false)
		}
	}
	if s.err != nil {
		if errors.Is(s.err, context.Canceled) {
			s.err = nil // the run itself ends with what it has
			return
		}
		s.cancel()
		return
	}
	s.tell(told)
	s.gate(s)
	// A run that was told to stop goes on to its next update where its latest was
	// not read back: it is near, or the state would have been.
	s.scored = s.scored || e.Kind == sdo.EventUpdate
	if s.stopped() && s.saver.MayStop() {
		if s.saver.Current() {
			s.write() // which has said so where it cannot
		}
		s.cancel()
	}
}

// due reports whether it is time for pictures again.
func (s *steering) due() bool {
	if time.Since(s.pictured).Seconds()*1e3 < s.params.Previews {
		return false
	}
	s.pictured = time.Now()
	return true
}

// look adds the state of an event as pictures and, of a sample, what the judge
// says of them.
func (s *steering) look(e *steerEvent, judged bool) error {
	images, err := s.session.Look(s, e.State)
	if err != nil {
		return err
	}
	e.Pictures = newPictures(images, s.session.Pictures())
	if judged && s.session.JudgeLabel() != "" {
		e.Verdicts, err = s.session.Approve(s, e.State)
	}
	return err
}

// report is the result as the page gets it.
func (s *steering) report(result *sdo.Result) (*steerResult, error) {
	shape := s.session.Pictures()
	sum, err := s.session.Summarise(context.WithoutCancel(s.Context), result, s.seconds())
	return &steerResult{newPictures(result.Before, shape), newPictures(result.Samples, shape), sum}, err
}

func allTrue(values []bool) bool {
	for _, v := range values {
		if !v {
			return false
		}
	}
	return len(values) > 0
}

// sample makes pictures without steering.
func sample(r *request, p struct {
	Recipe recipeParam `json:"recipe"`
}) (any, error) {
	s := r.server
	made, err := s.planned(p.Recipe.Sampling())
	if err != nil {
		return nil, err
	}
	j, session, over, err := s.session(r, made)
	if err != nil {
		return nil, err
	}
	defer over()
	run := &steering{request: r, job: j, session: session, firstLook: true}
	j.start(0)
	images, err := session.Sample(r, run.observe)
	if err == nil {
		err = run.err
	}
	if err != nil {
		return nil, err
	}
	return newPictures(images, session.Pictures()), nil
}

// source draws a picture of the training generator.
func source(r *request, p struct {
	Seed  uint64 `json:"seed"`
	Index int    `json:"index"`
}) (any, error) {
	if p.Index < 0 {
		return nil, inputError{fmt.Errorf("index is %d, want 0 or more", p.Index)}
	}
	drawn := make([]float32, 3*avatars.Size*avatars.Size)
	avatars.At(p.Seed, uint64(p.Index)).Draw(drawn)
	images := make([]float64, len(drawn))
	for i, v := range drawn {
		images[i] = float64(v)
	}
	return newPictures(images, graph.Shape{1, 3, avatars.Size, avatars.Size}), nil
}
