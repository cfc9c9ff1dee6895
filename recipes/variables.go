package recipes

// Variable is how one thing a run changes is changed. What is absent is as in
// the recipe's optimizer; OptimizerOf puts the two together.
type Variable struct {
	Optimizer   string      `yaml:"optimizer,omitempty" json:"optimizer,omitempty"`
	LR          float64     `yaml:"lr,omitempty" json:"lr,omitempty"`
	Betas       *[2]float64 `yaml:"betas,flow,omitempty" json:"betas,omitempty"`
	WeightDecay *float64    `yaml:"weight_decay,omitempty" json:"weight_decay,omitempty"`

	// Of parameters, exactly one: matrices of low rank added to layers, or
	// patterns of the names of the network's own tensors that are trained. In a
	// pattern * stands for anything between dots and ** for anything; without a
	// star it names a layer, or the end of its name after a dot.
	LoRA   *LoRA    `yaml:"lora,omitempty" json:"lora,omitempty"`
	Select []string `yaml:"select,flow,omitempty" json:"select,omitempty"`
}

// LoRA adds Alpha/Rank * B*A to the weight of every layer whose name matches
// one of Targets (arXiv 2106.09685).
type LoRA struct {
	Rank    int      `yaml:"rank" json:"rank"`
	Alpha   float64  `yaml:"alpha" json:"alpha"`
	Targets []string `yaml:"targets,flow,omitempty" json:"targets,omitempty"` // none: the model's choice, every layer or the attention of a pipeline
}

// MaxRank is the largest rank of a LoRA.
const MaxRank = 4096

// Optimizer is the rule that turns gradients into updates.
type Optimizer struct {
	Name        string     `yaml:"name" json:"name"`
	LR          float64    `yaml:"lr" json:"lr"`
	Betas       [2]float64 `yaml:"betas,flow" json:"betas"`            // of adam and adamw
	WeightDecay float64    `yaml:"weight_decay" json:"weight_decay"`   // of adamw, decoupled
	MaxGradNorm float64    `yaml:"max_grad_norm" json:"max_grad_norm"` // longer gradients are scaled down to this norm; 0: none
}

// OptimizerOf is the optimiser of a variable: its own settings before the
// recipe's, and none that the rule does not use but betas.
func (r *Recipe) OptimizerOf(variable string) Optimizer {
	o, v := r.Optimizer, r.Variables[variable]
	if v.Optimizer != "" {
		o.Name = v.Optimizer
	}
	if v.LR != 0 {
		o.LR = v.LR
	}
	if v.Betas != nil {
		o.Betas = *v.Betas
	}
	if v.WeightDecay != nil {
		o.WeightDecay = *v.WeightDecay
	}
	if o.Name != "adamw" {
		o.WeightDecay = 0
	}
	return o
}

// byName turns the list form of variables into the mapping form, and the older
// spelling latent into latents. What is neither, or names one twice,
// comes back as it is.
func byName(v *value) *value {
	m := &value{where: v.where, kind: mapping, fields: map[string]*value{}}
	add := func(name string, settings *value) bool {
		if name == "latent" {
			name = "latents"
		}
		if m.fields[name] != nil {
			return false
		}
		if settings.kind == null { // "latents:" with nothing after it
			settings = &value{where: settings.where, kind: mapping, fields: map[string]*value{}}
		}
		m.keys, m.fields[name] = append(m.keys, name), settings
		return true
	}
	switch v.kind {
	case sequence:
		for _, item := range v.items {
			if item.kind != text || !add(item.text, &value{where: item.where, kind: null}) {
				return v
			}
		}
	case mapping:
		for _, key := range v.keys {
			if !add(key, v.fields[key]) {
				return v
			}
		}
	default:
		return v
	}
	return m
}

func (c *reader) variables(s *section, def map[string]Variable) map[string]Variable {
	v := s.get("variables")
	if v == nil {
		return def
	}
	named := byName(v)
	if named == v || len(named.keys) == 0 {
		s.wrong("variables", "a list or a mapping of "+list(Variables)+", each once", "")
		return def
	}
	s.v.fields["variables"] = named
	t, m := s.mapping("variables"), map[string]Variable{}
	for _, name := range Variables {
		if t.get(name) != nil {
			m[name] = c.variable(t, name)
		}
	}
	t.done()
	return m
}

