package main

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model/modeltest"
	"github.com/sdo-go/sdo/tools/marked"
)

// The table of docs/models.md has a row for every architecture that has
// fixtures, names every fixture, and keeps within what the issue of support
// allows: 1e-4, and 2e-3 with packed weights.
func TestTableIsOfTheFixtures(t *testing.T) {
	text, err := os.ReadFile("../../docs/models.md")
	if err != nil {
		t.Fatal(err)
	}
	fixtures, err := modeltest.Fixtures(os.DirFS("../../model/testdata"))
	if err != nil {
		t.Fatal(err)
	}
	shown, err := marked.Between(string(text), markers)
	if err != nil {
		t.Fatal(err)
	}
	const stale = "docs/models.md's table is not of the fixtures in model/testdata; run make support"
	expected := table{rows: rowsOf(fixtures)}
	_, list, _ := strings.Cut(expected.String(), "\nFixtures:")
	if !strings.HasSuffix(shown, "\nFixtures:"+list) {
		t.Errorf("%s. It should end in\nFixtures:%s", stale, list)
	}
	var rows []string
	for line := range strings.Lines(shown) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 2+len(modeltest.Columns) || !strings.Contains(cells[0], "`") {
			continue
		}
		architecture, storage := strings.Trim(cells[0], " `"), strings.TrimSpace(cells[1])
		rows = append(rows, architecture+" "+storage)
		limit := map[string]float64{"f32": 1e-4, "f16": 2e-3}[storage]
		for i, cell := range cells[2:] {
			cell = strings.TrimSpace(cell)
			for _, part := range strings.Split(cell, " / ") {
				if e, err := strconv.ParseFloat(part, 64); cell != "–" && (err != nil || !(e <= limit) || strings.Count(cell, "/") != 1) {
					t.Errorf("%s, weights as %s: %s is %q, at most %g is allowed", architecture, storage, modeltest.Columns[i], cell, limit)
				}
			}
			if has := columnOf(fixtures, architecture, modeltest.Columns[i]); has != (cell != "–") {
				t.Errorf("%s, weights as %s: %s is %q, and fixtures have it: %v; %s", architecture, storage, modeltest.Columns[i], cell, has, stale)
			}
		}
	}
	var want []string
	for _, r := range expected.rows {
		want = append(want, r.architecture+" "+stored(r.storage))
	}
	if !slices.Equal(rows, want) {
		t.Errorf("rows %v, want %v: %s", rows, want, stale)
	}
}

// columnOf tells whether a fixture of the architecture has values for a column.
func columnOf(fixtures []modeltest.Fixture, architecture string, c modeltest.Column) bool {
	return slices.ContainsFunc(fixtures, func(f modeltest.Fixture) bool {
		if f.Architecture != architecture {
			return false
		}
		has := func(name string) bool { _, ok := f.Values[name]; return ok }
		switch c {
		case modeltest.DLoRA:
			return f.LoRA != nil
		case modeltest.DW:
			return has("grad_norms")
		case modeltest.Forward:
			return true
		}
		for name := range f.Values {
			input, ok := strings.CutPrefix(name, "grad_")
			if ok && has(input) && slices.Contains(f.Conditions, input) == (c == modeltest.DCond) {
				return true
			}
		}
		return false
	})
}

func TestTableTellsTheLargest(t *testing.T) {
	r := rowsOf([]modeltest.Fixture{{Name: "a", Architecture: "A"}, {Name: "b", Architecture: "B"}, {Name: "c", Architecture: "A"}})
	if len(r) != 4 || !slices.Equal(r[0].fixtures, []string{"a", "c"}) || r[3].storage != graph.F16 || r[3].architecture != "B" {
		t.Fatalf("rows %v", r)
	}
	r[0].errors[0][modeltest.DX], r[0].errors[1][modeltest.DX] = 3.2e-7, 1e-5
	if got := r[0].cell(modeltest.DX); got != "3.2e-07 / 1.0e-05" {
		t.Errorf("cell %q", got)
	}
	if got := r[0].cell(modeltest.DW); got != "–" {
		t.Errorf("cell %q", got)
	}
}
