package recipes

import (
	"bytes"
	"encoding/json"
	"errors"
	"image"
	"image/color"
	"image/png"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

// minimal is a recipe with nothing but what is required; tests append to it.
const minimal = "version: 1\nname: test\nobjective: [{term: total_variation}]\n"

func mustParse(t *testing.T, text string, overrides ...Override) *Recipe {
	t.Helper()
	r, err := Parse([]byte(text), "test.yaml", overrides...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// same compares two recipes by content; where they were written may differ.
func same(a, b *Recipe) bool {
	x, y := *a, *b
	x.source, y.source = nil, nil
	return reflect.DeepEqual(x, y)
}

func TestEmbeddedRecipes(t *testing.T) {
	want := []string{"ankle-boots", "dark-glasses", "happy-mood", "match-sketch", "red-shirt-blue-background", "restore-half", "same-person-in-glasses"}
	if got := List(); !reflect.DeepEqual(got, want) {
		t.Fatalf("List() = %v, want %v", got, want)
	}
	for _, name := range append(want, Tunings()...) {
		r, err := Find(name, nil)
		if err != nil {
			t.Error(err)
			continue
		}
		if tuned := contains(Tunings(), name); r.has("parameters") != tuned || r.has("latents") == tuned {
			t.Errorf("%s changes %v", name, r.Variables)
		}
		if r.Name != name || r.Description == "" {
			t.Errorf("%s: name %q, description %q", name, r.Name, r.Description)
		}
		if err := r.CheckPictures(16, 16); err != nil {
			t.Error(err)
		}
		if err := r.Validate(); err != nil {
			t.Error(err)
		}
		if back := mustParse(t, string(r.Canonical())); !same(r, back) {
			t.Errorf("%s: canonical YAML reads back differently:\n%s", name, r.Canonical())
		}
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if back := mustParse(t, string(data)); !same(r, back) {
			t.Errorf("%s: JSON reads back differently:\n%s", name, data)
		}
		if c := r.Clone(); !same(r, c) {
			t.Errorf("%s: clone differs", name)
		}
	}
}

// What a run writes down repeats it: values that are not the default, and
// either form of what has two.
func TestCanonicalFormIsComplete(t *testing.T) {
	for _, body := range []string{
		"term: attribute, attribute: a, value: b, noise: 0",
		`term: attribute, attribute: "yes", value: "1e5", copies: 1, stop_below: 0`,
		"term: inpaint, source: {image: a.png}, hidden: left",
		"term: inpaint, source: {seed: 0, index: 0}, hidden: [0, 0, 3, 3]",
		"term: pixels, image: a.png, mask: b.png",
		"term: symmetry, space: latents",
		"term: symmetry, space: pixels",
		"term: clip_similarity, prompt: a red fox, cutouts: 20, noise: 0.1",
		"term: clip_similarity, prompt: 'null', noise: 0",
		"term: clip_style, image: a.png, layer: 5",
		"term: aesthetic, target: 7.5",
	} {
		r := mustParse(t, term(body)+"clip: a/clip\naesthetic: head.safetensors\ndecoder: taesd\nheight: 24\nwidth: 40\nprompt: a fox\nnegative_prompt: blurry\nguidance_scale: 7.5\n")
		if back := mustParse(t, string(r.Canonical())); !same(r, back) {
			t.Errorf("%s reads back differently:\n%s", body, r.Canonical())
		}
		if !same(r, r.Clone()) {
			t.Errorf("%s: clone differs", body)
		}
		if err := r.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestDefaultsAndOverrides(t *testing.T) {
	r := mustParse(t, minimal)
	want := Defaults()
	want.Name, want.Objective = "test", []Term{{Term: "total_variation", Weight: 1}}
	if !same(r, &want) {
		t.Errorf("minimal recipe = %+v\nwant %+v", r, want)
	}
	r = mustParse(t, minimal,
		Override{"updates", "7", "--updates"},
		Override{"optimizer.betas", "[0.8, 0.99]", "--set"},
		Override{"condition.hair", "none", "--set"},
		Override{"objective.0.weight", "-2.5", "--set"},
		Override{"optimizer.lr", "1e-3", "--set"})
	if r.Optimizer.LR != 1e-3 {
		t.Errorf("lr 1e-3 became %v", r.Optimizer.LR)
	}
	if r.Updates != 7 || r.Optimizer.Betas != [2]float64{0.8, 0.99} || r.Condition["hair"] != "none" || r.Objective[0].Weight != -2.5 {
		t.Errorf("overrides gave %+v", r)
	}
}

// Every problem is one sentence that says where, what was expected, what was
// found and, where there is something to say, what to do.
func TestProblems(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", "test.yaml: recipe: expected a mapping that begins with version: 1, got an empty file"},
		{`{"format": 1, "recipe": {"version": 1}}`, "test.yaml: recipe: expected a recipe, got the record of a run; save its recipe entry as a file and use that"},
		{"- a\n", "test.yaml:1: recipe: expected a mapping that begins with version: 1, got a list of 1"},
		{"name: x\n", "test.yaml:1: version: expected version: 1, got nothing"},
		{"version: 2\nname: x\n", "test.yaml:1: version: expected a whole number from 1 to 1, got 2"},
		{minimal + "update: 3\n", "test.yaml:4: update: expected one of the keys version, name, description, model, decoder, dtype, lora, guide, judge, clip, aesthetic, seed, num_images, height, width, sampler, guidance_scale, condition, prompt, negative_prompt, start, variables, objective, method, optimizer, updates, guards, tune, got an unknown key; did you mean updates?"},
		{minimal + "updates: many\n", `test.yaml:4: updates: expected a whole number from 0 to 10000, got "many"`},
		{minimal + "updates: 1.5\n", "test.yaml:4: updates: expected a whole number from 0 to 10000, got 1.5"},
		{minimal + "updates: 10001\n", "test.yaml:4: updates: expected a whole number from 0 to 10000, got 10001"},
		{minimal + "num_images: 0\n", "test.yaml:4: num_images: expected a whole number from 1 to 256, got 0"},
		{minimal + "sampler: {num_inference_steps: 0}\n", "test.yaml:4: sampler.num_inference_steps: expected a whole number from 1 to 1000, got 0"},
		{minimal + "sampler: {num_inference_steps: 1001}\n", "test.yaml:4: sampler.num_inference_steps: expected a whole number from 1 to 1000, got 1001"},
		{minimal + "sampler: fast\n", `test.yaml:4: sampler: expected a mapping, got "fast"`},
		{minimal + "sampler: {eta: 1.5}\n", "test.yaml:4: sampler.eta: expected a number from 0 to 1, got 1.5"},
		{minimal + "sampler: {name: euler, eta: 0.5}\n", "test.yaml:4: sampler.eta: expected 0 where the sampler is euler, got 0.5; only ddim takes a share of fresh noise"},
		{minimal + "sampler: {name: ddpm, use_karras_sigmas: true}\n", "test.yaml:4: sampler.use_karras_sigmas: expected false where the sampler is ddpm, got true; only " + strings.Join(OnKarras, ", ") + " take them"},
		{minimal + "sampler: {name: eular}\n", "test.yaml:4: sampler.name: expected one of " + strings.Join(Samplers, ", ") + `, got "eular"; did you mean euler?`},
		{minimal + "optimizer:\n  lr: 0\n", "test.yaml:5: optimizer.lr: expected a number above 0, got 0"},
		{minimal + "optimizer:\n  lr: .nan\n", "test.yaml:5: optimizer.lr: expected a number above 0, got NaN"},
		{minimal + "optimizer: {betas: [0.9, 1]}\n", "test.yaml:4: optimizer.betas: expected two numbers from 0 to below 1, got 1"},
		{minimal + "method: {name: sdoo}\n", `test.yaml:4: method.name: expected one of sdo, full, full-checkpoint, identity, jump, draft-K, draft-lv, drtune-K, refl, alignprop, leapalign, flowbp-sparse-K, stale-r, got "sdoo"; did you mean sdo?`},
		{minimal + "method: {freeze: w}\n", `test.yaml:4: method.freeze: expected one of eps, v, x0, solver, got "w"`},
		{minimal + "variables: [latent, noise]\n", "test.yaml:4: variables.noise: expected one of the keys latents, noises, condition, guidance_scale, parameters, got an unknown key; did you mean noises?"},
		{minimal + "variables: [latent, latents]\n", "test.yaml:4: variables: expected a list or a mapping of latents, noises, condition, guidance_scale, parameters, each once, got a list of 2"},
		{minimal + "variables: {}\n", "test.yaml:4: variables: expected a list or a mapping of latents, noises, condition, guidance_scale, parameters, each once, got a mapping"},
		{minimal + "variables:\n  latents: {lrr: 1}\n", "test.yaml:5: variables.latents.lrr: expected one of the keys optimizer, lr, betas, weight_decay, got an unknown key; did you mean lr?"},
		{minimal + "variables: {latents: {lora: {}}}\n", "test.yaml:4: variables.latents.lora: expected one of the keys optimizer, lr, betas, weight_decay, got an unknown key"},
		{minimal + "method: {name: draft}\n", `test.yaml:4: method.name: expected one of sdo, full, full-checkpoint, identity, jump, draft-K, draft-lv, drtune-K, refl, alignprop, leapalign, flowbp-sparse-K, stale-r, got "draft"; did you mean draft-K?`},
		{minimal + "method: {name: sdo, active: fist}\n", `test.yaml:4: method.active: expected one of none, first, last, all, uniform, importance, cycle or a whole number of calls, got "fist"; did you mean first?`},
		{minimal + "method: {name: sdo, active: 0}\n", "test.yaml:4: method.active: expected one of none, first, last, all, uniform, importance, cycle or a whole number of calls, got 0"},
		{minimal + "method: {bridge: 1.5}\n", "test.yaml:4: method.bridge: expected a number from 0 to 1, got 1.5"},
		{minimal + "method: {refresh: some}\n", `test.yaml:4: method.refresh: expected all, or a mapping with calls, every, tolerance, carry and batched, got "some"`},
		{minimal + "start: {strength: 0.5}\n", "test.yaml:4: start: expected either seed and index of an avatar or an image, got both or neither"},
		{minimal + "start: {image: a.png, strength: 0}\n", "test.yaml:4: start.strength: expected a number above 0, at most 1, got 0"},
		{minimal + "tune: {ema_decay: 1}\n", "test.yaml:4: tune.ema_decay: expected a number from 0 to below 1, got 1"},
		{minimal + "guards: {whiteness: penalty}\n", `test.yaml:4: guards.whiteness: expected one of project, none, got "penalty"`},
		{minimal + "guards: {drift_limit: -1}\n", "test.yaml:4: guards.drift_limit: expected a number, 0 or more, got -1"},
		{minimal + "guards: {early_stop: juge}\n", `test.yaml:4: guards.early_stop: expected one of false, true, objective, judge, got "juge"; did you mean judge?`},
		{minimal + "optimizer: {max_grad_norm: -1}\n", "test.yaml:4: optimizer.max_grad_norm: expected a number, 0 or more, got -1"},
		{minimal + "guards: {early_stop: 1}\n", "test.yaml:4: guards.early_stop: expected one of false, true, objective, judge, got 1"},
		{minimal + "seed: 9007199254740992\n", "test.yaml:4: seed: expected a whole number from 0 to 9007199254740991, got 9007199254740992"},
		{minimal + "guidance_scale: 3\n", "test.yaml:4: guidance_scale: expected 1 where neither condition nor prompt is given, got 3; add one or remove guidance_scale"},
		{minimal + "guidance_scale: 0\ncondition: {a: b}\n", "test.yaml:4: guidance_scale: expected a number above 0, at most 100, got 0"},
		{minimal + "name: again\n", "test.yaml:4: "},
		{minimal + "model: &a x\n", "test.yaml:4: recipe: expected plain values, got anchor, which a recipe may not use"},
		{"version: 1\nname: [\n", "test.yaml:2: syntax: expected YAML or JSON, got text that does not parse; sequence end token ']' not found"},
		{"version: 1\nname: x\n", "test.yaml:1: objective: expected at least one term, got nothing; or set updates: 0 to sample without steering"},
		{"version: 1\nname: x\n---\nname: y\n", "test.yaml:4: recipe: expected one document, got a second one"},
		{"version: 1\nname: x\nobjective: {}\n", "test.yaml:3: objective: expected a list of terms, got a mapping; begin each with - term: attribute"},
		{term("term: atribute"), `test.yaml:4: objective.0.term: expected one of attribute, region_color, pixels, inpaint, symmetry, total_variation, clip_similarity, clip_style, aesthetic, got "atribute"; did you mean attribute?`},
		{term("weight: 1"), "test.yaml:4: objective.0.term: expected one of attribute, region_color, pixels, inpaint, symmetry, total_variation, clip_similarity, clip_style, aesthetic, got nothing"},
		{term("term: attribute, value: dark"), "test.yaml:4: objective.0.attribute: expected the name of an attribute, got nothing"},
		{term("term: total_variation, weight: .inf"), "test.yaml:4: objective.0.weight: expected a finite number, got +Inf"},
		{term("term: total_variation, color: red"), "test.yaml:4: objective.0.color: expected one of the keys term, weight, stop_below, space, got an unknown key"},
		{term(`term: region_color, region: [0, 0, 4, 4], color: "#12345g"`), `test.yaml:4: objective.0.color: expected a colour "#rrggbb", got "#12345g"`},
		{term(`term: region_color, region: [0, 0, 0, 4], color: "#123456"`), "test.yaml:4: objective.0.region: expected [x, y, width, height] in whole pixels with width and height at least 1, got 0 as entry 2"},
		{term(`term: pixels, rows: ["ab", "a"], palette: {a: free, b: free}`), "test.yaml:4: objective.0.rows: expected 2 characters as in the first row, got 1"},
		{term(`term: pixels, rows: ["ab"], palette: {a: free}`), `test.yaml:4: objective.0.rows: expected characters of the palette (a), got "b"`},
		{term(`term: pixels`), "test.yaml:4: objective.0: expected either rows with a palette or an image, got both or neither"},
		{term(`term: inpaint, source: {seed: 1}, hidden: lefty`), `test.yaml:4: objective.0.hidden: expected one of left, right, top, bottom, got "lefty"; did you mean left?`},
		{term(`term: inpaint, source: {}, hidden: left`), "test.yaml:4: objective.0.source: expected either seed and index of an avatar or an image, got both or neither"},
		{minimal + "prompt: 3\n", `test.yaml:4: prompt: expected text, got 3; put it in "quotes"`},
		{minimal + "prompt: " + strings.Repeat("a", MaxPrompt+1) + "\n", "test.yaml:4: prompt: expected at most 2000 bytes, got 2001; a text encoder reads no more than its first words"},
		{minimal + "prompt: a fox\ncondition: {a: b}\n", `test.yaml:4: prompt: expected no prompt beside condition, got "a fox"; a model takes attributes or text`},
		{minimal + "negative_prompt: blurry\n", `test.yaml:4: negative_prompt: expected none where guidance_scale is 1, got "blurry"; guidance leads away from it, and 1 is no guidance`},
		{minimal + "lora: {path: ''}\n", `test.yaml:4: lora.path: expected a PEFT folder or a safetensors file, got ""`},
		{minimal + "height: 0\n", "test.yaml:4: height: expected a whole number from 1 to 4096, got 0"},
		{minimal + "width: 4097\n", "test.yaml:4: width: expected a whole number from 1 to 4096, got 4097"},
		{term("term: region_color, space: latents"), `test.yaml:4: objective.0.region: expected [x, y, width, height], got nothing` + "\n" + `test.yaml:4: objective.0.color: expected a colour "#rrggbb", got nothing` + "\n" + "test.yaml:4: objective.0.space: expected one of the keys term, weight, stop_below, region, color, got an unknown key"},
		{term("term: symmetry, space: latent"), `test.yaml:4: objective.0.space: expected one of pixels, latents, got "latent"; did you mean latents?`},
		{term("term: clip_similarity"), "test.yaml:4: objective.0.prompt: expected what the picture should show, in words, got nothing"},
		{term("term: clip_similarity, prompt: ' '"), `test.yaml:4: objective.0.prompt: expected what the picture should show, in words, got " "`},
		{term("term: clip_similarity, prompt: a, cutouts: 65"), "test.yaml:4: objective.0.cutouts: expected a whole number from 1 to 64, got 65"},
		{term("term: clip_similarity, prompt: a fox"), "test.yaml:1: clip: expected the folder of a CLIPModel for objective.0 (clip_similarity), got nothing; it reads pictures, and none is built in; bring one, for example openai's clip-vit-base-patch32"},
		{term("term: clip_style"), "test.yaml:4: objective.0.image: expected the picture whose style is wanted, got nothing"},
		{term("term: clip_style, image: a.png, layer: 0"), "test.yaml:4: objective.0.layer: expected a whole number from 1 to 100, got 0"},
		{term("term: aesthetic, target: 0"), "test.yaml:4: objective.0.target: expected a number above 0, got 0"},
		{term("term: aesthetic") + "clip: a\n", "test.yaml:1: aesthetic: expected the file of a linear head for objective.0 (aesthetic), got nothing; it scores CLIP's image embedding, and none is built in"},
		{strings.Repeat("[", 100000), "test.yaml: recipe: expected at most 32 levels, got deeper nesting"},
	}
	for _, tt := range tests {
		_, err := Parse([]byte(tt.text), "test.yaml")
		if err == nil {
			t.Errorf("%.80q: no error, want %q", tt.text, tt.want)
			continue
		}
		whole := err.Error() == tt.want
		if prefix := strings.HasSuffix(tt.want, " "); strings.Contains(err.Error(), "\n") != strings.Contains(tt.want, "\n") || !whole && !(prefix && strings.HasPrefix(err.Error(), tt.want)) {
			t.Errorf("%.80q:\n got %s\nwant %s", tt.text, err, tt.want)
		}
	}
	_, err := Parse([]byte(minimal), "test.yaml", Override{"updates", "many", "--updates"})
	if want := `--updates: updates: expected a whole number from 0 to 10000, got "many"`; err == nil || err.Error() != want {
		t.Errorf("override: got %v, want %s", err, want)
	}
	var problems Problems
	if _, err := Parse([]byte("version: 1\nname: x\nseed: a\nupdates: b\n"), "t"); !errors.As(err, &problems) || len(problems) != 2 {
		t.Errorf("two mistakes gave %v", err)
	}
}

func term(body string) string { return "version: 1\nname: x\nobjective:\n  - {" + body + "}\n" }

func TestValidateBuiltInGo(t *testing.T) {
	r := mustParse(t, minimal)
	r.Optimizer.LR = math.NaN()
	if err := r.Validate(); err == nil {
		t.Error("NaN learning rate passed")
	}
	r.Optimizer.LR = -1
	if err := r.Validate(); err == nil || !strings.Contains(err.Error(), "optimizer.lr: expected a number above 0, got -1") {
		t.Errorf("negative learning rate: %v", err)
	}
	r = mustParse(t, minimal)
	r.Objective, r.Updates = nil, 0
	if err := r.Validate(); err != nil {
		t.Errorf("a recipe that only samples: %v", err)
	}
}

func TestCheckAgainstModel(t *testing.T) {
	values := map[string][]string{"mood": {"happy", "sad"}, "hat": {"no", "yes"}}
	check := func(text string) error {
		known := Vocabulary{[]string{"mood", "hat"}, func(n string) []string { return values[n] }}
		return mustParse(t, text).CheckAttributes(known, known)
	}
	if err := check(term("term: attribute, attribute: hat, value: no") + "condition: {mood: sad}\n"); err != nil {
		t.Errorf("yes and no are words, not booleans: %v", err)
	}
	for text, want := range map[string]string{
		term("term: attribute, attribute: hats, value: yes"):          `test.yaml:4: objective.0.attribute: expected one of mood, hat, got "hats"; did you mean hat?`,
		term("term: attribute, attribute: mood, value: glad"):         `test.yaml:4: objective.0.value: expected one of happy, sad, got "glad"; did you mean sad?`,
		minimal + "condition:\n  hat: maybe\n":                        `test.yaml:5: condition.hat: expected one of no, yes, got "maybe"`,
		minimal + "condition: {glasses: dark}\nguidance_scale: 1.5\n": `test.yaml:4: condition.glasses: expected one of mood, hat, got "glasses"`,
	} {
		if err := check(text); err == nil || err.Error() != want {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
	// A guide may know other attributes than the model it steers.
	known := func(name string) Vocabulary {
		return Vocabulary{[]string{name}, func(n string) []string { return values[n] }}
	}
	r := mustParse(t, term("term: attribute, attribute: hat, value: yes")+"condition: {mood: sad}\n")
	if err := r.CheckAttributes(known("mood"), known("hat")); err != nil {
		t.Error(err)
	}
	if err := r.CheckAttributes(known("hat"), known("mood")); err == nil || !strings.Contains(err.Error(), "condition.mood") || !strings.Contains(err.Error(), "objective.0.attribute") {
		t.Errorf("the wrong way round: %v", err)
	}
	r = mustParse(t, term(`term: region_color, region: [10, 0, 7, 4], color: "#123456"`))
	want := "test.yaml:4: objective.0.region: expected [x, y, width, height] inside 16x16 pixels, got [10 0 7 4]"
	if err := r.CheckPictures(16, 16); err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	r = mustParse(t, term(`term: pixels, rows: ["a"], palette: {a: free}`))
	if err := r.CheckPictures(16, 16); err == nil || !strings.Contains(err.Error(), "expected 16 rows of 16 characters") {
		t.Errorf("small sketch: %v", err)
	}
}

func TestTargets(t *testing.T) {
	r := mustParse(t, term(`term: pixels, rows: ["a.", ".b"], palette: {a: "#ff0000", b: "#003300", ".": free}`))
	rgb, mask, err := r.Objective[0].Target(nil, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	if want := []float64{1, 0, 0, 1}; !reflect.DeepEqual(mask, want) {
		t.Errorf("mask %v, want %v", mask, want)
	}
	if want := []float64{1, 0, 0, 0, 0, 0, 0, 0.2, 0, 0, 0, 0}; !reflect.DeepEqual(rgb, want) {
		t.Errorf("rgb %v, want %v", rgb, want)
	}

	img := image.NewNRGBA(image.Rect(0, 0, 2, 2))
	img.SetNRGBA(1, 0, color.NRGBA{0, 0, 255, 255})
	var buf bytes.Buffer
	if err := png.Encode(&buf, img); err != nil {
		t.Fatal(err)
	}
	text := term("term: pixels, image: face.png")
	files := fstest.MapFS{"a/face.png": {Data: buf.Bytes()}, "a/r.yaml": {Data: []byte(text)}}
	r, err = Find("a/r.yaml", files)
	if err != nil {
		t.Fatal(err)
	}
	rgb, mask, err = r.Objective[0].Target(files, 2, 2)
	if err != nil || !reflect.DeepEqual(mask, []float64{0, 1, 0, 0}) || rgb[9] != 1 {
		t.Errorf("picture beside the recipe: rgb %v mask %v err %v", rgb, mask, err)
	}
	style := Term{Image: "a/face.png"}
	if _, _, _, err := style.Reference(files); err == nil || err.Error() != "picture a/face.png: has transparent pixels, and every pixel is needed; fill them" {
		t.Errorf("a reference with holes: %v", err)
	}
	for i := range 4 {
		img.SetNRGBA(i%2, i/2, color.NRGBA{0, uint8(51 * i), 255, 255})
	}
	wide := image.NewNRGBA(image.Rect(0, 0, MaxSide+1, 1))
	for name, img := range map[string]image.Image{"a/face.png": img.SubImage(image.Rect(0, 0, 1, 2)), "wide.png": wide} {
		var buf bytes.Buffer
		if err := png.Encode(&buf, img); err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: buf.Bytes()}
	}
	if rgb, width, height, err := style.Reference(files); err != nil || width != 1 || height != 2 || !reflect.DeepEqual(rgb, []float64{0, 0, 0, 0.4, 1, 1}) {
		t.Errorf("a reference of 1x2 pixels: %v, %dx%d, %v", rgb, width, height, err)
	}
	style.Image = "wide.png"
	if _, _, _, err := style.Reference(files); err == nil || err.Error() != "picture wide.png: is 4097x1 pixels, want at most 4096x4096" {
		t.Errorf("a wide reference: %v", err)
	}
	files["a/face.png"] = &fstest.MapFile{Data: buf.Bytes()}
	if _, _, err = r.Objective[0].Target(files, 16, 16); err == nil || err.Error() != "picture a/face.png: is 2x2 pixels, the model draws 16x16" {
		t.Errorf("wrong size: %v", err)
	}
	if _, err := Find("drak-glasses", files); err == nil || err.Error() != "recipe drak-glasses: not found; did you mean dark-glasses?" {
		t.Errorf("misspelt recipe: %v", err)
	}
}

// FuzzParse holds two properties over any text: Parse never panics, and what
// it accepts reads back from its canonical form as the same recipe.
func FuzzParse(f *testing.F) {
	for _, name := range append(List(), Tunings()...) {
		data, _ := Text(name)
		f.Add(data)
	}
	for _, s := range []string{minimal, everything, "{\"version\":1,\"name\":\"x\",\"updates\":0}", "? [a]\n: b", "a: &x\n  <<: *x", "- - - - -", "\"", "a: |\n  b", "\x00", "version: 1\nname: \"1e5\"\nupdates: 0\noptimizer: {lr: 1e-3}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse(data, "fuzz")
		if err != nil {
			return
		}
		back, err := Parse(r.Canonical(), "canonical")
		if err != nil {
			t.Fatalf("canonical form of an accepted recipe: %v\n%s", err, r.Canonical())
		}
		if !same(r, back) {
			t.Fatalf("canonical form reads back differently:\n%s", r.Canonical())
		}
	})
}
