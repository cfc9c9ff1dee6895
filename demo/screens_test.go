package demo_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// tabs are the parts of the page in their order.
var tabs = []string{"steer", "shortcut", "tune", "audit", "models", "device"}

// A narrow phone shows everything without scrolling sideways.
func TestNarrowPhone(t *testing.T) {
	p := openPage(t, options{phone: true})
	p.do(chromedp.EmulateViewport(360, 740, chromedp.EmulateScale(2), chromedp.EmulateMobile, chromedp.EmulateTouch))
	p.ready()
	fits := func(where string) {
		t.Helper()
		if width := evaluate[int](p, "return document.scrollingElement.scrollWidth"); width > 360 {
			widest := evaluate[string](p, "return [...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > 361).map((e) => e.tagName + '.' + e.className).slice(0, 5).join(', ')")
			t.Errorf("%s is %d pixels wide: %s", where, width, widest)
		}
	}
	p.size(1, 3, 1)
	p.steer()
	for _, panel := range []string{"goal", "run", "share", "recipe"} {
		p.panel(panel)
		fits("the panel " + panel)
	}
	for _, tab := range tabs {
		p.click("tab-" + tab)
		p.waitFor("return document.querySelector('[data-testid=tab-" + tab + "]').ariaSelected === 'true'")
		fits("the tab " + tab)
	}
}

// Arrow keys move between tabs, and Tab through everything in one.
func TestKeyboard(t *testing.T) {
	p := openPage(t, options{})
	p.ready()
	p.size(1, 3, 1)
	p.steer()
	p.panel("goal")

	p.focus("tab-steer")
	for _, move := range []struct{ key, tab string }{
		{kb.ArrowRight, "shortcut"}, {kb.ArrowRight, "tune"}, {kb.ArrowLeft, "shortcut"}, {kb.End, "device"}, {kb.ArrowRight, "steer"}, {kb.ArrowLeft, "device"}, {kb.Home, "steer"},
	} {
		p.key(move.key)
		at := evaluate[[]string](p, "return [document.activeElement.dataset.testid, document.querySelector('[role=tab][aria-selected=true]').dataset.testid, location.hash]")
		if at[0] != "tab-"+move.tab || at[1] != at[0] || !strings.HasPrefix(at[2], "#"+move.tab) {
			t.Errorf("want tab %s, got focus on %s, tab %s and address %s", move.tab, at[0], at[1], at[2])
		}
	}

	// Every control, but for tabs and radio buttons that the arrows reach.
	want := evaluate[[]string](p, `
		const all = [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')]
		return all.filter((e) => e.checkVisibility({ visibilityProperty: true }) && !e.matches(':disabled') && e.tabIndex >= 0 && !e.matches('input[type=radio]:not(:checked)')).map((e, i) => (e.dataset.stop = String(i)))`)
	var met, unseen []string
	for range len(want) + 10 {
		p.key(kb.Tab)
		stop := evaluate[struct {
			Stop, Name string
			Seen       bool
		}](p, `
			const e = document.activeElement
			const marked = (x) => { const s = getComputedStyle(x); return (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0) || s.boxShadow !== 'none' }
			// A slider's thumb is marked by a rule of its own, which no computed style shows.
			const thumb = (x) => x.matches('[type=range]') && [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules]).some((rule) => {
				const [of, part] = (rule.selectorText ?? '').split('::')
				return part === '-webkit-slider-thumb' && of.includes(':focus-visible') && x.matches(of) && rule.style.outline.includes('solid')
			})
			const box = e.getBoundingClientRect()
			return { Stop: e.dataset.stop ?? '', Name: e.outerHTML.slice(0, 90), Seen: (marked(e) || thumb(e) || (e.matches('label input') && marked(e.closest('label')))) && box.bottom > 0 && box.top < innerHeight }`)
		if stop.Stop == "" { // beyond the last one, before the first
			continue
		}
		if slices.Contains(met, stop.Stop) {
			break
		}
		met = append(met, stop.Stop)
		if !stop.Seen {
			unseen = append(unseen, stop.Name)
		}
	}
	if len(unseen) > 0 {
		t.Errorf("focus cannot be seen on\n%s", strings.Join(unseen, "\n"))
	}
	for _, stop := range want {
		if !slices.Contains(met, stop) {
			t.Errorf("Tab does not reach %s", evaluate[string](p, "return document.querySelector('[data-stop=\""+stop+"\"]').outerHTML.slice(0, 120)"))
		}
	}
	t.Logf("%d stops", len(met))
}

// Colours follow the system until a person chooses others, and are kept.
func TestColours(t *testing.T) {
	p := openPage(t, options{dark: true})
	paper := func() string { return evaluate[string](p, "return getComputedStyle(document.body).backgroundColor") }
	dark := paper()
	p.dress(false, false)
	light := paper()
	if dark == light {
		t.Fatalf("both are %s", dark)
	}
	p.click("theme") // light
	p.dress(false, true)
	if got := paper(); got != light {
		t.Errorf("chosen light colours are %s, want %s", got, light)
	}
	p.click("theme") // dark
	p.reload()
	p.dress(false, false)
	if got := paper(); got != dark {
		t.Errorf("chosen dark colours are %s after a reload, want %s", got, dark)
	}
}

// Pictures of the Steer tab for a person to look at; the other tabs' tests make
// theirs.
func TestScreens(t *testing.T) {
	p := openPage(t, options{})
	p.ready()
	p.size(4, 6, 12)
	p.steer()
	for _, panel := range []string{"run", "goal", "share", "recipe"} {
		p.panel(panel)
		p.screenshots("steer-" + panel)
	}
	p.panel("goal")
	p.click("add-goal")
	p.screenshots("steer-kinds")
	p.click("goal-kind-pixels")
	p.within("goal-1").draw("sketch", pixel(4, 4), pixel(11, 4), pixel(11, 8))
	p.screenshots("steer-sketch")
	p.within("stage-pictures").focus("picture 1")
	p.key(kb.Enter)
	p.wait("enlarged")
	p.screenshots("steer-enlarged")
}
