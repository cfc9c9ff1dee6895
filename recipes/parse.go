package recipes

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Override replaces one value of a recipe before it is checked.
type Override struct {
	Path  string // dotted path of the key, list entries by number: "objective.0.weight"
	Value string // YAML or JSON
	From  string // what an error calls it, for example "--updates"
}

// Parse reads a recipe from YAML or JSON, applies overrides in order, fills in
// defaults and checks everything that does not need a model. name stands for
// the file in errors. The error is a Problem or Problems.
func Parse(data []byte, name string, overrides ...Override) (*Recipe, error) {
	root, err := parseTree(data, name, true)
	if err != nil {
		return nil, err
	}
	if root.kind != mapping {
		return nil, problem(root.where, "recipe", "a mapping that begins with version: 1", root.got(), "")
	}
	if root.fields["format"] != nil && root.fields["recipe"] != nil {
		return nil, problem(name, "recipe", "a recipe", "the record of a run; save its recipe entry as a file and use that", "")
	}
	if len(overrides) > maxOverrides {
		return nil, problem(name, "recipe", fmt.Sprintf("at most %d changes to it", maxOverrides), fmt.Sprint(len(overrides)), "write them into the recipe")
	}
	given := 0
	for _, o := range overrides {
		if err := root.override(o); err != nil {
			return nil, err
		}
		if given += len(o.Value); given > maxBytes {
			return nil, problem(name, "recipe", fmt.Sprintf("changes of at most %d KiB together", maxBytes>>10), "more", "")
		}
	}
	var c reader
	r := c.recipe(root)
	if err := c.err(); err != nil {
		return nil, err
	}
	// What is written down must be read again. No text grows to eight times its
	// length with its defaults and its lists line by line.
	if given+len(data) > maxBytes/8 {
		if size := len(r.Canonical()); size > maxBytes {
			return nil, problem(name, "recipe", fmt.Sprintf("at most %d KiB with every default written out", maxBytes>>10), fmt.Sprintf("%d bytes", size), "")
		}
	}
	return r, nil
}

// override replaces one value of the recipe v.
func (v *value) override(o Override) error {
	from := cut(o.From, 80)
	if len(o.Path) > maxPath {
		return problem(from, "recipe", fmt.Sprintf("a path of at most %d bytes", maxPath), fmt.Sprintf("%d bytes", len(o.Path)), "")
	}
	to, err := parseTree([]byte(o.Value), from, false)
	if p := (Problem{}); errors.As(err, &p) && p.Got == emptyFile {
		to = &value{where: from, kind: null}
	} else if err != nil {
		return err
	}
	if variables := v.fields["variables"]; variables != nil && strings.HasPrefix(o.Path, "variables.") {
		v.fields["variables"] = byName(variables)
	}
	return v.set(o.Path, to)
}

func any1(float64) bool          { return true }
func positive(f float64) bool    { return f > 0 }
func notNegative(f float64) bool { return f >= 0 }
func share(f float64) bool       { return f >= 0 && f <= 1 }

// Defaults is a recipe without an objective: 16 pictures of the embedded model,
// latent SDO with the author's optimiser.
func Defaults() Recipe {
	return Recipe{
		Version:       Version,
		Model:         "avatars-16-s",
		NumImages:     16,
		Sampler:       Sampler{Name: "ddim", NumInferenceSteps: 20, TimestepSpacing: "trailing"},
		GuidanceScale: 1,
		Variables:     map[string]Variable{"latents": {}},
		Method:        Method{Name: "sdo"},
		Optimizer:     Optimizer{Name: "adam", LR: 0.05, Betas: [2]float64{0.9, 0.9}},
		Updates:       60,
		Guards:        Guards{LatentNorm: "project", Whiteness: "none", DriftLimit: 1.5, EarlyStop: StopObjective},
	}
}

