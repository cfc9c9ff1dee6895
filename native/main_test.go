package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/gpu"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
)

// small makes any steering quick: what is tested here is the command line.
var small = []string{"--device", "cpu", "--num-images", "2", "--steps", "2", "--updates", "1"}

// invoke runs the program as a user would.
func invoke(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return invokeWith(t.Context(), args...)
}

func invokeWith(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(ctx, args, &out, &err)
	return code, out.String(), err.String()
}

func TestSteerLeavesTheFolderAndEndsWithOneObject(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	code, stdout, stderr := invoke(t, append([]string{"steer", "dark-glasses", "--json", "--out", dir}, small...)...)
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var summary map[string]any
	if err := json.Unmarshal([]byte(stdout), &summary); err != nil {
		t.Fatalf("standard output is not one object: %v\n%s", err, stdout)
	}
	for _, key := range []string{"judge_before", "judge_after", "updates", "drift", "seconds", "device", "latent_norm", "interrupted"} {
		if _, ok := summary[key]; !ok {
			t.Errorf("no key %q in %s", key, stdout)
		}
	}
	if summary["activation_bytes_planned"] != summary["activation_bytes_measured"] {
		t.Errorf("planned %v bytes of activations, measured %v", summary["activation_bytes_planned"], summary["activation_bytes_measured"])
	}
	for _, name := range []string{"before.png", "after.png", "progress.gif", "loss.png", "report.html", "run.json", "variables.safetensors"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for line := range strings.Lines(stderr) {
		if strings.Contains(line, "panic") || strings.Contains(line, "goroutine") {
			t.Errorf("standard error has %q", line)
		}
	}
}

// The recipe inside run.json repeats the run: same seed, same losses.
// Guards that end a run, a start that is a picture and other variables than the
// latents are told in the summary.
func TestSteerTellsItsGuards(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"same-person-in-glasses", "--set", "guards.drift_limit=0.05", "--updates", "5"}, "guard     1 picture left alone for moving further than 0.05"},
		{[]string{"dark-glasses", "--set", "guards.early_stop=judge", "--updates", "1"}, "; it decided when to stop, so this is no second opinion"},
		{[]string{"happy-mood", "--variables", "[condition, guidance_scale]", "--updates", "1"}, "loss "},
	} {
		code, stdout, stderr := invoke(t, append([]string{"steer", "--device", "cpu", "--num-images", "1", "--steps", "4", "--out", t.TempDir()}, c.args...)...)
		if code != 0 || !strings.Contains(stdout, c.want) {
			t.Errorf("%v: exit code %d, standard output %q, want %q in it; standard error %q", c.args, code, stdout, c.want, stderr)
		}
	}
}

func TestRunJSONRepeatsTheRun(t *testing.T) {
	losses := func(recipe string) (record string, rows [][]float64) {
		dir := t.TempDir()
		if code, _, stderr := invoke(t, append([]string{"steer", recipe, "-q", "--out", dir}, small...)...); code != exitOK {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
		data, err := os.ReadFile(filepath.Join(dir, "run.json"))
		if err != nil {
			t.Fatal(err)
		}
		var rec struct {
			Recipe json.RawMessage
			Result struct{ Losses [][]float64 }
		}
		if err := json.Unmarshal(data, &rec); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "again.json")
		if err := os.WriteFile(path, rec.Recipe, 0o644); err != nil {
			t.Fatal(err)
		}
		return path, rec.Result.Losses
	}
	again, first := losses("dark-glasses")
	_, second := losses(again)
	a, _ := json.Marshal(first)
	b, _ := json.Marshal(second)
	if !bytes.Equal(a, b) || len(first) != 2 {
		t.Errorf("losses %s, repeated %s", a, b)
	}
}

