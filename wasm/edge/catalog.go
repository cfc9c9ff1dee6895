package edge

import (
	"fmt"
	"net/http"
	"runtime"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/model/builtin"
	"github.com/sdo-go/sdo/recipes"
)

func catalogRoutes(s *Server) {
	s.handle("GET /v1/health", s.health)
	s.handle("GET /v1/models", s.models)
}

// health says what this deployment can do and how busy it is.
type health struct {
	Service  string `json:"service"`
	Version  string `json:"version"`
	Platform string `json:"platform"`
	Budget   Budget `json:"budget"`
	Slices   bool   `json:"slices"`  // runs may take several requests
	LoRAs    bool   `json:"loras"`   // there is a registry
	Uploads  bool   `json:"uploads"` // it takes uploads, with the secret
	Links    bool   `json:"links"`   // recipes get short links
	Live     int    `json:"live"`    // runs now
	Memory   memory `json:"memory"`
}

type memory struct {
	Held   int64  `json:"held_bytes"`   // booked by runs
	Heap   uint64 `json:"heap_bytes"`   // of Go, in use
	System uint64 `json:"system_bytes"` // of Go, which a wasm instance does not give back
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) error {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	live, held := s.admission.held()
	writeJSON(w, http.StatusOK, health{
		Service: "sdo-edge", Version: s.Version, Platform: runtime.GOOS + "/" + runtime.GOARCH, Budget: s.Budget,
		Slices: len(s.Key) > 0, LoRAs: s.LoRAs != nil, Uploads: s.LoRAs != nil && s.Secret != "", Links: s.Links != nil,
		Live: live, Memory: memory{held, stats.HeapAlloc, stats.Sys},
	})
	return nil
}

// catalog is what runs may name.
type catalog struct {
	Models  []modelInfo  `json:"models"`
	Recipes []recipeInfo `json:"recipes"`
}

type modelInfo struct {
	Name       string           `json:"name"`
	Parameters int              `json:"parameters"`
	Bytes      int64            `json:"bytes"`
	Channels   int              `json:"channels"`
	Width      int              `json:"width"`
	Height     int              `json:"height"`
	Attributes model.Attributes `json:"attributes"` // what it can be told as a condition
	Guide      model.Attributes `json:"guide"`      // what an objective can ask for
	CallMS     float64          `json:"call_ms"`    // of a network call of one picture here, by the budget's rate
}

type recipeInfo struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

// models answers with the catalog, which is made once.
func (s *Server) models(w http.ResponseWriter, _ *http.Request) error {
	c, err := s.catalog()
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, c)
	return nil
}

func (s *Server) makeCatalog() (*catalog, error) {
	c := &catalog{}
	for _, name := range builtin.Denoisers {
		info, err := s.describe(name)
		if err != nil {
			return nil, err
		}
		c.Models = append(c.Models, info)
	}
	for _, name := range recipes.List() {
		r, err := recipes.Find(name, nil)
		if err != nil {
			return nil, err
		}
		c.Recipes = append(c.Recipes, recipeInfo{name, r.Description})
	}
	return c, nil
}

// describe reads a built-in model, as a run of it would.
func (s *Server) describe(name string) (info modelInfo, err error) {
	r := recipes.Defaults()
	r.Name, r.Model, r.NumImages, r.Updates = name, name, 1, 0
	a := &asked{saved: saved{recipe: r.Sampling()}}
	p, err := s.plan(a)
	if err != nil {
		return info, fmt.Errorf("model %s: %w", name, err)
	}
	params, err := p.Model.UNet.Config.Params()
	if err != nil {
		return info, err
	}
	info = modelInfo{
		Name: name, Bytes: builtin.Bytes(name), Channels: p.Shape[1], Height: p.Shape[2], Width: p.Shape[3],
		Attributes: model.Attributes{}, Guide: model.Attributes{},
	}
	for _, param := range params {
		info.Parameters += param.Shape.Size()
	}
	if e := p.Model.UNet.Embedder; e != nil {
		info.Attributes = e.Attributes
	}
	if g := p.Model.Guide; g != nil {
		info.Guide = g.Config.Attributes
	}
	effort := p.Efforts().Rollout
	info.CallMS = 1e3 * s.Budget.seconds(engine.Effort{MultiplyAdds: effort.MultiplyAdds}) / float64(effort.NetworkCalls)
	return info, nil
}
