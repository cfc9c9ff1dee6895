package main

import (
	"context"
	"encoding/json"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func readAudit(t *testing.T, dir string) (record struct {
	Format      int
	Recipe      map[string]any
	Batches     int
	Interrupted bool
	Rows        []map[string]any
}) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "audit.json"))
	if err == nil {
		err = json.Unmarshal(data, &record)
	}
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func TestAuditPrintsDocumentedKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	code, stdout, stderr := invoke(t, "audit", "match-sketch", "--json", "-q", "--device", "cpu", "--steps", "3,1", "--num-images", "2", "--batches", "2", "--out", dir)
	if code != exitOK {
		t.Fatal(stderr)
	}
	var rows []map[string]any
	if err := json.Unmarshal([]byte(stdout), &rows); err != nil {
		t.Fatalf("not an array of objects: %v\n%s", err, stdout)
	}
	var order []string
	for _, row := range rows {
		order = append(order, fmt.Sprint(row["steps"], row["step_index"], row["method"], row["freeze"]))
		for _, key := range []string{"cosine_mean", "cosine_min", "relative_norm_mean", "negative_share", "kept_over_identity", "pictures", "left_out", "device"} {
			if _, ok := row[key]; !ok {
				t.Errorf("no key %q in %v", key, row)
			}
		}
		if row["pictures"] != 4.0 || row["left_out"] != 0.0 {
			t.Errorf("%v pictures and %v left out, want all 4 of 2 batches", row["pictures"], row["left_out"])
		}
		cosine, lowest := row["cosine_mean"].(float64), row["cosine_min"].(float64)
		if lowest > cosine || cosine > 1 || lowest < -1 {
			t.Errorf("cosine %v, lowest %v", cosine, lowest)
		}
		switch last := row["step_index"].(float64) == row["steps"].(float64)-1; {
		case row["method"] == "identity" && row["kept_over_identity"] != 0.0:
			t.Errorf("identity keeps nothing, but %v", row)
		case row["method"] == "sdo" && last && (lowest < 0.999 || row["negative_share"] != 0.0):
			t.Errorf("sdo is not exact with one step to go: %v", row)
		}
	}
	var want []string
	for _, at := range []string{"1 0", "3 0", "3 1", "3 2"} {
		for _, setting := range []string{"sdo eps", "sdo v", "identity eps", "identity v"} {
			want = append(want, at+" "+setting)
		}
	}
	if got := strings.Join(order, "\n"); strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(strings.Join(want, "\n"), " ", "") {
		t.Errorf("rows are\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	record := readAudit(t, dir)
	if record.Format != 1 || record.Recipe["name"] != "match-sketch" || record.Batches != 2 || record.Interrupted || len(record.Rows) != len(rows) {
		t.Errorf("audit.json: %+v", record)
	}
	chart, err := os.Open(filepath.Join(dir, "audit.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer chart.Close()
	if img, err := png.Decode(chart); err != nil || img.Bounds().Dx() < 600 {
		t.Errorf("audit.png: %v", err)
	}
}

// The table shows first and last state of a long rollout and says where the
// rest is.
func TestAuditTable(t *testing.T) {
	dir := t.TempDir()
	code, stdout, stderr := invoke(t, "audit", "match-sketch", "-q", "--device", "cpu", "--steps", "12", "--num-images", "1", "--methods", "sdo,sdo", "--freezes", "v", "--out", dir)
	if code != exitOK {
		t.Fatal(stderr)
	}
	for _, want := range []string{"\n   12      0  sdo       v ", "\n   12     11  sdo       v         1.000   1.000        1       0 %", "12 rows in ", filepath.Join(dir, "audit.png")} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	if lines := strings.Count(stdout, "sdo  "); lines < 4 || lines > 7 {
		t.Errorf("%d states in the table\n%s", lines, stdout)
	}
}

func TestAuditOfSatisfiedPictures(t *testing.T) {
	// The margin is met before it begins: no gradient anywhere.
	code, _, stderr := invoke(t, "audit", "dark-glasses", "-q", "--device", "cpu", "--steps", "1", "--num-images", "1", "--out", t.TempDir(), "--set", "objective.0.weight=0")
	if code != exitFailure || !strings.Contains(stderr, "all 1 picture satisfy the objective from the start") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestInterruptedAuditKeepsWhatIsMeasured(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, context.Canceled)
	defer cancel()
	code, stdout, stderr := invokeWith(ctx, "audit", "match-sketch", "--device", "cpu", "--num-images", "1", "--steps", "2", "--batches", "100000", "--json", "--out", dir)
	if code != exitInterrupted || !strings.Contains(stderr, "interrupted; what is measured is saved") {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if record := readAudit(t, dir); !record.Interrupted || len(record.Rows) == 0 || !json.Valid([]byte(stdout)) {
		t.Errorf("audit.json: %+v", record)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if code, _, stderr := invokeWith(ctx, "audit", "match-sketch", "--device", "cpu", "--steps", "2", "--out", t.TempDir()); code != exitInterrupted || !strings.Contains(stderr, "nothing to save") {
		t.Errorf("cancelled at once: exit code %d, standard error %q", code, stderr)
	}
}
