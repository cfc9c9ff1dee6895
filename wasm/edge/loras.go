package edge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/model/builtin"
	"github.com/sdo-go/sdo/recipes"
)

// An adapter's key in the bucket is its path in a recipe, so that a recipe runs
// unchanged beside a folder of downloaded adapters.
const (
	loraFolder = "loras/"
	loraSuffix = ".safetensors"
)

// MaxLoRA is the size of the largest upload, in bytes. An adapter of every layer of a model
// here has less than half of it at rank 48, which is as wide as their layers are.
const MaxLoRA = 8 << 20

// MaxLoRAHeader is the longest header of an upload. Names and shapes of every
// layer of a model here take a tenth of it.
const MaxLoRAHeader = 256 << 10

var loraName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

func loraKey(name string) string { return loraFolder + name + loraSuffix }

func loraRoutes(s *Server) {
	s.handle("GET /v1/loras", s.listLoRAs)
	s.handle("GET /v1/loras/{name}", s.sendLoRA)
	s.handle("PUT /v1/loras/{name}", s.putLoRA)
	s.handle("DELETE /v1/loras/{name}", s.deleteLoRA)
}

// lora is an adapter of the registry.
type lora struct {
	Name       string    `json:"name"`
	Bytes      int64     `json:"bytes"`
	SHA256     string    `json:"sha256"`
	Model      string    `json:"model"`
	Rank       int       `json:"rank"`
	Alpha      float64   `json:"alpha"`
	Parameters int       `json:"parameters"`
	Modules    int       `json:"modules"`
	Uploaded   time.Time `json:"uploaded"`
}

// about is what the bucket keeps beside the file, so that a listing reads none.
func (l lora) about() map[string]string {
	return map[string]string{
		"model": l.Model, "rank": strconv.Itoa(l.Rank), "alpha": strconv.FormatFloat(l.Alpha, 'g', -1, 64),
		"parameters": strconv.Itoa(l.Parameters), "modules": strconv.Itoa(l.Modules), "sha256": l.SHA256,
	}
}

// parseLoRA reads what about wrote. A file that came into the bucket by another
// way was never looked into, so it is no adapter of the registry.
func parseLoRA(e Entry) (lora, error) {
	name, found := strings.CutPrefix(e.Key, loraFolder)
	name, suffix := strings.CutSuffix(name, loraSuffix)
	if !found || !suffix || !loraName.MatchString(name) {
		return lora{}, fmt.Errorf("the bucket holds %q, which is no name of an adapter; remove it", e.Key)
	}
	l := lora{Name: name, Bytes: e.Size, SHA256: e.About["sha256"], Model: e.About["model"], Uploaded: e.Uploaded.UTC().Truncate(time.Second)}
	var wrong [4]error
	l.Rank, wrong[0] = strconv.Atoi(e.About["rank"])
	l.Alpha, wrong[1] = strconv.ParseFloat(e.About["alpha"], 64)
	l.Parameters, wrong[2] = strconv.Atoi(e.About["parameters"])
	l.Modules, wrong[3] = strconv.Atoi(e.About["modules"])
	err := errors.Join(wrong[:]...)
	if sum, bad := hex.DecodeString(l.SHA256); bad != nil || len(sum) != sha256.Size || err != nil || l.Model == "" ||
		(model.LoRAConfig{Rank: l.Rank, Alpha: l.Alpha}).Validate() != nil {
		return lora{}, fmt.Errorf("the bucket's %s lacks the description that an upload leaves; upload it again with PUT /v1/loras/%s", e.Key, name)
	}
	return l, nil
}

func noLoRAs() *Error {
	return &Error{http.StatusNotFound, "no_registry", "this deployment keeps no adapters, because it has no bucket for them; docs/edge.md tells how to add one"}
}

// wanted is the name in a request's path, where there is a registry.
func (s *Server) wanted(r *http.Request) (string, error) {
	name := r.PathValue("name")
	switch {
	case s.LoRAs == nil:
		return "", noLoRAs()
	case !loraName.MatchString(name):
		return "", badRequest("%q is no name of an adapter; take 1 to 63 of a-z, 0-9 and -, and begin with a letter or a digit", name)
	}
	return name, nil
}

func unknownLoRA(name string) *Error {
	return &Error{http.StatusNotFound, "not_found", fmt.Sprintf("there is no adapter %s here; GET /v1/loras lists those there are", name)}
}

