package studio

import (
	"errors"
	"fmt"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/sdo"
)

// auditRow is a comparison of a gradient with full back-propagation's.
type auditRow struct {
	Variable      string  `json:"variable"`
	Method        string  `json:"method"`
	Active        string  `json:"active"`
	Freeze        string  `json:"freeze"`
	Step          int     `json:"step"`
	Cosine        float64 `json:"cosine"`
	CosineMin     float64 `json:"cosine_min"`
	RelativeNorm  float64 `json:"relative_norm"`
	NegativeShare float64 `json:"negative_share"`
	Units         int     `json:"units"`
	LeftOut       int     `json:"left_out"`
}

type auditResult struct {
	Rows      []auditRow `json:"rows"`
	Advice    []string   `json:"advice"`
	Steps     int        `json:"steps"`
	Pictures  int        `json:"pictures"`
	Seconds   float64    `json:"seconds"`
	Cancelled bool       `json:"cancelled"`
}

// auditRecipe measures batches of the recipe's pictures, in the variables it
// changes. A cancelled one keeps what it has measured.
func auditRecipe(r *request, p struct {
	Recipe  recipeParam `json:"recipe"`
	Batches int         `json:"batches"`
}) (any, error) {
	s, recipe := r.server, p.Recipe.Recipe
	if p.Batches < 1 {
		return nil, inputError{fmt.Errorf("batches is %d, want 1 or more", p.Batches)}
	}
	m, err := s.load(recipe)
	if err != nil {
		return nil, err
	}
	var variables []string
	for _, v := range []sdo.Variable{sdo.Latents, sdo.Condition, sdo.Parameters} {
		if _, ok := recipe.Variables[string(v)]; ok {
			variables = append(variables, string(v))
		}
	}
	steps := recipe.Sampler.NumInferenceSteps
	settings := engine.DefaultAudit().Settings(variables, steps)
	if len(settings) == 0 {
		return nil, inputError{errors.New("there is nothing to audit; vary latents, condition or parameters")}
	}
	plan, err := engine.NewAuditPlan(recipe, m, nil, m.Options(), settings)
	if err != nil {
		return nil, badInput(err)
	}
	j, session, over, err := s.session(r, plan.Plan)
	if err != nil {
		return nil, err
	}
	defer over()
	j.start(0)
	var all []sdo.Comparison
	for batch := range p.Batches {
		measured, err := session.Audit(r, batch*recipe.NumImages, plan.Settings, func(e sdo.Event) {
			e.Update, e.Updates = batch, p.Batches
			r.tell(steerEvent{Event: e, Kept: e.Kept, Seconds: j.seconds()})
			j.gate(r)
		})
		if all == nil {
			all = measured
		} else {
			for i, c := range measured {
				all[i].Add(c)
			}
		}
		if err != nil && r.Err() == nil {
			return nil, err
		}
		if r.Err() != nil {
			break
		}
	}
	result := &auditResult{Rows: []auditRow{}, Advice: []string{}, Steps: steps, Pictures: recipe.NumImages * p.Batches, Seconds: j.seconds(), Cancelled: r.Err() != nil}
	for _, c := range all {
		if sum, ok := c.Summary(); ok {
			result.Rows = append(result.Rows, auditRow{
				Variable: string(c.Variable), Method: string(c.Method), Active: string(c.Active), Freeze: string(c.Freeze), Step: c.Step,
				Cosine: sum.CosineMean, CosineMin: sum.CosineMin, RelativeNorm: sum.RelativeNormMean, NegativeShare: sum.NegativeShare,
				Units: len(c.Units), LeftOut: c.LeftOut,
			})
		}
	}
	for _, v := range variables {
		if advice, ok := sdo.Advise(sdo.Variable(v), all); ok {
			result.Advice = append(result.Advice, advice.String())
		}
	}
	switch {
	case result.Cancelled && len(result.Rows) == 0:
		return nil, r.Err()
	case len(result.Rows) == 0:
		return nil, inputError{fmt.Errorf("all %d pictures satisfy the objective from the start, so there is no gradient to compare; try another seed", result.Pictures)}
	}
	return result, nil
}