// Every mistake ends with one sentence and the right code.
func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	recipe := func(name, more string) string {
		return file(name, "version: 1\nname: x\nobjective: [{term: total_variation}]\n"+more)
	}
	tuned := tunedFolder(t)
	steer := func(args ...string) []string { return append(append([]string{"steer"}, args...), small...) }
	tests := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"unknown command", []string{"stir"}, exitUsage, `unknown command "stir" for "sdo"; did you mean steer?`},
		{"unknown flag", []string{"steer", "x", "--fast"}, exitUsage, "unknown flag: --fast\nRun sdo steer --help for what there is.\n"},
		{"help about nothing", []string{"help", "stir"}, exitUsage, `there is no command "stir"; sdo --help lists what there is`},
		{"misspelt flag", []string{"steer", "x", "--updatess", "3"}, exitUsage, "unknown flag: --updatess; did you mean --updates?"},
		{"unknown part of a command", []string{"model", "inspekt"}, exitUsage, "unknown command \"inspekt\" for \"sdo model\"\nRun sdo model --help"},
		{"flag that is no number", []string{"model", "inspect", "x", "--num-images", "many"}, exitUsage, `--num-images is "many", want a whole number`},
		{"flag that are no numbers", []string{"bench", "memory", "--steps", "5,few"}, exitUsage, `--steps is "5,few", want whole numbers with commas in between`},
		{"no recipe", []string{"steer"}, exitUsage, "there is nothing to steer by; name a recipe, or give a term with --objective"},
		{"wrong device", []string{"doctor", "--device", "tpu"}, exitUsage, `--device is "tpu", want auto, webgpu or cpu`},
		{"misspelt recipe", steer("drak-glasses"), exitUsage, "not found; did you mean dark-glasses?"},
		{"folder as recipe", steer(dir), exitUsage, "is a folder; give a YAML or JSON file"},
		{"unknown key", steer(recipe("key.yaml", "update: 3\n")), exitUsage, "key.yaml:4: update: expected one of the keys"},
		{"wrong type", steer(recipe("type.yaml", "seed: soon\n")), exitUsage, `type.yaml:4: seed: expected a whole number from 0 to 9007199254740991, got "soon"`},
		{"not YAML", steer(file("broken.yaml", "a: [\n")), exitUsage, "broken.yaml:1: syntax: expected YAML or JSON"},
		{"zero steps", []string{"steer", "dark-glasses", "--steps", "0"}, exitUsage, "--steps: sampler.num_inference_steps: expected a whole number from 1 to 1000, got 0"},
		{"huge steps", []string{"steer", "dark-glasses", "--steps", "100000"}, exitUsage, "got 100000"},
		{"huge batch", []string{"steer", "dark-glasses", "--num-images", "1000000"}, exitUsage, "--num-images: num_images: expected a whole number from 1 to 256, got 1000000"},
		{"set without value", steer("dark-glasses", "--set", "seed"), exitUsage, "--set seed: expected key=value"},
		{"set of unknown key", steer("dark-glasses", "--set", "optimizer.rate=1"), exitUsage, "--set optimizer.rate: optimizer.rate: expected one of the keys name, lr, betas"},
		{"unknown attribute", steer("dark-glasses", "--set", "objective.0.attribute=shoes"), exitUsage, "expected one of background, skin, hair"},
		{"unknown value", steer("dark-glasses", "--set", "objective.0.value=darc"), exitUsage, "did you mean dark?"},
		{"unknown model", steer("dark-glasses", "--model", "nowhere"), exitUsage, `model "nowhere" does not exist: it is neither a folder nor one of the built-in ones (avatars-16-s, fashion-28)` + "\n"},
		{"unknown model of a hub", []string{"sample", "--model", "some-one/fox"}, exitUsage, `; if a hub has it, sdo model pull some-one/fox brings it`},
		{"a file as model", []string{"sample", "--model", file("model.ckpt", "")}, exitUsage, "model.ckpt: is a file; give the folder that holds config.json"},
		{"an adapter as model", []string{"sample", "--model", tuned}, exitUsage, "model " + tuned + ": is an adapter; name the model that it belongs to, and the adapter as lora"},
		{"a cache as model", []string{"sample", "--model", filepath.Dir(filepath.Dir(filepath.Dir(file("models--a--b/snapshots/0123/model_index.json", "{}"))))}, exitUsage, "models--a--b: is a hub's cache; the model in it is " + filepath.Join(dir, "models--a--b", "snapshots", "0123")},
		{"a text encoder as model", []string{"sample", "--model", "../model/testdata/stable-diffusion/text_encoder"}, exitUsage, `its network is of class "CLIPTextModel"; name the folder`},
		{"region outside", steer("red-shirt-blue-background", "--set", "objective.0.region=[10, 10, 10, 10]"), exitUsage, "inside 16x16 pixels"},
		{"not a number in the metric", steer(recipe("nan.yaml", ""), "--set", "objective.0.weight=1e300"), exitFailure, "the loss of row 0 is +Inf before the first update"},
		{"pictures that are not numbers", []string{"sample", "--device", "cpu", "--num-images", "1", "--steps", "1", "--model", overflowing(t), "--out", t.TempDir()}, exitFailure, "the numbers of model"},
		{"steering by what is no number", []string{"steer", "dark-glasses", "--device", "cpu", "--num-images", "1", "--steps", "1", "--model", overflowing(t), "--out", t.TempDir()}, exitFailure, "the network's output at step 1 of 1, timestep 999: group_norm with conv_norm_out.weight; "},
		{"output folder that cannot be", []string{"steer", "dark-glasses", "--device", "cpu", "--out", file("taken", "")}, exitUsage, "not a directory; give another one with --out"},
		{"inspect nothing", []string{"model", "inspect", "nowhere"}, exitUsage, `model "nowhere" does not exist`},
		{"merge into nothing", []string{"model", "merge", "nowhere", "--lora", dir, "--to", filepath.Join(dir, "to")}, exitUsage, `model "nowhere" does not exist`},
		{"condition of nothing", []string{"sample", "--condition", "mood"}, exitUsage, "--condition mood: expected key=value"},
		{"training by a recipe of steering", []string{"train", recipe("steering.yaml", "")}, exitUsage, "steering.yaml: not JSON: invalid character 'v'"},
		{"sampling a text", []string{"sample", "a red fox"}, exitUsage, `sdo sample takes flags alone, got "a red fox"; a text is given by --prompt`},
		{"audit without a recipe", []string{"audit"}, exitUsage, "sdo audit takes one RECIPE, got 0"},
		{"too many recipes", []string{"recipes", "a", "b"}, exitUsage, "sdo recipes takes one NAME at most, got 2"},
		{"unknown training recipe", []string{"train", "nothing"}, exitUsage, `training recipe "nothing" does not exist`},
		{"training data that is not there", []string{"train", "fashion-28-judge", "--device", "cpu", "--data", "nowhere", "--out", t.TempDir()}, exitUsage, "nowhere: train-images-idx3-ubyte.gz is missing; Debian's package dataset-fashion-mnist puts it into /usr/share/datasets/fashion-mnist; --data names another folder"},
		{"steering by a recipe of tuning", steer("everyone-wears-glasses"), exitUsage, "changes the model's parameters, which sdo steer would not keep; use sdo tune"},
		{"tuning by a recipe of steering", []string{"tune", "dark-glasses", "--device", "cpu", "--out", t.TempDir()}, exitUsage, "variables: latents would change with the parameters"},
		{"tuning of no layer", []string{"tune", "blue-palette", "--set", `variables.parameters.lora.targets=["to_x"]`}, exitUsage, `pattern "to_x" names nothing in the network; the nearest names are "down_blocks`},
		{"tuning by a method for latents", []string{"tune", "blue-palette", "--method", "jump"}, exitUsage, "jump"},
		{"tuning for a judge that is not there", []string{"tune", "blue-palette", "--set", "guards.early_stop=judge"}, exitUsage, "the judge is asked for attributes only"},
		{"tuning into another recipe's folder", []string{"tune", "blue-palette", "--device", "cpu", "--out", tuned}, exitUsage, "belongs to another recipe than \"blue-palette\""},
		{"tuning fewer updates than made", append(tinyTuning(tuned), "--updates", "1"), exitUsage, "has made 2 updates, the recipe wants 1; give another folder with --out, or begin anew with --restart"},
		{"tuning on a damaged checkpoint", []string{"tune", "blue-palette", "--device", "cpu", "--out", filepath.Dir(file("damaged/checkpoint.safetensors", "xxxxxxxxxxxxxxxx"))}, exitUsage, "begin anew with --restart"},
		{"lora that is not there", []string{"sample", "--lora", "nowhere.safetensors"}, exitUsage, "nowhere.safetensors: there is no such file or folder; name a PEFT folder or a safetensors file"},
		{"lora in a folder that is not there", []string{"sample", "--lora", "nowhere/a.safetensors"}, exitUsage, `lora "nowhere/a.safetensors" does not exist`},
		{"lora without a name", []string{"sample", "--lora", ""}, exitUsage, `--lora: lora.path: expected a PEFT folder or a safetensors file, got ""`},
		{"lora that is none", []string{"sample", "--lora", file("text.safetensors", "not a safetensors file")}, exitUsage, "lora " + dir},
		{"lora in a folder that is no adapter", []string{"sample", "--lora", dir}, exitUsage, "adapter_config.json: the file is missing; name a folder that PEFT's save_pretrained wrote, or a safetensors file"},
		{"lora of another network", []string{"sample", "--lora", filepath.Join(tuned, "lora_kohya.safetensors"), "--model", tinyModel(t)}, exitUsage, "the adapter belongs to another network"},
		{"inspect a folder that is no lora", []string{"model", "inspect", filepath.Dir(file("adapter/adapter_config.json", "{}"))}, exitUsage, "lora " + filepath.Join(dir, "adapter")},
		{"scale of no lora", []string{"sample", "--lora-scale", "2"}, exitUsage, "lora.path: expected a PEFT folder or a safetensors file"},
		{"lora at no scale", []string{"sample", "--lora", tuned, "--lora-scale", "much"}, exitUsage, `--lora-scale: lora.scale: expected a finite number, got "much"`},
		{"audit by an unknown method", []string{"audit", "dark-glasses", "--device", "cpu", "--methods", "sdo,full"}, exitUsage, `the method to audit at the latents is "full", want sdo or identity`},
		{"audit of an unknown freeze", []string{"audit", "dark-glasses", "--device", "cpu", "--freezes", "noise"}, exitUsage, `freeze is "noise", want eps, v, x0 or solver`},
		{"audit of a freeze without gradient", []string{"audit", "dark-glasses", "--device", "cpu", "--freezes", "x0"}, exitUsage, "no gradient, because the sampler's last step leaves no noise; freeze eps or v"},
		{"audit without steps", []string{"audit", "dark-glasses", "--device", "cpu", "--steps", "5,0"}, exitUsage, "expected a whole number from 1 to 1000, got 0"},
		{"audit without objective", []string{"audit", file("plain.yaml", "version: 1\nname: x\nupdates: 0\n"), "--device", "cpu"}, exitUsage, "has no objective, so there is no gradient to audit; add a term"},
		{"audit of nothing", []string{"audit", "dark-glasses", "--methods", ""}, exitUsage, "there is nothing to audit"},
		{"audit of no batch", []string{"audit", "dark-glasses", "--batches", "0"}, exitUsage, "--batches is 0, want 1 or more"},
		{"bench of no method", []string{"bench", "memory", "--device", "cpu", "--methods", "best"}, exitUsage, `--methods: method.name: expected one of sdo, full, full-checkpoint, identity, jump`},
		{"bench of zero steps", []string{"bench", "memory", "--device", "cpu", "--steps", "0"}, exitUsage, "--steps: sampler.num_inference_steps: expected a whole number from 1 to 1000, got 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := invoke(t, append(tt.args, "-q")...)
			if code != tt.code || !strings.Contains(stderr, tt.want) || stdout != "" {
				t.Errorf("exit code %d, want %d; standard error %q, want %q in it; standard output %q", code, tt.code, stderr, tt.want, stdout)
			}
			if lines := strings.Count(strings.TrimSpace(stderr), "\n"); lines > 1 || !strings.HasPrefix(stderr, "sdo: ") {
				t.Errorf("not one sentence: %q", stderr)
			}
		})
	}
}

