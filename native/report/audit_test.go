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
func TestAuditPanels(t *testing.T) {
	row := func(steps, index int, method, freeze string, cosine float64) AuditRow {
		return AuditRow{Steps: steps, StepIndex: index, Method: method, Freeze: freeze, CosineMean: cosine}
	}
	a := &Audit{Recipe: &recipes.Recipe{Name: "x"}, Rows: []AuditRow{
		row(1, 0, "sdo", "v", 1), row(1, 0, "identity", "v", 1),
		row(4, 2, "sdo", "eps", 0.500), row(4, 2, "sdo", "v", 0.502), row(4, 2, "sdo", "x0", 0.502), row(4, 2, "identity", "eps", -0.3),
		row(4, 3, "sdo", "eps", 1), row(4, 3, "sdo", "v", 1), row(4, 3, "sdo", "x0", 0.9), row(4, 3, "identity", "eps", -0.9),
	}}
	var got []string
	for _, p := range a.panels() {
		for _, c := range p.curves {
			got = append(got, c.label())
		}
	}
	want := []string{"sdo, v frozen", "identity, v frozen", "sdo, eps or v frozen", "sdo, x0 frozen", "identity, eps frozen"}
	if !slices.Equal(got, want) {
		t.Errorf("curves %q, want %q", got, want)
	}
	var chart bytes.Buffer
	if err := a.writeChart(&chart); err != nil {
		t.Fatal(err)
	}
	if _, err := png.Decode(&chart); err != nil {
		t.Error(err)
	}
}
