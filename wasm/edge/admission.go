package edge

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// admission keeps what runs hold at once within the budget.
type admission struct {
	mu      sync.Mutex
	live    int // runs
	waiting int
	bytes   int64
}

// Waiting for room: for how long, how often it is asked for, and by how many at
// once, since who waits holds something, too.
const (
	longestWait = 20 * time.Second
	askAgain    = 50 * time.Millisecond
	mostWaiting = 8
)

// enter waits until a run of so many bytes fits beside what is there. What is
// larger than the whole budget must have been refused before.
func (s *Server) enter(ctx context.Context, bytes int64) (leave func(), err error) {
	a := &s.admission
	release, err := s.book(ctx, bytes)
	if err != nil {
		return nil, err
	}
	a.change(func() { a.live++ })
	return func() {
		a.change(func() { a.live-- })
		release()
	}, nil
}

// book waits until so many bytes fit, for whatever they are.
func (s *Server) book(ctx context.Context, bytes int64) (release func(), err error) {
	a := &s.admission
	busy := &Error{http.StatusServiceUnavailable, "busy", "other runs take all the room here; try again in some seconds"}
	take := func() bool {
		fits := false
		a.change(func() {
			if fits = a.bytes+bytes <= s.Budget.Bytes; fits {
				a.bytes += bytes
			}
		})
		return fits
	}
	if !take() {
		full := false
		a.change(func() {
			if full = a.waiting >= mostWaiting; !full {
				a.waiting++
			}
		})
		if full {
			return nil, busy
		}
		defer a.change(func() { a.waiting-- })
		for until := s.Now().Add(longestWait); !take(); {
			if !s.Now().Before(until) {
				return nil, busy
			}
			if err := s.Pause(ctx, askAgain); err != nil {
				return nil, err
			}
		}
	}
	return func() { a.change(func() { a.bytes -= bytes }) }, nil
}

func (a *admission) change(how func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	how()
}

// held is how many runs there are, and what everybody holds.
func (a *admission) held() (live int, bytes int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.live, a.bytes
}
