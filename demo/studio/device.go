package studio

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/gpu"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/graph/optable"
	"github.com/sdo-go/sdo/graph/webgpu"
	"github.com/sdo-go/sdo/recipes"
)

// device is what the page computes on.
type device struct {
	graph.Executor
	gpu *gpu.Device // nil for the CPU
}

// deviceInfo describes the open device.
type deviceInfo struct {
	Kind     string           `json:"kind"`
	Name     string           `json:"name"`
	Driver   string           `json:"driver"`
	Software bool             `json:"software"`
	Why      string           `json:"why"`
	Features []string         `json:"features"`
	Limits   map[string]int64 `json:"limits"`
}

// patience is how long a browser may take to give a device.
const patience = 20 * time.Second

// open replaces the device once there is another; after a loss it is how the page
// goes on.
func open(r *request, p struct {
	Device string `json:"device"`
}) (any, error) {
	s := r.server
	s.mu.Lock()
	busy := s.job != nil || s.opening
	s.opening = s.opening || !busy
	s.mu.Unlock()
	if busy {
		return nil, errBusy
	}
	opened, why, err := s.find(r, p.Device)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening = false
	if err != nil {
		return nil, err
	}
	if s.device != nil {
		s.device.Close() // a lost device has nothing more to say
	}
	s.device = opened
	return opened.info(why), nil
}

// find opens what the page asks for. With auto the CPU stands in for a GPU that
// is not there, and why says so.
func (s *Server) find(ctx context.Context, wanted string) (found *device, why string, err error) {
	switch wanted {
	case "auto", "webgpu":
		brief, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		exec, err := webgpu.Open(brief, "")
		if err == nil {
			found = &device{exec, exec.GPU()}
			if d, ok := any(found.gpu).(interface{ WhenLost(func(error)) }); ok {
				d.WhenLost(func(err error) { s.host.Post(Message{Event: lossEvent{"device_lost", failure(err).Message}}) })
			}
			return found, "", nil
		}
		if wanted == "webgpu" || !errors.Is(err, gpu.ErrNoAdapter) {
			return nil, "", err
		}
		why = err.Error()
	case "cpu":
	default:
		return nil, "", inputError{fmt.Errorf("device is %q, want auto, webgpu or cpu", wanted)}
	}
	return &device{Executor: cpu.New[float32](cpu.Options{})}, why, nil
}

func (d *device) info(why string) deviceInfo {
	dev := d.Device()
	i := deviceInfo{Kind: dev.Kind, Name: dev.Name, Driver: dev.Driver, Software: dev.Software, Why: why, Features: []string{}, Limits: map[string]int64{}}
	if d.gpu == nil {
		return i
	}
	if features := d.gpu.Info().Features; features != nil {
		i.Features = features
	}
	i.Limits = d.gpu.Limits().ByName()
	return i
}

// lossEvent tells of a device that is lost, whether a job runs or not.
type lossEvent struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

// loseDevice loses the device where the platform can.
func loseDevice(r *request, _ none) (any, error) {
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.device != nil && s.device.gpu != nil {
		if d, ok := any(s.device.gpu).(interface{ Lose() }); ok {
			d.Lose()
			return nil, nil
		}
	}
	return nil, inputError{fmt.Errorf("this device cannot be lost on purpose")}
}

// measured is the speed of a device.
type measured struct {
	GFLOPS         float64 `json:"gemm_gflops"`
	CallMS         float64 `json:"call_ms"`
	Dispatches     int64   `json:"dispatches"`
	EncodeReplayed float64 `json:"encode_replayed_us"`
	EncodePlain    float64 `json:"encode_plain_us"`
	ReadbackMS     float64 `json:"readback_ms"`
}

// measuredPictures is the batch of the network call that is measured, as in the
// built-in recipes.
const measuredPictures = 16

func measure(r *request, _ none) (any, error) {
	j, err := r.server.begin(r)
	if err != nil {
		return nil, err
	}
	defer r.server.end(j)
	m := measured{}
	seconds, err := engine.MatMulSeconds(r, j.exec)
	if err != nil {
		return nil, err
	}
	m.GFLOPS = engine.MatMulFlops / seconds / 1e9
	if err := r.server.measureCall(r, j.exec, &m); err != nil {
		return nil, err
	}
	one, err := j.exec.NewVector(64)
	if err != nil {
		return nil, err
	}
	defer j.exec.FreeVector(one)
	seconds, err = engine.Fastest(300*time.Millisecond, func() error {
		_, err := j.exec.Read(r, one)
		return err
	})
	m.ReadbackMS = 1e3 * seconds
	return m, err
}

