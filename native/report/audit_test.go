package report

import (
	"bytes"
	"image/png"
	"slices"
	"testing"

	"github.com/sdo-go/sdo/recipes"
)

// Freezes that give the same curve share one; a method never shares with
// another; an interrupted audit has the late states only.
func TestAuditCurves(t *testing.T) {
	row := func(steps, index int, method, freeze string, cosine float64) AuditRow {
		return AuditRow{Variable: "latents", Steps: steps, StepIndex: &index, Method: method, Freeze: freeze, CosineMean: cosine}
	}
	a := &Audit{Recipe: &recipes.Recipe{Name: "x"}, Rows: []AuditRow{
		row(1, 0, "sdo", "v", 1), row(1, 0, "identity", "v", 1),
		row(4, 2, "sdo", "eps", 0.500), row(4, 2, "sdo", "v", 0.502), row(4, 2, "sdo", "x0", 0.502), row(4, 2, "identity", "eps", -0.3),
		row(4, 3, "sdo", "eps", 1), row(4, 3, "sdo", "v", 1), row(4, 3, "sdo", "x0", 0.9), row(4, 3, "identity", "eps", -0.9),
	}}
	wantCurves(t, a, "sdo, v frozen", "identity, v frozen", "sdo, eps or v frozen", "sdo, x0 frozen", "identity, eps frozen")
	wantCharts(t, a, "latents")
}

// Of condition and parameters one curve is of single calls, whichever rule draws
// them, and the rules have lines of their own, joined where a freeze changes
// nothing.
func TestAuditRules(t *testing.T) {
	var rows []AuditRow
	for _, variable := range []string{"condition", "parameters"} {
		for index := range 3 {
			for _, active := range []string{"importance", "uniform"} {
				for _, freeze := range []string{"eps", "v"} {
					rows = append(rows, AuditRow{Variable: variable, Steps: 3, StepIndex: &index, Method: "sdo", Active: active, Freeze: freeze, CosineMean: 0.2 * float64(index)})
				}
			}
		}
		rule := func(active, freeze string, cosine float64) AuditRow {
			return AuditRow{Variable: variable, Steps: 3, Method: "sdo", Active: active, Freeze: freeze, CosineMean: cosine, CosineMin: cosine - 0.3}
		}
		rows = append(rows, rule("importance", "eps", 0.7), rule("importance", "v", 0.6), rule("last", "eps", 0.1), rule("last", "v", 0.1),
			AuditRow{Variable: variable, Steps: 3, Method: "draft-2", CosineMean: 0.9, CosineMin: 0.8})
	}
	a := &Audit{Recipe: &recipes.Recipe{Name: "x"}, Rows: rows}
	wantCurves(t, a, "one call, eps or v frozen", "one call, eps or v frozen")
	var got []string
	for _, r := range a.Sections()[1].rules() {
		got = append(got, r.Rule()+shortFreezes(r.freezes))
	}
	if want := []string{"importance, eps", "importance, v", "last, eps or v", "draft-2"}; !slices.Equal(got, want) {
		t.Errorf("rules %q, want %q", got, want)
	}
	wantCharts(t, a, "condition", "parameters")
}

func wantCurves(t *testing.T, a *Audit, want ...string) {
	t.Helper()
	var got []string
	for _, s := range a.Sections() {
		for _, c := range s.curves() {
			got = append(got, c.label())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("curves %q, want %q", got, want)
	}
}

func wantCharts(t *testing.T, a *Audit, variables ...string) {
	t.Helper()
	if got := a.variables(); !slices.Equal(got, variables) {
		t.Errorf("variables %q, want %q", got, variables)
	}
	for _, variable := range variables {
		var chart bytes.Buffer
		if err := a.writeChart(&chart, variable); err != nil {
			t.Fatal(err)
		}
		if _, err := png.Decode(&chart); err != nil {
			t.Error(err)
		}
	}
}