// A model folder that is incomplete, cut short, lying or of another kind.
func TestBadModels(t *testing.T) {
	builtin, err := engine.OpenBuiltin("avatars-16-s")
	if err != nil {
		t.Fatal(err)
	}
	weights := ""
	tests := []struct {
		name, want string
		spoil      func(t *testing.T, dir string)
	}{
		{"no config", "config.json", func(t *testing.T, dir string) { remove(t, dir, "config.json") }},
		{"no weights", ".safetensors", func(t *testing.T, dir string) { remove(t, dir, weights) }},
		{"no scheduler", "scheduler_config.json", func(t *testing.T, dir string) { remove(t, dir, "scheduler_config.json") }},
		{"truncated weights", ".safetensors", func(t *testing.T, dir string) {
			edit(t, dir, weights, func(b []byte) []byte { return b[:len(b)/2] })
		}},
		{"lying header", ".safetensors", func(t *testing.T, dir string) {
			edit(t, dir, weights, func(b []byte) []byte { binary.LittleEndian.PutUint64(b, 1<<60); return b })
		}},
		{"unsupported config", `its network is of class "UNet3DModel"`, func(t *testing.T, dir string) {
			edit(t, dir, "config.json", func(b []byte) []byte {
				return bytes.Replace(b, []byte(`"UNet2DModel"`), []byte(`"UNet3DModel"`), 1)
			})
		}},
		{"unsupported scheduler", "scheduler", func(t *testing.T, dir string) {
			edit(t, dir, "scheduler_config.json", func(b []byte) []byte {
				return bytes.Replace(b, []byte(`squaredcos_cap_v2`), []byte(`sigmoid_of_hope`), 1)
			})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "model")
			if err := os.CopyFS(dir, builtin); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"} {
				if _, err := fs.Stat(builtin, name); err == nil {
					weights = name
				}
			}
			tt.spoil(t, dir)
			code, _, stderr := invoke(t, append([]string{"steer", "dark-glasses", "-q", "--model", dir, "--out", t.TempDir()}, small...)...)
			if code != exitUsage || !strings.Contains(stderr, tt.want) || strings.Count(strings.TrimSpace(stderr), "\n") > 0 {
				t.Errorf("exit code %d, standard error %q; want code 2 and one sentence with %q", code, stderr, tt.want)
			}
		})
	}
}

