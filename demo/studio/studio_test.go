package studio

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/gpu"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/recipes"
)

// page is a host that collects what is posted and keeps files in memory.
type page struct {
	mu       sync.Mutex
	files    map[string][]byte
	messages []posted
	on       func(posted) // called with every message
	reading  func()       // called when a file is read
}

// posted is a message as it arrives: JSON, and the bytes beside it.
type posted struct {
	ID      int             `json:"id"`
	Event   json.RawMessage `json:"event"`
	Error   *Failure        `json:"error"`
	Result  json.RawMessage `json:"result"`
	buffers [][]byte
}

func (p *page) Post(m Message) {
	got := posted{}
	for _, b := range m.Buffers() {
		got.buffers = append(got.buffers, b.Data)
	}
	text, err := json.Marshal(m)
	if err == nil {
		err = json.Unmarshal(text, &got)
	}
	if err != nil {
		panic(err)
	}
	p.mu.Lock()
	p.messages = append(p.messages, got)
	on := p.on
	p.mu.Unlock()
	if on != nil {
		on(got)
	}
}

func (p *page) Yield() {}

func (p *page) Read(path string) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reading != nil {
		p.reading()
	}
	data, ok := p.files[path]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return data, nil
}

func (p *page) ReadAt(path string, into []byte, at int64) error {
	data, err := p.Read(path)
	if err == nil && copy(into, data[min(at, int64(len(data))):]) < len(into) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (p *page) Write(path string, data []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files[path] = slices.Clone(data)
	return nil
}

func (p *page) Remove(prefix string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.files, func(path string, _ []byte) bool { return strings.HasPrefix(path, prefix) })
	return nil
}

func (p *page) List(prefix string) (all []File, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, path := range slices.Sorted(maps.Keys(p.files)) {
		if strings.HasPrefix(path, prefix) {
			all = append(all, File{path, int64(len(p.files[path]))})
		}
	}
	return all, nil
}

// bench is a page and a server on the CPU.
type bench struct {
	*page
	*testing.T
	server *Server
	last   int
}

func newBench(t *testing.T) *bench {
	b := &bench{page: &page{files: map[string][]byte{}}, T: t}
	b.server = New(b.page, "test")
	b.must("open", map[string]any{"device": "cpu"}, nil)
	t.Cleanup(func() { b.server.device.Close() })
	return b
}

// call makes a request and returns its reply.
func (b *bench) call(method string, params any) posted {
	b.Helper()
	b.last++
	text, err := json.Marshal(map[string]any{"id": b.last, "method": method, "params": params})
	if err != nil {
		b.Fatal(err)
	}
	b.server.Handle(context.Background(), text)
	reply := b.messages[len(b.messages)-1]
	if reply.ID != b.last || reply.Event != nil {
		b.Fatalf("%s: the last message is no reply: %+v", method, reply)
	}
	return reply
}

// must is call where an error ends the test; the result goes into into.
func (b *bench) must(method string, params, into any) posted {
	b.Helper()
	reply := b.call(method, params)
	if reply.Error != nil {
		b.Fatalf("%s: %s: %s", method, reply.Error.Kind, reply.Error.Message)
	}
	if into != nil {
		if err := json.Unmarshal(reply.Result, into); err != nil {
			b.Fatalf("%s: %v in %s", method, err, reply.Result)
		}
	}
	return reply
}

// refused checks that a request fails with a kind and words of a sentence.
func (b *bench) refused(kind, words, method string, params any) {
	b.Helper()
	reply := b.call(method, params)
	if reply.Error == nil || reply.Error.Kind != kind || !strings.Contains(reply.Error.Message, words) {
		b.Errorf("%s: got %+v, want %s with %q", method, reply.Error, kind, words)
	}
}

// events are the events of the latest request.
func (b *bench) events() (all []posted) {
	for _, m := range b.messages {
		if m.ID == b.last && m.Event != nil {
			all = append(all, m)
		}
	}
	return all
}

