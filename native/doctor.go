package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/gpu"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/graph/webgpu"
)

// diagnosis is what `sdo doctor --json` prints. Keys are stable.
type diagnosis struct {
	Program string        `json:"program"`
	Cores   int           `json:"cores"`
	Devices []examination `json:"devices"`
	Missing string        `json:"missing,omitempty"` // why there is no GPU
	Use     string        `json:"use"`
	Why     string        `json:"why"`
}

// examination is one device.
type examination struct {
	Kind     string     `json:"kind"`
	Name     string     `json:"name"`
	Driver   string     `json:"driver,omitempty"`
	Software bool       `json:"software"`
	GFLOPS   float64    `json:"gemm_gflops"` // f32 matrix product of engine.MatMulSeconds
	Type     string     `json:"type,omitempty"`
	Limits   *gpuLimits `json:"limits,omitempty"`
	Features []string   `json:"features,omitempty"`
	Fault    string     `json:"fault,omitempty"` // what went wrong when it was tried
}

type gpuLimits struct {
	MaxBuffer    int64 `json:"max_buffer_bytes"`
	MaxBinding   int64 `json:"max_storage_binding_bytes"`
	MaxStorage   int   `json:"max_storage_bindings"`
	MaxThreads   int   `json:"max_workgroup_invocations"`
	MaxWorkgroup int   `json:"max_workgroup_bytes"`
	MaxGroups    int   `json:"max_workgroups_per_dimension"`
}

func (a *app) doctor() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine offers, how fast it is and what would be used",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := examine(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(d)
			}
			d.print(a)
			return nil
		},
	}
}

func examine(ctx context.Context) (*diagnosis, error) {
	d := &diagnosis{Program: program().String(), Cores: runtime.GOMAXPROCS(0)}
	look := func(exec graph.Executor) error {
		defer exec.Close()
		dev := exec.Device()
		e := examination{Kind: dev.Kind, Name: dev.Name, Driver: dev.Driver, Software: dev.Software}
		if g, ok := exec.(*webgpu.Executor); ok {
			info, l := g.GPU().Info(), g.GPU().Limits()
			e.Type, e.Features = info.Type, info.Features
			e.Limits = &gpuLimits{l.MaxBuffer, l.MaxBinding, l.MaxStorage, l.MaxThreads, l.MaxWorkgroup, l.MaxGroups}
		}
		switch seconds, err := engine.MatMulSeconds(ctx, exec); {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			e.Fault = oneLine(err.Error())
		default:
			e.GFLOPS = engine.MatMulFlops / seconds / 1e9
		}
		d.Devices = append(d.Devices, e)
		return nil
	}
	if exec, err := webgpu.Open(ctx, ""); err == nil {
		if err := look(exec); err != nil {
			return nil, err
		}
	} else if errors.Is(err, gpu.ErrNoAdapter) {
		d.Missing = oneLine(err.Error())
	} else {
		return nil, err
	}
	if err := look(cpu.New[float32](cpu.Options{})); err != nil {
		return nil, err
	}
	processor := d.Devices[len(d.Devices)-1]
	switch gpu := d.Devices[0]; {
	case len(d.Devices) == 1:
		d.Use, d.Why = processor.Name, "there is no GPU adapter"
	case gpu.Fault != "":
		d.Use, d.Why = processor.Name, "the GPU does not work"
	case !gpu.Software:
		d.Use, d.Why = gpu.Name, "it is a real GPU"
	case gpu.GFLOPS > processor.GFLOPS:
		d.Use, d.Why = gpu.Name, "it multiplies matrices faster than the CPU executor; a run probes the model itself"
	default:
		d.Use, d.Why = processor.Name, "it multiplies matrices faster than software Vulkan; a run probes the model itself"
	}
	return d, nil
}

// standard leaves out what is no WebGPU feature but the native library's own;
// --json lists all.
func standard(features []string) []string {
	return slices.DeleteFunc(slices.Clone(features), func(f string) bool { return strings.HasPrefix(f, "native-") })
}

func (d *diagnosis) print(a *app) {
	line := func(key, format string, args ...any) {
		fmt.Fprintf(a.stdout, "  %-14s%s\n", key, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(a.stdout, "sdo %s, %d cores\n", d.Program, d.Cores)
	for _, e := range d.Devices {
		title := "GPU"
		switch {
		case e.Kind == "cpu":
			title = "CPU"
		case e.Software:
			title = "Software GPU (right numbers, times only good for ratios)"
		}
		fmt.Fprintf(a.stdout, "\n%s\n", title)
		line("name", "%s", e.Name)
		if e.Driver != "" {
			line("driver", "%s", e.Driver)
		}
		if l := e.Limits; l != nil {
			line("limits", "buffer %d MiB, binding %d MiB, %d bindings, %d threads, %d KiB shared",
				l.MaxBuffer>>20, l.MaxBinding>>20, l.MaxStorage, l.MaxThreads, l.MaxWorkgroup>>10)
		}
		if len(e.Features) > 0 {
			line("features", "%s (none is needed)", strings.Join(standard(e.Features), ", "))
		}
		if e.Fault != "" {
			line("fault", "%s", e.Fault)
			continue
		}
		line("f32 GEMM", "%.1f GFLOP/s", e.GFLOPS)
	}
	if d.Missing != "" {
		fmt.Fprintf(a.stdout, "\nNo GPU: %s\n", d.Missing)
	}
	fmt.Fprintf(a.stdout, "\n--device auto would use %s: %s.\n", d.Use, d.Why)
}
