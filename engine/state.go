package engine

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"

	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/sdo"
)

// metadataState is the key of a saved run's words: sdo.RunState without its
// tensors.
const metadataState = "state"

// WriteState writes where a run stands as a safetensors file, with more words
// beside it. Single precision is what a device holds, so nothing is lost.
func WriteState(w io.Writer, s *sdo.RunState, metadata map[string]string) error {
	tensors, plain := model.Weights{}, *s
	for name, numbers := range plain.Tensors {
		data := make([]float32, len(numbers))
		for i, v := range numbers {
			data[i] = float32(v)
		}
		tensors[name] = model.Tensor{Shape: []int{len(data)}, Data: data}
	}
	plain.Tensors = nil
	text, err := json.Marshal(plain)
	if err != nil {
		return err
	}
	words := maps.Clone(metadata)
	if words == nil {
		words = map[string]string{}
	}
	words[metadataState] = string(text)
	return model.WriteSafetensors(w, tensors, model.F32, words)
}

// ReadState is what WriteState wrote, from the file's tensors and words.
// Session.SteerFrom says whether it is of its own run.
func ReadState(tensors model.Weights, metadata map[string]string) (*sdo.RunState, error) {
	s := &sdo.RunState{}
	if err := json.Unmarshal([]byte(metadata[metadataState]), s); err != nil {
		return nil, fmt.Errorf("the saved run cannot be read: %w", err)
	}
	s.Tensors = map[string][]float64{}
	for name, t := range tensors {
		numbers := make([]float64, len(t.Data))
		for i, v := range t.Data {
			numbers[i] = float64(v)
		}
		s.Tensors[name] = numbers
	}
	return s, nil
}