// small is an embedded recipe at a size for tests.
func small(t *testing.T, name string, change func(*recipes.Recipe)) *recipes.Recipe {
	t.Helper()
	r, err := recipes.Find(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.NumImages, r.Sampler.NumInferenceSteps, r.Updates = 2, 4, 3
	if change != nil {
		change(r)
	}
	return r
}

func TestCatalogNamesWhatThereIs(t *testing.T) {
	b := newBench(t)
	var c contents
	b.must("catalog", nil, &c)
	if len(c.Recipes) != len(recipes.List())+len(recipes.Tunings()) || c.Version != "test" {
		t.Errorf("%d recipes, version %q", len(c.Recipes), c.Version)
	}
	for _, r := range c.Recipes {
		if r.Tunes != slices.Contains(recipes.Tunings(), r.Name) || r.Recipe.Name != r.Name || r.YAML == "" || r.Description == "" {
			t.Errorf("recipe %+v", r)
		}
	}
	names := []string{}
	for _, m := range c.Models {
		names = append(names, m.Name)
		if m.Yours || m.Parameters < 100_000 || m.Bytes < 2*int64(m.Parameters) || len(m.Guide) == 0 || len(m.Judge) == 0 {
			t.Errorf("model %+v", m)
		}
	}
	if !slices.Equal(names, []string{"avatars-16-s", "fashion-28"}) {
		t.Errorf("models %v", names)
	}
}

func TestCheckReadsOrSaysWhatIsWrong(t *testing.T) {
	b := newBench(t)
	text, err := recipes.Text("dark-glasses")
	if err != nil {
		t.Fatal(err)
	}
	var c checked
	b.must("check", map[string]any{"text": string(text), "overrides": map[string]any{"seed": 9, "objective.0.value": "clear"}}, &c)
	if len(c.Problems) > 0 || c.Recipe.Seed != 9 || c.Recipe.Objective[0].Value != "clear" || c.File != "" ||
		!strings.HasPrefix(c.Command, "sdo steer dark-glasses ") {
		t.Errorf("got %+v", c)
	}
	if again, err := recipes.Parse([]byte(c.YAML), "again"); err != nil || !reflect.DeepEqual(again.Canonical(), c.Recipe.Canonical()) {
		t.Errorf("the YAML does not read back: %v", err)
	}
	// What check returns may be sent back, a recipe that only samples too.
	var plain struct {
		Recipe json.RawMessage `json:"recipe"`
	}
	b.must("check", map[string]any{"text": "{version: 1, name: x, updates: 0, num_images: 1, sampler: {num_inference_steps: 2}}"}, &plain)
	b.must("sample", map[string]any{"recipe": plain.Recipe}, nil)
	for text, want := range map[string]problem{
		"version: 1\nname: x\nseed: -4\n":                                                           {"seed: expected a whole number", 3, "seed"},
		"version: 1\nname: x\nupdates: 0\nobjectiv: []\n":                                           {"objectiv: expected one of", 4, "objectiv"},
		"version: 1\nname: x\nupdates: 0\nmodel: nobody\n":                                          {`model "nobody" is not here`, 0, ""},
		"version: 1\nname: x\nobjective:\n  - {term: attribute, attribute: glasses, value: drak}\n": {"did you mean dark?", 4, "objective.0.value"},
		"{": {"", 1, ""},
	} {
		c := checked{}
		b.must("check", map[string]any{"text": text}, &c)
		if len(c.Problems) == 0 || c.Recipe != nil || !strings.Contains(c.Problems[0].Message, want.Message) ||
			c.Problems[0].Line != want.Line || want.Path != "" && c.Problems[0].Path != want.Path {
			t.Errorf("%q: got %+v, want %+v", text, c.Problems, want)
		}
	}
}

// The page's run is the engine's: same losses, same pictures.
func TestSteerIsTheEnginesRun(t *testing.T) {
	b := newBench(t)
	r := small(t, "dark-glasses", nil)
	var got steerResult
	reply := b.must("steer", map[string]any{"recipe": r}, &got)

	m, err := engine.LoadModel(r, engine.OpenBuiltin)
	if err != nil {
		t.Fatal(err)
	}
	p, err := engine.NewPlan(r, m, nil, m.Options())
	if err != nil {
		t.Fatal(err)
	}
	exec := cpu.New[float32](cpu.Options{})
	defer exec.Close()
	s, err := engine.NewSession(exec, p)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want, err := s.Steer(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Losses, want.Losses) || !reflect.DeepEqual(got.Counters, want.Counters) {
		t.Errorf("losses %v, want %v", got.Losses, want.Losses)
	}
	if got.Peak != got.Planned || got.Peak == 0 {
		t.Errorf("%d bytes of activations, planned %d", got.Peak, got.Planned)
	}
	if !slices.Equal(reply.buffers[got.Before.RGBA.Index], newPictures(want.Before, s.Shape).RGBA.Data) ||
		!slices.Equal(reply.buffers[got.After.RGBA.Index], newPictures(want.Samples, s.Shape).RGBA.Data) {
		t.Error("other pictures")
	}
	if got.JudgeLabel != "glasses: dark" || len(got.JudgeAfter) != 2 {
		t.Errorf("judge %q %v", got.JudgeLabel, got.JudgeAfter)
	}

	// The states of the first rollout are shown, and every update with a verdict.
	kinds := map[string]int{}
	for _, m := range b.events() {
		var e steerEvent
		if err := json.Unmarshal(m.Event, &e); err != nil {
			t.Fatal(err)
		}
		kinds[string(e.Kind)]++
		if first := e.Kind == "step" && e.Update == 0; (e.Pictures != nil) != (first || e.Kind == "update") {
			t.Errorf("pictures of %s at update %d: %v", e.Kind, e.Update, e.Pictures)
		}
		if e.Kind == "step" && e.Update < 3 && e.Kept != (e.Step == 1) {
			t.Errorf("step %d of update %d: kept %v", e.Step, e.Update, e.Kept)
		}
		if e.Kind == "update" && len(e.Verdicts) != 2 {
			t.Errorf("update %d has verdicts %v", e.Update, e.Verdicts)
		}
	}
	if !maps.Equal(kinds, map[string]int{"step": 16, "update": 4, "backward": 3}) {
		t.Errorf("events %v", kinds)
	}
}

// Previews are as far apart as the page asks, but the last update has one.
func TestPreviewsAreThrottled(t *testing.T) {
	b := newBench(t)
	b.must("steer", map[string]any{"recipe": small(t, "dark-glasses", nil), "previews": 1e6}, nil)
	var seen []int
	for _, m := range b.events() {
		var e steerEvent
		if err := json.Unmarshal(m.Event, &e); err != nil {
			t.Fatal(err)
		}
		if e.Kind == "update" && e.Pictures != nil {
			seen = append(seen, e.Update)
		}
	}
	if !slices.Equal(seen, []int{0, 3}) {
		t.Errorf("pictures of updates %v", seen)
	}
}

// A run that is cancelled and resumed ends as the one that was not.
func TestSteerResumes(t *testing.T) {
	b := newBench(t)
	r := small(t, "dark-glasses", func(r *recipes.Recipe) { r.Updates = 4 })
	var whole, part, rest steerResult
	b.must("steer", map[string]any{"recipe": r, "checkpoint": true}, &whole)
	b.expectCheckpoint(nil)

	b.stopAt("cancel", "step", 3)
	b.must("steer", map[string]any{"recipe": r, "checkpoint": true}, &part)
	b.on = nil
	// Where updates are quick a stop waits for the next.
	saved := len(part.Losses) - 1
	if !part.Cancelled || saved < 2 || saved > 3 {
		t.Fatalf("cancelled %v after %d losses", part.Cancelled, len(part.Losses))
	}
	b.expectCheckpoint(&savedWork{Name: "steer", Update: saved})

	b.refused(kindInput, "another recipe", "steer", map[string]any{"recipe": small(t, "happy-mood", nil), "resume": true, "checkpoint": true})
	reply := b.must("steer", map[string]any{"recipe": r, "checkpoint": true, "resume": true}, &rest)
	if !reflect.DeepEqual(rest.Losses, whole.Losses) || !reflect.DeepEqual(rest.RowUpdates, whole.RowUpdates) || rest.Cancelled {
		t.Errorf("losses %v, want %v", rest.Losses, whole.Losses)
	}
	if len(reply.buffers) != 2 {
		t.Errorf("%d buffers", len(reply.buffers))
	}
	b.expectCheckpoint(nil)
	b.refused(kindInput, "no run to go on with", "steer", map[string]any{"recipe": r, "resume": true, "checkpoint": true})
}

// stopAt calls a control method when the latest job tells a kind of event at an
// update.
func (b *bench) stopAt(method, kind string, update int) {
	id := b.last + 1
	b.on = func(m posted) {
		var e struct {
			Kind   string
			Update int
		}
		if json.Unmarshal(m.Event, &e); m.ID != id || e.Kind != kind || e.Update != update {
			return
		}
		b.on = nil
		text, _ := json.Marshal(map[string]any{"id": -1, "method": method, "params": map[string]any{"job": id}})
		b.server.Handle(context.Background(), text)
	}
}

func (b *bench) expectCheckpoint(want *savedWork) {
	b.Helper()
	var all []savedWork
	b.must("checkpoints", nil, &all)
	if want == nil {
		if len(all) > 0 {
			b.Errorf("there is a checkpoint %+v", all)
		}
		return
	}
	if len(all) != 1 || all[0].Name != want.Name || all[0].Update != want.Update || all[0].Recipe == nil ||
		math.Abs(float64(all[0].Saved-time.Now().UnixMilli())) > 60_000 {
		b.Errorf("checkpoints %+v, want %+v", all, want)
	}
}

// A paused run waits; its seconds do not count the pause; cancelling ends it.
func TestPause(t *testing.T) {
	b := newBench(t)
	r := small(t, "dark-glasses", nil)
	const pause = 300 * time.Millisecond
	id := b.last + 1
	send := func(method string) {
		text, _ := json.Marshal(map[string]any{"id": -1, "method": method, "params": map[string]any{"job": id}})
		b.server.Handle(context.Background(), text)
	}
	b.stopAt("pause", "update", 1)
	resumed := make(chan time.Time, 1)
	paused := b.on
	b.on = func(m posted) {
		was := b.on
		paused(m)
		if b.on == nil && was != nil { // it has just paused
			go func() {
				time.Sleep(pause)
				send("resume")
				resumed <- time.Now()
			}()
		}
	}
	began := time.Now()
	var got steerResult
	b.must("steer", map[string]any{"recipe": r}, &got)
	took := time.Since(began)
	<-resumed
	if len(got.Losses) != 4 || took < pause || got.Seconds > (took-pause).Seconds()+0.05 {
		t.Errorf("%d losses in %v, of which it counts %.2f s", len(got.Losses), took, got.Seconds)
	}
}

func TestOneJobAtATime(t *testing.T) {
	b := newBench(t)
	r := small(t, "dark-glasses", nil)
	asked := false
	b.on = func(m posted) {
		if asked || m.Event == nil {
			return
		}
		asked = true
		for id, method := range map[int]string{-2: "sample", -3: "open"} {
			text, _ := json.Marshal(map[string]any{"id": id, "method": method, "params": map[string]any{"recipe": r, "device": "cpu"}})
			b.server.Handle(context.Background(), text)
		}
		text, _ := json.Marshal(map[string]any{"id": -4, "method": "plan", "params": map[string]any{"recipe": r}})
		b.server.Handle(context.Background(), text)
	}
	b.must("steer", map[string]any{"recipe": r}, nil)
	for _, m := range b.messages {
		if busy := m.ID == -2 || m.ID == -3; busy && (m.Error == nil || m.Error.Kind != kindBusy) || m.ID == -4 && m.Error != nil {
			t.Errorf("reply %d: %+v", m.ID, m.Error)
		}
	}
	b.must("cancel", map[string]any{"job": 2}, nil)    // it has ended meanwhile
	b.must("sample", map[string]any{"recipe": r}, nil) // the device is free again
}

// A run cancelled before its first update has nothing to keep, and says so.
func TestCancelledAtOnce(t *testing.T) {
	b := newBench(t)
	b.stopAt("cancel", "step", 0)
	b.refused(kindCancelled, "before there was anything to keep", "steer", map[string]any{"recipe": small(t, "dark-glasses", nil), "checkpoint": true})
	b.expectCheckpoint(nil)
}

func TestPlanTellsTheCost(t *testing.T) {
	b := newBench(t)
	var p planned
	b.must("plan", map[string]any{"recipe": small(t, "happy-mood", nil)}, &p)
	// Guidance asks twice a step; one call is kept in two branches.
	if p.Steps != 4 || p.Calls != 8 || p.BackwardCalls != 2 || p.Refusal != "" {
		t.Errorf("got %+v", p)
	}
	if p.Full == nil || p.Full.Activations < 2*p.Memory.Activations || p.Memory.Total != p.Memory.Memory.Total() {
		t.Errorf("memory %+v, full %+v", p.Memory, p.Full)
	}
	var t1, t2 planned
	b.must("plan", map[string]any{"recipe": small(t, "dark-glasses", nil)}, &t1)
	b.must("plan", map[string]any{"recipe": small(t, "dark-glasses", func(r *recipes.Recipe) { r.Sampler.NumInferenceSteps = 40 })}, &t2)
	if t1.Memory.Activations != t2.Memory.Activations || t2.Full.Activations < 5*t1.Full.Activations {
		t.Errorf("activations %d at 4 steps, %d at 40; full %d, %d", t1.Memory.Activations, t2.Memory.Activations, t1.Full.Activations, t2.Full.Activations)
	}
	if more := t2.First - t1.First; more < 9*t1.First/2 || more != t2.Update-t1.Update || t1.Update <= t1.First {
		t.Errorf("%d multiply-adds and %d an update at 4 steps, %d and %d at 40", t1.First, t1.Update, t2.First, t2.Update)
	}
	b.must("plan", map[string]any{"recipe": small(t, "dark-glasses", func(r *recipes.Recipe) {
		r.NumImages, r.Sampler.NumInferenceSteps, r.Method = 256, 100, recipes.Method{Name: "full"}
	})}, &p)
	if !strings.Contains(p.Refusal, "fewer pictures") {
		t.Errorf("refusal %q of %d bytes", p.Refusal, p.Memory.Total)
	}
}

// A GPU does not tell how much memory it has, but there is too much for any.
func TestPlanTooLargeForAnyGPU(t *testing.T) {
	b := newBench(t)
	if reply := b.call("open", map[string]any{"device": "webgpu"}); reply.Error != nil {
		if os.Getenv("SDO_REQUIRE_GPU") == "1" || reply.Error.Kind != kindNoAdapter {
			t.Fatal(reply.Error.Message)
		}
		t.Skip(reply.Error.Message)
	}
	var p planned
	b.must("plan", map[string]any{"recipe": small(t, "dark-glasses", func(r *recipes.Recipe) {
		r.NumImages, r.Sampler.NumInferenceSteps, r.Method = 256, 1000, recipes.Method{Name: "full"}
	})}, &p)
	if !strings.Contains(p.Refusal, "more than any browser gives a page") {
		t.Errorf("refusal %q of %d GiB", p.Refusal, p.Memory.Total>>30)
	}
	b.refused(kindMemory, "more than any browser", "steer", map[string]any{"recipe": small(t, "dark-glasses", func(r *recipes.Recipe) {
		r.NumImages, r.Sampler.NumInferenceSteps, r.Method = 256, 1000, recipes.Method{Name: "full"}
	})})
}

func TestTuneMakesALoRAThatRecipesUse(t *testing.T) {
	b := newBench(t)
	r := small(t, "everyone-wears-glasses", func(r *recipes.Recipe) {
		r.NumImages, r.Updates, r.Tune.BatchSize, r.Tune.EvalImages, r.Tune.EvalEvery = 16, 3, 2, 2, 2
	})
	var whole, part, rest tuneResult
	reply := b.must("tune", map[string]any{"recipe": r, "name": "mine"}, &whole)
	if whole.Updates != 3 || whole.LoRA != "mine.safetensors" || whole.Warning != "" || whole.Peak != whole.Planned || len(whole.Before.Attributes) == 0 {
		t.Errorf("got %+v", whole)
	}
	file := reply.buffers[whole.File.Index]
	if !slices.Equal(file, b.files["loras/mine.safetensors"]) {
		t.Error("the file that is handed out is not the one that is kept")
	}
	kinds := map[string]int{}
	looks := []int{}
	for _, m := range b.events() {
		var e tuneEvent
		if err := json.Unmarshal(m.Event, &e); err != nil {
			t.Fatal(err)
		}
		kinds[e.Kind]++
		if e.Look != nil {
			looks = append(looks, e.Update)
		}
	}
	if kinds["update"] != 3 || kinds["step"] == 0 || !slices.Equal(looks, []int{0, 2, 3}) {
		t.Errorf("events %v, looks at %v", kinds, looks)
	}

	b.stopAt("cancel", "update", 2)
	b.must("tune", map[string]any{"recipe": r, "name": "mine"}, &part)
	if !part.Cancelled || part.Updates != 2 || part.LoRA != "mine-after-2.safetensors" {
		t.Fatalf("cancelled %v after %d updates, kept as %q", part.Cancelled, part.Updates, part.LoRA)
	}
	b.must("remove_lora", map[string]any{"name": part.LoRA}, nil)
	b.expectCheckpoint(&savedWork{Name: "tune", Update: 2})
	reply = b.must("tune", map[string]any{"recipe": r, "resume": true}, &rest)
	if !slices.Equal(reply.buffers[rest.File.Index], file) || rest.Cancelled {
		t.Error("a resumed tuning ends in other bytes")
	}
	if rest.LoRA != "mine-2.safetensors" || !slices.Equal(b.files["loras/mine.safetensors"], file) {
		t.Errorf("kept as %q; the adapter that was there is another: %v", rest.LoRA, !slices.Equal(b.files["loras/mine.safetensors"], file))
	}
	if rest.Seconds <= part.Seconds {
		t.Errorf("%.2f s in all, %.2f s before it was cut short", rest.Seconds, part.Seconds)
	}
	b.must("remove_lora", map[string]any{"name": rest.LoRA}, nil)
	b.expectCheckpoint(nil)

	// The adapter changes what is sampled, as the tuning's last look says.
	sampled := func(change func(*recipes.Recipe)) []byte {
		var p Pictures
		reply := b.must("sample", map[string]any{"recipe": small(t, "dark-glasses", change)}, &p)
		return reply.buffers[p.RGBA.Index]
	}
	plain, adapted := sampled(nil), sampled(func(r *recipes.Recipe) { r.LoRA = &recipes.Adapter{Path: "mine.safetensors", Scale: 1} })
	if slices.Equal(plain, adapted) {
		t.Error("the adapter changes nothing")
	}
	var c contents
	b.must("catalog", nil, &c)
	if !slices.Equal(c.LoRAs, []string{"mine.safetensors"}) {
		t.Errorf("adapters %v", c.LoRAs)
	}

	b.files["incoming/back.safetensors"] = file
	var added addedLoRA
	b.must("add_lora", map[string]any{"name": "back"}, &added)
	if added.Name != "back.safetensors" || added.Parameters != whole.Trained {
		t.Errorf("got %+v, trained %d", added, whole.Trained)
	}
	// What is no adapter, or has another's name, leaves the one that is there.
	b.files["incoming/bad.safetensors"] = []byte("no adapter at all")
	b.refused(kindInput, "lora bad: ", "add_lora", map[string]any{"name": "bad"})
	b.files["incoming/mine.safetensors"] = []byte("no adapter at all")
	b.refused(kindInput, "there is an adapter named mine.safetensors", "add_lora", map[string]any{"name": "mine.safetensors"})
	b.must("remove_lora", map[string]any{"name": "back.safetensors"}, nil)
	if len(b.files) != 1 || !slices.Equal(b.files["loras/mine.safetensors"], file) {
		t.Errorf("kept are %v", slices.Collect(maps.Keys(b.files)))
	}
}

// full is a page whose store takes nothing.
type full struct{ *page }

func (full) Write(path string, _ []byte) error { return fmt.Errorf("%s: there is no room", path) }

// A store that is full ends no run and loses no result.
func TestFullStore(t *testing.T) {
	b := newBench(t)
	b.server.host = full{b.page}
	var s steerResult
	b.must("steer", map[string]any{"recipe": small(t, "dark-glasses", nil), "checkpoint": true}, &s)
	warned := 0
	for _, m := range b.events() {
		if strings.Contains(string(m.Event), "would not survive the tab: ") {
			warned++
		}
	}
	if len(s.Losses) != 4 || s.Cancelled || warned == 0 {
		t.Errorf("%d losses, cancelled %v, %d warnings", len(s.Losses), s.Cancelled, warned)
	}
	var tuned tuneResult
	reply := b.must("tune", map[string]any{"recipe": small(t, "everyone-wears-glasses", func(r *recipes.Recipe) {
		r.Updates, r.Tune.BatchSize, r.Tune.EvalImages = 1, 2, 2
	})}, &tuned)
	if len(reply.buffers[tuned.File.Index]) == 0 || tuned.LoRA != "" || !strings.Contains(tuned.Warning, "download it") {
		t.Errorf("got %+v", tuned)
	}
}

// A device that cannot be had leaves the one that is open.
func TestFailedSwitchKeepsTheDevice(t *testing.T) {
	t.Setenv("SDO_ADAPTER", "vulkan:no such adapter")
	b := newBench(t)
	b.refused(kindNoAdapter, "no such adapter", "open", map[string]any{"device": "webgpu"})
	b.must("sample", map[string]any{"recipe": small(t, "dark-glasses", nil)}, nil)
	var d deviceInfo
	b.must("open", map[string]any{"device": "auto"}, &d)
	if d.Kind != "cpu" || !strings.Contains(d.Why, "no such adapter") {
		t.Errorf("got %+v", d)
	}
}

// wrong is an executor whose numbers are not finite, or that is lost.
type wrong struct {
	graph.Executor
	err error
}

func (w wrong) Read(ctx context.Context, src graph.Tensor) ([]float64, error) {
	numbers, err := w.Executor.Read(ctx, src)
	for i := range numbers {
		numbers[i] = math.NaN()
	}
	return numbers, errors.Join(err, w.err)
}

// A kernel that gives NaN is told of in numbers that JSON has; a lost device ends
// the check.
func TestKernelsOfABrokenDevice(t *testing.T) {
	b := newBench(t)
	b.server.device.Executor = wrong{b.server.device.Executor, nil}
	var rows []kernelCheck
	b.must("kernels", map[string]any{"only": "matmul"}, &rows)
	for _, r := range rows {
		if r.OK || r.Error != math.MaxFloat64 || r.Message == "" {
			t.Errorf("row %+v", r)
		}
	}
	b.server.device.Executor = wrong{b.server.device.Executor, fmt.Errorf("reading: %w", gpu.ErrLost)}
	b.refused(kindLost, "fewer pictures", "kernels", map[string]any{"only": "matmul"})
}

// Networks are read once for all recipes of the same.
func TestNetworksAreReadOnce(t *testing.T) {
	b := newBench(t)
	b.must("plan", map[string]any{"recipe": small(t, "dark-glasses", nil)}, nil)
	first := b.server.latest.UNet
	b.must("plan", map[string]any{"recipe": small(t, "match-sketch", func(r *recipes.Recipe) { r.Sampler.UseKarrasSigmas, r.Sampler.Name = true, "euler" })}, nil)
	if b.server.latest.UNet != first {
		t.Error("read again for another recipe of the same model")
	}
	b.must("plan", map[string]any{"recipe": small(t, "ankle-boots", nil)}, nil)
	if b.server.latest.UNet == first {
		t.Error("another model, and not read")
	}
}

func TestAudit(t *testing.T) {
	b := newBench(t)
	var a auditResult
	b.must("audit", map[string]any{"recipe": small(t, "dark-glasses", nil), "batches": 1}, &a)
	if a.Steps != 4 || a.Pictures != 2 || len(a.Advice) != 1 || len(a.Rows) != 4*4 {
		t.Errorf("%d rows, got %+v", len(a.Rows), a)
	}
	for _, r := range a.Rows {
		if r.Variable != "latents" || r.Step < 0 || r.Step > 3 || !(r.Cosine >= -1 && r.Cosine <= 1+1e-6) || r.CosineMin > r.Cosine+1e-9 {
			t.Errorf("row %+v", r)
		}
		if r.Step == 3 && r.Method == "sdo" && math.Abs(r.Cosine-1) > 1e-4 {
			t.Errorf("before the last step nothing is approximated: %+v", r)
		}
	}
	b.refused(kindInput, "batches is 0", "audit", map[string]any{"recipe": small(t, "dark-glasses", nil)})
}

func TestBringAModel(t *testing.T) {
	b := newBench(t)
	dir := filepath.Join("..", "..", "model", "testdata", "unet2d-attention")
	var files []map[string]any
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		file := map[string]any{"path": e.Name(), "size": len(data)}
		if filepath.Ext(e.Name()) == ".json" {
			file["text"] = string(data)
		}
		files = append(files, file)
		b.files["models/brought/"+e.Name()] = data
	}
	// The fixture says nothing of its noise schedule.
	scheduler := `{"_class_name": "DDIMScheduler", "num_train_timesteps": 1000}`
	files = append(files, map[string]any{"path": "scheduler/scheduler_config.json", "size": len(scheduler), "text": scheduler})
	b.files["models/brought/scheduler/scheduler_config.json"] = []byte(scheduler)

	var i inspected
	b.must("inspect", map[string]any{"name": "brought", "files": files, "num_images": 2}, &i)
	if !i.OK || i.Parameters == 0 || i.Bytes == 0 || i.Sample.Total == 0 || i.Steer.Activations <= i.Sample.Activations {
		t.Fatalf("got %+v", i)
	}
	b.must("inspect", map[string]any{"name": "x", "files": files[:0], "num_images": 2}, &i)
	if i.OK || !strings.Contains(i.Message, "config.json is missing") {
		t.Errorf("an empty folder: %+v", i)
	}

	var info modelInfo
	b.must("add_model", map[string]any{"name": "brought"}, &info)
	if !info.Yours || info.Name != "brought" || info.Bytes == 0 {
		t.Errorf("got %+v", info)
	}
	var p Pictures
	reply := b.must("sample", map[string]any{"recipe": small(t, "dark-glasses", func(r *recipes.Recipe) { r.Model = "brought" })}, &p)
	if p.Count != 2 || p.Width != info.Width || len(reply.buffers[0]) != 4*2*p.Width*p.Height {
		t.Errorf("got %+v", p)
	}
	// What arrives while its weights are read is heard when the job begins.
	b.server.forget()
	b.reading = func() {
		b.reading = nil
		b.server.control(b.last, (*job).stop)
	}
	b.refused(kindCancelled, "before there was anything to keep", "sample", map[string]any{"recipe": small(t, "dark-glasses", func(r *recipes.Recipe) { r.Model = "brought" })})
	b.must("remove_model", map[string]any{"name": "brought"}, nil)
	b.refused(kindInput, "does not exist", "sample", map[string]any{"recipe": small(t, "dark-glasses", func(r *recipes.Recipe) { r.Model = "brought" })})

	b.files["models/broken/config.json"] = []byte("{}")
	b.refused(kindInput, "model broken: ", "add_model", map[string]any{"name": "broken"})
	b.refused(kindInput, "built-in model", "add_model", map[string]any{"name": "avatars-16-s"})
	b.refused(kindInput, "without slashes", "add_model", map[string]any{"name": "../up"})
	if len(b.files) > 0 {
		t.Errorf("kept are %v", slices.Collect(maps.Keys(b.files)))
	}
}

