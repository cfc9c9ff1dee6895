package sampler

import "testing"

// TestUniPCConvergesWithOrder3: the corrector adds one order to the predictor's
// two, if the last step, which it does not see, is of order 2.
func TestUniPCConvergesWithOrder3(t *testing.T) {
	clean := edm()
	clean.FinalSigmasType = FinalSigmaMin
	for name, config := range map[string]Config{"betas": smooth(), "edm": clean} {
		config.LowerOrderFinal = false
		t.Run(name, func(t *testing.T) {
			wantOrder(t, 3, func(n int) (*Table, error) { return UniPC(config, n+1) })
		})
	}
}