// overflowing is a model whose numbers are finite and what it makes of them is
// not.
func overflowing(t *testing.T) string {
	t.Helper()
	builtin, err := engine.OpenBuiltin("avatars-16-s")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, builtin); err != nil {
		t.Fatal(err)
	}
	unet, err := model.LoadUNet2D(builtin)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"conv_norm_out.weight", "conv_out.weight"} {
		for i := range unet.Weights[name].Data {
			unet.Weights[name].Data[i] = math.MaxFloat32
		}
	}
	if err := unet.Save(dir, model.F32); err != nil {
		t.Fatal(err)
	}
	return dir
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func edit(t *testing.T, dir, name string, change func([]byte) []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestNoAdapter(t *testing.T) {
	t.Setenv("SDO_ADAPTER", "no such adapter")
	code, _, stderr := invoke(t, append([]string{"steer", "dark-glasses", "-q", "--out", t.TempDir()}, append(small, "--device", "webgpu")...)...)
	if code != exitDevice || strings.Count(strings.TrimSpace(stderr), "\n") > 0 || !strings.Contains(stderr, "adapter") {
		t.Errorf("exit code %d, standard error %q", code, stderr)
	}
	if code, _, stderr := invoke(t, "sample", "--num-images", "1", "--steps", "1", "--out", t.TempDir()); code != exitOK || !strings.Contains(stderr, "there is no GPU adapter") {
		t.Errorf("--device auto without an adapter: exit code %d, standard error %q", code, stderr)
	}
}

// Ctrl-C in the middle keeps the best so far and leaves a complete folder.
func TestInterruptKeepsTheBest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, context.Canceled)
	defer cancel()
	code, stdout, stderr := invokeWith(ctx, "steer", "match-sketch", "--device", "cpu", "--num-images", "1", "--steps", "2",
		"--updates", "10000", "--json", "--out", dir)
	if code != exitInterrupted {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if !strings.Contains(stderr, "interrupted; the best so far is saved") {
		t.Errorf("standard error %q", stderr)
	}
	var summary struct {
		Interrupted bool
		Before      float64 `json:"loss_before"`
		After       float64 `json:"loss_after"`
	}
	if err := json.Unmarshal([]byte(stdout), &summary); err != nil || !summary.Interrupted || summary.After > summary.Before {
		t.Errorf("summary %s: %v", stdout, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "report.html")); err != nil {
		t.Error(err)
	}
	// Before there is anything to save.
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if code, _, stderr := invokeWith(ctx, append([]string{"steer", "dark-glasses", "--out", t.TempDir()}, small...)...); code != exitInterrupted || !strings.Contains(stderr, "nothing to save") {
		t.Errorf("cancelled at once: exit code %d, standard error %q", code, stderr)
	}
}

