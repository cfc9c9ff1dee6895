package sampler

import (
	"fmt"
	"slices"
)

// Solver names a rule that fills a Table.
type Solver string

const (
	SolverDDIM    Solver = "ddim"
	SolverDDPM    Solver = "ddpm"
	SolverEuler   Solver = "euler"
	SolverHeun    Solver = "heun"
	SolverDPMpp2M Solver = "dpmpp-2m"
)

// Solvers lists every solver. A new one is a file that fills a table, its name
// here and its line in Table.
var Solvers = []Solver{SolverDDIM, SolverDDPM, SolverEuler, SolverHeun, SolverDPMpp2M}

// TakesEta reports whether the solver has a share of fresh noise to choose.
func (s Solver) TakesEta() bool { return s == SolverDDIM }

// TakesKarras reports whether the solver can walk Karras' noise levels.
func (s Solver) TakesKarras() bool {
	return s == SolverEuler || s == SolverHeun || s == SolverDPMpp2M
}

// Table fills the solver's table for n steps. eta is DDIM's share of fresh
// noise, 0 for every other solver.
func (s Solver) Table(config Config, n int, eta float64) (*Table, error) {
	switch {
	case !slices.Contains(Solvers, s):
		return nil, fmt.Errorf("sampler: solver is %q, want one of %v", s, Solvers)
	case eta != 0 && !s.TakesEta():
		return nil, fmt.Errorf("sampler: %s takes no eta, got %v; leave it at 0 or use ddim", s, eta)
	case config.UseKarrasSigmas && !s.TakesKarras():
		return nil, fmt.Errorf("sampler: %s takes no Karras sigmas; turn use_karras_sigmas off or use euler, heun or dpmpp-2m", s)
	}
	switch s {
	case SolverDDPM:
		return DDPM(config, n)
	case SolverEuler:
		return Euler(config, n)
	case SolverHeun:
		return Heun(config, n)
	case SolverDPMpp2M:
		return DPMpp2M(config, n)
	default:
		return DDIM(config, n, eta)
	}
}
