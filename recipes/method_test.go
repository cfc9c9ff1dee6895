package recipes

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

// everything uses every key that Defaults leaves out.
const everything = `version: 1
name: everything
condition: {mood: sad}
guidance_scale: 2
lora: {path: mine, scale: 0.5}
start: {image: photo.png, strength: 0.6}
variables:
  condition: {optimizer: adamw, lr: 0.01, betas: [0, 0.99], weight_decay: 0}
  guidance_scale: {optimizer: sgd, lr: 0.1}
  parameters: {lr: 0.003, lora: {rank: 4, alpha: 2, targets: ["mid_block.**", "up_blocks.*.attentions.**"]}}
objective: [{term: attribute, attribute: mood, value: happy}]
method: {name: sdo, freeze: solver, active: 4, bridge: 0.5}
optimizer: {name: adamw, lr: 0.1, betas: [0.8, 0.9], weight_decay: 0.01, max_grad_norm: 1}
guards: {latent_norm: none, whiteness: project, drift_limit: 0.5, early_stop: judge}
tune: {batch_size: 4, accumulate: 2, keep: 3, ema_decay: 0.9, eval_every: 5, eval_images: 64, checkpoint_every: 20}
`

func TestEveryKeyReadsBack(t *testing.T) {
	for _, text := range []string{
		everything,
		minimal + "variables: {parameters: {select: [\"**\"]}}\nguards: {early_stop: false}\n",
		minimal + "variables:\n  latents:\n  noises: {lr: 0.02}\nsampler: {name: ddim, eta: 0.5}\nmethod: {bridge: 0, refresh: {calls: 0, every: 0, tolerance: 0.1, batched: true}}\n",
		minimal + "method: {name: stale-4, active: first, refresh: {every: 3}}\n",
		minimal + "method: {refresh: all, active: all, bridge: 0.3, freeze: v}\n",
	} {
		r := mustParse(t, text)
		if back := mustParse(t, string(r.Canonical())); !same(r, back) {
			t.Errorf("canonical form reads back differently:\n%s", r.Canonical())
		}
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if back := mustParse(t, string(data)); !same(r, back) {
			t.Errorf("JSON reads back differently:\n%s", data)
		}
		if !same(r, r.Clone()) {
			t.Errorf("clone differs: %+v\n%+v", r, r.Clone())
		}
		if err := r.Validate(); err != nil {
			t.Error(err)
		}
	}
	r := mustParse(t, everything)
	half := 0.5
	want := Method{Name: "sdo", Freeze: "solver", Active: "4", Bridge: &half}
	if !reflect.DeepEqual(r.Method, want) {
		t.Errorf("method %+v, want %+v", r.Method, want)
	}
	if want := (Guards{"none", "project", 0.5, StopJudge}); r.Guards != want {
		t.Errorf("guards %+v, want %+v", r.Guards, want)
	}
	if want := (Tune{4, 2, 3, 0.9, 5, 64, 20}); *r.Tune != want {
		t.Errorf("tune %+v, want %+v", *r.Tune, want)
	}
	if want := (Adapter{"mine", 0.5}); *r.LoRA != want {
		t.Errorf("lora %+v, want %+v", *r.LoRA, want)
	}
	if want := (Start{Source{Image: "photo.png"}, 0.6}); *r.Start != want {
		t.Errorf("start %+v, want %+v", *r.Start, want)
	}
	if want := (LoRA{4, 2, []string{"mid_block.**", "up_blocks.*.attentions.**"}}); !reflect.DeepEqual(*r.Variables["parameters"].LoRA, want) {
		t.Errorf("lora %+v, want %+v", *r.Variables["parameters"].LoRA, want)
	}
}

