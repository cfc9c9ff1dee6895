package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sdo-go/sdo/recipes"
)

// runRequest is the body of a request for a run. Exactly one of recipe, link and
// resume is there.
type runRequest struct {
	Recipe   json.RawMessage            `json:"recipe"` // a recipe, or the name of one in the library
	Link     string                     `json:"link"`   // of a recipe that is kept here
	Resume   string                     `json:"resume"` // token of a run that goes on
	Set      map[string]json.RawMessage `json:"set"`    // values of the recipe replaced, by key path
	Previews *int                       `json:"previews"`
	Slices   *bool                      `json:"slices"`
}

// asked is a run as its caller asks for it.
type asked struct {
	saved           // of a new run without a state
	previews int    // updates from one event with pictures to the next; 0 for none
	slices   bool   // it may take several requests
	lora     []byte // the adapter's file; nil for none
}

// maxRecipe is the longest recipe that is read, in bytes.
const maxRecipe = 256 << 10

// ask reads a request for a run: JSON, or the recipe alone as YAML.
func (s *Server) ask(w http.ResponseWriter, r *http.Request, resumable bool) (*asked, error) {
	a := &asked{previews: 1, slices: true}
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if slices.Contains([]string{"application/yaml", "application/x-yaml", "text/yaml"}, media) {
		body, over, err := s.readBody(w, r, maxRecipe)
		if err != nil {
			return nil, err
		}
		defer over()
		if a.recipe, err = recipes.Parse(body, "recipe"); err != nil {
			return nil, err
		}
	} else {
		most := int64(maxRecipe)
		if resumable {
			most += maxToken
		}
		body, over, err := s.readBody(w, r, most)
		if err != nil {
			return nil, err
		}
		defer over()
		if err := s.read(r.Context(), body, a, resumable); err != nil {
			return nil, err
		}
	}
	if a.recipe.LoRA == nil {
		return a, nil
	}
	began := a.adapter
	var err error
	if a.lora, a.adapter, err = s.adapter(r.Context(), a.recipe.LoRA.Path); err != nil {
		return nil, err
	}
	if a.state != nil && began != a.adapter {
		return nil, &Error{http.StatusConflict, "lora_changed", fmt.Sprintf("%s is another adapter than when this run began; start the run anew", a.recipe.LoRA.Path)}
	}
	return a, nil
}

// read takes a JSON body in.
func (s *Server) read(ctx context.Context, body []byte, a *asked, resumable bool) error {
	var q runRequest
	if err := decode(body, &q); err != nil {
		return err
	}
	if !resumable && q.Resume != "" {
		return badRequest("sampling takes one request; resume is of /v1/steer")
	}
	given := map[string]bool{"recipe": len(q.Recipe) > 0, "link": q.Link != "", "resume": q.Resume != ""}
	var names []string
	for _, name := range []string{"recipe", "link", "resume"} {
		if given[name] {
			names = append(names, name)
		}
	}
	switch {
	case len(names) == 0:
		return badRequest(`the body names no run, want one of recipe, link and resume: {"recipe": "dark-glasses"}`)
	case len(names) > 1:
		return badRequest("the body has %s, want only one of them", strings.Join(names, " and "))
	case q.Resume != "" && len(q.Set) > 0:
		return badRequest("set changes a recipe before its run begins; a run that goes on by resume keeps its own")
	}
	if q.Previews != nil {
		if a.previews = *q.Previews; a.previews < 0 {
			return badRequest("previews is %d, want how many updates lie between pictures, or 0 for none", a.previews)
		}
	}
	if q.Slices != nil {
		a.slices = *q.Slices
	}
	if q.Resume != "" {
		v, err := s.unseal(q.Resume)
		if err != nil {
			return err
		}
		a.saved = *v
		return nil
	}
	text, name, err := s.recipe(ctx, &q)
	if err != nil {
		return err
	}
	var overrides []recipes.Override
	for path, value := range q.Set {
		overrides = append(overrides, recipes.Override{Path: path, Value: string(value), From: "set." + path})
	}
	slices.SortFunc(overrides, func(a, b recipes.Override) int { return strings.Compare(a.Path, b.Path) })
	a.recipe, err = recipes.Parse(text, name, overrides...)
	return err
}

// recipe is the text a request names, and what errors call it.
func (s *Server) recipe(ctx context.Context, q *runRequest) (text []byte, name string, err error) {
	if q.Link != "" {
		kept, err := s.linked(ctx, q.Link)
		return []byte(kept), "recipe", err
	}
	if json.Unmarshal(q.Recipe, &name) != nil {
		return q.Recipe, "recipe", nil
	}
	if text, err = recipes.Text(name); err != nil {
		return nil, "", &Error{http.StatusBadRequest, "bad_recipe", fmt.Sprintf("recipe %q is not in the library; GET /v1/models lists what is", name)}
	}
	return text, name, nil
}

// decode reads a JSON body whose keys are all known.
func decode(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("something follows the object")
		}
	}
	if err != nil {
		return badRequest("the body is not the JSON it should be: %s; docs/edge.md shows one", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// Bodies above smallBody are booked as what runs hold: a body is held several
// times over while it is read and taken apart.
const (
	smallBody  = 64 << 10
	bodyCopies = 5
)

// readBody reads a body of at most so many bytes. What is read is booked until
// over is called.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, most int64) (body []byte, over func(), err error) {
	if r.ContentLength > most {
		return nil, nil, &http.MaxBytesError{Limit: most}
	}
	expected := r.ContentLength
	if expected <= 0 { // a worker does not know where the caller does not say
		expected = most
	}
	release := func() {}
	if expected > smallBody {
		if release, err = s.book(r.Context(), min(bodyCopies*expected, s.Budget.Bytes)); err != nil {
			return nil, nil, err
		}
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	// Only servers with real connections know deadlines; a worker's body has its own.
	rc := http.NewResponseController(w)
	if err := rc.SetReadDeadline(s.Now().Add(s.Patience)); err == nil {
		defer rc.SetReadDeadline(time.Time{}) // or it would end the run
	}
	body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, nil, &Error{http.StatusRequestTimeout, "too_slow", fmt.Sprintf("the body did not come in time; send it at once, without a pause of %v", s.Patience)}
	case errors.Is(err, io.ErrUnexpectedEOF), err == nil && r.ContentLength > int64(len(body)):
		return nil, nil, badRequest("the body ended after %d bytes, %d were announced", len(body), r.ContentLength)
	}
	return body, release, err
}
