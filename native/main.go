// Command sdo steers a diffusion model by gradient with Shortcut Diffusion
// Optimization: on any GPU through WebGPU, or on the CPU.
//
// This package is the command line: flags, progress, exit codes, which device
// to take and where files go. What is computed is decided in package engine
// and below.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/gpu"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/native/hub"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/recipes/spelling"
)

// Exit codes. They are part of the interface; README lists them.
const (
	exitOK          = 0
	exitFailure     = 1   // something went wrong while running
	exitUsage       = 2   // bad flag, recipe, model or other input
	exitDevice      = 3   // no usable device, too small, out of its memory, or it was lost
	exitInterrupted = 130 // Ctrl-C; the best so far is saved
)

// errInterrupted ends a command that Ctrl-C stopped and that has saved what
// there was to save.
var errInterrupted = errors.New("interrupted")

// usageError marks an error as the user's to fix.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// badInput marks err as about the input, unless it is nil or about the device.
func badInput(err error) error {
	if err == nil || exitCode(err) != exitFailure {
		return err
	}
	return usageError{err}
}

// exitCode classifies what a command returned.
func exitCode(err error) int {
	var usage usageError
	var problem recipes.Problem
	var problems recipes.Problems
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errInterrupted), errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, gpu.ErrNoAdapter), errors.Is(err, gpu.ErrLost),
		errors.Is(err, gpu.ErrOutOfMemory), errors.Is(err, cpu.ErrOutOfMemory), errors.Is(err, graph.ErrTooLarge):
		return exitDevice
	case errors.As(err, &usage), errors.As(err, &problem), errors.As(err, &problems):
		return exitUsage
	}
	return exitFailure
}

// advise adds what to do about an error that can be helped from the command
// line.
func advise(err error) string {
	message := strings.TrimRight(err.Error(), ".\n")
	missing := engine.Missing{}
	switch {
	case errors.As(err, &missing) && hub.CheckName(missing.Name) == nil:
		message += fmt.Sprintf("; if a hub has it, sdo model pull %s brings it", missing.Name)
	case errors.Is(err, gpu.ErrOutOfMemory):
		message += "; try fewer pictures with --num-images, or --device cpu"
	case errors.Is(err, gpu.ErrLost):
		message += "; it may have run out of memory or been reset, so try fewer pictures with --num-images, or --device cpu"
	case errors.Is(err, gpu.ErrNoAdapter) && !strings.Contains(message, "--device cpu"):
		message += "; or run with --device cpu"
	}
	return message
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first Ctrl-C asks for an orderly end, a second one ends at once. A network
	// call may take minutes.
	context.AfterFunc(ctx, func() {
		stop()
		time.Sleep(2 * time.Second)
		fmt.Fprintln(os.Stderr, "\nends as soon as what is under way is done and saved; Ctrl-C again ends at once and saves nothing more")
	})
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program but for the process around it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(stderr, "sdo: a fault of the program: %s; please report it with the output of sdo doctor (SDO_TRACE=1 shows where)\n", oneLine(fmt.Sprint(r)))
			if os.Getenv("SDO_TRACE") == "1" {
				stderr.Write(debug.Stack())
			}
			code = exitFailure
		}
	}()
	out := &sink{Writer: stdout}
	a := &app{stdout: out, stderr: stderr, args: append([]string{"sdo"}, args...)}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(a.stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return flagError(cmd.Flags(), err) })
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started {
		// cobra refused the command line, and suggests over several lines.
		message, hint, hinted := strings.Cut(err.Error(), "\n\nDid you mean this?")
		if hinted {
			message += "; did you mean " + strings.Join(strings.Fields(hint), " or ") + "?"
		}
		err = usageError{errors.New(oneLine(message))}
	}
	if err == nil && out.err != nil {
		err = fmt.Errorf("standard output: %w", out.err)
	}
	if code = exitCode(err); code == exitInterrupted {
		if !errors.Is(err, errInterrupted) {
			fmt.Fprintln(stderr, "sdo: interrupted")
		}
	} else if err != nil {
		for line := range strings.SplitSeq(advise(err), "\n") {
			fmt.Fprintf(plainly{stderr}, "sdo: %s\n", strings.TrimPrefix(line, "sdo: "))
		}
		if !a.started {
			fmt.Fprintf(stderr, "Run %s --help for what there is.\n", cmd.CommandPath())
		}
	}
	return code
}

