package edgetest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"io"
	"io/fs"
	"iter"
	"math"
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sdo-go/sdo/engine/enginetest"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// Event is one of a run's stream.
type Event struct {
	Name string
	Data json.RawMessage
}

// Pictures are a batch's as PNG files.
type Pictures struct {
	Count  int      `json:"count"`
	Width  int      `json:"width"`
	Height int      `json:"height"`
	PNG    [][]byte `json:"png"`
}

// Estimate is what a run is expected to take.
type Estimate struct {
	NetworkCalls  int     `json:"network_calls"`
	BackwardCalls int     `json:"backward_calls"`
	MultiplyAdds  int64   `json:"multiply_adds"`
	Seconds       float64 `json:"seconds"`
	Slices        int     `json:"slices"`
	Bytes         int64   `json:"bytes"`
}

// Plan is the first event of a stream.
type Plan struct {
	Recipe   json.RawMessage `json:"recipe"`
	Estimate Estimate        `json:"estimate"`
	Memory   struct {
		Params      int64 `json:"param_bytes"`
		Activations int64 `json:"activation_bytes"`
		States      int64 `json:"state_bytes"`
	} `json:"memory"`
	Resumed int `json:"resumed"`
}

// Told is an event between the first and the last.
type Told struct {
	sdo.Event
	Kept     bool      `json:"kept"`
	Seconds  float64   `json:"seconds"`
	Verdicts []bool    `json:"verdicts"`
	Pictures *Pictures `json:"pictures"`
}

// Continue is the last event of a request whose run goes on in the next.
type Continue struct {
	Token    string   `json:"token"`
	Expires  int64    `json:"expires"`
	Update   int      `json:"update"`
	Updates  int      `json:"updates"`
	Estimate Estimate `json:"estimate"`
}

// Result is the last event of a run.
type Result struct {
	Before      Pictures     `json:"before"`
	After       Pictures     `json:"after"`
	Losses      [][]float64  `json:"losses"`
	BestLoss    []float64    `json:"best_loss"`
	BestUpdate  []int        `json:"best_update"`
	RowUpdates  []int        `json:"row_updates"`
	Stopped     []bool       `json:"stopped"`
	Drifted     []bool       `json:"drifted"`
	Updates     int          `json:"updates"`
	Cancelled   bool         `json:"cancelled"`
	JudgeLabel  string       `json:"judge_label"`
	JudgeBefore []bool       `json:"judge_before"`
	JudgeAfter  []bool       `json:"judge_after"`
	Drift       float64      `json:"drift"`
	Seconds     float64      `json:"seconds"`
	Counters    sdo.Counters `json:"counters"`
	Planned     int64        `json:"planned_bytes"`
	Peak        int64        `json:"peak_bytes"`
}

// Sample is the last event of a sample.
type Sample struct {
	Pictures Pictures     `json:"pictures"`
	Seconds  float64      `json:"seconds"`
	Counters sdo.Counters `json:"counters"`
}

// Small is the request for a run of the library that takes little.
func Small(recipe string, set map[string]any) map[string]any {
	all := map[string]any{"num_images": 1, "sampler.num_inference_steps": 3, "updates": 2, "guards.early_stop": false, "guards.drift_limit": 0}
	for key, value := range set {
		all[key] = value
	}
	return map[string]any{"recipe": recipe, "set": all}
}

