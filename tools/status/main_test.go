package main

import (
	"os"
	"testing"

	"github.com/sdo-go/sdo/tools/marked"
)

func TestReadmeTableIsCurrent(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	ops, err := operations("../..")
	if err != nil {
		t.Fatal(err)
	}
	table, err := status("../..", ops)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := marked.Between(string(text), markers)
	if err != nil {
		t.Fatal(err)
	}
	if shown != table {
		t.Errorf("README.md's status table is out of date; run make status. It should read\n%s", table)
	}
}

func TestEveryOperationIsEverywhere(t *testing.T) {
	ops, err := operations("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range ops {
		if !op.cpu || !op.gpu || op.rows == 0 {
			t.Errorf("%s: cpu %v, webgpu %v, %d rows of the op table", op.name, op.cpu, op.gpu, op.rows)
		}
	}
}