// flagError says what is wrong with a flag in a person's words.
func flagError(flags *pflag.FlagSet, err error) error {
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "":
		var names []string
		flags.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if meant := spelling.Nearest(unknown.GetSpecifiedName(), names); meant != "" {
			return fmt.Errorf("%w; did you mean --%s?", err, meant)
		}
	case errors.As(err, &invalid):
		want := map[string]string{"int": "a whole number", "intSlice": "whole numbers with commas in between",
			"float64": "a number", "bool": "true or false"}[invalid.GetFlag().Value.Type()]
		if want != "" {
			return fmt.Errorf("--%s is %q, want %s", invalid.GetFlag().Name, invalid.GetValue(), want)
		}
	}
	return err
}

// sink is standard output, which may be a full disk: it remembers that a write
// failed.
type sink struct {
	io.Writer
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.Writer.Write(p)
	if s.err == nil {
		s.err = err
	}
	return n, err
}

// plainly writes what a stranger's file or recipe says without what a terminal
// would obey.
type plainly struct{ io.Writer }

func (p plainly) Write(text []byte) (int, error) {
	_, err := p.Writer.Write(bytes.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text))
	return len(text), err
}

// one demands a single argument and names it.
func one(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s takes one %s, got %d", cmd.CommandPath(), what, len(args))
		}
		return nil
	}
}

// optional allows a single argument.
func optional(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return fmt.Errorf("%s takes one %s at most, got %d", cmd.CommandPath(), what, len(args))
		}
		return nil
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// app is one invocation: its streams and the flags every command shares.
type app struct {
	stdout, stderr io.Writer
	args           []string // as typed, with the program's name
	started        bool     // the command line was accepted

	notes []string // told once the input is known to be right

	device string
	json   bool
	quiet  bool
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "sdo",
		Short: "Steer a diffusion model by gradient, on any GPU or none",
		Long: `sdo steers a diffusion model by gradient with Shortcut Diffusion Optimization:
sample all steps, keep the graph of one, send the gradient of any metric to it.
It runs on any GPU through WebGPU (Vulkan, Metal, DirectX 12) or on the CPU, and
brings its own small model.

Exit codes: 0 done, 1 failed, 2 bad input, 3 no device or out of its memory,
130 interrupted (the best so far is saved).`,
		Example: `  sdo steer dark-glasses --out out/dark-glasses
  sdo steer my-recipe.yaml --updates 20 --set objective.0.weight=2
  sdo sample --condition mood=happy --condition hat=yes
  sdo doctor`,
		Version:       program().String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			switch a.device {
			case "auto", "webgpu", "cpu":
			default:
				return fmt.Errorf("--device is %q, want auto, webgpu or cpu", a.device)
			}
			a.started = true
			return nil
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.device, "device", "auto", "auto, webgpu or cpu; auto takes a real GPU, or else whichever a short probe finds faster")
	flags.BoolVar(&a.json, "json", false, "print results as JSON on standard output")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "print no progress")
	root.SetHelpCommand(&cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		RunE: func(_ *cobra.Command, args []string) error {
			about, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usageError{fmt.Errorf("there is no command %q; sdo --help lists what there is", strings.Join(args, " "))}
			}
			return about.Help()
		},
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(a.steer(), a.sample(), a.tune(), a.train(), a.audit(), a.bench(), a.demo(), a.doctor(), a.model(), a.recipes())
	return root
}

// say prints one line for a person; nothing with --quiet.
func (a *app) say(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(plainly{a.stderr}, format+"\n", args...)
	}
}
