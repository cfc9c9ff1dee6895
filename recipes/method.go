package recipes

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// methodKind is what a recipe can know of a method: which words belong to its
// name and what it can be asked for. What it computes is package sdo's.
type methodKind struct {
	name      string   // without the number
	letter    string   // stands for the number a name ends in, as in draft-5; empty where there is none
	chained   bool     // gradients pass from call to call
	variables []string // it has gradients for; nil for all
	words     []string // of active, bridge and refresh, those the name leaves open
}

var (
	// What enters at the start or is only weighed: a gradient without any kept
	// call is defined.
	linear = []string{"latents", "noises", "guidance_scale"}
	// What enters at every call, so that a few late calls give a gradient. A
	// latent enters at the first, which methods that keep late calls detach.
	shared = []string{"condition", "parameters"}
	// What outputs of earlier updates stay near to while it changes a little.
	local = []string{"latents", "noises"}
)

var methodKinds = []methodKind{
	{name: "sdo", words: []string{"active", "bridge", "refresh"}},
	{name: "full", chained: true},
	{name: "full-checkpoint", chained: true},
	{name: "identity", variables: linear, words: []string{"refresh"}},
	{name: "jump", variables: []string{"latents", "condition", "guidance_scale"}},
	{name: "draft", letter: "K", chained: true, variables: shared},
	{name: "draft-lv", variables: shared},
	{name: "drtune", letter: "K", variables: shared},
	{name: "refl", variables: shared},
	{name: "alignprop", chained: true, variables: shared},
	{name: "leapalign", chained: true, variables: shared, words: []string{"bridge"}},
	{name: "flowbp-sparse", letter: "K", variables: shared},
	{name: "stale", letter: "r", variables: local, words: []string{"active", "refresh"}},
}

// Methods are the names a method may have; K and r stand for whole numbers.
var Methods = func() (names []string) {
	for _, k := range methodKinds {
		names = append(names, k.pattern())
	}
	return names
}()

func (k methodKind) pattern() string {
	if k.letter != "" {
		return k.name + "-" + k.letter
	}
	return k.name
}

// method splits a name into its kind and number, 0 for names without.
func method(name string) (kind methodKind, number int, ok bool) {
	base := name
	if i := strings.LastIndexByte(name, '-'); i >= 0 {
		// draft-05 would be a second name for draft-5, and draft-+5 a third.
		if n, err := strconv.Atoi(name[i+1:]); err == nil && strconv.Itoa(n) == name[i+1:] {
			base, number = name[:i], n
		}
	}
	i := slices.IndexFunc(methodKinds, func(k methodKind) bool { return k.name == base && (k.letter != "") == (base != name) })
	if i < 0 {
		return methodKind{}, 0, false
	}
	return methodKinds[i], number, true
}

// Method says which gradient moves the variables (docs/method.md). An empty
// word or nil leaves it to the method.
type Method struct {
	Name    string   `yaml:"name" json:"name"`
	Freeze  string   `yaml:"freeze,omitempty" json:"freeze,omitempty"`   // which form of the network's output is held constant
	Active  string   `yaml:"active,omitempty" json:"active,omitempty"`   // which calls keep their graph: a word or a whole number
	Bridge  *float64 `yaml:"bridge,omitempty" json:"bridge,omitempty"`   // share of the gradient passed from call to call, 0 to 1
	Refresh *Refresh `yaml:"refresh,omitempty" json:"refresh,omitempty"` // which calls are made again in an update; nil: all, or the method's own
}

// Refresh keeps the network's outputs of earlier updates and makes only some
// calls again.
type Refresh struct {
	Calls     int     `yaml:"calls" json:"calls"`         // made again in an update, beside the kept ones
	Every     int     `yaml:"every" json:"every"`         // updates from one refresh of all calls to the next; 0: only the first and the last
	Tolerance float64 `yaml:"tolerance" json:"tolerance"` // root mean square change of a call's input that has it made again; 0: any is let pass
	Carry     bool    `yaml:"carry" json:"carry"`         // a call made again moves what is kept of those after it by as much as it changed
	Batched   bool    `yaml:"batched" json:"batched"`     // calls that do not wait for each other are asked as one wide call
}

