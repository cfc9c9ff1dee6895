package avatars

import (
	"slices"

	"github.com/sdo-go/sdo/model"
)

// Unknown is the label of a part or colour that no value stands for. Avatars of
// Random have none.
const Unknown = -1

// Places of the attributes in a list of labels.
const (
	background = iota
	skin
	hair
	hairColor // "none" exactly when hair is "none"
	mood
	glasses
	hat
	beard
	clothing
	accessories
	attributeCount
)

// Attributes lists the labelled properties in the order of Labels.
func Attributes() model.Attributes {
	return model.Attributes{
		background:  {Name: "background", Values: colorNames(backgroundColors)},
		skin:        {Name: "skin", Values: colorNames(skinColors)},
		hair:        {Name: "hair", Values: groupNames(hairStyles)},
		hairColor:   {Name: "hair_color", Values: append(colorNames(hairColors), "none")},
		mood:        {Name: "mood", Values: groupNames(moods)},
		glasses:     {Name: "glasses", Values: groupNames(glassesKinds)},
		hat:         {Name: "hat", Values: groupNames(hats)},
		beard:       {Name: "beard", Values: groupNames(beards)},
		clothing:    {Name: "clothing", Values: colorNames(clothingColors)},
		accessories: {Name: "accessories", Values: groupNames(jewellery)},
	}
}

// Labels are the values of the attributes in the order of Attributes.
func (a Avatar) Labels() []int {
	labels := []int{
		background:  colorLabel(backgroundColors, a.Background),
		skin:        colorLabel(skinColors, a.Inks[Skin]),
		hair:        hairStyles.label(a.Parts[Hair]),
		hairColor:   colorLabel(hairColors, a.Inks[Hair]),
		mood:        moods.label(a.Parts[Mouth]),
		glasses:     glassesKinds.label(a.Parts[Glasses]),
		hat:         hats.label(a.Parts[Hat]),
		beard:       beards.label(a.Parts[Beard]),
		clothing:    colorLabel(clothingColors, a.Inks[Clothing]),
		accessories: jewellery.label(a.Parts[Accessories]),
	}
	if a.Parts[Hair] == 0 {
		labels[hairColor] = len(hairColors)
	}
	return labels
}

// Condition names the value of every attribute.
func (a Avatar) Condition() map[string]string {
	condition := map[string]string{}
	for i, attribute := range Attributes() {
		if label := a.Labels()[i]; label != Unknown {
			condition[attribute.Name] = attribute.Values[label]
		}
	}
	return condition
}

// Drawings that carry the same label, judged by eye. Those in no group are never
// drawn: tufts of a few pixels, slanted and straight mouths, which read as glad or
// sad at will, hair between medium and long, shirts that are mostly skin.
var (
	hairStyles = groups{
		absent("none"),
		drawn(Hair, "short", "short01", "short02", "short03", "short04", "short06", "short08", "short09",
			"short10", "short14", "short15", "short16", "short17", "short19", "short22"),
		drawn(Hair, "spiky", "short11", "short13", "long15"),
		drawn(Hair, "medium", "long04", "long11", "long16", "long17", "long21"),
		drawn(Hair, "long", "long02", "long03", "long07", "long08", "long09", "long12", "long13"),
		drawn(Hair, "tied", "long05", "long06", "long14", "long18", "long19"),
	}
	moods = groups{
		drawn(Mouth, "happy", "happy06", "happy09"),
		drawn(Mouth, "sad", "sad01"),
	}
	glassesKinds = groups{
		absent("none"),
		drawn(Glasses, "clear", "light01", "light02", "light03", "light05", "light06", "light07"),
		drawn(Glasses, "dark", "dark01", "dark02", "dark03", "dark04", "dark05", "dark06", "dark07"),
	}
	hats = groups{
		absent("no"),
		drawn(Hat, "yes", "variant01", "variant02", "variant03", "variant04", "variant05",
			"variant06", "variant08", "variant09", "variant10"),
	}
	beards = groups{
		absent("no"),
		drawn(Beard, "yes", "variant01", "variant02", "variant03", "variant05", "variant06",
			"variant07", "variant08"),
	}
	jewellery = groups{
		absent("no"),
		drawn(Accessories, "yes", "variant01", "variant02", "variant03"),
	}
	shirts = drawn(Clothing, "shirt", "variant01", "variant02", "variant03", "variant04", "variant05",
		"variant06", "variant08", "variant09", "variant10", "variant11", "variant12", "variant13",
		"variant14", "variant16", "variant17", "variant19", "variant20", "variant23")
)

// group is the places of the drawings that share a label.
type group struct {
	label  string
	places []uint8
}

type groups []group

func absent(label string) group { return group{label, []uint8{0}} }

func drawn(kind Kind, label string, names ...string) group {
	g := group{label: label}
	for _, name := range names {
		place := partIndex(kind, name)
		if place < 0 {
			panic("avatars: parts.json has no " + kind.String() + " " + name)
		}
		g.places = append(g.places, uint8(place))
	}
	return g
}

// label is the number of the group that holds the place, or Unknown.
func (gs groups) label(place uint8) int {
	return slices.IndexFunc(gs, func(g group) bool { return slices.Contains(g.places, place) })
}

func groupNames(gs groups) []string {
	names := make([]string, len(gs))
	for i, g := range gs {
		names[i] = g.label
	}
	return names
}

func colorLabel(palette []Color, c RGB) int {
	return slices.IndexFunc(palette, func(named Color) bool { return named.RGB == c })
}

func colorNames(palette []Color) []string {
	names := make([]string, len(palette))
	for i, c := range palette {
		names[i] = c.Name
	}
	return names
}