// The settings that are only there on request.
func TestSettingsFilledIn(t *testing.T) {
	r := mustParse(t, minimal+"method: {name: stale-2, refresh: {}}\n")
	if want := (Refresh{Calls: 2, Every: 10, Carry: true}); *r.Method.Refresh != want {
		t.Errorf("refresh %+v, want %+v", *r.Method.Refresh, want)
	}
	r = mustParse(t, minimal+"variables: {parameters: {lora: {rank: 8}}}\n")
	if want := (LoRA{8, 8, nil}); !reflect.DeepEqual(*r.Variables["parameters"].LoRA, want) {
		t.Errorf("lora %+v, want %+v", *r.Variables["parameters"].LoRA, want)
	}
	if want := (Tune{BatchSize: 8, Accumulate: 1, EvalEvery: 10, EvalImages: 32, CheckpointEvery: 10}); *r.Tune != want {
		t.Errorf("tune %+v, want %+v", *r.Tune, want)
	}
	if r := mustParse(t, minimal); r.Tune != nil || r.Start != nil || r.Method != (Method{Name: "sdo"}) {
		t.Errorf("a recipe that asks for nothing got %+v %+v %+v", r.Tune, r.Start, r.Method)
	}
}

// What earlier builds wrote means what it meant.
func TestOlderSpellings(t *testing.T) {
	r := mustParse(t, minimal+`variables: [latent]
method: {name: full, freeze: eps, active: first}
optimizer: {name: adam, lr: 0.05, betas: [0.9, 0.9]}
guards: {latent_norm: project, early_stop: true}
`)
	want := Defaults()
	want.Name, want.Objective = "test", []Term{{Term: "total_variation", Weight: 1}}
	want.Method = Method{Name: "full", Freeze: "eps", Active: "first"}
	if !same(r, &want) {
		t.Errorf("got %+v\nwant %+v", r, want)
	}
}

func TestOverridesReachVariables(t *testing.T) {
	for _, form := range []string{"", "variables: [latent]\n", "variables: {latents: {betas: [0, 0]}}\n", "variables:\n  latents:\n"} {
		r := mustParse(t, minimal+form, Override{"variables.latents.lr", "0.3", "--set"}, Override{"variables.condition", "{}", "--set"})
		if lr := r.OptimizerOf("latents").LR; lr != 0.3 || len(r.Variables) != 2 {
			t.Errorf("%q: lr %g of %v", form, lr, r.Variables)
		}
	}
	r := mustParse(t, minimal+"variables: {latents: {lr: 0.1}}\n", Override{"variables", "[guidance_scale, condition]", "--set"},
		Override{"guidance_scale", "1", "--set"}, Override{"method.active", "3", "--active"}, Override{"method.bridge", "0.5", "--bridge"})
	if len(r.Variables) != 2 || !r.has("guidance_scale") || !r.has("condition") || r.Method.Active != "3" || *r.Method.Bridge != 0.5 {
		t.Errorf("got %+v %+v", r.Variables, r.Method)
	}
}