// Stream sends a request for a run and reads its events to the end.
func (c *Client) Stream(t testing.TB, path string, request any) []Event {
	t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	events, err := c.Events(context.Background(), path, body, "application/json")
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// Events is Stream for callers that are no tests. An answer that is no stream is
// an error with its text.
func (c *Client) Events(ctx context.Context, path string, body []byte, media string) ([]Event, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", media)
	response, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if media := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || media != "text/event-stream" {
		text, _ := io.ReadAll(response.Body)
		return nil, &unexpected{response.Status, media, string(text)}
	}
	var events []Event
	for e, err := range ReadEvents(response.Body) {
		if err != nil {
			return events, err
		}
		events = append(events, e)
	}
	return events, nil
}

type unexpected struct{ status, media, text string }

func (e *unexpected) Error() string { return e.status + ", " + e.media + ": " + e.text }

// ReadEvents reads a stream of events as they come, each of which is two lines and
// an empty one.
func ReadEvents(r io.Reader) iter.Seq2[Event, error] {
	lines := bufio.NewReader(r)
	return func(yield func(Event, error) bool) {
		for {
			name, err := lines.ReadString('\n')
			if err == io.EOF && name == "" {
				return
			}
			if err != nil && err != io.EOF {
				yield(Event{}, err)
				return
			}
			data, _ := lines.ReadString('\n')
			empty, _ := lines.ReadString('\n')
			name, isEvent := strings.CutPrefix(name, "event: ")
			data, isData := strings.CutPrefix(data, "data: ")
			if !isEvent || !isData || empty != "\n" {
				yield(Event{}, &unexpected{"a broken stream", "", name + data + empty})
				return
			}
			if !yield(Event{strings.TrimSpace(name), json.RawMessage(data)}, nil) {
				return
			}
		}
	}
}

// decode reads an event's data, of which all keys must be known.
func decode[T any](t testing.TB, e Event) (value T) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(e.Data))
	d.DisallowUnknownFields()
	if err := d.Decode(&value); err != nil {
		t.Fatalf("event %s: %v in %s", e.Name, err, e.Data)
	}
	return value
}

// Steer runs a request to its result, over as many requests as it takes, and
// holds every stream to its form. It returns what was told of all updates.
func (c *Client) Steer(t testing.TB, request any) (result Result, updates []Told, plans []Plan) {
	t.Helper()
	for {
		events := c.Stream(t, "/v1/steer", request)
		if len(events) < 2 || events[0].Name != "plan" {
			t.Fatalf("a stream of %d events begins with %+v", len(events), events[:min(1, len(events))])
		}
		plan := decode[Plan](t, events[0])
		plans = append(plans, plan)
		if plan.Resumed != max(0, len(updates)-1) {
			t.Errorf("the request goes on after update %d, %d were told", plan.Resumed, len(updates)-1)
		}
		for _, e := range events[1 : len(events)-1] {
			told := decode[Told](t, e)
			if (e.Name == "update") != (told.Kind == sdo.EventUpdate) || e.Name != "update" && e.Name != "step" {
				t.Fatalf("event %s is of kind %s", e.Name, told.Kind)
			}
			if e.Name == "update" {
				if told.Update != len(updates) {
					t.Errorf("update %d was told after %d", told.Update, len(updates)-1)
				}
				updates = append(updates, told)
			}
		}
		last := events[len(events)-1]
		switch last.Name {
		case "result":
			return decode[Result](t, last), updates, plans
		case "continue":
			next := decode[Continue](t, last)
			if next.Update != len(updates)-1 || next.Updates <= next.Update {
				t.Fatalf("to go on after update %d of %d, when %d were told", next.Update, next.Updates, len(updates)-1)
			}
			request = map[string]any{"resume": next.Token}
		default:
			t.Fatalf("the stream ends with %s: %s", last.Name, last.Data)
		}
	}
}

// native is what a recipe's run gives on this machine. An adapter it names is the
// file's content.
func native(t testing.TB, r *recipes.Recipe, adapter []byte) *sdo.Result {
	t.Helper()
	var folder fs.FS
	if r.LoRA != nil {
		folder = fstest.MapFS{path.Base(r.LoRA.Path): {Data: adapter}}
	}
	result, _ := enginetest.Steer(t, r, folder)
	return result
}

