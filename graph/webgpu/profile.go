package webgpu

import (
	"context"
	"fmt"
	"time"

	"github.com/sdo-go/sdo/graph"
)

// KernelTime is what one dispatch of a program took.
type KernelTime struct {
	Op     string // operation of the node it computes
	Shader string
	Shape  graph.Shape // of the node
	Time   time.Duration
}

// Profile runs a segment one kernel at a time and waits for each, so the times
// hold one submission and one read-back of 4 bytes on top (0.1 to 1 ms by the
// host's clock): compare kernels with it, not devices. Packing parameters that
// changed is not among them. Timestamp queries would be exact; the binding has
// them on no browser and not inside a pass.
func (e *Executor) Profile(ctx context.Context, of graph.Program, kept graph.Tape, segment int, feeds []graph.Feed) ([]KernelTime, error) {
	p, ok := of.(*program)
	if !ok || p.owner != e {
		return nil, fmt.Errorf("profile: the program is not of this executor")
	}
	if err := p.Run(ctx, kept, segment, feeds, nil); err != nil {
		return nil, err // also warms up: pipelines and memory are touched once
	}
	t, _ := kept.(*tape)
	times := make([]KernelTime, 0, len(p.segments[segment]))
	wait := func() error {
		if err := e.flush(); err != nil {
			return err
		}
		return e.device.Read(ctx, e.filler, 0, make([]byte, 4))
	}
	if err := wait(); err != nil {
		return nil, err
	}
	for i, s := range p.segments[segment] {
		start := time.Now()
		pass, err := e.record()
		if err != nil {
			return nil, err
		}
		pass.Dispatch(s.pipeline, p.bindingsOf(t, segment, i), s.block, s.groups)
		if err := wait(); err != nil {
			return nil, err
		}
		times = append(times, KernelTime{s.node.Op, s.shader, s.node.Shape, time.Since(start)})
	}
	return times, nil
}