func (s *Server) listLoRAs(w http.ResponseWriter, r *http.Request) error {
	if s.LoRAs == nil {
		return noLoRAs()
	}
	entries, err := s.LoRAs.List(r.Context(), loraFolder)
	if err != nil {
		return fmt.Errorf("listing the adapters: %w", err)
	}
	listing := struct {
		LoRAs []lora `json:"loras"`
	}{[]lora{}}
	for _, e := range entries {
		l, err := parseLoRA(e)
		if err != nil {
			s.Log(err.Error())
			continue
		}
		listing.LoRAs = append(listing.LoRAs, l)
	}
	writeJSON(w, http.StatusOK, listing)
	return nil
}

// stored is the bucket's entry of an adapter. It reads no file.
func (s *Server) stored(ctx context.Context, name string) (e Entry, found bool, err error) {
	entries, err := s.LoRAs.List(ctx, loraKey(name))
	if err != nil {
		return e, false, fmt.Errorf("looking for the adapter %s: %w", name, err)
	}
	i := slices.IndexFunc(entries, func(e Entry) bool { return e.Key == loraKey(name) })
	if i < 0 {
		return e, false, nil
	}
	return entries[i], true, nil
}

// readLoRA is an adapter's file and its SHA-256, which is the one the listing tells.
func (s *Server) readLoRA(ctx context.Context, name string) (data []byte, sum string, err error) {
	data, about, err := s.LoRAs.Get(ctx, loraKey(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", unknownLoRA(name)
	}
	if err != nil {
		return nil, "", fmt.Errorf("reading the adapter %s: %w", name, err)
	}
	l, err := parseLoRA(Entry{Key: loraKey(name), Size: int64(len(data)), About: about})
	if err != nil {
		s.Log(err.Error())
		return nil, "", unknownLoRA(name)
	}
	if sum = sha256Of(data); sum != l.SHA256 {
		return nil, "", fmt.Errorf("the bucket's %s is not the file that was uploaded; upload it again", loraKey(name))
	}
	return data, sum, nil
}

func sha256Of(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (s *Server) sendLoRA(w http.ResponseWriter, r *http.Request) error {
	name, err := s.wanted(r)
	if err != nil {
		return err
	}
	// The platform's copy, the program's and the answer.
	over, err := s.book(r.Context(), min(3*MaxLoRA, s.Budget.Bytes))
	if err != nil {
		return err
	}
	defer over()
	data, sum, err := s.readLoRA(r.Context(), name)
	if err != nil {
		return err
	}
	header := w.Header()
	header.Set("Cache-Control", "public, no-cache")
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name+loraSuffix))
	header.Set("ETag", `"`+sum+`"`)
	content := &content{ResponseWriter: w}
	http.ServeContent(content, r, "", time.Time{}, bytes.NewReader(data))
	if content.refused == 0 {
		return nil
	}
	header.Del("Content-Disposition")
	header.Set("Cache-Control", "no-store")
	if content.refused == http.StatusPreconditionFailed {
		return &Error{content.refused, "precondition_failed", fmt.Sprintf("the adapter %s is not the one that If-Match asks for; its ETag is %q", name, sum)}
	}
	return &Error{content.refused, "bad_range", fmt.Sprintf("the adapter %s has %d bytes, and Range %q is no part of them", name, len(data), r.Header.Get("Range"))}
}

// content is an answer of http.ServeContent, whose refusals in plain text are
// kept back.
type content struct {
	http.ResponseWriter
	refused int // status
}

func (c *content) WriteHeader(status int) {
	if status >= http.StatusBadRequest {
		c.refused = status
		return
	}
	c.ResponseWriter.WriteHeader(status)
}

func (c *content) Write(data []byte) (int, error) {
	if c.refused != 0 {
		return len(data), nil
	}
	return c.ResponseWriter.Write(data)
}

func (s *Server) putLoRA(w http.ResponseWriter, r *http.Request) error {
	name, err := s.wanted(r)
	if err != nil {
		return err
	}
	if err := s.authorized(r); err != nil {
		return err
	}
	of := r.URL.Query().Get("model")
	if of != "" && !slices.Contains(builtin.Denoisers, of) {
		return badRequest("model=%s is none of %s, which adapters here belong to", of, strings.Join(builtin.Denoisers, ", "))
	}
	_, replaced, err := s.stored(r.Context(), name)
	if err != nil {
		return err
	}
	if replaced && r.Header.Get("If-None-Match") == "*" {
		return &Error{http.StatusPreconditionFailed, "exists", fmt.Sprintf("there is an adapter %s already, and If-None-Match: * asks for a new one; choose another name or leave the header out", name)}
	}
	data, over, err := s.readBody(w, r, MaxLoRA)
	if err != nil {
		return err
	}
	defer over()
	l, err := identify(name, data, of)
	if err != nil {
		return err
	}
	if err := s.LoRAs.Put(r.Context(), loraKey(name), data, l.about()); err != nil {
		return fmt.Errorf("storing the adapter %s: %w", name, err)
	}
	// What is answered is what a listing tells from now on.
	entry, _, err := s.stored(r.Context(), name)
	if err != nil {
		return err
	}
	if l, err = parseLoRA(entry); err != nil {
		return err
	}
	status := http.StatusCreated
	if replaced {
		status = http.StatusOK
	}
	writeJSON(w, status, l)
	return nil
}

