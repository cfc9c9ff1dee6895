package main

import (
	"os"
	"strings"
	"testing"
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
	want, err := splice(text, table)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != string(text) {
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

func TestSpliceWantsMarkers(t *testing.T) {
	if _, err := splice([]byte("no markers"), "x"); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("got %v", err)
	}
}
