package model_test

import (
	"testing"

	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model/modeltest"
)

func TestFullSizeStableDiffusion(t *testing.T) {
	folder, o := modeltest.FullSizeOptions(t)
	e := cpu.New[float32](cpu.Options{})
	defer e.Close()
	modeltest.FullSize(t, e, folder, o)
}