func (c *reader) variable(s *section, name string) (v Variable) {
	t := s.mapping(name)
	t.word("optimizer", &v.Optimizer, Optimizers)
	t.float("lr", &v.LR, "a number above 0", positive)
	var betas [2]float64
	if c.betas(t, &betas); t.has("betas") {
		v.Betas = &betas
	}
	var decay float64
	if t.float("weight_decay", &decay, "a number, 0 or more", notNegative); t.has("weight_decay") {
		v.WeightDecay = &decay
	}
	if name == "parameters" {
		v.Select = c.patterns(t, "select", nil, "tensor")
		if t.get("lora") != nil {
			v.LoRA = &LoRA{Rank: 4}
			u := t.mapping("lora")
			u.count("rank", &v.LoRA.Rank, 1, MaxRank)
			v.LoRA.Alpha = float64(v.LoRA.Rank)
			u.float("alpha", &v.LoRA.Alpha, "a number above 0", positive)
			v.LoRA.Targets = c.patterns(u, "targets", nil, "layer")
			u.done()
		}
		const expected, hint = "either lora or select", `lora adds small matrices to layers; select trains the network's own tensors, ["**"] all of them`
		if lora, chosen := t.has("lora"), t.has("select"); lora && chosen {
			s.c.add(s.at(name), s.path(name), expected, "both", hint)
		} else if !lora && !chosen {
			s.c.add(s.at(name), s.path(name), expected, "neither", hint)
		}
	}
	t.done()
	return v
}

// patterns reads a list of patterns of names of what.
func (c *reader) patterns(s *section, key string, def []string, what string) []string {
	v := s.get(key)
	if v == nil {
		return def
	}
	if v.kind != sequence || len(v.items) == 0 {
		s.wrong(key, "a list of patterns of "+what+" names", `["**"] matches every `+what)
		return def
	}
	var patterns []string
	for _, item := range v.items {
		if item.kind != text || item.text == "" {
			c.add(item.where, s.path(key), "a pattern of "+what+" names", item.got(), `for example "mid_block.**"`)
		}
		patterns = append(patterns, item.text)
	}
	return patterns
}

// variablesFit refuses variables that the rest of the recipe gives nothing to
// change, and optimiser settings that no rule uses.
func (c *reader) variablesFit(root *section, r *Recipe) {
	s := root.child("variables")
	if r.has("guidance_scale") && !r.Told() && !r.has("condition") {
		c.add(s.at("guidance_scale"), s.path("guidance_scale"), "a condition or a prompt to weigh", "none", "add one or remove the variable")
	}
	if r.NegativePrompt != "" && r.GuidanceScale == 1 && !r.has("guidance_scale") {
		root.wrong("negative_prompt", "none where guidance_scale is 1", "guidance leads away from it, and 1 is no guidance")
	}
	if r.has("noises") && !r.Sampler.addsNoise() {
		got := r.Sampler.Name
		if got == "ddim" {
			got = "ddim with eta 0"
		}
		c.add(s.at("noises"), s.path("noises"), "a sampler that adds noise", got, "ddpm, lcm and ddim with eta above 0 do")
	}
	decays := false
	for _, name := range Variables {
		if !r.has(name) {
			continue
		}
		o := r.OptimizerOf(name)
		decays = decays || o.Name == "adamw"
		if d := r.Variables[name].WeightDecay; d != nil && *d != 0 && o.Name != "adamw" {
			s.child(name).wrong("weight_decay", "0 where the optimizer is "+o.Name, "adamw takes one")
		}
	}
	if r.Optimizer.WeightDecay != 0 && !decays {
		root.child("optimizer").wrong("weight_decay", "0 where no variable's optimizer is adamw", "adam and sgd do not decay")
	}
}

func (r *Recipe) has(variable string) bool {
	_, ok := r.Variables[variable]
	return ok
}

// addsNoise tells whether the sampler draws fresh noise on the way.
func (s Sampler) addsNoise() bool { return s.Eta > 0 || s.Name == "ddpm" || s.Name == "lcm" }
