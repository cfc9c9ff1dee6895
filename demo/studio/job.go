package studio

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/graph"
)

// job is a request that has the device to itself. The page may pause it between
// two network calls and cancel it.
type job struct {
	id     int
	cancel func()
	host   Host
	exec   graph.Executor

	mu       sync.Mutex
	going    chan struct{} // closed while the job may go on
	stopping bool
	patient  bool // a stop waits until the job looks at stopping and cancels itself
	started  time.Time
	waited   time.Duration // in pauses, and in what is not the run's own work
	before   float64       // seconds of the run that this one goes on with
	breathed time.Time     // when the host last took in messages
}

// breath is how long a job computes before it lets the host take in messages.
const breath = 40 * time.Millisecond

// begin gives the device to a request until the returned job's end.
func (s *Server) begin(r *request) (*job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.job != nil || s.opening:
		return nil, errBusy
	case s.device == nil:
		return nil, inputError{fmt.Errorf("no device is open; open one first")}
	}
	now := time.Now()
	j := &job{id: r.id, host: s.host, exec: s.device.Executor, going: closed(), started: now, breathed: now}
	r.Context, j.cancel = context.WithCancel(r.Context)
	s.job = j
	for _, do := range s.early[r.id] {
		do(j)
	}
	return j, nil
}

// session begins a job on a plan that fits the device. over ends both.
func (s *Server) session(r *request, p *engine.Plan) (j *job, session *engine.Session, over func(), err error) {
	if err := s.room(p); err != nil {
		return nil, nil, nil, err
	}
	if j, err = s.begin(r); err != nil {
		return nil, nil, nil, err
	}
	if session, err = engine.NewSession(j.exec, p); err != nil {
		s.end(j)
		return nil, nil, nil, err
	}
	j.exec.ResetPeak()
	return j, session, func() {
		session.Close()
		s.end(j)
	}, nil
}

// end gives the device back.
func (s *Server) end(j *job) {
	j.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.job = nil
}

// control does something to the job of a request: at once, or when it begins,
// where its networks are still being read. Messages cross, so that it may also
// have ended meanwhile; then there is nothing to do.
func (s *Server) control(id int, do func(*job)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.job != nil && s.job.id == id {
		do(s.job)
	} else if early, waiting := s.early[id]; waiting {
		s.early[id] = append(early, do)
	}
}

// controlling is the method that does this to the job it is told.
func controlling(do func(*job)) handler {
	return method(func(r *request, p struct {
		Job int `json:"job"`
	}) (any, error) {
		r.server.control(p.Job, do)
		return nil, nil
	})
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func (j *job) pause() {
	j.mu.Lock()
	defer j.mu.Unlock()
	select {
	case <-j.going:
		j.going = make(chan struct{})
	default:
	}
}

func (j *job) resume() {
	j.mu.Lock()
	defer j.mu.Unlock()
	select {
	case <-j.going:
	default:
		close(j.going)
	}
}

// stop ends the job, which keeps what it has.
func (j *job) stop() {
	j.resume()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.stopping = true; !j.patient {
		j.cancel()
	}
}

// stopped reports whether the job was told to stop.
func (j *job) stopped() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.stopping
}

// bePatient makes a stop wait for the job.
func (j *job) bePatient() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.patient = true
}

// start begins to count the seconds, on top of those of the run it goes on with:
// what came before was preparation.
func (j *job) start(before float64) { j.started, j.waited, j.before = time.Now(), 0, before }

// gate is passed between two network calls: it waits out a pause and lets the
// host breathe. Whoever computes on looks at the context itself.
func (j *job) gate(ctx context.Context) {
	if time.Since(j.breathed) > breath {
		j.host.Yield()
		j.breathed = time.Now()
	}
	j.mu.Lock()
	going := j.going
	j.mu.Unlock()
	from := time.Now()
	select {
	case <-going:
	case <-ctx.Done():
	}
	j.waited += time.Since(from)
}

// seconds is how long the run has taken, pauses left out.
func (j *job) seconds() float64 { return j.before + (time.Since(j.started) - j.waited).Seconds() }
