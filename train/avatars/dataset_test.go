package avatars_test

import (
	"testing"

	"github.com/sdo-go/sdo/train"
	"github.com/sdo-go/sdo/train/avatars"
)

func TestDatasetMatchesItsSchema(t *testing.T) {
	var data train.Dataset = avatars.Dataset{}
	schema := data.Attributes()
	if err := schema.Validate(); err != nil {
		t.Fatal(err)
	}
	image := make([]float32, data.Shape().Size())
	for j, label := range data.Example(1, 2, image) {
		if label < 0 || label >= len(schema[j].Values) {
			t.Errorf("%s has label %d", schema[j].Name, label)
		}
	}
}