func (c *reader) method(s *section, m *Method) {
	t := s.mapping("method")
	c.methodName(t, &m.Name)
	t.word("freeze", &m.Freeze, Freezes)
	c.active(t, &m.Active)
	if t.get("bridge") != nil {
		m.Bridge = new(float64)
		t.float("bridge", m.Bridge, "a number from 0 to 1", share)
	}
	c.refresh(t, m)
	t.done()
}

func (c *reader) methodName(t *section, dst *string) {
	v := t.get("name")
	if v == nil {
		return
	}
	if _, _, ok := method(v.text); v.kind != text || !ok {
		hint := nearest(v.text, Methods)
		if i := strings.LastIndexByte(v.text, '-'); hint == "" && i >= 0 {
			hint = nearest(v.text[:i]+"-K", Methods)
		}
		t.wrong("name", "one of "+list(Methods), hint)
		return
	}
	*dst = v.text
}

// active reads a word or a whole number of calls.
func (c *reader) active(t *section, dst *string) {
	v := t.get("active")
	if v == nil {
		return
	}
	if n, err := strconv.Atoi(v.text); err == nil && n > 0 && (v.kind == number || v.kind == text) {
		*dst = strconv.Itoa(n)
		return
	}
	if v.kind != text || !contains(Actives, v.text) {
		t.wrong("active", "one of "+list(Actives)+" or a whole number of calls", nearest(v.text, Actives))
		return
	}
	*dst = v.text
}

func (c *reader) refresh(t *section, m *Method) {
	v := t.get("refresh")
	kind, r, _ := method(m.Name)
	switch {
	case v == nil:
	case v.kind == text && v.text == "all":
		if kind.name == "stale" {
			t.wrong("refresh", "a mapping where the method is "+m.Name, "to make every call again, use the method sdo")
		}
	case v.kind != mapping:
		t.wrong("refresh", "all, or a mapping with calls, every, tolerance, carry and batched", "")
	default:
		m.Refresh = &Refresh{Calls: 4, Every: 10, Carry: true}
		if kind.name == "stale" {
			m.Refresh.Calls = r
		}
		u := t.mapping("refresh")
		u.count("calls", &m.Refresh.Calls, 0, MaxSteps)
		u.count("every", &m.Refresh.Every, 0, MaxUpdates)
		u.float("tolerance", &m.Refresh.Tolerance, "a number, 0 or more", notNegative)
		u.flag("carry", &m.Refresh.Carry)
		u.flag("batched", &m.Refresh.Batched)
		u.done()
		if kind.name == "stale" && m.Refresh.Calls != r {
			u.wrong("calls", fmt.Sprintf("%d where the method is %s", r, m.Name), "")
		}
	}
}

