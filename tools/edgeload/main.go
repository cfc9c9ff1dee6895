// Command edgeload sends an edge worker many runs at once, holds every result
// against a native one, and says how long they took and what memory they left.
// It fails where a result is missing or wrong.
//
//	go run ./tools/edgeload --url http://127.0.0.1:8787 --requests 200 --parallel 8 --set num_images=1
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/tools/edgeload/load"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "edgeload:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer, args []string) error {
	var o load.Options
	var overrides []recipes.Override
	flags := flag.NewFlagSet("edgeload", flag.ContinueOnError)
	flags.StringVar(&o.URL, "url", "http://127.0.0.1:8787", "address of the worker")
	flags.IntVar(&o.Requests, "requests", 16, "runs, each with a seed of its own")
	flags.IntVar(&o.Parallel, "parallel", 8, "runs at a time")
	flags.IntVar(&o.Process, "pid", 0, "process of the worker, whose memory is told; by default the workerd at the address")
	name := flags.String("recipe", "dark-glasses", "embedded recipe")
	asJSON := flags.Bool("json", false, "write the report as JSON")
	flags.Func("set", "recipe value as key=value; may be repeated", func(s string) error {
		path, value, found := strings.Cut(s, "=")
		if !found {
			return fmt.Errorf("%q is not key=value", s)
		}
		overrides = append(overrides, recipes.Override{Path: path, Value: value, From: "--set " + s})
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.Requests < 1 || o.Parallel < 1 {
		return errors.New("--requests and --parallel must be 1 or more")
	}
	var err error
	if o.Recipe, err = recipes.Find(*name, nil, overrides...); err != nil {
		return err
	}
	report, err := load.Run(ctx, o)
	if err != nil {
		return err
	}
	if *asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(report)
	} else {
		tell(w, report)
	}
	if err == nil && !report.OK() {
		err = fmt.Errorf("of %d results %d are wrong and %d are missing", report.Requests, report.Wrong, report.Lost)
	}
	return err
}

func tell(w io.Writer, r *load.Report) {
	fmt.Fprintf(w, "%d runs, %d at a time, in %d requests and %.1f s: %d right, %d wrong, %d lost\n",
		r.Requests, r.Parallel, r.Slices, r.Seconds, r.Right, r.Wrong, r.Lost)
	for _, p := range r.Problems {
		fmt.Fprintf(w, "  %s\n", p)
	}
	fmt.Fprintf(w, "losses are at most %.1e of the first away from native ones\n", r.Apart)
	fmt.Fprintf(w, "%-16s%10s%10s%10s\n", "seconds", "p50", "p95", "max")
	for _, row := range []struct {
		name string
		q    load.Quantiles
	}{{"to first event", r.FirstEvent}, {"to result", r.Result}} {
		fmt.Fprintf(w, "%-16s%10.3f%10.3f%10.3f\n", row.name, row.q.P50, row.q.P95, row.q.Max)
	}
	fmt.Fprintf(w, "%-16s%10.3f%10.3f, the first and the next\n", "health", r.Health[0], r.Health[1])
	fmt.Fprintf(w, "%-16s%10s%10s%10s\n", "MiB", "heap", "taken", "resident")
	for _, row := range []struct {
		name string
		m    load.Memory
	}{{"before", r.Before}, {"after", r.After}} {
		fmt.Fprintf(w, "%-16s%10.1f%10.1f%10.1f\n", row.name, mib(row.m.Heap), mib(row.m.System), mib(row.m.Resident))
	}
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
