package engine

import (
	"context"
	"time"

	"github.com/sdo-go/sdo/sdo"
)

// readEvery is how often a Saver reads a state back: seldom enough to cost little
// where updates are quick, and then a stop can wait for the next.
const readEvery = 250 * time.Millisecond

// Saver reads back where a steering run stands as it goes, so that it can be left
// at once, or nearly, without losing an update.
type Saver struct {
	State *sdo.RunState // of the latest update at which it was read back; nil before

	read    time.Time // when it was
	scored  bool      // there was an update
	current bool      // State is of the latest
}

// Update takes in an update event and reports whether it read the state back,
// which it does where the last time is long enough ago or the run shall stop.
func (s *Saver) Update(ctx context.Context, e sdo.Event, stopping bool) (read bool, err error) {
	s.scored = true
	if read = stopping || time.Since(s.read) >= readEvery; read {
		var state *sdo.RunState
		if state, err = e.Save(ctx); err != nil {
			s.current = false
			return false, err
		}
		s.State, s.read = state, time.Now()
	}
	s.current = s.State != nil && s.State.Result.Updates == e.Update
	return read, nil
}

// Current reports whether State is of the latest update.
func (s *Saver) Current() bool { return s.current }

// MayStop reports whether a run that was told to stop may do so now: it has made
// no update to save, or its latest is saved. Otherwise the next is near, or the
// state would have been read back.
func (s *Saver) MayStop() bool { return s.current || !s.scored }