func (c *reader) recipe(root *value) *Recipe {
	r := Defaults()
	r.source = root
	s := c.section(root, "")

	if s.need("version", fmt.Sprintf("version: %d", Version)) {
		s.count("version", &r.Version, Version, Version)
	}
	s.some("name", &r.Name, "a short name for the run")
	s.text("description", &r.Description)
	s.text("model", &r.Model)
	s.text("decoder", &r.Decoder)
	if s.word("dtype", &r.DType, DTypes); r.DType == "auto" {
		r.DType = ""
	}
	r.LoRA = c.adapter(s)
	s.text("guide", &r.Guide)
	s.text("judge", &r.Judge)
	s.text("clip", &r.CLIP)
	s.text("aesthetic", &r.Aesthetic)
	seed := int64(r.Seed)
	s.whole("seed", &seed, 0, MaxSeed)
	r.Seed = uint64(seed)
	s.count("num_images", &r.NumImages, 1, MaxImages)
	s.count("height", &r.Height, 1, MaxSide)
	s.count("width", &r.Width, 1, MaxSide)

	t := s.mapping("sampler")
	t.word("name", &r.Sampler.Name, Samplers)
	t.count("num_inference_steps", &r.Sampler.NumInferenceSteps, 1, MaxSteps)
	t.word("timestep_spacing", &r.Sampler.TimestepSpacing, Spacings)
	t.float("eta", &r.Sampler.Eta, "a number from 0 to 1", share)
	if name := r.Sampler.Name; r.Sampler.Eta != 0 && name != "ddim" {
		t.wrong("eta", "0 where the sampler is "+name, "only ddim takes a share of fresh noise")
	}
	t.flag("use_karras_sigmas", &r.Sampler.UseKarrasSigmas)
	if name := r.Sampler.Name; r.Sampler.UseKarrasSigmas && contains(Samplers, name) && !contains(OnKarras, name) {
		t.wrong("use_karras_sigmas", "false where the sampler is "+name, "only "+list(OnKarras)+" take them")
	}
	t.done()

	s.float("guidance_scale", &r.GuidanceScale, "a number above 0, at most 100", func(f float64) bool { return f > 0 && f <= 100 })
	r.Condition = c.condition(s)
	c.prompts(s, &r)
	if r.GuidanceScale != 1 && !r.Told() && s.has("guidance_scale") {
		s.wrong("guidance_scale", "1 where neither condition nor prompt is given", "add one or remove guidance_scale")
	}

	if s.get("start") != nil {
		r.Start = c.start(s)
	}
	r.Variables = c.variables(s, r.Variables)
	r.Objective = c.objective(s)
	c.method(s, &r.Method)

	t = s.mapping("optimizer")
	t.word("name", &r.Optimizer.Name, Optimizers)
	t.float("lr", &r.Optimizer.LR, "a number above 0", positive)
	c.betas(t, &r.Optimizer.Betas)
	t.float("weight_decay", &r.Optimizer.WeightDecay, "a number, 0 or more", notNegative)
	t.float("max_grad_norm", &r.Optimizer.MaxGradNorm, "a number, 0 or more", notNegative)
	t.done()

	s.count("updates", &r.Updates, 0, MaxUpdates)
	if r.Updates > 0 && len(r.Objective) == 0 && len(c.problems) == 0 {
		s.wrong("objective", "at least one term", "or set updates: 0 to sample without steering")
	}

	t = s.mapping("guards")
	t.word("latent_norm", &r.Guards.LatentNorm, LatentNorms)
	t.word("whiteness", &r.Guards.Whiteness, Whitenesses)
	t.float("drift_limit", &r.Guards.DriftLimit, "a number, 0 or more", notNegative)
	c.earlyStop(t, &r.Guards.EarlyStop)
	if r.Guards.EarlyStop == StopJudge && !slices.ContainsFunc(r.Objective, func(t Term) bool { return t.Term == "attribute" }) {
		t.wrong("early_stop", "false, true or objective where no term is an attribute", "the judge is asked for attributes only")
	}
	t.done()

	if s.get("tune") != nil || r.has("parameters") {
		r.Tune = c.tune(s)
	}

	s.done()
	if len(c.problems) == 0 { // words that are wrong alone need not be told twice
		c.networksFit(s, &r)
		c.variablesFit(s, &r)
		c.methodFits(s, &r)
	}
	return &r
}

// prompts reads what a model that takes text is told.
func (c *reader) prompts(s *section, r *Recipe) {
	s.line("prompt", &r.Prompt)
	s.line("negative_prompt", &r.NegativePrompt)
	for _, key := range []string{"prompt", "negative_prompt"} {
		if s.has(key) && len(r.Condition) > 0 {
			s.wrong(key, "no "+key+" beside condition", "a model takes attributes or text")
			return
		}
	}
}

// networksFit refuses terms that need a network which the recipe does not name.
func (c *reader) networksFit(s *section, r *Recipe) {
	for i, t := range r.Objective {
		at := fmt.Sprintf("objective.%d (%s)", i, t.Term)
		switch t.Term {
		case "clip_similarity", "clip_style", "aesthetic":
			if r.CLIP == "" {
				s.wrong("clip", "the folder of a CLIPModel for "+at, "it reads pictures, and none is built in; bring one, for example openai's clip-vit-base-patch32")
				return
			}
			if r.Aesthetic == "" && t.Term == "aesthetic" {
				s.wrong("aesthetic", "the file of a linear head for "+at, "it scores CLIP's image embedding, and none is built in")
				return
			}
		}
	}
}

