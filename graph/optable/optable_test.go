package optable

import "testing"

func TestEveryOperationHasARow(t *testing.T) {
	missing, err := Missing()
	if err != nil {
		t.Fatal(err)
	}
	if len(missing) > 0 {
		t.Errorf("no row reaches %v", missing)
	}
}

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Rows() {
		if seen[r.Name] {
			t.Errorf("two rows are called %s", r.Name)
		}
		seen[r.Name] = true
	}
}

func TestRowsReachTheirOperation(t *testing.T) {
	for _, r := range Rows() {
		ops, err := r.Ops()
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, op := range ops {
			found = found || op == r.Op
		}
		if !found {
			t.Errorf("row %s reaches only %v", r.Name, ops)
		}
	}
}
