package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// keepEvery is how often a steering run that goes on writes its checkpoint: what
// a power cut costs at most. A run that is over before has none.
var keepEvery = 10 * time.Second

// Keys of a steering's metadata, beside the recipe and those of package engine.
const (
	metadataUpdate  = "update"
	metadataSeconds = "seconds" // of all commands so far
)

// steerKeeper keeps where a steering run stands in its folder, for the same
// command to continue.
type steerKeeper struct {
	out     string
	recipe  *recipes.Recipe
	restart bool          // whatever the folder holds
	resumes *sdo.RunState // what this command goes on from; nil for a new run
	spent   float64       // seconds of the commands before

	begun   time.Time
	ctx     context.Context // of the run, which does not end before its state is read
	cancel  context.CancelFunc
	written time.Time
	kept    *sdo.RunState // what is in the folder; nil for nothing
	unkept  error         // why it is not the latest

	mu       sync.Mutex // the end of the command's context comes at any time
	saver    engine.Saver
	stopping bool
	err      error // of reading the state
}

// readSteering reads where a folder's run goes on, unless it shall begin anew.
func readSteering(out string, r *recipes.Recipe, restart bool) (*steerKeeper, error) {
	k := &steerKeeper{out: out, recipe: r, restart: restart, begun: time.Now()}
	tensors, metadata, err := readCheckpoint(out, "steering", r, restart)
	if err != nil || tensors == nil {
		return k, err
	}
	if k.resumes, err = engine.ReadState(tensors, metadata); err != nil {
		return nil, fmt.Errorf("%s: %w; begin anew with --restart", k.path(), err)
	}
	k.kept = k.resumes
	if s, err := strconv.ParseFloat(metadata[metadataSeconds], 64); err == nil && s >= 0 {
		k.spent = s
	}
	return k, nil
}

func (k *steerKeeper) path() string { return filepath.Join(k.out, checkpointFile) }

// discard removes the checkpoint that a restarted run begins without.
func (k *steerKeeper) discard() error {
	if !k.restart {
		return nil
	}
	return discardCheckpoint(k.out)
}

// begin returns the context to run in. It ends soon after the command's: at once
// where the latest update is read back or there is none, or else with the next,
// which is as near as the latest was.
func (k *steerKeeper) begin(ctx context.Context) (running context.Context, over func()) {
	k.begun, k.written = time.Now(), time.Now()
	k.ctx, k.cancel = context.WithCancel(context.WithoutCancel(ctx))
	forget := context.AfterFunc(ctx, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.stopping = true; k.saver.MayStop() {
			k.cancel()
		}
	})
	return k.ctx, func() {
		forget()
		k.cancel()
	}
}

// observe reads an update's state back and writes it where it is time.
func (k *steerKeeper) observe(e sdo.Event) {
	if e.Kind != sdo.EventUpdate {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	read, err := k.saver.Update(context.WithoutCancel(k.ctx), e, k.stopping)
	if err != nil {
		k.err = err
	}
	if read && !k.stopping && time.Since(k.written) >= keepEvery {
		k.write()
	}
	if k.stopping {
		k.cancel()
	}
}

// ended writes the state that was read last of a run that was cancelled or whose
// device was lost, if the folder has another, and completes the error: by how it
// goes on, or by which file it cannot be continued from.
func (k *steerKeeper) ended(err error, cancelled bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	device := exitCode(err) == exitDevice
	if (cancelled || device) && k.saver.State != nil && k.saver.State != k.kept {
		k.write()
	}
	if device {
		return fmt.Errorf("%w%s", err, k.goesOn())
	}
	if state := (*sdo.StateError)(nil); errors.As(err, &state) {
		return usageError{fmt.Errorf("%s: %w; begin anew with --restart", k.path(), err)}
	}
	return err
}

// write replaces the checkpoint in one move: a run that is killed at any moment
// leaves the one before or this one. A folder that takes none is no reason to end
// a run, which is told when it would have been of use.
func (k *steerKeeper) write() {
	state := k.saver.State
	k.written = time.Now()
	k.unkept = model.WriteFileAtomic(k.path(), func(w io.Writer) error {
		return engine.WriteState(w, state, map[string]string{
			metadataRecipe: string(k.recipe.Canonical()), metadataUpdate: strconv.Itoa(state.Result.Updates),
			metadataSeconds: strconv.FormatFloat(k.seconds(), 'g', -1, 64),
		})
	})
	if k.unkept == nil {
		k.kept = state
	}
}

// seconds is how long the run has taken, over all its commands.
func (k *steerKeeper) seconds() float64 { return k.spent + time.Since(k.begun).Seconds() }

// goesOn says, as the end of a sentence, which command continues from where;
// empty where there is nothing to continue from.
func (k *steerKeeper) goesOn() string {
	why := ""
	if k.unkept != nil {
		why = fmt.Sprintf("; its checkpoint could not be written: %v", k.unkept)
	}
	if k.kept == nil {
		return why
	}
	return fmt.Sprintf("%s; %s holds a checkpoint, and %s continues after %s", why, k.out, toContinue(k.restart), noun(k.kept.Result.Updates, "update"))
}

// failed is why a state could not be read.
func (k *steerKeeper) failed() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.err
}

// remove takes the checkpoint of a finished run away.
func (k *steerKeeper) remove() error {
	if k.kept == nil {
		return nil
	}
	if err := os.Remove(k.path()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the checkpoint of a finished run stays: %w", err)
	}
	return nil
}