// measureCall times one network call of the embedded model, and what it takes to
// hand one over: with the list that JavaScript replays, and without.
func (s *Server) measureCall(ctx context.Context, exec graph.Executor, m *measured) error {
	one, err := s.callSeconds(ctx, exec, 1)
	if err == nil && one < 0.05 { // or the read-back of the pictures would be most of it
		one, err = s.callSeconds(ctx, exec, 20)
	}
	m.CallMS = 1e3 * one
	g, ok := exec.(*webgpu.Executor)
	if err != nil || !ok {
		return err
	}

	// A call of one picture is as many dispatches, and leaves less to wait for.
	small, err := s.plainSession(exec, 1, 1)
	if err != nil {
		return err
	}
	defer small.Close()
	before := g.GPU().Dispatches()
	if _, err := small.EncodeSeconds(ctx, 1); err != nil {
		return err
	}
	m.Dispatches = g.GPU().Dispatches() - before
	encode := func() (float64, error) {
		shortest := math.Inf(1)
		for range 3 {
			seconds, err := small.EncodeSeconds(ctx, 8) // clocks of browsers tick ten times a millisecond
			if err != nil {
				return 0, err
			}
			shortest = min(shortest, 1e6*seconds)
		}
		return shortest, nil
	}
	if m.EncodeReplayed, err = encode(); err != nil {
		return err
	}
	replayer, ok := any(g.GPU()).(interface{ Replay(bool) bool })
	if !ok || !replayer.Replay(false) {
		m.EncodePlain = m.EncodeReplayed
		return nil
	}
	defer replayer.Replay(true)
	m.EncodePlain, err = encode()
	return err
}

// callSeconds is how long a network call takes, on average over a rollout.
func (s *Server) callSeconds(ctx context.Context, exec graph.Executor, calls int) (float64, error) {
	session, err := s.plainSession(exec, measuredPictures, calls)
	if err != nil {
		return 0, err
	}
	defer session.Close()
	seconds, err := engine.Fastest(time.Second, func() error {
		_, err := session.Sample(ctx, nil)
		return err
	})
	return seconds / float64(calls), err
}

// plainSession makes pictures of the embedded model.
func (s *Server) plainSession(exec graph.Executor, pictures, steps int) (*engine.Session, error) {
	r := recipes.Defaults()
	r.Name, r.NumImages, r.Updates, r.Sampler.NumInferenceSteps = "measure", pictures, 0, steps
	p, err := s.planned(&r)
	if err != nil {
		return nil, err
	}
	return engine.NewSession(exec, p)
}

// kernelCheck is a row of the op table on the open device against float64.
type kernelCheck struct {
	Name    string  `json:"name"`
	Device  string  `json:"device"`
	Error   float64 `json:"error"`
	Bound   float64 `json:"bound"`
	OK      bool    `json:"ok"`
	Message string  `json:"message"`
}

// kernels runs the op table. Rows that take most of a gigabyte in float64 are
// left to the test suite, which runs them in a browser too.
func kernels(r *request, p struct {
	Only string `json:"only"`
}) (any, error) {
	j, err := r.server.begin(r)
	if err != nil {
		return nil, err
	}
	defer r.server.end(j)
	var rows []optable.Row
	for _, row := range optable.Rows() {
		if !row.Large && strings.HasPrefix(row.Name, p.Only) {
			rows = append(rows, row)
		}
	}
	reference := cpu.New[float64](cpu.Options{})
	defer reference.Close()
	all := []kernelCheck{}
	for _, row := range rows {
		j.gate(r)
		if err := r.Err(); err != nil {
			return nil, err
		}
		c, err := checkRow(j.exec, reference, row)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
		r.tell(struct {
			Done int         `json:"done"`
			Of   int         `json:"of"`
			Row  kernelCheck `json:"row"`
		}{len(all), len(rows), c})
	}
	return all, nil
}

// checkRow reports what is wrong with a row; only the loss of the device is an
// error.
func checkRow(exec, reference graph.Executor, row optable.Row) (kernelCheck, error) {
	c := kernelCheck{Name: row.Name, Device: exec.Device().Name, Bound: row.NMSE, OK: true}
	for _, pass := range []func(graph.Executor, optable.Row) ([][]float64, error){optable.Forward, optable.Gradients} {
		want, err := pass(reference, row)
		var got [][]float64
		if err == nil {
			got, err = pass(exec, row)
		}
		if err != nil {
			c.OK, c.Message = false, err.Error()
			if !errors.Is(err, gpu.ErrLost) {
				err = nil
			}
			return c, err
		}
		for i := range want {
			e := optable.NMSE(got[i], want[i])
			if !(e <= row.NMSE) { // a NaN is not
				c.OK = false
			}
			if math.IsNaN(e) || math.IsInf(e, 0) {
				e, c.Message = math.MaxFloat64, "numbers that are not finite" // JSON has none
			}
			c.Error = max(c.Error, e)
		}
	}
	return c, nil
}
