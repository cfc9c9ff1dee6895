package edge

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// admission keeps what runs hold at once within the budget.
type admission struct {
	mu    sync.Mutex
	live  int
	bytes int64
}

// Waiting for room, and how often it is asked for.
const (
	longestWait = 20 * time.Second
	askAgain    = 50 * time.Millisecond
)

// enter waits until a run of so many bytes fits beside the others. What is
// larger than the whole budget must have been refused before.
func (s *Server) enter(ctx context.Context, bytes int64) (leave func(), err error) {
	a := &s.admission
	for until := s.Now().Add(longestWait); !a.take(bytes, s.Budget.Bytes); {
		if !s.Now().Before(until) {
			return nil, &Error{http.StatusServiceUnavailable, "busy", "other runs take all the room here; try again in some seconds"}
		}
		if err := s.Pause(ctx, askAgain); err != nil {
			return nil, err
		}
	}
	return func() { a.take(-bytes, s.Budget.Bytes) }, nil
}

// take books a run's bytes, or, where they are negative, gives them back.
func (a *admission) take(bytes, most int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if bytes > 0 && a.bytes+bytes > most {
		return false
	}
	a.bytes += bytes
	if a.live++; bytes < 0 {
		a.live -= 2
	}
	return true
}

// held is how many runs there are, and what they hold.
func (a *admission) held() (live int, bytes int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.live, a.bytes
}
