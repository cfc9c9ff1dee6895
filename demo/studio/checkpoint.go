package studio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"time"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// Files of the store that hold work in progress, and how often they are written:
// what a lost device or a closed tab costs at most.
const (
	steerCheckpoint = "checkpoints/steer.safetensors"
	tuneCheckpoint  = "checkpoints/tune.safetensors"
	checkpointEvery = 3 * time.Second
)

// Keys of a checkpoint's metadata, beside those of package engine.
const (
	metadataRecipe  = "recipe"
	metadataSaved   = "saved"
	metadataSeconds = "seconds"
	metadataUpdate  = "update"
	metadataName    = "name" // what a tuning's adapter will be called
)

// savedWork describes a checkpoint.
type savedWork struct {
	Name   string          `json:"name"`
	Recipe *recipes.Recipe `json:"recipe"`
	Update int             `json:"update"`
	Saved  int64           `json:"saved"`
}

func checkpoints(r *request, _ none) (any, error) {
	all := []savedWork{}
	for _, c := range []struct{ name, file string }{{"steer", steerCheckpoint}, {"tune", tuneCheckpoint}} {
		data, err := r.server.host.Read(c.file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		file, err := model.ParseSafetensors(c.file, data)
		if err != nil {
			continue // cut short by a full disk: there is nothing to go on from
		}
		w := savedWork{Name: c.name}
		if w.Recipe, err = recipes.Parse([]byte(file.Metadata[metadataRecipe]), c.file); err != nil {
			continue // of an older build
		}
		w.Update, _ = strconv.Atoi(file.Metadata[metadataUpdate])
		w.Saved, _ = strconv.ParseInt(file.Metadata[metadataSaved], 10, 64)
		all = append(all, w)
	}
	return all, nil
}

func discard(r *request, p struct {
	Name string `json:"name"`
}) (any, error) {
	files := map[string]string{"steer": steerCheckpoint, "tune": tuneCheckpoint}
	if files[p.Name] == "" {
		return nil, inputError{fmt.Errorf("checkpoint is %q, want steer or tune", p.Name)}
	}
	return nil, r.server.host.Remove(files[p.Name])
}

// writeCheckpoint keeps what write writes, with a recipe among its words.
func (s *Server) writeCheckpoint(file string, r *recipes.Recipe, metadata map[string]string, write func(io.Writer) error) error {
	metadata[metadataRecipe] = string(r.Canonical())
	metadata[metadataSaved] = strconv.FormatInt(time.Now().UnixMilli(), 10)
	var data bytes.Buffer
	if err := write(&data); err != nil {
		return err
	}
	return s.host.Write(file, data.Bytes())
}

// readCheckpoint returns what writeCheckpoint kept, if it is of the same recipe;
// how many updates it wants may have changed.
func (s *Server) readCheckpoint(file string, r *recipes.Recipe) (model.Weights, map[string]string, error) {
	tensors, metadata, err := model.LoadSafetensors(folder{s.host, ""}, file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, inputError{fmt.Errorf("there is no run to go on with; start one")}
	}
	if err != nil {
		return nil, nil, inputError{fmt.Errorf("%w; discard it and start anew", err)}
	}
	saved, err := recipes.Parse([]byte(metadata[metadataRecipe]), file)
	if err != nil {
		return nil, nil, inputError{fmt.Errorf("the saved run is of another version of this page; discard it and start anew")}
	}
	saved.Updates = r.Updates
	if !bytes.Equal(saved.Canonical(), r.Canonical()) {
		return nil, nil, inputError{fmt.Errorf("the saved run is of another recipe; continue it with its own, or discard it")}
	}
	return tensors, metadata, nil
}

// save reads back where an update event left a steering run, now and then, and
// writes it to the store more seldom. A store that takes nothing is no reason to
// end a run: the warning is for the page.
func (s *steering) save(e sdo.Event) (warning string, err error) {
	read, err := s.saver.Update(s, e, s.stopped())
	if err != nil || !read || time.Since(s.written) < checkpointEvery {
		return "", err
	}
	return unkept(s.write()), nil
}

// unkept says that work in progress is not kept; empty for no error.
func unkept(err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf("this run could not be saved and would not survive the tab: %v", err)
}

// write keeps the state that was read back.
func (s *steering) write() error {
	metadata := map[string]string{metadataUpdate: strconv.Itoa(s.saver.State.Result.Updates), metadataSeconds: seconds(s.job)}
	s.written = time.Now()
	return s.server.writeCheckpoint(steerCheckpoint, s.params.Recipe.Recipe, metadata, func(w io.Writer) error {
		return engine.WriteState(w, s.saver.State, metadata)
	})
}

// seconds is how long a run has taken, for a checkpoint.
func seconds(j *job) string { return strconv.FormatFloat(j.seconds(), 'g', -1, 64) }

// spent is what seconds wrote; 0 for anything else.
func spent(metadata map[string]string) float64 {
	n, err := strconv.ParseFloat(metadata[metadataSeconds], 64)
	if err != nil || !(n >= 0) {
		return 0
	}
	return n
}

// readSteering returns where a steering run goes on, and how long it has taken.
func (s *Server) readSteering(r *recipes.Recipe) (*sdo.RunState, float64, error) {
	tensors, metadata, err := s.readCheckpoint(steerCheckpoint, r)
	if err != nil {
		return nil, 0, err
	}
	state, err := engine.ReadState(tensors, metadata)
	if err != nil {
		return nil, 0, inputError{fmt.Errorf("%w; discard it and start anew", err)}
	}
	return state, spent(metadata), nil
}
