package edge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

func runRoutes(s *Server) {
	s.handle("POST /v1/steer", s.steer)
	s.handle("POST /v1/sample", s.sample)
}

// planEvent is the first of every stream.
type planEvent struct {
	Recipe   *recipes.Recipe `json:"recipe"`
	Estimate Estimate        `json:"estimate"`
	Memory   engine.Memory   `json:"memory"`
	Resumed  int             `json:"resumed,omitempty"` // updates made before
}

// runEvent is sdo.Event with what a caller sees of it.
type runEvent struct {
	sdo.Event
	Kept     bool      `json:"kept"` // also where it is false
	Seconds  float64   `json:"seconds"`
	Verdicts []bool    `json:"verdicts,omitempty"`
	Pictures *Pictures `json:"pictures,omitempty"`
}

// continueEvent is the last of a request that has computed long enough.
type continueEvent struct {
	Token    string   `json:"token"`
	Expires  int64    `json:"expires"` // seconds since 1970
	Update   int      `json:"update"`
	Updates  int      `json:"updates"`
	Estimate Estimate `json:"estimate"` // of what is left
}

// steerResult is the last event of a run.
type steerResult struct {
	Before *Pictures `json:"before"`
	After  *Pictures `json:"after"`
	engine.Summary
}

// sampleResult is the last event of a sample.
type sampleResult struct {
	Pictures *Pictures    `json:"pictures"`
	Seconds  float64      `json:"seconds"`
	Counters sdo.Counters `json:"counters"`
}

// run is what was asked, planned and admitted.
type run struct {
	*asked
	*stream
	server   *Server
	ctx      context.Context // of the run; it ends with the request's
	cancel   context.CancelFunc
	session  *engine.Session
	exec     *cpu.Executor[float32]
	memory   engine.Memory
	estimate Estimate
	slicing  slicing
	sheet    bool          // the answer is a contact sheet
	from     int           // updates made before this request
	since    time.Time     // when this request began to compute
	counters sdo.Counters  // so far
	next     *sdo.RunState // where the next request goes on; nil while this one does
	told     time.Time     // of the latest event
	computed float64       // seconds of this request that were its own
	err      error         // of telling
}

// maxLooks is how often an objective may look at a picture: its terms, each
// noisy copy counted. Planning what looks thousands of times would itself take
// longer than a request may.
const maxLooks = 64

// plan makes a recipe concrete, without its weights on a device.
func (s *Server) plan(a *asked) (*engine.Plan, error) {
	looks := 0
	for _, t := range a.recipe.Objective {
		looks += max(1, t.Copies)
	}
	if looks > maxLooks {
		return nil, &Error{http.StatusBadRequest, "bad_recipe", fmt.Sprintf("the objective looks at a picture %d times (terms, each noisy copy counted), at most %d are run here; use fewer terms or copies", looks, maxLooks)}
	}
	m, err := s.networks.load(a)
	if err != nil {
		return nil, badRecipe(err)
	}
	p, err := engine.NewPlan(a.recipe, m, nil, m.Options())
	return p, badRecipe(err)
}

// badRecipe marks an error as the caller's to mend.
func badRecipe(err error) error {
	var one recipes.Problem
	var several recipes.Problems
	if err == nil || errors.As(err, &one) || errors.As(err, &several) {
		return err
	}
	return &Error{http.StatusBadRequest, "bad_recipe", err.Error()}
}

// begin plans what was asked, holds it against the budget and waits for room.
// over ends what it began.
func (s *Server) begin(w http.ResponseWriter, r *http.Request, a *asked) (v *run, over func(), err error) {
	plan, err := s.plan(a)
	if err != nil {
		return nil, nil, err
	}
	a.lora = nil // it is merged
	exec := cpu.New[float32](cpu.Options{})
	ends := []func(){func() { exec.Close() }}
	endAll := func() {
		for _, end := range slices.Backward(ends) {
			end()
		}
	}
	begun := false
	defer func() { // also where something panics
		if !begun {
			endAll()
		}
	}()
	v = &run{asked: a, stream: s.newStream(w, r), server: s, exec: exec}
	left := plan.Recipe.Updates
	if a.state != nil {
		v.from = a.state.Result.Updates
		left -= v.from
	}
	v.memory = plan.Memory(v.exec)
	v.slicing = s.Budget.slice(plan.Efforts(), left, a.state != nil)
	v.estimate = s.estimate(v.slicing, v.memory)
	if v.sheet = accepts(r, "image/png"); v.sheet {
		v.estimate.Bytes += sheetBytes(plan.Shape)
	}
	if err := s.fits(v); err != nil {
		return nil, nil, err
	}
	leave, err := s.enter(r.Context(), v.estimate.Bytes)
	if err != nil {
		return nil, nil, err
	}
	ends = append(ends, leave)
	if v.session, err = engine.NewSession(v.exec, plan); err != nil {
		return nil, nil, err
	}
	v.ctx, v.cancel = context.WithCancel(r.Context())
	ends = append(ends, v.session.Close, v.cancel)
	v.since = s.Now()
	v.told, begun = v.since, true
	return v, endAll, nil
}

