package webgpu

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/shaders"
)

// The front end inside the native library is the only arbiter of what it
// accepts: every kernel must compile as it stands, within default limits.
func TestEveryShaderCompiles(t *testing.T) {
	t.Setenv("SDO_LIMITS", "default")
	e := open(t)
	files, err := fs.Glob(shaders.FS, "*.wgsl")
	must(t, err)
	binding := regexp.MustCompile(`@binding\([1-9]\)`)
	for _, file := range files {
		name := strings.TrimSuffix(file, ".wgsl")
		text, err := shaders.Specialise(name, nil)
		must(t, err)
		if !strings.Contains(text, "@compute") {
			continue // a helper
		}
		if _, err := e.device.Pipeline(name, text, len(binding.FindAllString(text, -1))); err != nil {
			t.Error(err)
		}
	}
}

func TestHalfPrecisionParametersArePacked(t *testing.T) {
	packed, err := pack([]float32{1, -2, 65504, 1e-8, 0.1}, graph.F16)
	must(t, err)
	want := []byte{0x00, 0x3c, 0x00, 0xc0, 0xff, 0x7b, 0x00, 0x00, 0x66, 0x2e, 0, 0}
	if string(packed) != string(want) {
		t.Errorf("got % x, want % x", packed, want)
	}
	if _, err := pack([]float32{7e4}, graph.F16); err == nil {
		t.Error("a number beyond half precision was accepted")
	}

	e := open(t)
	v, err := e.NewParam([]float32{1, 2, 3}, graph.F16)
	must(t, err)
	if e.Usage().Params != 8 {
		t.Errorf("%d bytes for three halves", e.Usage().Params)
	}
	if _, err := e.Read(background, v); err == nil {
		t.Error("packed halves were read as floats")
	}
	same, err := e.NewHalfParam([]byte{0x00, 0x3c, 0x00, 0x40, 0x00, 0x42})
	must(t, err)
	if e.Usage().Params != 16 {
		t.Errorf("%d bytes for three halves twice", e.Usage().Params)
	}
	e.FreeVector(same)
	e.FreeVector(v)
	if e.Usage().Params != 0 {
		t.Error("a freed parameter is still counted")
	}
}

func TestTensorsOfOthersAreRefused(t *testing.T) {
	e, other := open(t), open(t)
	mine, theirs := upload64(t, e, []float64{1}), upload64(t, other, []float64{1})
	if err := e.Combine(mine, []float64{1}, []graph.Tensor{theirs}); err == nil {
		t.Error("a tensor of another executor was accepted")
	}
	if err := e.Combine(nil, nil, nil); err == nil {
		t.Error("nil was accepted")
	}
	e.FreeVector(mine)
	if _, err := e.Read(background, mine); err == nil {
		t.Error("a freed tensor was read")
	}
}
