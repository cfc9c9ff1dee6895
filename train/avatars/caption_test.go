package avatars

import (
	"maps"
	"strings"
	"testing"
)

func TestCaptionsReadBack(t *testing.T) {
	longest := ""
	for i := range uint64(3000) {
		a := At(5, i)
		condition := a.Condition()
		if i%2 == 1 { // also partial ones
			for j, attribute := range Attributes() {
				if i>>(1+j)&1 == 1 {
					delete(condition, attribute.Name)
				}
			}
			if condition["hair"] == "none" || condition["hair_color"] == "none" {
				condition["hair"], condition["hair_color"] = "none", "none"
			}
		}
		caption := Caption(condition)
		got, err := Parse(caption)
		if err != nil {
			t.Fatalf("%s: %v", caption, err)
		}
		if !maps.Equal(got, condition) {
			t.Fatalf("%s: read as %v, meant %v", caption, got, condition)
		}
		if len(caption) > len(longest) {
			longest = caption
		}
	}
	t.Log(longest)
}

func TestParse(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"": {},
		"a sad person with red hair, dark glasses and a blue shirt": {
			"mood": "sad", "hair_color": "red", "glasses": "dark", "clothing": "blue"},
		"Smiling, bald, SUNGLASSES": {
			"mood": "happy", "hair": "none", "hair_color": "none", "glasses": "dark"},
		"long blonde hair without glasses, a cap": {
			"hair": "long", "hair_color": "blond", "glasses": "none", "hat": "yes"},
		"glasses on an orange background": {"glasses": "clear", "background": "orange"},
	} {
		got, err := Parse(text)
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
		if _, err := Attributes().Labels(got); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		"a person with zebra hair":     `the word "zebra" is not known`,
		"dark hair":                    `"dark" does not describe hair`,
		"no shirt":                     `"no" does not describe shirt`,
		"a shirt":                      `"shirt" needs a word`,
		"happy and sad":                "mood cannot be both happy and sad",
		"a red":                        `"red" describes nothing`,
		"red hair, blue hair":          "hair_color cannot be both red and blue",
		"a hat and a person with no":   `"no" describes nothing`,
		"a sunglasses without glasses": "glasses cannot be both dark and none",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a happy person with short red hair")
	f.Add("no no hat, BALD")
	f.Fuzz(func(t *testing.T, text string) {
		condition, err := Parse(text)
		if err != nil {
			return
		}
		if _, err := Attributes().Labels(condition); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}
