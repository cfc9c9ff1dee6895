package sdo

import "context"

// EventKind says what has just happened.
type EventKind string

const (
	EventStep     EventKind = "step"     // a sampler step was taken
	EventBackward EventKind = "backward" // a network call was differentiated
	EventUpdate   EventKind = "update"   // a sample was scored

	// EventInversion is of a caller who makes the start latent of a picture: a
	// step of that was taken.
	EventInversion EventKind = "inversion"
)

// Event is one line of a run's story. Its JSON form is meant for streams.
type Event struct {
	Kind    EventKind `json:"kind"`
	Update  int       `json:"update"`  // updates made so far
	Updates int       `json:"updates"` // updates wanted
	Step    int       `json:"step"`    // step: steps taken; backward: calls differentiated
	Steps   int       `json:"steps"`   // step: sampler steps; backward: calls to differentiate

	// Kept, of step events: the step's network call left its graph alive for the
	// way back. A call that will be made again for that did not.
	Kept bool `json:"kept,omitempty"`

	// Of update events, one number per row; copies the observer may keep.
	Losses      []float64 `json:"losses,omitempty"`
	Best        []float64 `json:"best,omitempty"`    // as Result.BestLoss, so far
	Stopped     []bool    `json:"stopped,omitempty"` // frozen by early stop
	LatentNorms []float64 `json:"latent_norms,omitempty"`
	Stale       bool      `json:"stale,omitempty"`     // the losses rest partly on outputs of earlier updates
	GradNorm    float64   `json:"grad_norm,omitempty"` // of a Tuner's update

	Counters Counters `json:"counters"`

	// State is the current state of a step event, of a jump's last one the clean
	// sample it estimates, and the final sample of an update event, for previews.
	// It is only valid until the observer returns.
	State Vector `json:"-"`
	// Values, of update events, are what the sample was made of: where a stale
	// one can be made anew. They, too, are only valid until the observer returns.
	Values Values `json:"-"`
	// Save, of update events of Run, reads back what Options.Resume goes on from.
	// It costs nothing unless it is called, and it, too, is only valid until the
	// observer returns.
	Save func(ctx context.Context) (*RunState, error) `json:"-"`
}

// Observer is told of every event, on the goroutine of the run, which waits
// for it. It may read Event.State through the space and must not write to it.
// A nil observer is allowed.
type Observer func(Event)