// Pictures of one channel are grey, of three in their colours.
func TestPictures(t *testing.T) {
	grey := newPictures([]float64{-1, 0, 1, 7}, []int{2, 1, 1, 2})
	if want := []byte{0, 0, 0, 255, 128, 128, 128, 255, 255, 255, 255, 255, 255, 255, 255, 255}; !slices.Equal(grey.RGBA.Data, want) || grey.Count != 2 {
		t.Errorf("got %v, want %v", grey.RGBA.Data, want)
	}
	colour := newPictures([]float64{-1, 1, 0, 1, -1, -1}, []int{1, 3, 1, 2})
	if want := []byte{0, 128, 0, 255, 255, 255, 0, 255}; !slices.Equal(colour.RGBA.Data, want) {
		t.Errorf("got %v, want %v", colour.RGBA.Data, want)
	}
}

// A source is the picture that the training generator draws.
func TestSource(t *testing.T) {
	b := newBench(t)
	var p Pictures
	one := b.must("source", map[string]any{"seed": 3, "index": 1}, &p)
	other := b.must("source", map[string]any{"seed": 3, "index": 2}, nil)
	if p.Count != 1 || p.Width != 16 || len(one.buffers[0]) != 16*16*4 || slices.Equal(one.buffers[0], other.buffers[0]) {
		t.Errorf("got %+v", p)
	}
	b.refused(kindInput, "index is -1", "source", map[string]any{"index": -1})
}