func TestFaultsOfTheProgramEndInASentence(t *testing.T) {
	var stderr bytes.Buffer
	a := panicky{}
	if code := run(t.Context(), []string{"recipes"}, a, &stderr); code != exitFailure {
		t.Errorf("exit code %d", code)
	}
	if s := stderr.String(); !strings.HasPrefix(s, "sdo: a fault of the program: out of ink; please report") || strings.Count(s, "\n") != 1 {
		t.Errorf("standard error %q", s)
	}
}

type panicky struct{}

func (panicky) Write([]byte) (int, error) { panic("out of\nink") }

func TestBenchPrintsDocumentedKeys(t *testing.T) {
	keys := func(stdout string, want ...string) []map[string]any {
		t.Helper()
		var rows []map[string]any
		if err := json.Unmarshal([]byte(stdout), &rows); err != nil {
			t.Fatalf("not an array of objects: %v\n%s", err, stdout)
		}
		for _, row := range rows {
			for _, key := range want {
				if _, ok := row[key]; !ok {
					t.Errorf("no key %q in %v", key, row)
				}
			}
		}
		return rows
	}
	code, stdout, stderr := invoke(t, "bench", "memory", "--json", "-q", "--device", "cpu", "--steps", "2,5")
	if code != exitOK {
		t.Fatal(stderr)
	}
	sdo := map[float64]float64{}
	for _, row := range keys(stdout, "method", "steps", "activation_bytes_planned", "activation_bytes_measured", "device") {
		if row["activation_bytes_planned"] != row["activation_bytes_measured"] {
			t.Errorf("plan and ledger differ: %v", row)
		}
		if row["method"] == "sdo" {
			sdo[row["steps"].(float64)] = row["activation_bytes_measured"].(float64)
		}
	}
	if sdo[2] != sdo[5] || sdo[2] == 0 {
		t.Errorf("sdo's activations are not flat in the steps: %v", sdo)
	}
	code, stdout, stderr = invoke(t, "bench", "update", "--json", "-q", "--device", "cpu", "--steps", "3", "--num-images", "1", "--repeats", "1")
	if code != exitOK {
		t.Fatal(stderr)
	}
	calls := map[string][2]float64{}
	for _, row := range keys(stdout, "method", "steps", "network_calls", "backward_calls", "seconds_median", "device") {
		calls[row["method"].(string)] = [2]float64{row["network_calls"].(float64), row["backward_calls"].(float64)}
	}
	if calls["sdo"] != [2]float64{3, 1} || calls["full"] != [2]float64{3, 3} || calls["identity"] != [2]float64{3, 0} {
		t.Errorf("calls and backward calls of 3 steps: %v", calls)
	}
}