// Near wants a result to be what the same recipe gives natively: the same losses
// but for rounding, the same calls, the same pictures but for a level.
func Near(t testing.TB, got Result, want *sdo.Result) {
	t.Helper()
	if worst := enginetest.Apart(got.Losses, want.Losses); worst > enginetest.Tolerance {
		t.Errorf("losses differ by %.2g of the first, allowed are %g: %v, natively %v", worst, enginetest.Tolerance, got.Losses, want.Losses)
	}
	rows := got.After.Count
	size := len(want.Samples) / rows
	for n, file := range got.After.PNG {
		if off := levelsOff(t, file, got.After, want.Samples[n*size:(n+1)*size]); off > 1 {
			t.Errorf("picture %d is %d levels off", n, off)
		}
	}
}

// levelsOff is the largest difference of a picture's channels from planes in
// [-1, 1].
func levelsOff(t testing.TB, file []byte, p Pictures, planes []float64) (worst int) {
	t.Helper()
	m, err := png.Decode(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if m.Bounds() != image.Rect(0, 0, p.Width, p.Height) {
		t.Fatalf("a picture of %v, want %d x %d", m.Bounds(), p.Width, p.Height)
	}
	area := p.Width * p.Height
	channels := len(planes) / area
	for i := range area {
		c := color.NRGBAModel.Convert(m.At(i%p.Width, i/p.Width)).(color.NRGBA)
		for k, got := range []uint8{c.R, c.G, c.B} {
			want := math.Round(255 * min(1, max(0, (planes[k*(channels-1)/2*area+i]+1)/2)))
			worst = max(worst, int(math.Abs(float64(got)-want)))
		}
	}
	return worst
}

// planned reads the complete recipe of a plan.
func planned(t testing.TB, p Plan) *recipes.Recipe {
	t.Helper()
	r, err := recipes.Parse(p.Recipe, "plan")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Runs tests steering and sampling at a server whose requests may compute at
// least 20 s and which continues runs.
func Runs(t *testing.T, url string) {
	c := NewClient(t, url)

	t.Run("stream", func(t *testing.T) {
		result, updates, plans := c.Steer(t, Small("dark-glasses", map[string]any{"num_images": 2}))
		r := planned(t, plans[0])
		want := native(t, r, nil)
		Near(t, result, want)
		if result.Counters.NetworkCalls != want.NetworkCalls || result.Counters.BackwardCalls != want.BackwardCalls {
			t.Errorf("calls %+v, natively %+v", result.Counters, want.Counters)
		}
		e := plans[0].Estimate
		if e.NetworkCalls != want.NetworkCalls || e.BackwardCalls != want.BackwardCalls || e.Slices != 1 || e.Bytes == 0 || e.Seconds <= 0 {
			t.Errorf("estimated %+v, made %+v", e, want.Counters)
		}
		if result.Planned == 0 || result.Planned != result.Peak {
			t.Errorf("%d bytes of activations planned, %d used", result.Planned, result.Peak)
		}
		if len(updates) != 3 || !slices.Equal(updates[2].Losses, result.Losses[2]) || updates[2].Updates != 2 {
			t.Errorf("%d updates told, the last of them %+v", len(updates), updates[len(updates)-1].Event)
		}
		for _, u := range updates {
			if u.Pictures == nil || len(u.Pictures.PNG) != 2 || len(u.Verdicts) != 2 {
				t.Errorf("update %d shows %v and says %v", u.Update, u.Pictures, u.Verdicts)
			}
		}
		if !slices.EqualFunc(updates[0].Pictures.PNG, result.Before.PNG, bytes.Equal) {
			t.Error("what was shown before any update is not the pictures before")
		}
		if result.JudgeLabel != "glasses: dark" || len(result.JudgeBefore) != 2 || len(result.JudgeAfter) != 2 {
			t.Errorf("the judge says of %q: %v, %v", result.JudgeLabel, result.JudgeBefore, result.JudgeAfter)
		}
	})

	t.Run("steps are told", func(t *testing.T) {
		events := c.Stream(t, "/v1/steer", Small("dark-glasses", map[string]any{"updates": 1}))
		kinds := ""
		for _, e := range events[1 : len(events)-1] {
			kinds += string(decode[Told](t, e).Kind[0])
		}
		if want := "sssu" + "b" + "sssu"; kinds != want { // steps, update, backward
			t.Errorf("told %q, want %q", kinds, want)
		}
	})

	t.Run("previews", func(t *testing.T) {
		for every, want := range map[int]string{0: "...x", 2: "x.xx"} {
			request := Small("dark-glasses", map[string]any{"updates": 3})
			request["previews"] = every
			_, updates, _ := c.Steer(t, request)
			shown := ""
			for _, u := range updates {
				if u.Pictures == nil {
					shown += "."
				} else {
					shown += "x"
				}
			}
			if shown != want {
				t.Errorf("previews %d shows %q, want %q", every, shown, want)
			}
		}
	})

	text := []byte("version: 1\nname: mine\nnum_images: 1\nsampler: {num_inference_steps: 3}\nobjective: [{term: region_color, region: [0, 0, 4, 4], color: \"#ff0000\"}]\nupdates: 1\n")
	t.Run("recipes in every form", func(t *testing.T) {
		events, err := c.Events(context.Background(), "/v1/steer", text, "application/yaml")
		if err != nil {
			t.Fatal(err)
		}
		yaml := decode[Result](t, events[len(events)-1])
		plan := decode[Plan](t, events[0])
		Near(t, yaml, native(t, planned(t, plan), nil))
		object, _, plans := c.Steer(t, map[string]any{"recipe": plan.Recipe})
		if !bytes.Equal(plans[0].Recipe, plan.Recipe) {
			t.Errorf("the recipe %s became %s", plan.Recipe, plans[0].Recipe)
		}
		if !slices.EqualFunc(object.Losses, yaml.Losses, slices.Equal) {
			t.Errorf("losses %v as an object, %v as YAML", object.Losses, yaml.Losses)
		}
		var link struct{ ID, URL string }
		c.Do(t, http.MethodPost, "/v1/recipes", text, "Content-Type", "application/yaml").Decode(t, http.StatusCreated, &link)
		linked, _, _ := c.Steer(t, map[string]any{"link": link.ID})
		if !slices.EqualFunc(linked.Losses, yaml.Losses, slices.Equal) {
			t.Errorf("losses %v by link, %v as YAML", linked.Losses, yaml.Losses)
		}
	})

	t.Run("an adapter of the registry", func(t *testing.T) {
		file := Kohya(t, Adapter(t, "avatars-16-s", 2, 2, "**"))
		const name = "for-a-run"
		if a := c.Do(t, http.MethodPut, "/v1/loras/"+name, file, "Authorization", authorization); a.Status != http.StatusCreated && a.Status != http.StatusOK {
			t.Fatalf("upload: %d %s", a.Status, a.Body)
		}
		set := map[string]any{"lora": map[string]any{"path": "loras/" + name + ".safetensors", "scale": 0.5}}
		adapted, _, plans := c.Steer(t, Small("dark-glasses", set))
		Near(t, adapted, native(t, planned(t, plans[0]), file))
		if plain, _, _ := c.Steer(t, Small("dark-glasses", nil)); plain.Losses[0][0] == adapted.Losses[0][0] {
			t.Error("the adapter changes nothing")
		}
	})

	t.Run("as JSON", func(t *testing.T) {
		body, _ := json.Marshal(Small("dark-glasses", map[string]any{"updates": 1}))
		var result Result
		c.Do(t, http.MethodPost, "/v1/steer", body, "Accept", "application/json").Decode(t, http.StatusOK, &result)
		if result.Updates != 1 || len(result.After.PNG) != 1 {
			t.Errorf("%d updates, %d pictures", result.Updates, len(result.After.PNG))
		}
	})

	t.Run("sample", func(t *testing.T) {
		request := Small("dark-glasses", map[string]any{"num_images": 2})
		events := c.Stream(t, "/v1/sample", request)
		sample := decode[Sample](t, events[len(events)-1])
		if sample.Pictures.Count != 2 || len(sample.Pictures.PNG) != 2 || sample.Counters.NetworkCalls != 3 || len(events) != 1+3+1 {
			t.Errorf("%d pictures by %+v in %d events", len(sample.Pictures.PNG), sample.Counters, len(events))
		}
		steered, _, _ := c.Steer(t, request)
		if !slices.EqualFunc(sample.Pictures.PNG, steered.Before.PNG, bytes.Equal) {
			t.Error("the sample is not what steering begins with")
		}
		body, _ := json.Marshal(request)
		var whole Sample
		c.Do(t, http.MethodPost, "/v1/sample", body, "Accept", "application/json").Decode(t, http.StatusOK, &whole)
		if !slices.EqualFunc(sample.Pictures.PNG, whole.Pictures.PNG, bytes.Equal) {
			t.Error("another sample as JSON")
		}
		sheet := c.Do(t, http.MethodPost, "/v1/sample", body, "Accept", "image/png")
		m, err := png.Decode(bytes.NewReader(sheet.Body))
		if err != nil || sheet.Header.Get("Content-Type") != "image/png" {
			t.Fatalf("%v, %s", err, sheet.Header.Get("Content-Type"))
		}
		small, err := png.Decode(bytes.NewReader(sample.Pictures.PNG[1]))
		if err != nil {
			t.Fatal(err)
		}
		if left := m.Bounds().Dx() - 16*8; color.NRGBAModel.Convert(m.At(left+8*5, 8*9)) != color.NRGBAModel.Convert(small.At(5, 9)) {
			t.Error("the sheet shows another second picture")
		}
	})

	t.Run("refusals", func(t *testing.T) { c.Refuses(t, runRefusals(string(text))) })

	t.Run("a run too large is told before it begins", func(t *testing.T) {
		for path, set := range map[string]map[string]any{
			"/v1/steer":  {"num_images": 256, "sampler.num_inference_steps": 100},
			"/v1/sample": {"num_images": 16, "sampler.num_inference_steps": 1000},
		} {
			body, _ := json.Marshal(Small("dark-glasses", set))
			a := c.Do(t, http.MethodPost, path, body)
			a.Refused(t, http.StatusUnprocessableEntity, "too_large", "network calls")
			var refusal struct {
				Error struct {
					Estimate Estimate
					Budget   struct {
						Seconds float64 `json:"cpu_seconds"`
					}
				}
			}
			if err := json.Unmarshal(a.Body, &refusal); err != nil {
				t.Fatal(err)
			}
			e := refusal.Error
			if e.Estimate.NetworkCalls < 300 || e.Estimate.Seconds < e.Budget.Seconds || e.Budget.Seconds == 0 {
				t.Errorf("%s: the refusal says %+v", path, e)
			}
		}
	})
}

func runRefusals(recipe string) []Refusal {
	var many []any
	for range 2 {
		many = append(many, map[string]any{"term": "attribute", "attribute": "hat", "value": "yes", "copies": 64})
	}
	request := func(name, body string, status int, code, gist string) Refusal {
		return Refusal{name, http.MethodPost, "/v1/steer", []byte(body), nil, status, code, gist}
	}
	of := func(name string, set map[string]any, gist string) Refusal {
		body, _ := json.Marshal(Small("dark-glasses", set))
		return request(name, string(body), http.StatusBadRequest, "bad_recipe", gist)
	}
	long := strings.Repeat("x", 256<<10)
	const bad, big = http.StatusBadRequest, http.StatusRequestEntityTooLarge
	return []Refusal{
		request("no body", "", bad, "bad_request", "not the JSON"),
		request("no JSON", "recipe: dark-glasses", bad, "bad_request", "not the JSON"),
		request("more than one value", "{}{}", bad, "bad_request", "something follows"),
		request("an array", "[]", bad, "bad_request", "not the JSON"),
		request("an unknown key", `{"recipes": "dark-glasses"}`, bad, "bad_request", `unknown field "recipes"`),
		request("nothing to run", "{}", bad, "bad_request", "names no run"),
		request("two things to run", `{"recipe": "dark-glasses", "link": "abc"}`, bad, "bad_request", "recipe and link"),
		request("negative previews", `{"recipe": "dark-glasses", "previews": -1}`, bad, "bad_request", "previews is -1"),
		request("no recipe of the library", `{"recipe": "dark-glass"}`, bad, "bad_recipe", "not in the library"),
		request("a recipe that is a number", `{"recipe": 7}`, bad, "bad_recipe", "recipe"),
		request("an unknown link", `{"link": "aaaaaaaaaa"}`, http.StatusNotFound, "not_found", ""),
		request("a recipe for tuning", `{"recipe": "everyone-wears-glasses"}`, bad, "bad_recipe", "trains the network's parameters"),
		request("a recipe too long", `{"recipe": {"version": 1, "name": "`+long+`"}}`, bad, "bad_recipe", "256 KiB"),
		{"YAML too long", http.MethodPost, "/v1/steer", []byte("# " + long), []string{"Content-Type", "application/yaml"}, big, "body_too_large", "262144"},
		{"broken YAML", http.MethodPost, "/v1/steer", []byte("version: [1"), []string{"Content-Type", "application/yaml"}, bad, "bad_recipe", ""},
		{"two misspelt keys", http.MethodPost, "/v1/steer", []byte(recipe + "seeds: 1\nupdate: 2\n"), []string{"Content-Type", "application/yaml"}, bad, "bad_recipe", "seeds"},
		of("no objective", map[string]any{"objective": []any{}, "updates": 0}, "no objective"),
		of("another model", map[string]any{"model": "sdxl"}, "sdxl"),
		of("a model by its path", map[string]any{"model": "../secrets"}, "../secrets"),
		of("a picture from a file", map[string]any{"objective": []any{map[string]any{"term": "pixels", "image": "mine.png"}}}, "mine.png"),
		of("an adapter from a file", map[string]any{"lora": map[string]any{"path": "mine/adapter.safetensors"}}, "loras/"),
		of("an attribute that is none", map[string]any{"objective": []any{map[string]any{"term": "attribute", "attribute": "nose", "value": "big"}}}, "nose"),
		of("too many pictures for any place", map[string]any{"num_images": 257}, "num_images"),
		of("too many looks at a picture", map[string]any{"objective": many}, "128 times"),
		of("a number that is none", map[string]any{"optimizer.lr": "fast"}, "lr"),
		{"a method that is not for it", http.MethodGet, "/v1/steer", nil, nil, http.StatusMethodNotAllowed, "method_not_allowed", "use POST"},
		{"a path that is not there", http.MethodPost, "/v1/steer/more", nil, nil, http.StatusNotFound, "not_found", "/v1/steer/more"},
		{"a sample that goes on", http.MethodPost, "/v1/sample", []byte(`{"resume": "a.b"}`), nil, bad, "bad_request", "resume"},
		{"a sample too long", http.MethodPost, "/v1/sample", []byte(`{"recipe": "` + long + `"}`), nil, big, "body_too_large", "262144"},
	}
}

// SliceSeconds is what the requests of a server for Slices may compute, at 500
// million multiply-adds a second: one update of a small run.
const SliceSeconds = 0.75

// Slices tests runs that take several requests, at a server of SliceSeconds.
func Slices(t *testing.T, url string) {
	c := NewClient(t, url)
	request := Small("dark-glasses", map[string]any{"updates": 3, "guards.drift_limit": 1.5})

	t.Run("a run goes on as if nothing had happened", func(t *testing.T) {
		result, updates, plans := c.Steer(t, request)
		r := planned(t, plans[0])
		want := native(t, r, nil)
		Near(t, result, want)
		if len(updates) != 4 || len(plans) < 2 || len(plans) != plans[0].Estimate.Slices {
			t.Errorf("%d updates in %d requests, %d were said", len(updates), len(plans), plans[0].Estimate.Slices)
		}
		// Each request makes the latest rollout again, and its estimate says so.
		rollouts := r.Sampler.NumInferenceSteps * (len(plans) - 1)
		if got := result.Counters.NetworkCalls; got != want.NetworkCalls+rollouts || got != plans[0].Estimate.NetworkCalls {
			t.Errorf("%d network calls, said were %d; %d natively in one go", got, plans[0].Estimate.NetworkCalls, want.NetworkCalls)
		}
		if len(result.JudgeBefore) != 1 || len(result.JudgeAfter) != 1 || result.Seconds < updates[1].Seconds {
			t.Errorf("the end is %+v", result)
		}
	})

	t.Run("as JSON a share is accepted, not done", func(t *testing.T) {
		body, _ := json.Marshal(request)
		var next Continue
		c.Do(t, http.MethodPost, "/v1/steer", body, "Accept", "application/json").Decode(t, http.StatusAccepted, &next)
		if next.Token == "" || next.Update < 1 || next.Updates != 3 || next.Estimate.NetworkCalls == 0 {
			t.Errorf("the share ends with %+v", next)
		}
	})

	t.Run("slices can be declined", func(t *testing.T) {
		whole := map[string]any{"recipe": request["recipe"], "set": request["set"], "slices": false}
		body, _ := json.Marshal(whole)
		c.Do(t, http.MethodPost, "/v1/steer", body).Refused(t, http.StatusUnprocessableEntity, "too_large", "allow slices")
	})

	t.Run("tokens", func(t *testing.T) {
		events := c.Stream(t, "/v1/steer", request)
		token := decode[Continue](t, events[len(events)-1]).Token
		resume := func(name, token, code, gist string, status int) Refusal {
			body, _ := json.Marshal(map[string]any{"resume": token})
			return Refusal{name, http.MethodPost, "/v1/steer", body, nil, status, code, gist}
		}
		body, signature, _ := strings.Cut(token, ".")
		flipped := []byte(body)
		flipped[len(flipped)/2] ^= 1
		c.Refuses(t, []Refusal{
			resume("no token", "abc", "bad_token", "not made here", http.StatusForbidden),
			resume("no base64", "a b.c d", "bad_token", "not made here", http.StatusForbidden),
			resume("without its signature", body, "bad_token", "not made here", http.StatusForbidden),
			resume("a signature alone", "."+signature, "bad_token", "not made here", http.StatusForbidden),
			resume("another's signature", body+"."+base64.RawURLEncoding.EncodeToString(make([]byte, 32)), "bad_token", "not made here", http.StatusForbidden),
			resume("changed", string(flipped)+"."+signature, "bad_token", "not made here", http.StatusForbidden),
			{"longer than any", http.MethodPost, "/v1/steer", []byte(`{"resume": "` + strings.Repeat("A", 9<<20) + `"}`), []string{"Expect", "100-continue"}, http.StatusRequestEntityTooLarge, "body_too_large", "bytes"},
			{"with changes", http.MethodPost, "/v1/steer", []byte(`{"resume": "` + token + `", "set": {"updates": 9}}`), nil, http.StatusBadRequest, "bad_request", "keeps its own"},
		})
		// A token may be used twice: it is a place to go on from, not a ticket.
		again := map[string]any{"resume": token}
		first, second := c.Stream(t, "/v1/steer", again), c.Stream(t, "/v1/steer", again)
		if one, two := decode[Told](t, lastUpdate(first)), decode[Told](t, lastUpdate(second)); !slices.Equal(one.Losses, two.Losses) {
			t.Errorf("losses %v, then %v", one.Losses, two.Losses)
		}
	})

	t.Run("not even one update fits", func(t *testing.T) {
		body, _ := json.Marshal(Small("dark-glasses", map[string]any{"num_images": 8}))
		c.Do(t, http.MethodPost, "/v1/steer", body).Refused(t, http.StatusUnprocessableEntity, "too_large", "not even one update")
	})
}

func lastUpdate(events []Event) (last Event) {
	for _, e := range events {
		if e.Name == "update" {
			last = e
		}
	}
	return last
}