func (c *reader) adapter(s *section) *Adapter {
	if s.get("lora") == nil {
		return nil
	}
	t, a := s.mapping("lora"), &Adapter{Scale: 1}
	t.some("path", &a.Path, "a PEFT folder or a safetensors file")
	t.float("scale", &a.Scale, "a finite number", any1)
	t.done()
	return a
}

func (c *reader) condition(s *section) map[string]string {
	t := s.mapping("condition")
	if len(t.v.keys) == 0 {
		return nil
	}
	m := map[string]string{}
	for _, key := range t.v.keys {
		var v string
		t.text(key, &v)
		m[key] = v
	}
	return m
}

func (c *reader) start(s *section) *Start {
	t := s.mapping("start")
	start := &Start{Strength: 1}
	c.source(t, &start.Source)
	t.float("strength", &start.Strength, "a number above 0, at most 1", func(f float64) bool { return f > 0 && f <= 1 })
	t.done()
	return start
}

// source reads the keys of a picture.
func (c *reader) source(u *section, src *Source) {
	var seed int64
	u.whole("seed", &seed, 0, MaxSeed)
	u.count("index", &src.Index, 0, math.MaxInt32)
	u.text("image", &src.Image)
	src.Seed = uint64(seed)
	if avatar := u.has("seed") || u.has("index"); avatar == (src.Image != "") && (avatar || len(c.problems) == 0) {
		c.add(u.v.where, u.prefix, "either seed and index of an avatar or an image", "both or neither", "")
	}
}

func (c *reader) tune(s *section) *Tune {
	t := s.mapping("tune")
	tune := &Tune{BatchSize: 8, Accumulate: 1, EvalEvery: 10, EvalImages: 32, CheckpointEvery: 10}
	t.count("batch_size", &tune.BatchSize, 1, MaxImages)
	t.count("accumulate", &tune.Accumulate, 1, MaxImages)
	t.float("keep", &tune.Keep, "a number, 0 or more", notNegative)
	t.float("ema_decay", &tune.EMADecay, "a number from 0 to below 1", func(f float64) bool { return f >= 0 && f < 1 })
	t.count("eval_every", &tune.EvalEvery, 1, MaxUpdates)
	t.count("eval_images", &tune.EvalImages, 1, MaxImages)
	t.count("checkpoint_every", &tune.CheckpointEvery, 1, MaxUpdates)
	t.done()
	return tune
}

func (c *reader) earlyStop(s *section, dst *EarlyStop) {
	v := s.get("early_stop")
	switch {
	case v == nil:
	case v.kind == boolean && v.text == "true", v.kind == text && v.text == string(StopObjective):
		*dst = StopObjective
	case v.kind == boolean:
		*dst = StopNever
	case v.kind == text && v.text == string(StopJudge):
		*dst = StopJudge
	default:
		s.wrong("early_stop", "one of false, true, objective, judge", nearest(v.text, []string{string(StopObjective), string(StopJudge)}))
	}
}

func (c *reader) betas(s *section, dst *[2]float64) {
	const expected = "two numbers from 0 to below 1"
	v := s.get("betas")
	if v == nil {
		return
	}
	if v.kind != sequence || len(v.items) != 2 {
		s.wrong("betas", expected, "")
		return
	}
	for i, item := range v.items {
		f, ok := item.float()
		if !ok || !(f >= 0 && f < 1) {
			c.add(item.where, s.path("betas"), expected, item.got(), "")
			return
		}
		dst[i] = f
	}
}

func (c *reader) objective(s *section) []Term {
	v := s.get("objective")
	if v == nil {
		return nil
	}
	if v.kind != sequence {
		s.wrong("objective", "a list of terms", "begin each with - term: "+Terms[0])
		return nil
	}
	if len(v.items) > 32 {
		s.wrong("objective", "at most 32 terms", "")
		return nil
	}
	var terms []Term
	for i, item := range v.items {
		path := fmt.Sprintf("objective.%d", i)
		if item.kind != mapping {
			c.add(item.where, path, "a term, a mapping with the key term", item.got(), "")
			continue
		}
		terms = append(terms, c.term(c.section(item, path)))
	}
	return terms
}

