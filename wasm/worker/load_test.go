//go:build !js

package main_test

import (
	"testing"

	"github.com/sdo-go/sdo/engine/enginetest"
	"github.com/sdo-go/sdo/tools/edgeload/load"
)

// Many runs, several at a time, are all right and leave nothing behind. How long
// they take is for tools/edgeload to say, on a machine that does nothing else.
func TestLoad(t *testing.T) {
	w := common(t)
	before := w.inUse(t)
	r, err := load.Run(t.Context(), load.Options{URL: w.url, Requests: 40, Parallel: 8,
		Recipe: enginetest.Golden{Name: "dark-glasses", Set: []string{"num_images=1", "sampler.num_inference_steps=3", "updates=2"}}.Recipe(t)})
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK() {
		t.Errorf("of %d runs %d are right, %d wrong and %d lost: %q", r.Requests, r.Right, r.Wrong, r.Lost, r.Problems)
	}
	after := w.inUse(t)
	if after-before > 4<<20 {
		t.Errorf("%d runs left %d bytes behind", r.Requests, after-before)
	}
	if r.After.Resident == 0 {
		t.Error("the process of the worker is not found")
	}
	t.Logf("%.0f s; %d bytes in use before and %d after, %d resident", r.Seconds, before, after, r.After.Resident)
}
