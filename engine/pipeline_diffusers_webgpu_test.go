//go:build !js

package engine

import "testing"

// On a GPU, too, a folder makes what diffusers makes of it.
func TestDiffusersPipelinesOnWebGPU(t *testing.T) {
	exec := device(t)
	cases, golden := diffusersCases(t)
	for _, name := range []string{"sd2", "dpm-karras", "lcm"} {
		t.Run(name, func(t *testing.T) {
			latents, _ := cases[name].sample(t, cases[name].session(t, exec, name, golden), name, golden)
			e := relative(latents, float64s(golden[name+".latents"].Data))
			if t.Logf("latents differ by %.2g", e); !(e <= 1e-4) {
				t.Errorf("latents differ by %.2g", e)
			}
		})
	}
}