func TestInspectAndDoctorAndRecipes(t *testing.T) {
	code, stdout, stderr := invoke(t, "model", "inspect", "avatars-16-s", "--json", "--tensors")
	if code != exitOK {
		t.Fatal(stderr)
	}
	var i inspection
	if err := json.Unmarshal([]byte(stdout), &i); err != nil {
		t.Fatal(err)
	}
	if i.Class != "UNet2DModel" || i.Parameters < 100_000 || i.TapeBytes == 0 || len(i.Tensors) < 50 || len(i.Attributes) == 0 {
		t.Errorf("%s with %d parameters in %d tensors, tape %d", i.Class, i.Parameters, len(i.Tensors), i.TapeBytes)
	}
	for _, s := range i.Tensors {
		if s.Bad > 0 || s.Min > s.Mean || s.Mean > s.Max || s.Std < 0 {
			t.Errorf("statistics %+v", s)
		}
	}
	if code, stdout, stderr := invoke(t, "doctor", "--json"); code != exitOK || !json.Valid([]byte(stdout)) || !strings.Contains(stdout, `"gemm_gflops"`) {
		t.Errorf("doctor: exit code %d, %q %q", code, stdout, stderr)
	}
	if code, stdout, _ := invoke(t, "recipes"); code != exitOK || strings.Count(stdout, "\n") != len(recipes.List())+len(recipes.Tunings())+2 || !strings.Contains(stdout, "for sdo tune:") {
		t.Errorf("recipes: exit code %d\n%s", code, stdout)
	}
	if code, stdout, _ := invoke(t, "recipes", "restore-half", "--json"); code != exitOK || !json.Valid([]byte(stdout)) {
		t.Errorf("recipes restore-half --json: exit code %d\n%s", code, stdout)
	}
	if code, stdout, _ := invoke(t, "recipes", "restore-half"); code != exitOK || !strings.HasPrefix(stdout, "version: 1\n") {
		t.Errorf("recipes restore-half: exit code %d\n%s", code, stdout)
	}
}