// guarded makes an error of a panic, so that a stream which has begun can end with
// it.
func (v *run) guarded(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = v.server.fault(p)
		}
	}()
	return do()
}

func (s *Server) estimate(c slicing, m engine.Memory) Estimate {
	return Estimate{
		NetworkCalls: c.total.NetworkCalls, BackwardCalls: c.total.BackwardCalls, MultiplyAdds: c.total.MultiplyAdds,
		Seconds: s.Budget.seconds(c.total), Slices: c.slices, Bytes: m.Total(),
	}
}

// fits refuses a run that is too large, before anything is allocated.
func (s *Server) fits(v *run) error {
	refuse := func(why string) error { return &tooLarge{v.estimate, s.Budget, why} }
	switch {
	case v.estimate.Bytes > s.Budget.Bytes:
		return refuse("ask for fewer pictures, or run it where there is more memory")
	case v.slicing.slices == 0 && v.recipe.Updates == 0:
		return refuse("ask for fewer pictures or steps")
	case v.slicing.slices == 0:
		return refuse("not even one update fits; ask for fewer pictures or steps")
	case v.slicing.slices == 1:
		return nil
	case !v.slices:
		return refuse("ask for fewer pictures, steps or updates, or allow slices")
	case len(s.Key) == 0:
		return refuse("ask for fewer pictures, steps or updates; this deployment has no key to continue runs with")
	case !v.carries():
		return refuse("what a request would leave to the next is too much to carry; ask for fewer pictures")
	}
	return nil
}

// carries reports whether where the run stands can be left to another request:
// its tensors in base64, and some for the words.
func (v *run) carries() bool { return v.memory.States*4/3+64<<10 <= maxToken }

// steer runs a recipe, or as much of it as a request may.
func (s *Server) steer(w http.ResponseWriter, r *http.Request) error {
	a, err := s.ask(w, r, true)
	if err != nil {
		return err
	}
	if _, tunes := a.recipe.Variables[string(sdo.Parameters)]; tunes || a.recipe.Tune != nil {
		return &Error{http.StatusBadRequest, "bad_recipe", "the recipe trains the network's parameters, which takes longer than a request may; run it with `sdo tune` or in the page"}
	}
	if len(a.recipe.Objective) == 0 {
		return &Error{http.StatusBadRequest, "bad_recipe", "the recipe has no objective to steer by; add a term, or use /v1/sample"}
	}
	v, over, err := s.begin(w, r, a)
	if err != nil {
		return err
	}
	defer over()
	return v.fail(r.Context(), v.guarded(v.steer))
}

func (v *run) steer() error {
	if err := v.tell("plan", planEvent{v.recipe, v.estimate, v.memory, v.from}); err != nil {
		return err
	}
	result, err := v.session.SteerFrom(v.ctx, v.state, v.observe)
	switch {
	case v.err != nil:
		return v.err
	case err != nil:
		return err
	case v.next != nil:
		return v.goOn()
	case result.Cancelled:
		return context.Cause(v.ctx) // nobody is there
	}
	report, err := v.report(result)
	if err != nil {
		return err
	}
	return v.end(http.StatusOK, "result", report)
}

// observe tells the caller of an event, lets others run, and ends the request's
// share where its time is used up.
func (v *run) observe(e sdo.Event) {
	if v.err == nil && v.ctx.Err() == nil {
		v.err = v.took(e)
	}
	if v.err != nil {
		v.cancel()
	}
}