// methodFits refuses combinations of words that are each right alone. Package
// sdo holds the same rules for problems that no recipe describes; here they
// come with the line.
func (c *reader) methodFits(root *section, r *Recipe) {
	m, s, variables := r.Method, root.child("method"), root.child("variables")
	kind, number, _ := method(m.Name)
	where := "where the method is " + m.Name
	c.callsFit(s, m, r.Sampler.NumInferenceSteps)

	bridge := 0.0
	if m.Bridge != nil {
		bridge = *m.Bridge
	}
	open := func(word string) bool { return contains(kind.words, word) }
	const passes = "gradients pass from call to call, and a call that is not made again passes none"
	switch {
	case m.Refresh != nil && bridge > 0:
		s.wrong("refresh", "all where bridge is above 0", passes)
	case m.Refresh != nil && kind.chained && number != 1:
		s.wrong("refresh", "all "+where, passes)
	case m.Refresh != nil && !open("refresh"):
		s.wrong("refresh", "all "+where, "sdo, identity and stale-r can leave calls out")
	case m.Refresh != nil && m.Active != "" && m.Active != "first" && m.Active != "none":
		s.wrong("active", "first or none with refresh", "the other calls are not made again")
	case m.Bridge != nil && !open("bridge"):
		s.wrong("bridge", "no bridge "+where, "sdo and leapalign take one")
	case m.Active != "" && m.Active != "first" && !open("active") && !(kind.name == "identity" && m.Active == "none"):
		s.wrong("active", "no word "+where, "its name says which calls are kept; sdo takes any")
	}
	if len(c.problems) > 0 {
		return
	}

	// Which variables the setting has a gradient for.
	allowed, why, hint := kind.variables, where, "it is defined for what every call sees; use sdo, full or identity"
	switch {
	case kind.name == "identity":
		hint = "identity keeps no call, and without one there is no gradient; use sdo"
	case kind.name == "jump":
		hint = "a jump asks the network once, at the latent, for a picture's own variables; use sdo"
	case kind.name == "stale", m.Refresh != nil:
		allowed, hint = local, "a change of it makes every output of earlier updates wrong at once; use sdo and refresh all"
		if kind.name != "stale" {
			why = "with refresh"
		}
	case m.Active == "none" && open("active"):
		allowed, why, hint = linear, "where active is none", "no call is kept, and without one there is no gradient; use first, importance or uniform"
	}
	for _, name := range Variables {
		if r.has(name) && allowed != nil && !contains(allowed, name) {
			c.add(variables.at(name), variables.path(name), "a variable among "+list(allowed)+" "+why, name, hint)
		}
	}
	if len(c.problems) > 0 || !open("active") {
		return
	}
	drawn := m.Active != "" && !contains([]string{"none", "first", "last", "all"}, m.Active)
	kept := drawn || m.Active == "last" || m.Active == "all"
	switch {
	case drawn && bridge > 0 && (r.has("latents") || r.has("noises")):
		s.wrong("active", "first, last, all or none where latents or noises change and bridge is above 0",
			"the weight of a drawn call is divided by its probability, which points a latent the wrong way in most draws; use first")
	case kept && bridge == 0 && !r.has("condition") && !r.has("parameters"):
		s.wrong("active", "first or none where bridge is 0 and only "+list(sortedKeys(r.Variables))+" may change",
			"a latent reaches only the first call; use first, none or a bridge")
	case m.Active == "none" && bridge > 0:
		s.wrong("bridge", "0 where active is none", "no call is kept for it to pass")
	}
}

// callsFit holds the numbers of calls against the sampler's steps.
func (c *reader) callsFit(s *section, m Method, steps int) {
	const mend = "lower it, or raise sampler.num_inference_steps"
	kind, number, _ := method(m.Name)
	most, of := steps, "the sampler's steps"
	if kind.name == "stale" { // the first call is made at every update anyway
		most, of = steps-1, "the sampler's steps without the first"
	}
	if kind.letter != "" && (number < 1 || number > most) {
		s.wrong("name", fmt.Sprintf("%s with %s from 1 to %d, %s", kind.pattern(), kind.letter, most, of), mend)
	}
	if n, err := strconv.Atoi(m.Active); err == nil && n > steps {
		s.wrong("active", fmt.Sprintf("at most %d calls, the sampler's steps", steps), mend)
	}
	if m.Refresh == nil {
		return
	}
	refresh := s.child("refresh")
	if m.Refresh.Calls > steps-1 && kind.name != "stale" {
		refresh.wrong("calls", fmt.Sprintf("at most %d, the sampler's steps without the first", steps-1), mend)
	}
	if m.Refresh.Calls == 0 && m.Refresh.Tolerance == 0 {
		refresh.wrong("calls", "at least 1 where tolerance is 0", "or else nothing is ever made again; to make every call again, use refresh: all")
	}
}