func TestKernelsAgree(t *testing.T) {
	b := newBench(t)
	var rows []kernelCheck
	b.must("kernels", map[string]any{"only": "matmul"}, &rows)
	if len(rows) == 0 || len(b.events()) != len(rows) {
		t.Fatalf("%d rows, %d events", len(rows), len(b.events()))
	}
	for _, r := range rows {
		if !r.OK || r.Bound == 0 || !strings.HasPrefix(r.Name, "matmul") {
			t.Errorf("row %+v", r)
		}
	}
}

func TestMeasure(t *testing.T) {
	b := newBench(t)
	var m measured
	b.must("measure", nil, &m)
	if !(m.GFLOPS > 0 && m.CallMS > 0) || m.Dispatches != 0 {
		t.Errorf("got %+v", m)
	}
}

func TestBadRequests(t *testing.T) {
	b := newBench(t)
	b.refused(kindInput, `no method "dance"`, "dance", nil)
	b.refused(kindInput, "parameters: ", "steer", map[string]any{"recipe": 4})
	b.refused(kindInput, `device is "tpu"`, "open", map[string]any{"device": "tpu"})
	open := b.server.device
	b.server.device = nil
	b.refused(kindInput, "no device is open", "sample", map[string]any{"recipe": small(t, "dark-glasses", nil)})
	b.server.device = open
	b.refused(kindInput, "cannot be lost", "lose_device", nil)
	b.refused(kindInput, "want steer or tune", "discard", map[string]any{"name": "x"})
	b.server.Handle(context.Background(), []byte("{"))
	if last := b.messages[len(b.messages)-1]; last.Error == nil || last.Error.Kind != kindInput {
		t.Errorf("got %+v", last)
	}
}

