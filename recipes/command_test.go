package recipes

import (
	"strings"
	"testing"
)

func TestCommandRepeatsTheRun(t *testing.T) {
	find := func(name string, change func(*Recipe)) *Recipe {
		r, err := Find(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(r)
		}
		return r
	}
	for want, r := range map[string]*Recipe{
		"sdo steer dark-glasses":                       find("dark-glasses", nil),
		"sdo tune everyone-wears-glasses":              find("everyone-wears-glasses", nil),
		"sdo steer dark-glasses --seed 7 --updates 5":  find("dark-glasses", func(r *Recipe) { r.Seed, r.Updates = 7, 5 }),
		"sdo steer dark-glasses --freeze v --steps 50": find("dark-glasses", func(r *Recipe) { r.Method.Freeze, r.Sampler.NumInferenceSteps = "v", 50 }),
		"sdo steer dark-glasses --set objective.0.value=clear --lr 0.02": find("dark-glasses", func(r *Recipe) {
			r.Objective[0].Value, r.Optimizer.LR = "clear", 0.02
		}),
		`sdo steer dark-glasses --set 'condition={"hat":"yes"}'`: find("dark-glasses", func(r *Recipe) {
			r.Condition = map[string]string{"hat": "yes"}
		}),
	} {
		if command, file := r.Command(); command != want || file != "" {
			t.Errorf("got %q with file %q, want %q", command, file, want)
		}
	}
}

// What flags cannot say needs the file.
func TestCommandNeedsAFile(t *testing.T) {
	for name, change := range map[string]func(*Recipe){
		"another name": func(r *Recipe) { r.Name = "my own" },
		"one term more": func(r *Recipe) {
			r.Objective = append(r.Objective, Term{Term: "symmetry", Weight: 1, Axis: "horizontal"})
		},
		"a key less": func(r *Recipe) { r.Objective[0].StopBelow = nil },
		"too many to read": func(r *Recipe) {
			r.Seed, r.NumImages, r.Updates, r.Optimizer.LR, r.GuidanceScale = 5, 3, 7, 0.3, 2
			r.Sampler.NumInferenceSteps, r.Sampler.Eta = 9, 0.5
		},
	} {
		r, err := Find("dark-glasses", nil)
		if err != nil {
			t.Fatal(err)
		}
		change(r)
		command, file := r.Command()
		if file != r.Name+".yaml" || !strings.HasPrefix(command, "sdo steer ") || !strings.Contains(command, file) {
			t.Errorf("%s: got %q with file %q", name, command, file)
		}
	}
	if got := quoteShell("it's"); got != `'it'\''s'` {
		t.Errorf("quoted as %s", got)
	}
}
