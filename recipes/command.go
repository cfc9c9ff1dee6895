package recipes

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// flags are the keys that the command line has flags for.
var flags = map[string]string{
	"updates": "--updates", "sampler.num_inference_steps": "--steps", "seed": "--seed", "num_images": "--num-images",
	"model": "--model", "lora.path": "--lora", "lora.scale": "--lora-scale", "guidance_scale": "--guidance-scale",
	"optimizer.lr": "--lr", "method.name": "--method", "method.freeze": "--freeze", "method.active": "--active", "method.bridge": "--bridge",
}

// mostChanges is how many flags a command stays readable with.
const mostChanges = 6

// Command is the native command that repeats the run: flags on top of the
// embedded recipe of that name where those say all that is different, and
// otherwise a file, whose name is then returned too and which must hold
// Canonical.
func (r *Recipe) Command() (command, file string) {
	verb := "sdo steer "
	if r.has("parameters") {
		verb = "sdo tune "
	}
	file = quoteShell(r.Name + ".yaml")
	base, err := Find(r.Name, nil)
	if err != nil {
		return verb + file, r.Name + ".yaml"
	}
	changes, ok := difference("", plainTree(base), plainTree(r))
	if !ok || len(changes) > mostChanges {
		return verb + file, r.Name + ".yaml"
	}
	words := []string{verb + r.Name}
	for _, c := range changes {
		if flag := flags[c.Path]; flag != "" {
			words = append(words, flag, quoteShell(c.Value))
		} else {
			words = append(words, "--set", quoteShell(c.Path+"="+c.Value))
		}
	}
	// What the words say is tried rather than trusted.
	if again, err := Find(r.Name, nil, changes...); err != nil || !reflect.DeepEqual(plainTree(again), plainTree(r)) {
		return verb + file, r.Name + ".yaml"
	}
	return strings.Join(words, " "), ""
}

func plainTree(r *Recipe) (tree any) {
	text, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(text, &tree)
	}
	if err != nil {
		panic("recipe: " + err.Error()) // every field is plain data
	}
	return tree
}

// difference lists the overrides that turn one tree into another; not ok where
// overrides cannot, because a key or an entry goes.
func difference(at string, from, to any) (changes []Override, ok bool) {
	if reflect.DeepEqual(from, to) {
		return nil, true
	}
	below := func(key string) string { return strings.TrimPrefix(at+"."+key, ".") }
	switch to := to.(type) {
	case map[string]any:
		from, same := from.(map[string]any)
		if !same {
			break
		}
		for key := range from {
			if _, kept := to[key]; !kept {
				return nil, false
			}
		}
		for _, key := range sortedKeys(to) {
			more, ok := difference(below(key), from[key], to[key])
			if !ok {
				return nil, false
			}
			changes = append(changes, more...)
		}
		return changes, true
	case []any:
		from, same := from.([]any)
		if !same || !slices.ContainsFunc(to, func(v any) bool { _, nested := v.(map[string]any); return nested }) {
			break
		}
		if len(from) != len(to) {
			return nil, false // a flag could say it, and nobody could read it
		}
		for i := range to {
			more, ok := difference(below(strconv.Itoa(i)), from[i], to[i])
			if !ok {
				return nil, false
			}
			changes = append(changes, more...)
		}
		return changes, true
	case string:
		if plainWord.MatchString(to) {
			return []Override{{Path: at, Value: to, From: at}}, true
		}
	}
	text, err := json.Marshal(to)
	if err != nil {
		return nil, false
	}
	return []Override{{Path: at, Value: string(text), From: fmt.Sprintf("--set %s", at)}}, true
}

// plainWord is text that YAML and a shell both read as it stands.
var plainWord = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)

// quoteShell makes one word of a shell's command line.
func quoteShell(s string) string {
	if regexp.MustCompile(`^[A-Za-z0-9_./,:=+-]+$`).MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
