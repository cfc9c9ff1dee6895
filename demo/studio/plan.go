package studio

import (
	"fmt"
	"slices"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/gpu"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// memory is engine.Memory with its sum.
type memory struct {
	engine.Memory
	Total int64 `json:"total_bytes"`
}

func newMemory(m engine.Memory) memory { return memory{m, m.Total()} }

// planned is what a run will cost.
type planned struct {
	Memory        memory  `json:"memory"`
	Full          *memory `json:"full,omitempty"`
	Steps         int     `json:"steps"`
	Calls         int     `json:"calls"`
	BackwardCalls int     `json:"backward_calls"`
	First         int64   `json:"first_multiply_adds"`  // until the first score
	Update        int64   `json:"update_multiply_adds"` // of each update, the rollout after it included
	Refusal       string  `json:"refusal"`
}

func plan(r *request, p struct {
	Recipe recipeParam `json:"recipe"`
}) (any, error) {
	s := r.server
	m, err := s.load(p.Recipe.Recipe)
	if err != nil {
		return nil, err
	}
	exec := s.executor()
	if _, tunes := p.Recipe.Variables[string(sdo.Parameters)]; tunes {
		t, err := engine.NewTuningPlan(p.Recipe.Recipe, m, nil, m.Options())
		if err != nil {
			return nil, badInput(err)
		}
		return s.cost(t.Plan, newMemory(t.Memory(exec))), nil
	}
	made, err := engine.NewPlan(p.Recipe.Recipe, m, nil, m.Options())
	if err != nil {
		return nil, badInput(err)
	}
	c := s.cost(made, newMemory(made.Memory(exec)))
	if full, err := engine.NewPlan(byMethod(p.Recipe.Recipe, sdo.MethodFull), m, nil, m.Options()); err == nil {
		total := newMemory(full.Memory(exec))
		c.Full = &total
	}
	return c, nil
}

// byMethod is a recipe with nothing but another method.
func byMethod(r *recipes.Recipe, name sdo.Method) *recipes.Recipe {
	other := r.Clone()
	other.Method = recipes.Method{Name: string(name)}
	return other
}

func (s *Server) cost(p *engine.Plan, m memory) planned {
	c := planned{Memory: m, Steps: p.Recipe.Sampler.NumInferenceSteps}
	c.Calls, c.BackwardCalls = p.Cost()
	e := p.Efforts()
	c.First, c.Update = e.Inversion.Plus(e.Rollout).MultiplyAdds, e.Update.Plus(e.Rollout).MultiplyAdds
	if err := s.room(p); err != nil {
		c.Refusal = err.Error()
	}
	return c
}

// addressable is what a wasm module may use in all, less what the program itself
// takes: its memory is addressed by 32 bits.
const addressable = 3 << 30

// most is more than any browser gives a page of a GPU, which does not tell how
// much it has.
const most = 32 << 30

// room is an error where a plan cannot fit the open device whatever else is on
// it.
func (s *Server) room(p *engine.Plan) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.device == nil {
		return nil
	}
	total := p.Memory(s.device.Executor).Total()
	if s.device.gpu == nil {
		if total > addressable {
			return fmt.Errorf("needs %s, and the CPU executor of a page has at most %s; use fewer pictures or steps, or the method sdo", engine.Bytes(total), engine.Bytes(addressable))
		}
		return nil
	}
	limit := s.device.gpu.Limits().MaxBuffer
	if largest := slices.Max(p.Buffers(s.device.Executor)); largest > limit {
		return fmt.Errorf("%w: one buffer would need %s and one of %s holds at most %s; use fewer pictures, or the method sdo",
			gpu.ErrOutOfMemory, engine.Bytes(largest), s.device.gpu.Info().Name, engine.Bytes(limit))
	}
	if total > most {
		return fmt.Errorf("%w: needs %s, more than any browser gives a page; use fewer pictures or steps, or the method sdo", gpu.ErrOutOfMemory, engine.Bytes(total))
	}
	return nil
}
