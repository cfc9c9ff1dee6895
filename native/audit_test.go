package main

import (
	"context"
	"encoding/json"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"slices"
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
	Advice      []map[string]any
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
	chart, err := os.Open(filepath.Join(dir, "audit-latents.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer chart.Close()
	if img, err := png.Decode(chart); err != nil || img.Bounds().Dx() < 600 {
		t.Errorf("audit-latents.png: %v", err)
	}
}

// Condition and parameters, which the recipe does not name, are audited on the
// rollouts of the latents, draw by draw and rule by rule.
func TestAuditOfEveryVariable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	code, stdout, stderr := invoke(t, "audit", "match-sketch", "--json", "--device", "cpu", "--steps", "1,3", "--num-images", "2", "--batches", "2", "--out", dir,
		"--variables", "latents,condition,parameters", "--methods", "sdo,draft-2", "--actives", "importance,last", "--freezes", "v")
	if code != exitOK {
		t.Fatal(stderr)
	}
	if !strings.Contains(stderr, "match-sketch names no parameters; audited is a new LoRA of rank 4 of every linear layer and convolution") {
		t.Errorf("not told what is audited: %s", stderr)
	}
	var rows []map[string]any
	if err := json.Unmarshal([]byte(stdout), &rows); err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, row := range rows {
		at := "rule"
		if index, ok := row["step_index"].(float64); ok {
			at = fmt.Sprint(index)
		}
		order = append(order, fmt.Sprint(row["steps"], " ", row["variable"], " ", at, " ", row["method"], row["active"]))
		if batches, ok := row["batches"]; ok != (row["variable"] == "parameters") || ok && batches != 2.0 || row["pictures"] != 4.0 {
			t.Errorf("%v batches, %v pictures of %v", batches, row["pictures"], row["variable"])
		}
		if cosine := row["cosine_mean"].(float64); row["steps"] == 1.0 && cosine < 0.999 || cosine > 1 {
			t.Errorf("cosine %v in %v", cosine, row)
		}
	}
	want := []string{
		"1 latents 0 sdo<nil>",
		"1 condition 0 sdoimportance", "1 condition rule sdoimportance", "1 condition rule sdolast",
		"1 parameters 0 sdoimportance", "1 parameters rule sdoimportance", "1 parameters rule sdolast",
		"3 latents 0 sdo<nil>", "3 latents 1 sdo<nil>", "3 latents 2 sdo<nil>",
		"3 condition 0 sdoimportance", "3 condition 1 sdoimportance", "3 condition 2 sdoimportance",
		"3 condition rule sdoimportance", "3 condition rule sdolast", "3 condition rule draft-2<nil>",
		"3 parameters 0 sdoimportance", "3 parameters 1 sdoimportance", "3 parameters 2 sdoimportance",
		"3 parameters rule sdoimportance", "3 parameters rule sdolast", "3 parameters rule draft-2<nil>",
	}
	if !slices.Equal(order, want) {
		t.Errorf("rows are\n%s\nwant\n%s", strings.Join(order, "\n"), strings.Join(want, "\n"))
	}
	record := readAudit(t, dir)
	if len(record.Advice) != 6 || record.Recipe["variables"].(map[string]any)["parameters"] == nil {
		t.Errorf("audit.json: %+v", record)
	}
	for _, variable := range []string{"latents", "condition", "parameters"} {
		if _, err := os.Stat(filepath.Join(dir, "audit-"+variable+".png")); err != nil {
			t.Error(err)
		}
	}
}

// The tables of the rules say what the audit speaks for.
func TestAuditTableOfRules(t *testing.T) {
	code, stdout, stderr := invoke(t, "audit", "match-sketch", "-q", "--device", "cpu", "--steps", "3", "--num-images", "1", "--variables", "parameters", "--out", t.TempDir())
	if code != exitOK {
		t.Fatal(stderr)
	}
	for _, want := range []string{"parameters, 3 sampler steps\n", "negative     batches\n", "\n    3  importance   eps ", "\n    3  last         v   ", "call alone", "\n    3  2            v ",
		"With 3 steps, parameters: freeze ", "1 batch only: too thin to choose by; take more --batches.", filepath.Join("audit-parameters.png")} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout, "draft-5") {
		t.Errorf("the last 5 of 3 calls\n%s", stdout)
	}
}

// Of a solver with a memory the start latent is compared, the state before a last
// step of first order, and every call.
func TestAuditOfASolverWithAMemory(t *testing.T) {
	code, stdout, stderr := invoke(t, "audit", "match-sketch", "--json", "-q", "--device", "cpu", "--steps", "3", "--num-images", "1", "--out", t.TempDir(),
		"--variables", "latents,condition", "--methods", "sdo", "--actives", "uniform", "--freezes", "v", "--set", "sampler.name=dpmpp-2m")
	if code != exitOK {
		t.Fatal(stderr)
	}
	var rows []struct {
		Variable string
		Index    *int `json:"step_index"`
	}
	if err := json.Unmarshal([]byte(stdout), &rows); err != nil || len(rows) != 6 || *rows[0].Index != 0 || *rows[1].Index != 2 || rows[1].Variable != "latents" {
		t.Errorf("%v, %d rows, want two of the latents, three calls and their rule: %s", err, len(rows), stdout)
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
	for _, want := range []string{"\n   12      0  sdo       v ", "\n   12     11  sdo       v         1.000   1.000        1       0 %", "12 rows in ", filepath.Join(dir, "audit-latents.png")} {
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
