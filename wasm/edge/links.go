package edge

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"regexp"
	"strings"

	"github.com/sdo-go/sdo/recipes"
)

// maxLink is the length of the longest recipe that gets a link, as it is sent
// and as it is kept: the whole of it has to fit into an address.
const maxLink = 64 << 10

// A link's id is the beginning of the SHA-256 of the recipe's text, so that the
// same recipe has the same link. Its 50 bits are longer where they are another
// recipe's already, up to a length that nobody finds a second text for.
const (
	shortestID = 10
	longestID  = 32
)

// ids are written in digits and lower case without i, l, o and u, which people
// mistake for others.
var ids = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

var linkID = regexp.MustCompile(fmt.Sprintf(`^[0-9a-hjkmnp-tv-z]{%d,%d}$`, shortestID, longestID))

// fullID is the id of a text, of which links have the beginning.
func fullID(text string) string {
	sum := sha256.Sum256([]byte(text))
	return ids.EncodeToString(sum[:])
}

// linkKey is an id's key in the store.
func linkKey(id string) string { return "recipes/" + id }

func linkRoutes(s *Server) {
	s.handle("POST /v1/recipes", s.postRecipe)
	s.handle("GET /v1/recipes/{id}", s.sendRecipe)
	s.handle("GET /r/{id}", s.openRecipe)
}

func noLinks() *Error {
	return &Error{http.StatusNotFound, "no_links", "this deployment keeps no recipes, because it has no store for them; docs/edge.md tells how to add one"}
}

func (s *Server) postRecipe(w http.ResponseWriter, r *http.Request) error {
	if s.Links == nil {
		return noLinks()
	}
	data, over, err := s.readBody(w, r, maxLink)
	if err != nil {
		return err
	}
	defer over()
	recipe, err := recipes.Parse(data, "recipe")
	if err != nil {
		return err
	}
	text := recipeJSON(recipe)
	if len(text) > maxLink {
		return &Error{http.StatusRequestEntityTooLarge, "body_too_large", fmt.Sprintf("the complete recipe takes %d bytes as JSON, a link has room for %d; draw smaller pictures or describe it shorter", len(text), maxLink)}
	}
	id, err := s.keep(r.Context(), text)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/recipes/"+id)
	writeJSON(w, http.StatusCreated, struct {
		ID  string `json:"id"`
		URL string `json:"url"`
	}{id, origin(r) + "/r/" + id})
	return nil
}

// recipeJSON is the one text of a complete recipe. Parse reads it back.
func recipeJSON(r *recipes.Recipe) string {
	complete := *r
	if complete.Objective == nil {
		complete.Objective = []recipes.Term{} // none, which JSON would write as null
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false) // no page has it between its tags, and it stays short
	if err := e.Encode(&complete); err != nil {
		panic("edge: " + err.Error()) // every field is plain data
	}
	return strings.TrimSuffix(text.String(), "\n")
}

// keep stores a text under its shortest free id.
func (s *Server) keep(ctx context.Context, text string) (id string, err error) {
	full := fullID(text)
	for length := shortestID; length <= longestID; length++ {
		id = full[:length]
		there, err := s.Links.Get(ctx, linkKey(id))
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("looking for the recipe %s: %w", id, err)
		case err == nil && there != text:
			continue
		case err == nil && s.LinkLife == 0:
			return id, nil
		}
		// One that is there already begins its life anew, unless the store does not
		// take the same key again so soon.
		if put := s.Links.Put(ctx, linkKey(id), text, s.LinkLife); put != nil && err != nil {
			return "", fmt.Errorf("storing the recipe %s: %w", id, put)
		}
		return id, nil
	}
	return "", fmt.Errorf("every id of the recipe from %s on holds another text; the store is damaged", full[:shortestID])
}

// linked is the complete recipe under an id, as JSON.
func (s *Server) linked(ctx context.Context, id string) (text string, err error) {
	if s.Links == nil {
		return "", noLinks()
	}
	unknown := &Error{http.StatusNotFound, "not_found", fmt.Sprintf("there is no recipe under %q here; the link may be mistyped or its time over", id)}
	if !linkID.MatchString(id) {
		return "", unknown
	}
	text, err = s.Links.Get(ctx, linkKey(id))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", unknown
	case err != nil:
		return "", fmt.Errorf("reading the recipe %s: %w", id, err)
	case !strings.HasPrefix(fullID(text), id):
		return "", fmt.Errorf("the text under %s is not the recipe that was stored there; make a new link", id)
	}
	return text, nil
}

func (s *Server) sendRecipe(w http.ResponseWriter, r *http.Request) error {
	text, err := s.linked(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, json.RawMessage(text))
	return nil
}

// openRecipe shows a link's recipe on the page, which reads it from its address
// (demo/src/link.ts). It is compressed there: a header has its limits too.
func (s *Server) openRecipe(w http.ResponseWriter, r *http.Request) error {
	text, err := s.linked(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	z, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(z, text); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	w.Header().Set("Location", "/#steer?r="+base64.RawURLEncoding.EncodeToString(packed.Bytes()))
	w.WriteHeader(http.StatusFound)
	return nil
}

// origin is where a request was sent. Headers that a proxy might have added are
// not believed: anybody can.
func origin(r *http.Request) string {
	switch {
	case r.URL.IsAbs():
		return r.URL.Scheme + "://" + r.URL.Host
	case r.TLS != nil:
		return "https://" + r.Host
	}
	return "http://" + r.Host
}
