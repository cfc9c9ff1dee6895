package avatars

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// Size is the side of the picture in pixels; the art is drawn on this grid.
const Size = 16

// Kind is a kind of part, and also the ink of that name. Kinds are drawn in
// this order, later ones over earlier ones, as in the source.
type Kind int

const (
	Skin Kind = iota // head, neck and shoulders; always present
	Accessories
	Clothing
	Eyes
	Glasses
	Beard // has no ink of its own: it is drawn with the ink of Hair
	Mouth
	Hair
	Hat
	Kinds // how many there are
)

var kindNames = [Kinds]string{
	"skin", "accessories", "clothing", "eyes", "glasses", "beard", "mouth", "hair", "hat",
}

// String is the name of the kind in parts.json.
func (k Kind) String() string { return kindNames[k] }

// Inks that do not depend on the avatar follow the kinds in layer.ink.
const (
	white = Kinds + iota
	black
)

// bitmap is a set of pixels: 16 rows, column 0 in the high bit.
type bitmap [Size]uint16

// layer covers its pixels with one ink at one opacity.
type layer struct {
	ink    Kind
	alpha  uint8 // 255 is opaque
	pixels bitmap
}

// part is one drawing of a kind: its layers, bottom to top.
type part struct {
	name   string
	layers []layer
	ink    bitmap // pixels that show the part's own colour
}

// parts lists the drawings of every kind by name. Index 0 of every kind is the
// absent part, without a name or a pixel; of Skin only index 1 exists.
var parts = decode(partsJSON)

//go:embed parts.json
var partsJSON []byte

// PartNames lists the drawings of a kind; the place of a name is its value in
// Avatar.Parts. Place 0 is the empty name: no such part.
func PartNames(kind Kind) []string {
	names := make([]string, len(parts[kind]))
	for i, p := range parts[kind] {
		names[i] = p.name
	}
	return names
}

// partIndex finds a drawing by name, or -1.
func partIndex(kind Kind, name string) int {
	return slices.IndexFunc(parts[kind], func(p part) bool { return p.name == name })
}

// decode reads parts.json (its layout is in tools/avatars/bake.js). The table is
// part of the program, so a fault in it is a programmer's error and panics.
func decode(data []byte) (table [Kinds][]part) {
	var file map[string]map[string][][3]json.RawMessage
	if err := json.Unmarshal(data, &file); err != nil {
		panic("avatars: parts.json: " + err.Error())
	}
	for kind := range table {
		drawings := file[kindNames[kind]]
		names := make([]string, 0, len(drawings))
		for name := range drawings {
			names = append(names, name)
		}
		slices.Sort(names)
		table[kind] = []part{{}}
		for _, name := range names {
			p := part{name: name}
			for _, raw := range drawings[name] {
				l := decodeLayer(name, raw)
				p.layers = append(p.layers, l)
				if l.ink < Kinds {
					for y, row := range l.pixels {
						p.ink[y] |= row
					}
				}
			}
			table[kind] = append(table[kind], p)
		}
	}
	return table
}

func decodeLayer(name string, raw [3]json.RawMessage) (l layer) {
	var ink, rows string
	for i, to := range []any{&ink, &l.alpha, &rows} {
		if err := json.Unmarshal(raw[i], to); err != nil {
			panic(fmt.Sprintf("avatars: parts.json: %s: %v", name, err))
		}
	}
	l.ink = Kind(slices.Index(append(kindNames[:], "white", "black"), ink))
	if l.ink < 0 || len(rows) != 4*Size {
		panic(fmt.Sprintf("avatars: parts.json: %s: ink %q with %d digits", name, ink, len(rows)))
	}
	for y := range l.pixels {
		row, err := strconv.ParseUint(rows[4*y:4*y+4], 16, 16)
		if err != nil {
			panic(fmt.Sprintf("avatars: parts.json: %s: %v", name, err))
		}
		l.pixels[y] = uint16(row)
	}
	return l
}
