package studio

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/model/builtin"
	"github.com/sdo-go/sdo/recipes"
)

// libraryRecipe is an embedded recipe.
type libraryRecipe struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Tunes       bool            `json:"tunes"`
	YAML        string          `json:"yaml"`
	Recipe      *recipes.Recipe `json:"recipe"`
}

// contents are the words a recipe may use here, and what they may name.
type contents struct {
	Version  string          `json:"version"`
	Recipes  []libraryRecipe `json:"recipes"`
	Models   []modelInfo     `json:"models"`
	LoRAs    []string        `json:"loras"`
	Samplers []string        `json:"samplers"`
	Spacings []string        `json:"spacings"`
	Methods  []string        `json:"methods"`
	Freezes  []string        `json:"freezes"`
	Actives  []string        `json:"actives"`
	Weights  []string        `json:"weights"`
}

func catalog(r *request, _ none) (any, error) {
	s := r.server
	c := contents{
		Version: s.version, LoRAs: []string{}, Samplers: recipes.Samplers, Spacings: recipes.Spacings,
		Methods: recipes.Methods, Freezes: recipes.Freezes, Actives: recipes.Actives,
	}
	tunings := recipes.Tunings()
	for _, name := range append(recipes.List(), tunings...) {
		text, err := recipes.Text(name)
		if err != nil {
			return nil, err
		}
		parsed, err := recipes.Find(name, nil)
		if err != nil {
			return nil, err
		}
		c.Recipes = append(c.Recipes, libraryRecipe{name, parsed.Description, slices.Contains(tunings, name), string(text), parsed})
	}
	for _, f := range builtin.Weights {
		c.Weights = append(c.Weights, f.Name)
	}
	var err error
	if c.Models, err = s.models(); err != nil {
		return nil, err
	}
	loras, err := s.host.List(loraFolder)
	if err != nil {
		return nil, err
	}
	for _, f := range loras {
		c.LoRAs = append(c.LoRAs, f.Path[len(loraFolder):])
	}
	return c, nil
}

// checked is a recipe that was read, or what is wrong with it.
type checked struct {
	Recipe   *recipes.Recipe `json:"recipe,omitempty"`
	YAML     string          `json:"yaml,omitempty"`
	Command  string          `json:"command,omitempty"`
	File     string          `json:"command_needs_file,omitempty"`
	Problems []problem       `json:"problems"`
}

type problem struct {
	Message string `json:"message"`
	Line    int    `json:"line"`
	Path    string `json:"path"`
}

// recipeFile is what an error calls the text of the page's editor.
const recipeFile = "recipe"

func check(r *request, p struct {
	Text      string                     `json:"text"`
	Overrides map[string]json.RawMessage `json:"overrides"`
}) (any, error) {
	var overrides []recipes.Override
	for path, value := range p.Overrides {
		overrides = append(overrides, recipes.Override{Path: path, Value: string(value), From: path})
	}
	slices.SortFunc(overrides, func(a, b recipes.Override) int { return strings.Compare(a.Path, b.Path) })
	parsed, err := recipes.Parse([]byte(p.Text), recipeFile, overrides...)
	if err == nil {
		err = r.server.suits(parsed)
	}
	c := checked{Problems: []problem{}}
	var one recipes.Problem
	var several recipes.Problems
	switch {
	case err == nil:
		if parsed.Objective == nil {
			parsed.Objective = []recipes.Term{} // JSON would say null, which no recipe may
		}
		c.Recipe, c.YAML = parsed, string(parsed.Canonical())
		c.Command, c.File = parsed.Command()
	case errors.As(err, &several):
		for _, p := range several {
			c.Problems = append(c.Problems, newProblem(p))
		}
	case errors.As(err, &one):
		c.Problems = append(c.Problems, newProblem(one))
	default:
		c.Problems = append(c.Problems, problem{Message: err.Error()})
	}
	return c, nil
}

// newProblem takes the line out of the sentence: the editor shows it in place.
func newProblem(p recipes.Problem) problem {
	message, line := p.Placed()
	return problem{message, line, p.Field}
}

// suits holds a recipe against the descriptions of its model and guide, without
// reading a weight.
func (s *Server) suits(r *recipes.Recipe) error {
	info, err := s.info(r.Model)
	if err != nil {
		return err
	}
	if !info.Draws {
		return fmt.Errorf("model %s is a %s, which makes no pictures; choose one that does", r.Model, info.Class)
	}
	clip, aesthetic := r.Looks()
	for _, needed := range []struct {
		key, folder string
		wanted      bool
	}{{"decoder", r.Decoder, r.Decoder != ""}, {"clip", r.CLIP, clip}, {"aesthetic", path.Dir(r.Aesthetic), aesthetic}} {
		if _, err := s.open(needed.folder); needed.wanted && err != nil {
			return fmt.Errorf("%s: %q is not here; bring its folder on the Models page, and name it as it is called there", needed.key, needed.folder)
		}
	}
	if r.Height > 0 {
		info.Height = r.Height
	}
	if r.Width > 0 {
		info.Width = r.Width
	}
	if err := r.CheckAttributes(engine.Vocabulary(info.Attributes), engine.Vocabulary(info.Guide)); err != nil {
		return err
	}
	return r.CheckPictures(info.Width, info.Height)
}

// networks are those that recipes of a key name.
type networks struct {
	key string
	*engine.Networks
}

// load reads the networks of a recipe, unless they were read for the latest one.
func (s *Server) load(r *recipes.Recipe) (*engine.Model, error) {
	key, err := json.Marshal([]any{r.Model, r.Decoder, r.DType, r.LoRA, r.Guide, r.Judge, looks(r), r.Height, r.Width})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	latest := s.latest
	s.mu.Unlock()
	if latest.key != string(key) {
		latest.key = string(key)
		if latest.Networks, err = engine.LoadNetworks(r, s.open); err != nil {
			return nil, badInput(err)
		}
		s.mu.Lock()
		s.latest = latest
		s.mu.Unlock()
	}
	m, err := latest.Model(r)
	return m, badInput(err)
}

// looks names what a recipe's terms look at pictures with.
func looks(r *recipes.Recipe) []string {
	clip, aesthetic := r.Looks()
	switch {
	case aesthetic:
		return []string{r.CLIP, r.Aesthetic}
	case clip:
		return []string{r.CLIP}
	}
	return nil
}

// forget drops the networks that were read last, since a file of the store has
// changed.
func (s *Server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latest = networks{}
}

// planned reads the networks of a recipe and plans it.
func (s *Server) planned(r *recipes.Recipe) (*engine.Plan, error) {
	m, err := s.load(r)
	if err != nil {
		return nil, err
	}
	p, err := engine.NewPlan(r, m, nil, m.Options())
	return p, badInput(err)
}

// recipeParam is a recipe as the page sends it, checked again: the page may hold
// one of an older build.
type recipeParam struct{ *recipes.Recipe }

func (p *recipeParam) UnmarshalJSON(text []byte) (err error) {
	if string(text) == "null" {
		return fmt.Errorf("no recipe is given")
	}
	p.Recipe, err = recipes.Parse(text, recipeFile)
	return err
}
