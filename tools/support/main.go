// Command support writes the table of docs/models.md: how far each supported
// architecture is from PyTorch, on the CPU and on this machine's WebGPU adapter,
// by the fixtures of model/testdata. Tests of packages model and graph/webgpu
// hold the tolerances; this only tells what they leave.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/graph/webgpu"
	"github.com/sdo-go/sdo/model/modeltest"
	"github.com/sdo-go/sdo/tools/marked"
)

// markers are those of the table.
const markers = "support"

func main() {
	file := flag.String("w", "", "file to write the table into, between its markers")
	root := flag.String("root", ".", "root of the repository")
	flag.Parse()
	if err := run(*root, *file); err != nil {
		fmt.Fprintln(os.Stderr, "support:", err)
		os.Exit(1)
	}
}

func run(root, file string) error {
	fixtures, err := modeltest.Fixtures(os.DirFS(filepath.Join(root, "model/testdata")))
	if err != nil {
		return err
	}
	processor := cpu.New[float32](cpu.Options{})
	defer processor.Close()
	adapter, err := webgpu.Open(context.Background(), "")
	if err != nil {
		return err
	}
	defer adapter.Close()
	t := table{rows: rowsOf(fixtures)}
	t.processor, t.adapter = describe(processor), describe(adapter)
	for _, r := range t.rows {
		for i, ex := range []graph.Executor{processor, adapter} {
			for _, f := range fixtures {
				if f.Architecture != r.architecture {
					continue
				}
				fmt.Fprintf(os.Stderr, "%s, weights as %s, %s\n", f.Name, stored(r.storage), ex.Device().Kind)
				if err := r.measure(i, ex, f); err != nil {
					return fmt.Errorf("%s on %s: %w", f.Name, ex.Device().Kind, err)
				}
			}
		}
	}
	if file == "" {
		fmt.Print(t.String())
		return nil
	}
	return marked.Write(file, markers, t.String())
}

func stored(s graph.Storage) string {
	if s == graph.F16 {
		return "f16"
	}
	return "f32"
}

func describe(ex graph.Executor) string {
	d := ex.Device()
	return strings.TrimSpace(d.Name + " " + d.Driver)
}

// table is the support table: the executors and, by architecture and storage of
// the weights, the largest errors.
type table struct {
	processor, adapter string
	rows               []*row
}

// row is one architecture with its weights stored in one way.
type row struct {
	architecture string
	fixtures     []string
	storage      graph.Storage
	errors       [2]map[modeltest.Column]float64 // by executor: processor, adapter
}

// rowsOf makes the rows that fixtures fill, in their order.
func rowsOf(fixtures []modeltest.Fixture) (rows []*row) {
	for _, f := range fixtures {
		at := slices.IndexFunc(rows, func(r *row) bool { return r.architecture == f.Architecture })
		if at < 0 {
			at = len(rows)
			for _, storage := range []graph.Storage{graph.F32, graph.F16} {
				r := &row{architecture: f.Architecture, storage: storage}
				for i := range r.errors {
					r.errors[i] = map[modeltest.Column]float64{}
				}
				rows = append(rows, r)
			}
		}
		for _, r := range rows[at : at+2] {
			r.fixtures = append(r.fixtures, f.Name)
		}
	}
	return rows
}

// measure takes one fixture's errors into the row.
func (r *row) measure(executor int, ex graph.Executor, f modeltest.Fixture) error {
	e, err := modeltest.Compare(ex, f, r.storage)
	if err != nil {
		return err
	}
	for _, column := range modeltest.Columns {
		if found, ok := e[column]; ok {
			r.errors[executor][column] = max(r.errors[executor][column], found.Relative)
		}
	}
	return nil
}

func (t table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Each cell is CPU / WebGPU. CPU: %s, float32. WebGPU: %s.\n\n", t.processor, t.adapter)
	b.WriteString("| Architecture | Weights |")
	for _, c := range modeltest.Columns {
		fmt.Fprintf(&b, " %s |", c)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(modeltest.Columns)) + "\n")
	for _, r := range t.rows {
		fmt.Fprintf(&b, "| `%s` | %s |", r.architecture, stored(r.storage))
		for _, c := range modeltest.Columns {
			fmt.Fprintf(&b, " %s |", r.cell(c))
		}
		b.WriteString("\n")
	}
	var by []string
	for _, r := range t.rows {
		if r.storage == graph.F32 {
			by = append(by, fmt.Sprintf("`%s` by %s", r.architecture, strings.Join(r.fixtures, ", ")))
		}
	}
	fmt.Fprintf(&b, "\nFixtures: %s.\n", strings.Join(by, "; "))
	return b.String()
}

func (r *row) cell(c modeltest.Column) string {
	var parts []string
	for _, errors := range r.errors {
		if e, ok := errors[c]; ok {
			parts = append(parts, fmt.Sprintf("%.1e", e))
		}
	}
	if len(parts) == 0 {
		return "–"
	}
	return strings.Join(parts, " / ")
}
