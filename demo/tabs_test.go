package demo_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
)

// amount reads a number of bytes as the page writes it, "1.5 MB".
func amount(t *testing.T, text string) float64 {
	t.Helper()
	value, unit, _ := strings.Cut(text, " ")
	n, err := strconv.ParseFloat(value, 64)
	scale, known := map[string]float64{"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]
	if err != nil || !known {
		t.Fatalf("%q is no number of bytes", text)
	}
	return n * scale
}

// bars are the numbers of a group of bars by their labels. name is its heading
// or test id.
func (p *page) bars(name string) map[string]string {
	p.Helper()
	return must(p, func() (map[string]string, error) {
		return query[map[string]string](p, `Object.fromEntries([...page.one(name, scope).closest('.bars').querySelectorAll('li')].map((row) => [page.tidy(row.querySelector('.bar-label').innerText), page.tidy(row.querySelector('.bar-text, .bar-note').innerText)]))`, name)
	})
}

// painted are the pictures of a thing that are there, as their pixels.
func (p *page) painted(name string) []string {
	p.Helper()
	p.wait(name)
	return must(p, func() ([]string, error) {
		return query[[]string](p, "[...page.one(name, scope).querySelectorAll('canvas')].map((c) => c.toDataURL())", name)
	})
}

// natively runs a command of the native program, as the page prints it.
func natively(t *testing.T, folder, command string) {
	t.Helper()
	tools := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(tools, "sdo"), "../native").CombinedOutput(); err != nil {
		t.Fatalf("building sdo: %v\n%s", err, out)
	}
	shell := exec.Command("sh", "-c", command)
	shell.Dir, shell.Env = folder, append(os.Environ(), "PATH="+tools+":"+os.Getenv("PATH"))
	if out, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

func TestSeeTheShortcut(t *testing.T) {
	p := openPage(t, options{patience: 4 * time.Minute})
	p.ready()
	p.size(2, 5, 10)
	p.click("tab-shortcut")
	kept := func(method, says string, calls int) {
		t.Helper()
		p.click("shortcut-way-" + method)
		p.until(method+" to be drawn", func() (bool, string) {
			label := p.attribute("shortcut-strip", "aria-label")
			return strings.HasPrefix(label, "5 sampler steps from noise to picture by "+method+": "+says), label
		})
		full := evaluate[int](p, "return document.querySelectorAll('[data-testid=shortcut-strip] .strip-buffers rect.full').length")
		if of := evaluate[int](p, "return document.querySelectorAll('[data-testid=shortcut-strip] .strip-buffers rect').length"); full != calls || of != 5 {
			t.Errorf("%s: %d of %d calls are lit, want %d of 5", method, full, of, calls)
		}
	}
	p.until("a state after every step", func() (bool, string) {
		n := len(p.painted("shortcut-strip"))
		return n == 5, fmt.Sprintf("there are %d", n)
	})
	kept("sdo", "call 1 keeps buffers", 1)
	kept("full", "5 calls keep buffers", 5)
	kept("identity", "no call keeps buffers", 0)

	memory := p.table("shortcut-memory") // steps, sdo, full
	if len(memory) != 4 {
		t.Fatalf("memory is %q", memory)
	}
	for _, row := range memory[1:] {
		if flat, before := amount(t, row[1]), amount(t, memory[0][1]); flat != before {
			t.Errorf("sdo keeps %s at %s steps and %s at %s", row[1], row[0], memory[0][1], memory[0][0])
		}
	}
	if little, much := amount(t, memory[0][2]), amount(t, memory[3][2]); much < 8*little || little < amount(t, memory[0][1]) {
		t.Errorf("full keeps %s at %s steps and %s at %s", memory[0][2], memory[0][0], memory[3][2], memory[3][0])
	}

	p.click("shortcut-compare")
	p.wait("job-bar")
	p.waitGone("job-bar")
	p.wait("shortcut-results")
	kinds := p.bars("shortcut-bytes")
	if one, all := amount(t, kinds["sdo"]), amount(t, kinds["full"]); !(all > one) {
		t.Errorf("measured are %v", kinds)
	}
	if calls := p.bars("Network calls of an update"); calls["sdo"] != "5 + 1 back" || calls["full"] != "5 + 5 back" {
		t.Errorf("network calls of an update are %v", calls)
	}
	if losses := p.table("shortcut-curves"); len(losses) < 4 {
		t.Errorf("the curves have points %q", losses)
	}
	p.waitText("shortcut-results", "At 5 steps full back-propagation kept")
	p.screenshots("shortcut")

	p.focus("shortcut-steps")
	p.key(kb.ArrowRight)
	p.until("10 steps", func() (bool, string) {
		label := p.attribute("shortcut-strip", "aria-label")
		return strings.HasPrefix(label, "10 sampler steps"), label
	})
}

func TestTune(t *testing.T) {
	p := openPage(t, options{patience: 4 * time.Minute})
	p.ready()
	p.size(2, 4, 2)
	p.click("tab-tune")
	p.set("Updates", "4")
	p.set("Pictures a batch", "2")
	p.click("More")
	p.set("Sampler steps", "4")
	p.set("Held-out pictures", "8")
	p.set("Look every", "2")

	p.click("tune-start")
	p.waitText("job-bar", "update 1 of 4")
	p.click("cancel")
	p.waitGone("job-bar")
	p.wait("cancelled after")
	p.wait("was left after update")
	p.click("tune-resume")
	p.wait("job-bar")
	p.waitGone("job-bar")
	p.wait("4 updates in")
	if rows := p.table("tune-loss"); len(rows) != 4 {
		t.Errorf("the chart has %q", rows)
	}
	p.waitText("tune-judge", "of 8 held-out pictures")
	p.waitText("tune-looks", "What has shifted")

	name, data := p.download(func() { p.click("tune-download") })
	if name != "everyone-wears-glasses.safetensors" {
		t.Errorf("the adapter is called %s", name)
	}
	folder := t.TempDir()
	file := filepath.Join(folder, name)
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := model.InspectLoRA(os.DirFS(folder), name); err != nil {
		t.Fatal(err)
	}
	command := p.text("tune-command")
	if !strings.HasPrefix(command, "sdo sample --lora "+name) {
		t.Errorf("the command is %q", command)
	}
	natively(t, folder, command+" --num-images 1 --steps 2 --device cpu --out pictures")

	p.waitText("tune-samples", "With, at 1.0")
	p.until("samples with and without", func() (bool, string) {
		all := p.painted("tune-samples")
		half := len(all) / 2
		return half == 16 && strings.Join(all[:half], " ") != strings.Join(all[half:], " "), fmt.Sprintf("%d pictures", len(all))
	})
	p.screenshots("tune")

	p.click("Use it in Steer")
	r := p.waitRecipe("the adapter", func(r *recipes.Recipe) bool { return r.LoRA != nil && r.LoRA.Path == name })
	p.steer()
	p.expectNative(r, folder)

	p.click("tab-tune")
	p.click("tune-remove-" + name)
	p.waitGone("tune-remove-" + name)
	renamed := filepath.Join(folder, "Mine, again.safetensors")
	if err := os.WriteFile(renamed, data, 0o644); err != nil {
		t.Fatal(err)
	}
	p.upload("tune-load", renamed)
	p.waitText("tune-adapters", "mine-again")
	broken := filepath.Join(folder, "broken.safetensors")
	if err := os.WriteFile(broken, bytes.Repeat([]byte("no adapter "), 9), 0o644); err != nil {
		t.Fatal(err)
	}
	p.upload("tune-load", broken)
	p.wait("That did not work")
	if p.visible("tune-remove-broken.safetensors") {
		t.Error("a broken file is listed as an adapter")
	}
}

func TestAudit(t *testing.T) {
	p := openPage(t, options{patience: 4 * time.Minute})
	p.ready()
	p.size(2, 4, 2)
	p.click("tab-audit")
	p.click("audit-start")
	p.wait("job-bar")
	p.waitGone("job-bar")
	rows := p.table("audit-chart")
	if len(rows) != 4 {
		t.Fatalf("the chart has %q", rows)
	}
	for i, row := range rows {
		cosine, err := strconv.ParseFloat(row[1], 64)
		if err != nil || row[0] != strconv.Itoa(i) || cosine < -1 || cosine > 1 || i == 3 && cosine != 1 { // one step is exact where only one is left
			t.Errorf("row %d of the chart is %q", i, row)
		}
	}
	if p.text("audit-advice") == "" {
		t.Error("there is no advice")
	}
	p.click("All numbers")
	if rows := p.table("audit-table"); len(rows) < 8 {
		t.Errorf("the table has %q", rows)
	}
	p.screenshots("audit")

	p.click("audit-batches-4")
	p.click("audit-start")
	p.until("a batch to be measured", func() (bool, string) {
		said, err := query[string](p, "page.tidy(page.one(name, scope).innerText)", "job-bar")
		if err != nil {
			return false, plain(err)
		}
		found := regexp.MustCompile(`pass (\d+) of (\d+)`).FindStringSubmatch(said)
		if found == nil {
			return false, said
		}
		done, _ := strconv.Atoi(found[1]) // digits always are a number
		of, _ := strconv.Atoi(found[2])
		return 4*done > of+4, said
	})
	p.click("cancel")
	p.waitGone("job-bar")
	p.wait("Cancelled; what was measured until then is below.")
	if rows := p.table("audit-chart"); len(rows) != 4 {
		t.Errorf("what was measured is %q", rows)
	}
}

func TestBringAModel(t *testing.T) {
	p := openPage(t, options{patience: 2 * time.Minute})
	p.ready()
	p.click("tab-models")

	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.CopyFS(broken, os.DirFS("../model/testdata/unet2d-attention")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(broken, "config.json"), []byte(`{"_class_name": "UNet2DConditionModel"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	p.upload("model-folder", broken)
	p.waitText("model-inspected", "This one does not work here")
	p.waitText("model-inspected", "UNet2DConditionModel")
	p.screenshots("models-refused")

	folder := filepath.Join(t.TempDir(), "My Tiny")
	for _, file := range []string{"config.json", "scheduler_config.json", "diffusion_pytorch_model.safetensors"} {
		data, err := os.ReadFile(filepath.Join("../model/testdata/unet2d-attention", file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, file), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p.upload("model-folder", folder)
	p.waitText("model-inspected", "12 × 8")
	p.waitText("model-inspected", "to steer, by one call")
	p.waitText("model-inspected", "0.05 M parameters")
	p.screenshots("models-found")
	if p.visible("model-use-my-tiny") {
		t.Error("a model is kept before anybody wanted it")
	}
	p.click("model-keep")
	p.wait("stage-title") // the model is used at once
	p.reload()
	p.ready()
	p.click("tab-models")
	p.waitText("model-list", "my-tiny yours")
	p.screenshots("models")
	p.click("model-use-my-tiny")

	p.waitGone("model-list")
	r := p.waitRecipe("the model", func(r *recipes.Recipe) bool { return r.Model == "my-tiny" })
	for _, o := range r.Objective {
		if o.Term == "attribute" {
			t.Error("a model without a guide is asked for an attribute")
		}
	}
	p.size(2, 4, 3)
	p.steer()
	p.waitText("counters", "3 of 3")
	p.screenshots("models-steered")

	p.click("tab-models")
	p.click("model-remove-my-tiny")
	p.click("model-remove-my-tiny-yes")
	p.within("model-list").waitGone("my-tiny")
	p.click("tab-steer")
	p.waitRecipe("a model that is there", func(r *recipes.Recipe) bool { return r.Model == "avatars-16-s" })
}

func TestDevice(t *testing.T) {
	p := openPage(t, options{patience: 4 * time.Minute})
	p.ready()
	p.click("tab-device")
	p.waitText("device-facts", p.adapter())
	p.waitText("device-facts", "WebGPU adapter")
	p.waitText("device-limits", "max buffer size")
	p.click("device-measure")
	p.waitText("device-measured", "GFLOP/s")
	said := p.text("device-measured")
	for _, number := range []string{`([\d.]+) GFLOP/s`, `([\d.,]+) ms a network call of 16 pictures, \d+ dispatches`} {
		found := regexp.MustCompile(number).FindStringSubmatch(said)
		if found == nil {
			t.Errorf("%s is not in %q", number, said)
		} else if v, err := strconv.ParseFloat(strings.ReplaceAll(found[1], ",", ""), 64); err != nil || v <= 0 {
			t.Errorf("%s in %q", found[0], said)
		}
	}

	p.click("device-kernels")
	p.wait("device-rows")
	p.until("some rows", func() (bool, string) { n := len(p.table("device-rows")); return n >= 5, strconv.Itoa(n) })
	p.click("cancel")
	p.waitGone("job-bar") // the row that was under way still comes
	p.waitText("device-summary", "so far")
	if rows, agree := len(p.table("device-rows")), p.text("device-summary"); !strings.Contains(agree, fmt.Sprintf("%d of %d rows agree", rows, rows)) {
		t.Errorf("of %d rows %s", rows, agree)
	}
	p.screenshots("device")
	checks := request[[]struct {
		Name    string
		OK      bool
		Message string
	}](p, "kernels", map[string]any{"only": "matmul"})
	if len(checks) == 0 {
		t.Error("no row of matmul was checked")
	}
	for _, c := range checks {
		if !c.OK {
			t.Errorf("%s: %s", c.Name, c.Message)
		}
	}

	p.click("Read it first")
	p.waitText("device-report", "gemm: ")
	p.waitText("device-report", "maxBufferSize: ")

	p.click("device-kind-cpu")
	p.waitText("device-facts", "on the CPU")
	p.waitText("device-chip", "CPU")
	p.screenshots("device-cpu")
	p.click("device-kind-auto")
	p.waitText("device-facts", p.adapter())
}