func TestErrorsOfTheDeviceHaveTheirCodeAndAdvice(t *testing.T) {
	for _, tt := range []struct {
		err    error
		code   int
		advice string
	}{
		{fmt.Errorf("tape: %w", gpu.ErrOutOfMemory), exitDevice, "try fewer pictures with --num-images"},
		{badInput(fmt.Errorf("%w: 9 MiB are needed; try fewer pictures", cpu.ErrOutOfMemory)), exitDevice, "try fewer pictures"},
		{badInput(fmt.Errorf("model x: %w: 9 bytes and at most 8; try fewer pictures", graph.ErrTooLarge)), exitDevice, "too large for the device"},
		{fmt.Errorf("read: %w", gpu.ErrLost), exitDevice, "--device cpu"},
		{badInput(fmt.Errorf("open: %w", gpu.ErrNoAdapter)), exitDevice, "or run with --device cpu"},
		{badInput(errors.New("recipe x: bad")), exitUsage, "recipe x: bad"},
		{errors.Join(errors.New("first"), errInterrupted), exitInterrupted, ""},
		{errors.New("disk full"), exitFailure, "disk full"},
	} {
		if code := exitCode(tt.err); code != tt.code || !strings.Contains(advise(tt.err), tt.advice) {
			t.Errorf("%v: exit code %d, want %d; says %q, want %q in it", tt.err, code, tt.code, advise(tt.err), tt.advice)
		}
	}
}