func TestOptimizerOf(t *testing.T) {
	r := mustParse(t, everything)
	for name, want := range map[string]Optimizer{
		"latents":        {"adamw", 0.1, [2]float64{0.8, 0.9}, 0.01, 1}, // as any that the recipe does not name
		"condition":      {"adamw", 0.01, [2]float64{0, 0.99}, 0, 1},
		"guidance_scale": {"sgd", 0.1, [2]float64{0.8, 0.9}, 0, 1},
		"parameters":     {"adamw", 0.003, [2]float64{0.8, 0.9}, 0.01, 1},
	} {
		if got := r.OptimizerOf(name); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

func TestStartLiesBesideTheRecipe(t *testing.T) {
	files := fstest.MapFS{"a/r.yaml": {Data: []byte(minimal + "start: {image: photo.png}\n")}}
	r, err := Find("a/r.yaml", files)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Start{Source{Image: "a/photo.png"}, 1}); *r.Start != want {
		t.Errorf("start %+v, want %+v", *r.Start, want)
	}
}

// Words that are each right alone, and together not.
func TestWrongCombinations(t *testing.T) {
	const (
		drawn   = `; the weight of a drawn call is divided by its probability, which points a latent the wrong way in most draws; use first`
		reaches = `; a latent reaches only the first call; use first, none or a bridge`
		late    = `; it is defined for what every call sees; use sdo, full or identity`
		lora    = `; lora adds small matrices to layers; select trains the network's own tensors, ["**"] all of them`
		chained = `; gradients pass from call to call, and a call that is not made again passes none`
		mend    = `; lower it, or raise sampler.num_inference_steps`
		nameSet = `; its name says which calls are kept; sdo takes any`
		tuned   = "variables: {parameters: {lora: {}}}\n"
		wrong   = `; a change of it makes every output of earlier updates wrong at once; use sdo and refresh all`
		steered = "variables: [latents]\n"
	)
	tests := []struct{ text, want string }{
		// Variables.
		{"variables: {parameters: }\n", "variables.parameters: expected either lora or select, got neither" + lora},
		{"variables: [parameters]\n", "variables.parameters: expected either lora or select, got neither" + lora},
		{"variables: {parameters: {lora: {}, select: [\"**\"]}}\n", "variables.parameters: expected either lora or select, got both" + lora},
		{"variables: {parameters: {lora: {rank: 0}}}\n", "variables.parameters.lora.rank: expected a whole number from 1 to 4096, got 0"},
		{"variables: {parameters: {lora: {targets: []}}}\n", `variables.parameters.lora.targets: expected a list of patterns of layer names, got a list of 0; ["**"] matches every layer`},
		{"variables: {parameters: {select: [3]}}\n", `variables.parameters.select: expected a pattern of tensor names, got 3; for example "mid_block.**"`},
		{"variables: [latents, guidance_scale]\n", "variables.guidance_scale: expected a condition or a prompt to weigh, got none; add one or remove the variable"},
		{"variables: [noises]\n", "variables.noises: expected a sampler that adds noise, got ddim with eta 0; ddpm, lcm and ddim with eta above 0 do"},
		{"variables: [noises]\nsampler: {name: heun}\n", "variables.noises: expected a sampler that adds noise, got heun; ddpm, lcm and ddim with eta above 0 do"},
		{"variables: {latents: {weight_decay: 0.1}}\n", "variables.latents.weight_decay: expected 0 where the optimizer is adam, got 0.1; adamw takes one"},
		{"optimizer: {weight_decay: 0.1}\n", "optimizer.weight_decay: expected 0 where no variable's optimizer is adamw, got 0.1; adam and sgd do not decay"},
		// Methods and variables.
		{"variables: [latents, condition]\nmethod: {name: identity}\n", "variables.condition: expected a variable among latents, noises, guidance_scale where the method is identity, got condition; identity keeps no call, and without one there is no gradient; use sdo"},
		{tuned + "method: {name: identity}\n", "variables.parameters: expected a variable among latents, noises, guidance_scale where the method is identity, got parameters; identity keeps no call, and without one there is no gradient; use sdo"},
		{"variables: [condition]\nmethod: {active: none}\n", "variables.condition: expected a variable among latents, noises, guidance_scale where active is none, got condition; no call is kept, and without one there is no gradient; use first, importance or uniform"},
		{tuned + "method: {active: none}\n", "variables.parameters: expected a variable among latents, noises, guidance_scale where active is none, got parameters; no call is kept, and without one there is no gradient; use first, importance or uniform"},
		{tuned + "method: {name: jump}\n", "variables.parameters: expected a variable among latents, condition, guidance_scale where the method is jump, got parameters; a jump asks the network once, at the latent, for a picture's own variables; use sdo"},
		{steered + "method: {name: draft-5}\n", "variables.latents: expected a variable among condition, parameters where the method is draft-5, got latents" + late},
		{steered + "method: {name: draft-lv}\n", "variables.latents: expected a variable among condition, parameters where the method is draft-lv, got latents" + late},
		{steered + "method: {name: drtune-5}\n", "variables.latents: expected a variable among condition, parameters where the method is drtune-5, got latents" + late},
		{steered + "method: {name: refl}\n", "variables.latents: expected a variable among condition, parameters where the method is refl, got latents" + late},
		{steered + "method: {name: alignprop}\n", "variables.latents: expected a variable among condition, parameters where the method is alignprop, got latents" + late},
		{steered + "method: {name: leapalign}\n", "variables.latents: expected a variable among condition, parameters where the method is leapalign, got latents" + late},
		{steered + "method: {name: flowbp-sparse-4}\n", "variables.latents: expected a variable among condition, parameters where the method is flowbp-sparse-4, got latents" + late},
		// Numbers of calls.
		{tuned + "method: {name: draft-21}\n", `method.name: expected draft-K with K from 1 to 20, the sampler's steps, got "draft-21"` + mend},
		{tuned + "method: {name: drtune-0}\n", `method.name: expected drtune-K with K from 1 to 20, the sampler's steps, got "drtune-0"` + mend},
		{steered + "method: {name: stale-20}\n", `method.name: expected stale-r with r from 1 to 19, the sampler's steps without the first, got "stale-20"` + mend},
		{tuned + "method: {active: 21}\n", "method.active: expected at most 20 calls, the sampler's steps, got 21" + mend},
		{steered + "method: {refresh: {calls: 20}}\n", "method.refresh.calls: expected at most 19, the sampler's steps without the first, got 20" + mend},
		// Refresh.
		{steered + "method: {name: full, refresh: {}}\n", "method.refresh: expected all where the method is full, got a mapping" + chained},
		{tuned + "method: {name: draft-2, refresh: {}}\n", "method.refresh: expected all where the method is draft-2, got a mapping" + chained},
		{tuned + "method: {name: alignprop, refresh: {}}\n", "method.refresh: expected all where the method is alignprop, got a mapping" + chained},
		{tuned + "method: {name: leapalign, refresh: {}}\n", "method.refresh: expected all where the method is leapalign, got a mapping" + chained},
		{steered + "method: {bridge: 0.5, refresh: {}}\n", "method.refresh: expected all where bridge is above 0, got a mapping" + chained},
		{tuned + "method: {name: draft-1, refresh: {}}\n", "method.refresh: expected all where the method is draft-1, got a mapping; sdo, identity and stale-r can leave calls out"},
		{steered + "method: {name: stale-4, refresh: all}\n", `method.refresh: expected a mapping where the method is stale-4, got "all"; to make every call again, use the method sdo`},
		{steered + "method: {name: stale-4, refresh: {calls: 5}}\n", "method.refresh.calls: expected 4 where the method is stale-4, got 5"},
		{steered + "method: {refresh: {calls: 0}}\n", "method.refresh.calls: expected at least 1 where tolerance is 0, got 0; or else nothing is ever made again; to make every call again, use refresh: all"},
		{steered + "method: {active: all, refresh: {}}\n", `method.active: expected first or none with refresh, got "all"; the other calls are not made again`},
		{"variables: [latents, condition]\nmethod: {refresh: {}}\n", "variables.condition: expected a variable among latents, noises with refresh, got condition" + wrong},
		{tuned + "method: {name: stale-4}\n", "variables.parameters: expected a variable among latents, noises where the method is stale-4, got parameters" + wrong},
		// Active and bridge.
		{steered + "method: {active: uniform, bridge: 0.5}\n", `method.active: expected first, last, all or none where latents or noises change and bridge is above 0, got "uniform"` + drawn},
		{steered + "method: {active: importance, bridge: 1}\n", `method.active: expected first, last, all or none where latents or noises change and bridge is above 0, got "importance"` + drawn},
		{"variables: [condition, latents]\nmethod: {active: 4, bridge: 0.5}\n", "method.active: expected first, last, all or none where latents or noises change and bridge is above 0, got 4" + drawn},
		{steered + "method: {active: last}\n", `method.active: expected first or none where bridge is 0 and only latents may change, got "last"` + reaches},
		{steered + "method: {active: cycle}\n", `method.active: expected first or none where bridge is 0 and only latents may change, got "cycle"` + reaches},
		{"variables: [noises, latents]\nsampler: {name: ddpm}\nmethod: {active: 4}\n", "method.active: expected first or none where bridge is 0 and only latents, noises may change, got 4" + reaches},
		{steered + "method: {active: all}\n", `method.active: expected first or none where bridge is 0 and only latents may change, got "all"` + reaches},
		{steered + "method: {active: none, bridge: 0.5}\n", "method.bridge: expected 0 where active is none, got 0.5; no call is kept for it to pass"},
		{steered + "method: {name: full, active: last}\n", `method.active: expected no word where the method is full, got "last"` + nameSet},
		{steered + "method: {name: identity, active: uniform}\n", `method.active: expected no word where the method is identity, got "uniform"` + nameSet},
		{steered + "method: {name: full, bridge: 0.5}\n", "method.bridge: expected no bridge where the method is full, got 0.5; sdo and leapalign take one"},
		// Guards.
		{"guards: {early_stop: judge}\n", `guards.early_stop: expected false, true or objective where no term is an attribute, got "judge"; the judge is asked for attributes only`},
	}
	for _, tt := range tests {
		_, err := Parse([]byte(minimal+tt.text), "test.yaml")
		if err == nil {
			t.Errorf("%q: no error, want %s", tt.text, tt.want)
			continue
		}
		line, sentence, _ := strings.Cut(err.Error(), ": ")
		key, _, _ := strings.Cut(tt.want, ".") // every key of the table begins a line
		want := 4 + strings.Count(tt.text[:strings.Index(tt.text, key+":")], "\n")
		if sentence != tt.want || line != "test.yaml:"+string(rune('0'+want)) {
			t.Errorf("%q:\n got %s\nwant test.yaml:%d: %s", tt.text, err, want, tt.want)
		}
	}
}

func TestRightCombinations(t *testing.T) {
	const given = "condition: {mood: sad}\n"
	for _, text := range []string{
		"variables: [condition]\n", // from the network's null embedding
		given + "variables: [guidance_scale]\nmethod: {name: identity}\n",
		"variables: [latents, noises]\nsampler: {name: ddim, eta: 0.1}\n",
		"variables: {parameters: {select: [\"mid_block.**\"]}, latents: {}}\nmethod: {active: importance, freeze: v}\n",
		"variables: [condition]\nmethod: {name: draft-20}\n",
		"variables: [condition]\nmethod: {name: leapalign, bridge: 0.3}\n",
		"method: {active: all, bridge: 1}\n",
		"method: {active: last, bridge: 0.5}\n",
		"method: {active: none}\n",
		"method: {name: identity, active: none, refresh: {calls: 4}}\n",
		"method: {name: full, refresh: all}\n",
		"variables: [condition]\nmethod: {active: \"3\"}\n",
		"variables: {latents: {optimizer: adamw}, condition: {}}\noptimizer: {weight_decay: 0.1}\n",
	} {
		if _, err := Parse([]byte(minimal+text), "test.yaml"); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestMethodNames(t *testing.T) {
	for name, want := range map[string]int{"sdo": 0, "draft-lv": 0, "full-checkpoint": 0, "draft-5": 5, "flowbp-sparse-12": 12, "stale-1": 1} {
		if _, n, ok := method(name); !ok || n != want {
			t.Errorf("%s: number %d, ok %v; want %d", name, n, ok, want)
		}
	}
	for _, name := range []string{"", "-", "draft", "draft-", "draft-05", "draft-+5", "draft-1.5", "sdo-1", "lv", "stale-r", "draft-99999999999999999999"} {
		if _, _, ok := method(name); ok {
			t.Errorf("%q is a method", name)
		}
	}
	for name, hint := range map[string]string{"drat-5": "draft-K", "stal-4": "stale-r", "flowbp-sparce-2": "flowbp-sparse-K", "fulll": "full"} {
		_, err := Parse([]byte(minimal+"method: {name: "+name+"}\n"), "test.yaml")
		if want := "; did you mean " + hint + "?"; err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}
