package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/sdo-go/sdo/sdo"
)

// display shows how far a run is: a live bar on a terminal, a line now and then
// elsewhere, nothing with --quiet.
type display struct {
	out   io.Writer
	total int
	unit  string // what the numbers of sparse lines count

	bar     *progressbar.ProgressBar // on a terminal
	columns int                      // of the terminal, 0 where it does not say
	started time.Time
	spoke   time.Time // of the last sparse line
	done    int
	begun   int // done before the display began
	label   string
}

// sparse is how often a display without a terminal speaks.
const sparse = 5 * time.Second

// newDisplay begins a display of total steps.
func (a *app) newDisplay(total int, unit string) *display {
	d := &display{out: a.stderr, total: total, unit: unit, started: time.Now(), spoke: time.Now()}
	if a.quiet {
		d.out = nil
		return d
	}
	if f, ok := a.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		d.columns, _, _ = term.GetSize(int(f.Fd()))
		d.bar = progressbar.NewOptions(total,
			progressbar.OptionSetWriter(f),
			progressbar.OptionSetWidth(28),
			progressbar.OptionThrottle(80*time.Millisecond),
			progressbar.OptionSetPredictTime(false),
			progressbar.OptionSetElapsedTime(false),
			progressbar.OptionFullWidth(),
			progressbar.OptionSetTheme(progressbar.Theme{Saucer: "█", SaucerHead: "▌", SaucerPadding: "·", BarStart: "", BarEnd: ""}),
			progressbar.OptionSetRenderBlankState(true),
		)
	}
	return d
}

// begin counts from what an earlier run has done, which took none of this time.
func (d *display) begin(done int) {
	d.begun, d.done = done, done
	if d.bar != nil {
		d.bar.Set(done)
	}
}

// set moves to done of total with a new label.
func (d *display) set(done int, label string) {
	d.done, d.label = done, label
	switch {
	case d.out == nil:
	case d.bar != nil:
		d.bar.Describe(shortened(fmt.Sprintf("%s, %s left", label, d.left()), d.columns))
		d.bar.Set(done)
	case time.Since(d.spoke) >= sparse:
		d.spoke = time.Now()
		fmt.Fprintf(d.out, "%s, %d of %d %s, %s left\n", label, done, d.total, d.unit, d.left())
	}
}

// beside is what a bar writes beside its label: the share that is done.
const beside = len(" 100%   ")

// shortened cuts a label to what fits into a line beside the bar. A line that
// wraps could not be written over.
func shortened(label string, columns int) string {
	runes := []rune(label)
	if room := columns - beside; columns > 0 && len(runes) > room {
		return string(runes[:max(0, room-1)]) + "…"
	}
	return label
}

// left estimates the time to the end from the pace so far.
func (d *display) left() string {
	if d.done == d.begun {
		return "unknown time"
	}
	pace := time.Since(d.started) / time.Duration(d.done-d.begun)
	return (pace * time.Duration(d.total-d.done)).Round(time.Second).String()
}

// end closes the display; a bar that stopped early is cleared, for the line
// that follows tells the end of the story.
func (d *display) end() {
	if d.bar != nil {
		d.bar.Clear()
		fmt.Fprint(d.out, "\r\x1b[K") // and of a ^C that the terminal wrote into it
	}
}

// observe shows the events of a run that makes its start of a picture in
// inversion steps, 0 for a run from noise, and takes steps sampler steps an
// update. Methods that make other calls besides, or fewer, move the bar no
// further and not back: an update is as long as a rollout.
func (d *display) observe(inversion, steps int) sdo.Observer {
	loss, satisfied, rows := 0.0, 0, 0
	return func(e sdo.Event) {
		switch e.Kind {
		case sdo.EventInversion:
			d.set(e.Step, fmt.Sprintf("inversion, step %*d/%d", len(fmt.Sprint(e.Steps)), e.Step, e.Steps))
		case sdo.EventUpdate:
			loss, satisfied, rows = 0, 0, len(e.Best)
			for _, l := range e.Best {
				loss += l / float64(rows)
			}
			for _, s := range e.Stopped {
				if s {
					satisfied++
				}
			}
			d.set(inversion+(e.Update+1)*steps, updateLabel(e.Update, e.Updates, loss, satisfied, rows))
		case sdo.EventStep:
			label := "first look"
			if rows > 0 {
				label = updateLabel(e.Update, e.Updates, loss, satisfied, rows)
			}
			d.set(max(d.done, inversion+e.Update*steps+e.Step), fmt.Sprintf("%s, step %*d/%d", label, len(fmt.Sprint(e.Steps)), e.Step, e.Steps))
		}
	}
}

func updateLabel(update, updates int, loss float64, satisfied, rows int) string {
	s := fmt.Sprintf("update %*d/%d, loss %.4f", len(fmt.Sprint(updates)), update, updates, loss)
	if satisfied > 0 {
		s += fmt.Sprintf(", %d/%d done", satisfied, rows)
	}
	return s
}