func (s *Server) deleteLoRA(w http.ResponseWriter, r *http.Request) error {
	name, err := s.wanted(r)
	if err != nil {
		return err
	}
	if err := s.authorized(r); err != nil {
		return err
	}
	_, found, err := s.stored(r.Context(), name)
	if err != nil {
		return err
	}
	if !found {
		return unknownLoRA(name)
	}
	if err := s.LoRAs.Delete(r.Context(), loraKey(name)); err != nil {
		return fmt.Errorf("deleting the adapter %s: %w", name, err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// identify reads an upload to its last number and finds out which model it
// adapts: of, or where that is empty the only one that it fits.
func identify(name string, data []byte, of string) (lora, error) {
	bad := func(format string, args ...any) error {
		return &Error{http.StatusUnprocessableEntity, "bad_lora", fmt.Sprintf(format, args...)}
	}
	upload := file{name + loraSuffix, bytes.NewReader(data)}
	// Reading a header takes a hundred times as long as numbers of its length.
	if len(data) >= 8 {
		if n := binary.LittleEndian.Uint64(data); n > MaxLoRAHeader && n <= uint64(len(data)-8) {
			return lora{}, bad("%s: its header takes %d bytes, want at most %d; leave out metadata that no reader needs", upload.name, n, MaxLoRAHeader)
		}
	}
	if _, err := model.ParseSafetensors(upload.name, data); err != nil {
		return lora{}, bad("%v", err) // whatever the model
	}
	against := builtin.Denoisers
	if of != "" {
		against = []string{of}
	}
	var fitting, reasons []string
	var l lora
	for _, candidate := range against {
		config, err := unetConfig(candidate)
		if err != nil {
			return lora{}, err
		}
		adapter, err := model.LoadLoRA(upload, upload.name, config)
		if err != nil {
			reasons = append(reasons, strings.TrimPrefix(err.Error(), upload.name+": "))
			continue
		}
		fitting = append(fitting, candidate)
		l = lora{SHA256: sha256Of(data), Model: candidate, Rank: adapter.Rank, Alpha: adapter.Alpha, Modules: len(adapter.Targets)}
		for _, t := range adapter.Weights {
			l.Parameters += len(t.Data)
		}
	}
	switch {
	case len(fitting) == 1:
		return l, nil
	case len(fitting) > 1:
		return lora{}, bad("%s: fits %s alike; say which it was trained for: PUT /v1/loras/%s?model=%s", upload.name, strings.Join(fitting, " and "), name, fitting[0])
	case len(slices.Compact(slices.Clone(reasons))) == 1:
		return lora{}, bad("%s: %s (held against %s)", upload.name, reasons[0], strings.Join(against, " and "))
	}
	for i, candidate := range against {
		reasons[i] = "held against " + candidate + ", " + reasons[i]
	}
	return lora{}, bad("%s: fits no model here: %s", upload.name, strings.Join(reasons, "; "))
}

// unetConfig is the description of a built-in model. It reads no weights.
func unetConfig(name string) (model.UNet2DConfig, error) {
	files, err := builtin.Open(name)
	if err != nil {
		return model.UNet2DConfig{}, err
	}
	text, err := fs.ReadFile(files, "config.json")
	if err != nil {
		return model.UNet2DConfig{}, err
	}
	return model.ParseUNet2DConfig(text)
}

// adapter reads the file that a recipe's lora.path names, and its SHA-256.
func (s *Server) adapter(ctx context.Context, name string) (data []byte, sum string, err error) {
	refuse := func(expected, hint string) error {
		return recipes.Problem{Where: "recipe", Field: "lora.path", Expected: expected, Got: strconv.Quote(name), Hint: hint}
	}
	const form = loraFolder + "NAME" + loraSuffix + " with a NAME of this registry"
	bare, folder := strings.CutPrefix(path.Clean(name), loraFolder)
	bare, file := strings.CutSuffix(bare, loraSuffix)
	switch {
	case s.LoRAs == nil:
		return nil, "", refuse("no adapter", noLoRAs().Message)
	case !folder || !file || !loraName.MatchString(bare):
		return nil, "", refuse(form, "GET /v1/loras lists those there are")
	}
	data, sum, err = s.readLoRA(ctx, bare)
	var unknown *Error
	if errors.As(err, &unknown) {
		return nil, "", refuse(form, unknown.Message)
	}
	return data, sum, err
}
