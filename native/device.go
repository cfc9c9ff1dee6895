package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sdo-go/sdo/gpu"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/graph/webgpu"
)

// probe measures the seconds of the work to come, or a small part of it, on an
// executor. Only ratios matter.
type probe func(ctx context.Context, exec graph.Executor) (float64, error)

// untried is why a large model runs on the CPU beside a software adapter.
const untried = "the GPU is software, and the model too large to try it on both"

// openDevice opens the executor that --device asks for and says in one line
// why it is this one. With auto a real GPU is taken unasked; between a software
// adapter and the CPU executor the probe decides.
func (a *app) openDevice(ctx context.Context, measure probe) (exec graph.Executor, why string, err error) {
	switch a.device {
	case "cpu":
		return cpu.New[float32](cpu.Options{}), "as asked for", nil
	case "webgpu":
		exec, err := webgpu.Open(ctx, "")
		if err != nil {
			return nil, "", err
		}
		return exec, "as asked for", nil
	}
	hardware, err := webgpu.Open(ctx, "")
	switch {
	case errors.Is(err, gpu.ErrNoAdapter):
		why = "there is no GPU adapter"
		if wanted := os.Getenv("SDO_ADAPTER"); wanted != "" {
			why += " that matches SDO_ADAPTER=" + wanted
		}
		return cpu.New[float32](cpu.Options{}), why, nil
	case err != nil:
		return nil, "", err
	case !hardware.Device().Software:
		return hardware, "it is a real GPU", nil
	}
	processor := cpu.New[float32](cpu.Options{})
	if measure == nil {
		return processor, untried, hardware.Close()
	}
	exec, why, loser, err := race(ctx, measure, hardware, processor)
	if err != nil {
		hardware.Close()
		processor.Close()
		return nil, "", err
	}
	return exec, why, loser.Close()
}

// fits is an error where so many bytes are more than the machine has free, for
// devices that live in its memory. A real GPU is asked as buffers are made.
func fits(exec graph.Executor, bytes int64) error {
	if d := exec.Device(); d.Kind != "cpu" && !d.Software {
		return nil
	}
	if err := cpu.Room(bytes); err != nil {
		return fmt.Errorf("%w or steps, or --method sdo", err)
	}
	return nil
}

// race probes both executors and returns the faster one. One that fails the
// probe has lost; ctx ends it.
func race(ctx context.Context, measure probe, software, processor graph.Executor) (winner graph.Executor, why string, loser graph.Executor, err error) {
	gpuSeconds, gpuErr := measure(ctx, software)
	if ctx.Err() != nil {
		return nil, "", nil, ctx.Err()
	}
	cpuSeconds, cpuErr := measure(ctx, processor)
	switch {
	case ctx.Err() != nil:
		return nil, "", nil, ctx.Err()
	case cpuErr != nil && gpuErr != nil:
		return nil, "", nil, cpuErr
	case gpuErr != nil:
		return processor, "the software GPU failed: " + oneLine(gpuErr.Error()), software, nil
	case cpuErr != nil:
		return software, "the CPU executor failed: " + oneLine(cpuErr.Error()), processor, nil
	}
	why = fmt.Sprintf("a network call takes %s on it and %s on ", duration(min(cpuSeconds, gpuSeconds)), duration(max(cpuSeconds, gpuSeconds)))
	if gpuSeconds < cpuSeconds {
		return software, why + "the CPU executor", processor, nil
	}
	return processor, why + "software Vulkan", software, nil
}

// describe names a device for a person.
func describe(d graph.Device) string {
	s := d.Name
	if d.Driver != "" {
		s += " (" + d.Driver + ")"
	}
	return s
}

func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(100 * time.Microsecond).String()
	case d < time.Minute:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
