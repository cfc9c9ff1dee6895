// Command status says what the tree holds, read from the tree: with no
// arguments the table of operations, with -w FILE the short table between the
// status markers of FILE. A test fails when README's table is out of date, so
// it cannot claim what is not there.
package main

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/graph/optable"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/model/builtin"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/tools/marked"
	"github.com/sdo-go/sdo/train"
)

// markers are those of the table.
const markers = "status"

func main() {
	write := flag.String("w", "", "file to write the status table into")
	root := flag.String("root", ".", "root of the repository")
	flag.Parse()
	if err := run(*root, *write); err != nil {
		fmt.Fprintln(os.Stderr, "status:", err)
		os.Exit(1)
	}
}

func run(root, file string) error {
	ops, err := operations(root)
	if err != nil {
		return err
	}
	if file == "" {
		fmt.Print(matrix(ops))
		return nil
	}
	table, err := status(root, ops)
	if err != nil {
		return err
	}
	return marked.Write(file, markers, table)
}

// operation is one row of the matrix.
type operation struct {
	name     string
	cpu, gpu bool
	rows     int // of the op table that reach it, forward or backward
}

func operations(root string) ([]operation, error) {
	exec := cpu.New[float32](cpu.Options{Workers: 1})
	onCPU := exec.Ops()
	if err := exec.Close(); err != nil {
		return nil, err
	}
	onGPU, err := mapKeys(filepath.Join(root, "graph/webgpu"), "kernels")
	if err != nil {
		return nil, err
	}
	rows := map[string]int{}
	for _, r := range optable.Rows() {
		reached, err := r.Ops()
		if err != nil {
			return nil, fmt.Errorf("op table row %s: %w", r.Name, err)
		}
		for _, op := range reached {
			rows[op]++
		}
	}
	var all []operation
	for _, op := range graph.Ops() {
		all = append(all, operation{op, slices.Contains(onCPU, op), slices.Contains(onGPU, op), rows[op]})
	}
	return all, nil
}

// mapKeys reads the string keys of a package's map literal from its source, so
// that the table needs no exported copy of it.
func mapKeys(dir, variable string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			return nil, err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Names) != 1 || spec.Names[0].Name != variable || len(spec.Values) != 1 {
				return true
			}
			literal, ok := spec.Values[0].(*ast.CompositeLit)
			if !ok {
				return true
			}
			for _, e := range literal.Elts {
				if key, ok := e.(*ast.KeyValueExpr).Key.(*ast.BasicLit); ok {
					if name, err := strconv.Unquote(key.Value); err == nil {
						keys = append(keys, name)
					}
				}
			}
			return false
		})
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: no map literal %s", dir, variable)
	}
	return keys, nil
}

func matrix(ops []operation) string {
	var b strings.Builder
	mark := func(yes bool) string {
		if yes {
			return "yes"
		}
		return "-"
	}
	fmt.Fprintf(&b, "%-30s%6s%8s%8s\n", "operation", "cpu", "webgpu", "tests")
	for _, op := range ops {
		fmt.Fprintf(&b, "%-30s%6s%8s%8d\n", op.name, mark(op.cpu), mark(op.gpu), op.rows)
	}
	return b.String()
}

// status is the README's table.
func status(root string, ops []operation) (string, error) {
	onCPU, onGPU, tested := 0, 0, 0
	for _, op := range ops {
		if op.cpu {
			onCPU++
		}
		if op.gpu {
			onGPU++
		}
		if op.rows > 0 {
			tested++
		}
	}
	models, err := embedded()
	if err != nil {
		return "", err
	}
	packages, err := portable(root)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	row := func(what, state string) { fmt.Fprintf(&b, "| %s | %s |\n", what, state) }
	fmt.Fprint(&b, "| | |\n|---|---|\n")
	row("Operations", fmt.Sprintf("%d; %d on the CPU, %d in WGSL, %d in the op table", len(ops), onCPU, onGPU, tested))
	row("Embedded networks", models)
	row("Training recipes", code(train.Recipes()))
	row("Steering recipes", code(recipes.List()))
	row("Tuning recipes", code(recipes.Tunings()))
	row("Objective terms", code(recipes.Terms))
	row("Methods", code(recipes.Methods))
	row("Frozen quantities", code(recipes.Freezes))
	row("Samplers", code(recipes.Samplers)+" with spacing "+code(recipes.Spacings))
	row("Variables", code(recipes.Variables))
	row("Packages that build for `js/wasm`", packages)
	return b.String(), nil
}

func code(words []string) string { return "`" + strings.Join(words, "`, `") + "`" }

// embedded describes the networks inside the binary by loading them.
func embedded() (string, error) {
	var parts []string
	for _, name := range strings.Split(builtin.Names(), ", ") {
		folder, err := builtin.Open(name)
		if err != nil {
			return "", err
		}
		weights, err := weightsOf(folder)
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		parts = append(parts, fmt.Sprintf("`%s` (%.2f M parameters)", name, float64(weights.Count())/1e6))
	}
	return strings.Join(parts, ", "), nil
}

func weightsOf(folder fs.FS) (model.Weights, error) {
	class, err := model.ClassName(folder)
	if err != nil {
		return nil, err
	}
	if class == "UNet2DModel" {
		m, err := model.LoadUNet2D(folder)
		if err != nil {
			return nil, err
		}
		return m.Weights, nil
	}
	m, err := model.LoadClassifier(folder)
	if err != nil {
		return nil, err
	}
	return m.Weights, nil
}

// portable reads the Makefile's list, which `make wasm` builds.
func portable(root string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if list, ok := strings.CutPrefix(line, "PORTABLE := "); ok {
			return code(strings.Fields(strings.ReplaceAll(list, "./", ""))), nil
		}
	}
	return "", fmt.Errorf("Makefile: PORTABLE is missing")
}