func (v *run) took(e sdo.Event) error {
	v.counters = e.Counters
	update := e.Kind == sdo.EventUpdate
	over := update && (e.Update == e.Updates || !slices.Contains(e.Stopped, false))
	known := update && v.state != nil && e.Update == v.from && !over // the request before told of it
	told := runEvent{Event: e, Kept: e.Kept}
	if update && !known && (over || v.previews > 0 && e.Update%v.previews == 0) {
		if err := v.look(&told); err != nil {
			return err
		}
	}
	// Where the clock stands while something is computed, it moves on here.
	if err := v.server.Pause(v.ctx, 0); err != nil {
		return err
	}
	v.meter()
	told.Seconds = v.seconds()
	name := "step"
	if update {
		name = "update"
	}
	if !known {
		if err := v.tell(name, told); err != nil {
			return err
		}
		v.told = v.now() // a caller who reads slowly costs no computing
	}
	if update && !known && !over && v.used(e.Update) {
		var err error
		if v.next, err = e.Save(v.ctx); err != nil {
			return err
		}
		v.cancel()
	}
	return nil
}

// used reports whether the request's share is used up: by the plan or, where the
// processor is slower than the plan thought, by the clock.
func (v *run) used(update int) bool {
	if v.slicing.slices == 1 && (len(v.server.Key) == 0 || !v.slices || !v.carries()) {
		return false
	}
	made := update - v.from
	return made >= v.slicing.first || made > 0 && v.computed > v.server.Budget.Seconds
}

// meter adds the time since the latest event to what was computed. All runs
// share one thread, so that of it which was this run's own is what they divide.
func (v *run) meter() {
	now := v.now()
	live, _ := v.server.admission.held()
	v.computed += now.Sub(v.told).Seconds() / float64(max(1, live))
	v.told = now
}

// seconds is how long the run has taken, requests before this one included.
func (v *run) seconds() float64 { return v.asked.seconds + v.now().Sub(v.since).Seconds() }

// look adds the state of an update as pictures, and what the judge says of them.
func (v *run) look(e *runEvent) error {
	images, err := v.exec.Read(v.ctx, e.State)
	if err != nil {
		return err
	}
	if e.Pictures, err = newPictures(images, v.session.Shape); err != nil {
		return err
	}
	if v.session.JudgeLabel() != "" {
		e.Verdicts, err = v.session.Approve(v.ctx, e.State)
	}
	return err
}

// goOn ends the request's share with what the next one needs.
func (v *run) goOn() error {
	s, update, updates := v.server, v.next.Result.Updates, v.recipe.Updates
	expires := s.Now().Add(s.TokenLife)
	token, err := s.seal(&saved{v.recipe, v.adapter, v.seconds(), v.next}, expires)
	if err != nil {
		return err
	}
	left := s.estimate(s.Budget.slice(v.session.Efforts(), updates-update, true), v.memory)
	return v.end(http.StatusAccepted, "continue", continueEvent{token, expires.Unix(), update, updates, left})
}

// report is the result as the caller gets it.
func (v *run) report(result *sdo.Result) (r *steerResult, err error) {
	r = &steerResult{}
	if r.Before, err = newPictures(result.Before, v.session.Pictures()); err != nil {
		return nil, err
	}
	if r.After, err = newPictures(result.Samples, v.session.Pictures()); err != nil {
		return nil, err
	}
	r.Summary, err = v.session.Summarise(v.ctx, result, v.seconds())
	return r, err
}

// sample makes a recipe's pictures without steering.
func (s *Server) sample(w http.ResponseWriter, r *http.Request) error {
	a, err := s.ask(w, r, false)
	if err != nil {
		return err
	}
	a.recipe = a.recipe.Sampling()
	v, over, err := s.begin(w, r, a)
	if err != nil {
		return err
	}
	defer over()
	v.mute = v.mute || v.sheet
	return v.fail(r.Context(), v.guarded(v.sample))
}

func (v *run) sample() error {
	if err := v.tell("plan", planEvent{v.recipe, v.estimate, v.memory, 0}); err != nil {
		return err
	}
	images, err := v.session.Sample(v.ctx, v.observe)
	switch {
	case v.err != nil:
		return v.err
	case err != nil:
		return err
	case v.sheet:
		return writeSheet(v.w, images, v.session.Shape)
	}
	pictures, err := newPictures(images, v.session.Shape)
	if err != nil {
		return err
	}
	return v.end(http.StatusOK, "result", sampleResult{pictures, v.seconds(), v.counters})
}

func writeSheet(w http.ResponseWriter, images []float64, shape graph.Shape) error {
	sheet, err := contactSheet(images, shape)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "image/png")
	w.Header().Set("Content-Length", strconv.Itoa(len(sheet)))
	_, err = w.Write(sheet)
	return err
}
