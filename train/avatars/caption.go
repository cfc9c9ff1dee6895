package avatars

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sdo-go/sdo/model"
)

// Caption says in words what a condition, values by attribute, asks for: "a sad
// person with tan skin, short red hair, dark glasses, no hat, a beard, earrings
// and a blue shirt on a white background". It does not speak of attributes that
// are missing. Parse reads it back.
func Caption(condition map[string]string) string {
	var with []string
	say := func(attribute, format string) {
		switch value := condition[attribute]; value {
		case "":
		case "no", "none":
			with = append(with, "no "+attributeNoun[attribute])
		case "yes":
			with = append(with, format)
		default:
			with = append(with, fmt.Sprintf(format, value))
		}
	}
	say("skin", "%s skin")
	if style, color := condition["hair"], condition["hair_color"]; style == "none" || color == "none" {
		with = append(with, "no hair")
	} else if style+color != "" {
		with = append(with, strings.TrimSpace(style+" "+color)+" hair")
	}
	say("glasses", "%s glasses")
	say("hat", "a hat")
	say("beard", "a beard")
	say("accessories", "earrings")
	say("clothing", "a %s shirt")

	text := "a person"
	if mood := condition["mood"]; mood != "" {
		text = "a " + mood + " person"
	}
	if last := len(with) - 1; last > 0 {
		text += " with " + strings.Join(with[:last], ", ") + " and " + with[last]
	} else if last == 0 {
		text += " with " + with[0]
	}
	if color := condition["background"]; color != "" {
		text += " on a " + color + " background"
	}
	return strings.ReplaceAll(text, "a orange", "an orange")
}

// Caption describes the avatar completely.
func (a Avatar) Caption() string { return Caption(a.Condition()) }

var attributeNoun = map[string]string{
	"glasses": "glasses", "hat": "hat", "beard": "beard", "accessories": "earrings",
}

// nouns are the attributes that the words before them give values to.
var nouns = map[string][]string{
	"skin":       {"skin"},
	"hair":       {"hair", "hair_color"},
	"glasses":    {"glasses"},
	"hat":        {"hat"},
	"beard":      {"beard"},
	"earrings":   {"accessories"},
	"shirt":      {"clothing"},
	"background": {"background"},
}

// undescribed is the value that a noun by itself gives.
var undescribed = map[string]string{"glasses": "clear", "hat": "yes", "beard": "yes", "earrings": "yes"}

// synonyms are replaced before anything is understood.
var synonyms = map[string]string{
	"grey": "gray", "blonde": "blond", "violet": "purple", "shaded": "dark", "braided": "tied",
	"smiling": "happy", "cheerful": "happy", "unhappy": "sad", "frowning": "sad",
	"face": "skin", "bald": "no hair", "sunglasses": "dark glasses", "spectacles": "glasses",
	"cap": "hat", "bearded": "beard", "earring": "earrings", "accessories": "earrings", "jewellery": "earrings",
	"clothes": "shirt", "clothing": "shirt", "top": "shirt", "without": "no",
}

var fillers = strings.Fields("a an and avatar has in of on person portrait the wearing who with")

// Parse reads a description as Caption writes it, or any part of one such as
// "red hair and sunglasses, no hat", into values by attribute. Unknown words,
// words that describe nothing and contradictions are errors that quote them.
// Glasses that are not called dark are clear.
func Parse(text string) (map[string]string, error) {
	condition := map[string]string{}
	set := func(attribute, value string) error {
		if old, ok := condition[attribute]; ok && old != value {
			return fmt.Errorf("caption: %s cannot be both %s and %s", attribute, old, value)
		}
		condition[attribute] = value
		return nil
	}
	schema := Attributes()
	var waiting []string // words whose noun has not come yet
	for _, word := range tokens(text) {
		described, isNoun := nouns[word]
		var err error
		switch {
		case slices.Contains(fillers, word):
		case slices.Contains(schema[mood].Values, word):
			err = set("mood", word)
		case isNoun && waiting == nil:
			if undescribed[word] == "" {
				return nil, fmt.Errorf("caption: %q needs a word that describes it", word)
			}
			err = set(described[0], undescribed[word])
		case isNoun:
			for _, adjective := range waiting {
				known := false
				for _, attribute := range described {
					if value, ok := valueOf(schema, attribute, adjective); ok && err == nil {
						err, known = set(attribute, value), true
					}
				}
				if !known && err == nil {
					err = fmt.Errorf("caption: %q does not describe %s", adjective, word)
				}
			}
			waiting = nil
		case word == "no" || slices.ContainsFunc(schema, func(a model.Attribute) bool { return slices.Contains(a.Values, word) }):
			waiting = append(waiting, word)
		default:
			err = fmt.Errorf("caption: the word %q is not known", word)
		}
		if err != nil {
			return nil, err
		}
	}
	if waiting != nil {
		return nil, fmt.Errorf("caption: %q describes nothing", strings.Join(waiting, " "))
	}
	return condition, nil
}

// tokens are the words of a text in lower case, synonyms replaced.
func tokens(text string) (words []string) {
	isBreak := func(r rune) bool { return !('a' <= r && r <= 'z') }
	for _, word := range strings.FieldsFunc(strings.ToLower(text), isBreak) {
		if other, ok := synonyms[word]; ok {
			word = other
		}
		words = append(words, strings.Fields(word)...)
	}
	return words
}

// valueOf is the value of an attribute that an adjective means; "no" is its
// absent value, where it has one.
func valueOf(schema model.Attributes, attribute, adjective string) (string, bool) {
	i, err := schema.Index(attribute)
	if err != nil {
		panic("avatars: " + err.Error())
	}
	for _, value := range schema[i].Values {
		if value == adjective || adjective == "no" && value == "none" {
			return value, true
		}
	}
	return "", false
}
