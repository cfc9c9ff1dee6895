package demo_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/gif"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/train/avatars"
)

// pixel is the middle of a pixel of a 16 by 16 drawing, in shares of it.
func pixel(x, y int) point { return point{(float64(x) + 0.5) / 16, (float64(y) + 0.5) / 16} }

// Every kind of goal, made with the mouse and the keyboard, is in the recipe as
// it was made.
func TestGoals(t *testing.T) {
	p := openPage(t, options{patience: 2 * time.Minute})
	p.ready()
	p.size(1, 3, 2)
	p.panel("goal")
	add := func(kind string) {
		t.Helper()
		p.click("add-goal")
		p.click("goal-kind-" + kind)
	}
	p.set("attribute", "mood")
	p.set("value", "happy")

	add("region_color")
	colours := p.within("goal-1")
	colours.set("Weight", "2.5")
	colours.set("region-colour", "#2040ff")
	colours.draw("region", pixel(0, 0), pixel(3, 2), pixel(7, 4))
	p.focus("region")
	p.key(kb.ArrowRight)
	p.key(kb.ArrowDown, chromedp.ModifierShift)
	p.waitText("goal-1", "8 × 6 from column 2, row 1")

	add("pixels")
	sketch := p.within("goal-2")
	sketch.draw("sketch", pixel(0, 0), pixel(7, 0))
	sketch.click("Colour #c8403a")
	p.focus("sketch")
	p.key(kb.ArrowDown)
	p.key(" ")
	p.key(kb.ArrowRight, chromedp.ModifierShift)
	p.key("m") // draws in the mirror, too
	p.key(kb.ArrowDown)
	p.key(kb.ArrowRight)
	p.key(" ")
	p.key("e")
	p.key(" ")
	p.click("sketch-undo") // the eraser's
	p.waitText("goal-2", "12 pixels drawn")

	add("inpaint")
	half := p.within("goal-3")
	half.set("Portrait number", "5")
	half.click("Left")
	want := make([]float32, avatars.Pixels)
	avatars.At(7, 5).Draw(want)
	p.until("portrait 5 of seed 7", func() (bool, string) {
		got, err := query[[]int](p, "[...page.one(name, scope).getContext('2d').getImageData(0, 0, 16, 16).data]", "Portrait 5 of seed 7, its left half hidden")
		if err != nil {
			return false, plain(err)
		}
		for i, v := range want {
			plane, at := i/256, i%256
			if math.Abs(float64(got[4*at+plane])-(float64(v)+1)*127.5) > 0.51 {
				return false, "it is another picture"
			}
		}
		return true, ""
	})

	add("symmetry")
	add("total_variation")
	p.click("remove-goal-4")
	p.waitGone("goal-5")

	r := p.waitRecipe("five goals", func(r *recipes.Recipe) bool { return len(r.Objective) == 5 })
	if o := r.Objective[0]; o.Term != "attribute" || o.Attribute != "mood" || o.Value != "happy" {
		t.Errorf("the first goal is %+v", o)
	}
	if o := r.Objective[1]; o.Term != "region_color" || o.Weight != 2.5 || o.Color != "#2040ff" || *o.Region != (recipes.Rect{1, 0, 8, 6}) {
		t.Errorf("the region is %+v", o)
	}
	rows := slices.Repeat([]string{"................"}, 16)
	rows[0], rows[1], rows[2] = "aaaaaaaa........", ".......bb.......", "......b..b......"
	if o := r.Objective[2]; o.Term != "pixels" || !slices.Equal(o.Rows, rows) || o.Palette["a"] != "#3b2317" || o.Palette["b"] != "#c8403a" {
		t.Errorf("the sketch has colours %v and rows\n%s", o.Palette, strings.Join(o.Rows, "\n"))
	}
	if o := r.Objective[3]; o.Term != "inpaint" || *o.Source != (recipes.Source{Seed: 7, Index: 5}) || o.Hidden.Side != "left" {
		t.Errorf("the hidden half is %+v of %+v", o.Hidden, o.Source)
	}
	if o := r.Objective[4]; o.Term != "total_variation" {
		t.Errorf("the last goal is %+v", o)
	}
	if p.visible("recipe-problems") {
		t.Errorf("the page finds %q", p.text("recipe-problems"))
	}

	p.steer()
	p.waitText("counters", "2 of 2")
	p.waitText("judged", "of 1 look happy")

	p.panel("share")
	if got := p.text("command"); got != "sdo steer "+r.Name+".yaml" {
		t.Errorf("the command is %q", got)
	}
	name, text := p.download(func() { p.click("save-yaml") })
	again, err := recipes.Parse(text, name)
	if name != r.Name+".yaml" || err != nil || !bytes.Equal(again.Canonical(), r.Canonical()) {
		t.Errorf("%s (%v) is\n%s", name, err, text)
	}
}

