package main

import (
	"os"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/tools/marked"
)

func TestTableOfMemoryIsCurrent(t *testing.T) {
	text, err := os.ReadFile("../../docs/models.md")
	if err != nil {
		t.Fatal(err)
	}
	table, err := tableOf("../..")
	if err != nil {
		t.Fatal(err)
	}
	shown, err := marked.Between(string(text), markers)
	if err != nil {
		t.Fatal(err)
	}
	if shown != table {
		t.Errorf("docs/models.md's table of memory is out of date; run make memory. It should read\n%s", table)
	}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		for _, least := range []int{3, 5} {
			if strings.Contains(cells[least], "over") {
				t.Errorf("no budget brings a run below the target: %s", line)
			}
		}
	}
}

// In single precision the text encoder's table of words is larger than what a
// device with WebGPU's default limits sees at once.
func TestSinglePrecisionIsPlanned(t *testing.T) {
	single, err := count("../..", full, byPictures, model.F32, 256, false)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := count("../..", full, byPictures, model.F16, 256, false)
	if err != nil {
		t.Fatal(err)
	}
	if single.Params < packed.Params*19/10 || single.Params > 2*packed.Params {
		t.Errorf("weights take %d bytes, packed %d", single.Params, packed.Params)
	}
}