// What the machine cannot hold is refused before anything is computed.
func TestFits(t *testing.T) {
	exec := cpu.New[float32](cpu.Options{Workers: 1})
	defer exec.Close()
	if err := fits(exec, 1<<20); err != nil {
		t.Error(err)
	}
	if err := fits(exec, 1<<60); runtime.GOOS == "linux" && (exitCode(err) != exitDevice || !strings.HasSuffix(err.Error(), "try fewer pictures or steps, or --method sdo")) {
		t.Errorf("an exbibyte: %v", err)
	}
}

// A disk that is full under standard output is no success.
func TestFullStandardOutput(t *testing.T) {
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"recipes"}, full{}, &stderr); code != exitFailure || stderr.String() != "sdo: standard output: no space left\n" {
		t.Errorf("exit code %d, standard error %q", code, stderr.String())
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// A software GPU and the CPU executor race; who fails has lost.
func TestRace(t *testing.T) {
	slow, fast := cpu.New[float32](cpu.Options{Workers: 1}), cpu.New[float32](cpu.Options{Workers: 1})
	defer slow.Close()
	defer fast.Close()
	seconds := map[graph.Executor]float64{slow: 2, fast: 0.001}
	measure := func(_ context.Context, e graph.Executor) (float64, error) { return seconds[e], nil }
	winner, why, loser, err := race(t.Context(), measure, slow, fast)
	if err != nil || winner != fast || loser != slow || why != "a network call takes 1ms on it and 2s on software Vulkan" {
		t.Errorf("winner fast %v, why %q, error %v", winner == fast, why, err)
	}
	measure = func(_ context.Context, e graph.Executor) (float64, error) {
		if e == fast {
			return 0, errors.New("no\nink")
		}
		return 1, nil
	}
	if winner, why, _, err := race(t.Context(), measure, slow, fast); err != nil || winner != slow || why != "the CPU executor failed: no ink" {
		t.Errorf("why %q, error %v", why, err)
	}
}

// Scripts rely on these numbers; README and docs/formats.md state them.
func TestExitCodesAreTheDocumentedOnes(t *testing.T) {
	got := []int{exitOK, exitFailure, exitUsage, exitDevice, exitInterrupted}
	if want := []int{0, 1, 2, 3, 130}; !slices.Equal(got, want) {
		t.Errorf("exit codes are %v, want %v", got, want)
	}
}

// In a narrow terminal a label ends where the line does.
func TestLabelsFitTheTerminal(t *testing.T) {
	const label = "update 5/8, loss 0.0702, 1/2 done, 0s left"
	for columns, want := range map[int]string{0: label, 80: label, 50: label, 49: "update 5/8, loss 0.0702, 1/2 done, 0s le…", 20: "update 5/8,…", 3: "…"} {
		if got := shortened(label, columns); got != want {
			t.Errorf("of %d columns: %q, want %q", columns, got, want)
		}
	}
}

// A recipe's words are a stranger's: nothing that a terminal would obey is written
// to it.
func TestRecipesDoNotCommandTheTerminal(t *testing.T) {
	code, stdout, stderr := invoke(t, append([]string{"steer", "dark-glasses", "--out", t.TempDir(), "--set", `name="\u001b[31mred\u0007"`}, small...)...)
	if code != exitOK || !strings.Contains(stdout, "\ufffd[31mred\ufffd\n") || !strings.Contains(stderr, "\ufffd[31mred\ufffd: ") || strings.ContainsAny(stdout+stderr, "\x1b\x07") {
		t.Errorf("exit code %d, standard output %q, standard error %q", code, stdout, stderr)
	}
}