// What is wrong with a recipe is said at its line, and the last valid one stays.
func TestRecipeAsText(t *testing.T) {
	p := openPage(t, options{})
	p.ready()
	p.panel("recipe")
	valid := p.value("recipe-text")
	lines := strings.Split(valid, "\n")
	at := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "num_images:") })
	lines[at] = "num_imags: 3"
	p.set("recipe-text", strings.Join(lines, "\n"))
	p.waitText("recipe-problems", "num_imags: expected one of")
	p.wait("Back to the last valid recipe")
	if disabled := evaluate[bool](p, "return document.querySelector('[data-testid=start]').disabled"); !disabled {
		t.Error("a recipe with a mistake can be started")
	}
	p.panel("goal") // and back: the mistake is still there to be mended
	p.panel("recipe")
	p.click(fmt.Sprintf("Line %d", at+1))
	if got := evaluate[string](p, "return getSelection().toString()"); got != lines[at] {
		t.Errorf("the line's button selects %q, want %q", got, lines[at])
	}
	p.click("Back to the last valid recipe")
	p.waitGone("Back to the last valid recipe")
	if got := p.value("recipe-text"); got != valid {
		t.Errorf("the last valid recipe is\n%s", got)
	}

	lines[at] = "num_images: 3"
	p.set("recipe-text", strings.Join(lines, "\n"))
	p.panel("goal")
	p.until("three pictures", func() (bool, string) { return p.value("pictures") == "3", p.value("pictures") })
}

// Everything that can be taken along is what it says it is.
func TestShare(t *testing.T) {
	p := openPage(t, options{patience: 3 * time.Minute})
	p.ready()
	p.size(2, 5, 3)
	r := p.waitRecipe("two pictures", func(r *recipes.Recipe) bool { return r.NumImages == 2 })
	p.steer()
	losses := p.chart("loss-chart", 1)
	p.panel("share")

	name, data := p.download(func() { p.click("save-png") })
	sheet, err := png.Decode(bytes.NewReader(data))
	if name != "dark-glasses.png" || err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if n := colours(sheet); n < 50 {
		t.Errorf("the sheet of %v has %d colours", sheet.Bounds(), n)
	}

	name, data = p.download(func() { p.click("save-gif") })
	film, err := gif.DecodeAll(bytes.NewReader(data))
	if name != "dark-glasses.gif" || err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if n := len(film.Image); n < 3 || reflect.DeepEqual(film.Image[0].Pix, film.Image[n-1].Pix) || colours(film.Image[0]) < 20 {
		t.Errorf("the film has %d frames, the first with %d colours", n, colours(film.Image[0]))
	}

	link := p.copied(func() { p.click("copy-link") })
	if !strings.HasPrefix(link, p.server.URL) {
		t.Errorf("the link is %q", link)
	}
	_, hash, _ := strings.Cut(link, "#")
	other := openPage(t, options{at: "#" + hash})
	other.ready()
	other.waitRecipe("all of the first", func(got *recipes.Recipe) bool { return bytes.Equal(got.Canonical(), r.Canonical()) })

	command := p.text("command")
	if command != "sdo steer dark-glasses --num-images 2 --steps 5 --updates 3" {
		t.Errorf("the command is %q", command)
	}
	folder := t.TempDir()
	natively(t, folder, command+" --device cpu --out report")
	text, err := os.ReadFile(filepath.Join(folder, "report", "run.json"))
	if err != nil {
		t.Fatal(err)
	}
	var run struct{ Result struct{ Losses [][]float64 } }
	if err := json.Unmarshal(text, &run); err != nil {
		t.Fatal(err)
	}
	if len(run.Result.Losses) != len(losses) {
		t.Errorf("natively there are %d losses, in the page %d", len(run.Result.Losses), len(losses))
	}
	for update, each := range run.Result.Losses {
		if native := mean(each); math.Abs(losses[update]-native) > 0.006*native { // the table has three digits
			t.Errorf("the loss of update %d is %g, natively %g", update, losses[update], native)
		}
	}
}

// colours counts the colours of a picture.
func colours(m image.Image) int {
	seen := map[[3]uint32]bool{}
	for y := m.Bounds().Min.Y; y < m.Bounds().Max.Y; y++ {
		for x := m.Bounds().Min.X; x < m.Bounds().Max.X; x++ {
			r, g, b, _ := m.At(x, y).RGBA()
			seen[[3]uint32{r, g, b}] = true
		}
	}
	return len(seen)
}

// An address that a messenger cut off opens the first recipe and says why.
func TestDamagedLink(t *testing.T) {
	p := openPage(t, options{at: "#steer?r=3VZdb9s2FP0rgp7awpYtf8"})
	p.wait("the link may have been cut off")
	p.waitText("stage-title", "Dark glasses")
}