// term reads the keys every term has, then those of its kind.
func (c *reader) term(s *section) Term {
	t := Term{Weight: 1}
	if !s.need("term", "one of "+list(Terms)) {
		return t
	}
	before := c.count()
	s.word("term", &t.Term, Terms)
	if c.count() > before {
		return t // without a kind every further complaint would be noise
	}
	s.float("weight", &t.Weight, "a finite number", any1)
	if s.get("stop_below") != nil {
		t.StopBelow = new(float64)
		s.float("stop_below", t.StopBelow, "a number, 0 or more", notNegative)
	}
	switch t.Term {
	case "attribute":
		t.Margin = 2
		s.some("attribute", &t.Attribute, "the name of an attribute")
		s.some("value", &t.Value, "the value the attribute should have")
		s.float("margin", &t.Margin, "a number above 0", positive)
		t.Copies, t.Noise = 8, new(float64)
		*t.Noise = 0.5
		s.count("copies", &t.Copies, 1, 64)
		s.float("noise", t.Noise, "a number, 0 or more", notNegative)
	case "region_color":
		if s.need("region", "[x, y, width, height]") {
			t.Region = s.rect("region")
		}
		if s.need("color", `a colour "#rrggbb"`) {
			s.color("color", &t.Color)
		}
	case "pixels":
		c.pixels(s, &t)
	case "inpaint":
		c.inpaint(s, &t)
	case "symmetry":
		t.Axis = "horizontal"
		s.word("axis", &t.Axis, []string{"horizontal"})
	case "clip_similarity":
		const expected = "what the picture should show, in words"
		if s.need("prompt", expected) {
			if s.line("prompt", &t.Prompt); strings.TrimSpace(t.Prompt) == "" && c.count() == before {
				s.wrong("prompt", expected, "")
			}
		}
		t.Cutouts, t.Noise = 1, new(float64)
		s.count("cutouts", &t.Cutouts, 1, MaxCutouts)
		s.float("noise", t.Noise, "a number, 0 or more", notNegative)
	case "clip_style":
		t.Layer = 3
		s.some("image", &t.Image, "the picture whose style is wanted")
		s.count("layer", &t.Layer, 1, MaxLayer)
	case "aesthetic":
		t.Score = 10
		s.float("target", &t.Score, "a number above 0", positive)
	}
	switch t.Term {
	case "pixels", "inpaint", "symmetry", "total_variation":
		if s.word("space", &t.Space, Spaces); t.Space == "pixels" {
			t.Space = "" // one way to say it
		}
	}
	s.done()
	return t
}

func (c *reader) pixels(s *section, t *Term) {
	s.text("image", &t.Image)
	s.text("mask", &t.Mask)
	rows, palette := s.get("rows"), s.mapping("palette")
	switch {
	case (rows == nil) == (t.Image == ""):
		c.add(s.v.where, s.prefix, "either rows with a palette or an image", "both or neither", "")
		return
	case rows == nil:
		if s.has("palette") {
			s.wrong("palette", "a palette only with rows", "")
		}
		return
	case t.Mask != "":
		s.wrong("mask", "a mask only with an image", `give pixels that do not count the palette colour free`)
		return
	}
	t.Palette = map[string]Color{}
	for _, key := range palette.v.keys {
		if len([]rune(key)) != 1 {
			c.add(palette.at(key), palette.path(key), "a single character", quote(key), "")
			continue
		}
		if v := palette.get(key); v.kind == text && v.text == string(Free) {
			t.Palette[key] = Free
			continue
		}
		var col Color
		palette.color(key, &col)
		t.Palette[key] = col
	}
	if rows.kind != sequence || len(rows.items) == 0 {
		s.wrong("rows", "a list of text rows, one character a pixel", "")
		return
	}
	for _, row := range rows.items {
		if row.kind != text {
			c.add(row.where, s.path("rows"), "a text row, one character a pixel", row.got(), `put it in "quotes"`)
			return
		}
		if n, first := len([]rune(row.text)), len([]rune(rows.items[0].text)); n != first {
			c.add(row.where, s.path("rows"), fmt.Sprintf("%d characters as in the first row", first), fmt.Sprint(n), "")
			return
		}
		for _, r := range row.text {
			if _, ok := t.Palette[string(r)]; !ok {
				c.add(row.where, s.path("rows"), "characters of the palette ("+list(sortedKeys(t.Palette))+")", quote(string(r)), "")
				return
			}
		}
		t.Rows = append(t.Rows, row.text)
	}
}

func (c *reader) inpaint(s *section, t *Term) {
	if s.need("source", "an avatar {seed, index} or {image}") {
		u := s.mapping("source")
		src := &Source{}
		c.source(u, src)
		u.done()
		t.Source = src
	}
	if !s.need("hidden", "one of "+list(Sides)+" or [x, y, width, height]") {
		return
	}
	t.Hidden = &Hidden{}
	if s.v.fields["hidden"].kind == sequence {
		t.Hidden.Rect = s.rect("hidden")
	} else {
		s.word("hidden", &t.Hidden.Side, Sides)
	}
}
