package edgetest

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/recipes"
)

// Links tests the short links of a server.
func Links(t *testing.T, url string) {
	c := NewClient(t, url)
	type link struct {
		ID  string `json:"id"`
		URL string `json:"url"`
	}
	form := regexp.MustCompile(`^[0-9a-hjkmnp-tv-z]{10,}$`)
	post := func(t *testing.T, text []byte, more ...string) link {
		t.Helper()
		var l link
		a := c.Do(t, "POST", "/v1/recipes", text, more...)
		a.Decode(t, http.StatusCreated, &l)
		if !form.MatchString(l.ID) || l.URL != c.url+"/r/"+l.ID {
			t.Fatalf("%+v, want an id of 10 letters and digits and %s/r/ID", l, c.url)
		}
		if got := a.Header.Get("Location"); got != "/v1/recipes/"+l.ID {
			t.Errorf("Location %q, want /v1/recipes/%s", got, l.ID)
		}
		return l
	}
	// opens wants both addresses of a link to give a recipe.
	opens := func(t *testing.T, l link, want *recipes.Recipe) {
		t.Helper()
		a := c.Do(t, "GET", "/v1/recipes/"+l.ID, nil)
		var any map[string]any
		a.Decode(t, http.StatusOK, &any)
		same(t, a.Body, want)
		a = c.Do(t, "GET", "/r/"+l.ID, nil)
		packed, found := strings.CutPrefix(a.Header.Get("Location"), "/#steer?r=")
		if a.Status != http.StatusFound || !found {
			t.Fatalf("status %d to %.80q, want 302 to /#steer?r=", a.Status, a.Header.Get("Location"))
		}
		deflated, err := base64.RawURLEncoding.DecodeString(packed)
		if err != nil {
			t.Fatalf("the address is not base64url: %v", err)
		}
		text, err := io.ReadAll(flate.NewReader(bytes.NewReader(deflated)))
		if err != nil {
			t.Fatalf("the address does not inflate: %v", err)
		}
		same(t, text, want)
	}

	t.Run("library", func(t *testing.T) {
		seen := map[string]string{}
		for _, name := range append(recipes.List(), recipes.Tunings()...) {
			text, err := recipes.Text(name)
			if err != nil {
				t.Fatal(err)
			}
			want := parse(t, text)
			l := post(t, text, "Content-Type", "application/yaml")
			opens(t, l, want)
			if other, twice := seen[l.ID]; twice {
				t.Errorf("%s and %s share the link %s", name, other, l.ID)
			}
			seen[l.ID] = name
		}
	})
	const short = "version: 1\nname: short\nupdates: 0\n"
	t.Run("the same recipe has the same link", func(t *testing.T) {
		first := post(t, []byte(short))
		for name, text := range map[string][]byte{
			"again":      []byte(short),
			"defaults":   parse(t, []byte(short)).Canonical(),
			"JSON":       []byte(`{"updates": 0, "name": "short", "version": 1}`),
			"a comment":  []byte("# what a recipe\n" + short),
			"it is kept": c.Do(t, "GET", "/v1/recipes/"+first.ID, nil).Body,
		} {
			if l := post(t, text); l != first {
				t.Errorf("%s: %+v, want %+v", name, l, first)
			}
		}
		if l := post(t, []byte(short+"seed: 7\n")); l.ID == first.ID {
			t.Errorf("another seed has the same link %s", l.ID)
		}
		opens(t, first, parse(t, []byte(short)))
	})
	t.Run("all kinds", func(t *testing.T) {
		for name, text := range map[string]string{
			"adapter":   short + "lora: {path: loras/hand-drawn.safetensors, scale: 0.5}\n",
			"letters":   "version: 1\nname: '<b>&amp; \u2028 \"äöü\" 头像 \U0001f600'\nupdates: 0\n",
			"pictures":  short + "model: models/mine\nstart: {image: photos/me.png, strength: 0.5}\n",
			"a library": string(parse(t, library(t, "match-sketch")).Canonical()),
			"long":      short + "description: " + strings.Repeat("long ", 1000) + "\n",
		} {
			t.Run(name, func(t *testing.T) { opens(t, post(t, []byte(text)), parse(t, []byte(text))) })
		}
	})
	t.Run("forwarding headers are not believed", func(t *testing.T) {
		post(t, []byte(short), "X-Forwarded-Host", "elsewhere.example", "X-Forwarded-Proto", "gopher", "Forwarded", "host=elsewhere.example;proto=gopher")
	})
	t.Run("HEAD", func(t *testing.T) {
		l := post(t, []byte(short))
		if a := c.Do(t, "HEAD", "/v1/recipes/"+l.ID, nil); a.Status != http.StatusOK || len(a.Body) != 0 {
			t.Errorf("status %d with %d bytes, want 200 with none", a.Status, len(a.Body))
		}
		if a := c.Do(t, "HEAD", "/r/"+l.ID, nil); a.Status != http.StatusFound || a.Header.Get("Location") == "" {
			t.Errorf("status %d to %q, want 302", a.Status, a.Header.Get("Location"))
		}
	})
	t.Run("refused", func(t *testing.T) {
		const limit = 64 << 10
		padding := strings.Repeat("#", limit-len(short)-1)
		fits := short + padding + "\n"
		post(t, []byte(fits))
		text := func(s string) []byte { return []byte(s) }
		c.Refuses(t, []Refusal{
			{"empty", "POST", "/v1/recipes", nil, nil, 400, "bad_recipe", "an empty file"},
			{"no recipe", "POST", "/v1/recipes", text("hello"), nil, 400, "bad_recipe", "a mapping that begins with version: 1"},
			{"no YAML", "POST", "/v1/recipes", text("a: ["), nil, 400, "bad_recipe", "text that does not parse"},
			{"bytes", "POST", "/v1/recipes", []byte{0xff, 0, 0x80, '{'}, nil, 400, "bad_recipe", "recipe"},
			{"deep", "POST", "/v1/recipes", text(strings.Repeat("[", 10_000)), nil, 400, "bad_recipe", "deeper nesting"},
			{"two", "POST", "/v1/recipes", text(short + "---\n" + short), nil, 400, "bad_recipe", "a second one"},
			{"unknown key", "POST", "/v1/recipes", text(short + "sede: 7\n"), nil, 400, "bad_recipe", "sede"},
			{"wrong value", "POST", "/v1/recipes", text(`{"version": 1, "name": "x", "updates": -1}`), nil, 400, "bad_recipe", "updates"},
			{"too long", "POST", "/v1/recipes", text(fits + "\n"), []string{"Expect", "100-continue"}, 413, "body_too_large", "65536 bytes"},
			{"too long when complete", "POST", "/v1/recipes", text(short + "description: '" + strings.Repeat(`"`, limit*2/3) + "'\n"), nil, 413, "body_too_large", "a link has room for 65536"},
			{"another method", "GET", "/v1/recipes", nil, nil, 405, "method_not_allowed", "POST"},
		})
		var body struct {
			Error struct {
				Problems []struct {
					Message string
					Line    int
					Path    string
				}
			}
		}
		a := c.Do(t, "POST", "/v1/recipes", text(short+"seed: -1\nnum_images: 0\n"))
		if err := json.Unmarshal(a.Body, &body); err != nil || len(body.Error.Problems) != 2 || body.Error.Problems[1].Line != 5 || body.Error.Problems[1].Path != "num_images" {
			t.Errorf("%s (%v), want two problems, the second num_images on line 5", a.Body, err)
		}
		for _, path := range []string{"/v1/recipes/", "/r/"} {
			for name, id := range map[string]string{
				"unknown": "0123456789", "unknown and longer": "0123456789abcdef", "short": "012345678", "long": strings.Repeat("0", 33), "capitals": "ABCDEFGHJK",
				"letters left out": "01234567il", "a path": "..%2F..%2Fr%2Fx", "spaces": "0123456%20%20%20", "a line": "0123456789%0A", "zero": "0123456789%00",
			} {
				t.Run(path+" "+name, func(t *testing.T) {
					c.Do(t, "GET", path+id, nil).Refused(t, 404, "not_found", "there is no recipe under")
				})
			}
		}
	})
}

func parse(t *testing.T, text []byte) *recipes.Recipe {
	t.Helper()
	r, err := recipes.Parse(text, "recipe")
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return r
}

func library(t *testing.T, name string) []byte {
	t.Helper()
	text, err := recipes.Text(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// same wants a JSON text to be a complete recipe that reads as another one.
func same(t *testing.T, text []byte, want *recipes.Recipe) {
	t.Helper()
	got := parse(t, text)
	if string(got.Canonical()) != string(want.Canonical()) {
		t.Errorf("kept\n%s\nwant\n%s", got.Canonical(), want.Canonical())
	}
	var given, complete any
	all, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if json.Unmarshal(all, &complete) != nil || json.Unmarshal(text, &given) != nil {
		t.Fatalf("not JSON: %s", text)
	}
	if got.Objective == nil {
		complete.(map[string]any)["objective"] = []any{}
	}
	if !reflect.DeepEqual(given, complete) {
		t.Errorf("%s is not complete, want %s", text, all)
	}
}
