package avatars

// Color is a colour with the word captions use for it.
type Color struct {
	Name string
	RGB  RGB
}

// The labelled colours are chosen here, not taken from the source: its palettes
// hold several browns no one could name. Neighbours are far enough apart to be
// told from 16 by 16 pixels under the noise of a sampler.
var (
	backgroundColors = []Color{
		{"blue", RGB{111, 183, 233}},
		{"green", RGB{155, 214, 139}},
		{"yellow", RGB{255, 226, 122}},
		{"orange", RGB{250, 166, 104}},
		{"pink", RGB{255, 179, 207}},
		{"purple", RGB{183, 157, 240}},
		{"gray", RGB{190, 197, 206}},
		{"white", RGB{248, 248, 243}},
	}
	skinColors = []Color{
		{"pale", RGB{255, 234, 219}},
		{"fair", RGB{255, 214, 176}},
		{"light", RGB{240, 189, 140}},
		{"honey", RGB{219, 161, 104}},
		{"tan", RGB{192, 132, 80}},
		{"bronze", RGB{160, 104, 58}},
		{"brown", RGB{122, 74, 38}},
		{"deep", RGB{82, 48, 26}},
	}
	hairColors = []Color{
		{"black", RGB{28, 22, 20}},
		{"brown", RGB{96, 58, 20}},
		{"blond", RGB{244, 211, 84}},
		{"ginger", RGB{221, 116, 30}},
		{"red", RGB{189, 23, 0}},
		{"pink", RGB{240, 107, 168}},
		{"purple", RGB{123, 63, 181}},
		{"blue", RGB{24, 128, 205}},
		{"green", RGB{88, 172, 40}},
		{"gray", RGB{135, 140, 147}},
		{"white", RGB{240, 238, 230}},
	}
	clothingColors = []Color{
		{"red", RGB{209, 17, 45}},
		{"orange", RGB{243, 119, 33}},
		{"yellow", RGB{255, 200, 30}},
		{"green", RGB{0, 150, 70}},
		{"teal", RGB{31, 181, 168}},
		{"blue", RGB{47, 117, 220}},
		{"navy", RGB{24, 40, 100}},
		{"purple", RGB{125, 63, 178}},
		{"pink", RGB{247, 120, 180}},
		{"white", RGB{244, 244, 244}},
		{"gray", RGB{138, 143, 152}},
		{"black", RGB{38, 38, 43}},
	}
)

// Colours that carry no label: the source's, less those that look like another
// part, plus some that stand out on the darkest and lightest skins.
var (
	eyeColors = unnamed(
		RGB{118, 119, 139}, RGB{105, 123, 148}, RGB{100, 123, 144}, RGB{91, 124, 139}, RGB{88, 131, 135},
	)
	frameColors = unnamed(
		RGB{75, 75, 75}, RGB{50, 50, 50}, RGB{25, 25, 25}, RGB{67, 103, 125}, RGB{95, 112, 92},
		RGB{160, 75, 93}, RGB{214, 178, 66},
	)
	hatColors = unnamed(
		RGB{38, 99, 163}, RGB{61, 138, 107}, RGB{204, 97, 146}, RGB{97, 79, 138}, RGB{166, 33, 22},
		RGB{245, 196, 60},
	)
	mouthColors = unnamed(
		RGB{201, 75, 85}, RGB{227, 93, 106}, RGB{222, 15, 13}, RGB{120, 20, 40}, RGB{255, 150, 150},
	)
	jewelleryColors = unnamed(
		RGB{218, 165, 32}, RGB{255, 215, 0}, RGB{250, 250, 250}, RGB{211, 211, 211}, RGB{150, 150, 150},
	)
)

func unnamed(colors ...RGB) []Color {
	palette := make([]Color, len(colors))
	for i, c := range colors {
		palette[i].RGB = c
	}
	return palette
}