// A large file of the store is read in parts, and is the same as one read whole.
func TestLargeFilesAreReadInParts(t *testing.T) {
	whole := make([]byte, wholeBytes+1)
	for i := range whole {
		whole[i] = byte(i * 7)
	}
	reads := 0
	store := &page{files: map[string][]byte{"models/a/large": whole, "models/a/small": whole[:wholeBytes]}, reading: func() { reads++ }}
	files := folder{store, "models/a/"}
	f, err := files.Open("large")
	if err != nil {
		t.Fatal(err)
	}
	if reads != 0 {
		t.Errorf("opening a large file read it %d times", reads)
	}
	stat, err := f.Stat()
	if err != nil || stat.Size() != int64(len(whole)) || stat.Name() != "large" {
		t.Errorf("the file is %v, %v", stat, err)
	}
	got := make([]byte, 5)
	if n, err := f.(io.ReaderAt).ReadAt(got, 300); n != 5 || err != nil || !bytes.Equal(got, whole[300:305]) {
		t.Errorf("bytes 300 to 304 are %v, %d, %v", got, n, err)
	}
	if n, err := f.(io.ReaderAt).ReadAt(got, wholeBytes-1); n != 2 || err != io.EOF || !bytes.Equal(got[:2], whole[wholeBytes-1:]) {
		t.Errorf("the last two bytes are %v, %d, %v", got, n, err)
	}
	for _, name := range []string{"large", "small"} {
		read, err := fs.ReadFile(files, name)
		if err != nil || !bytes.Equal(read, store.files["models/a/"+name]) {
			t.Errorf("%s is read as %d bytes, %v", name, len(read), err)
		}
	}
	if _, err := files.Open("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	delete(store.files, "models/a/large")
	if _, err := f.(io.ReaderAt).ReadAt(got, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that was removed while open: %v", err)
	}
}

// What does not fit a device is told as its shortage, with one piece of advice.
func TestShortOfMemory(t *testing.T) {
	for _, err := range []error{
		badInput(fmt.Errorf("decoder: plan: %w: conv2d takes 9 bytes and the device holds at most 8 in one piece; try fewer or smaller pictures", graph.ErrTooLarge)),
		fmt.Errorf("%w: 9 MiB are needed at once and 1 MiB are free; try fewer pictures", cpu.ErrOutOfMemory),
		fmt.Errorf("tape: %w", gpu.ErrOutOfMemory),
	} {
		if f := failure(err); f.Kind != kindMemory || strings.Count(f.Message, "; try ") != 1 {
			t.Errorf("%s: %s", f.Kind, f.Message)
		}
	}
}
