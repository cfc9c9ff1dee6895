package engine

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// storedActivations is how many bytes of activations an audit keeps alive for
// its reference. What needs more makes its calls again one at a time, which
// gives the same numbers at a third more cost.
const storedActivations = 1 << 30

// NewAuditPlan plans the comparison of a recipe's gradients with full
// back-propagation. The plan's method is the reference: full where its memory
// plan stays below a GiB of activations, or else full-checkpoint.
func NewAuditPlan(r *recipes.Recipe, m *Model, files fs.FS, storage graph.Storage, settings []sdo.Setting) (*Plan, error) {
	if len(r.Objective) == 0 {
		return nil, fmt.Errorf("recipe %q: has no objective, so there is no gradient to audit; add a term", r.Name)
	}
	r = r.Clone()
	r.Method.Name, r.Updates = string(sdo.MethodFull), 1
	r.Variables = map[string]recipes.Variable{string(sdo.Latents): r.Variables[string(sdo.Latents)]}
	p, err := NewPlan(r, m, files, storage)
	if err != nil {
		return nil, err
	}
	if err := sdo.Auditable(p.table); err != nil {
		return nil, err
	}
	for _, s := range settings {
		if _, err := s.Transport(p.table); err != nil {
			return nil, err
		}
	}
	if p.Memory(nil).Activations > storedActivations {
		r.Method.Name = string(sdo.MethodFullCheckpoint)
	}
	return p, nil
}

// Audit measures one batch: the pictures first, first+1, … that the recipe's
// seed stands for. See sdo.Audit for what it returns, on an error too.
func (s *Session) Audit(ctx context.Context, first int, settings []sdo.Setting, observe sdo.Observer) ([]sdo.Comparison, error) {
	if err := s.Exec.Write(ctx, s.start, noiseFrom(s.Recipe.Seed, first, s.Shape)); err != nil {
		return nil, err
	}
	return sdo.Audit(ctx, s.Problem(), sdo.Method(s.Recipe.Method.Name), settings, observe)
}
