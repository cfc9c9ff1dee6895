package train

import (
	"fmt"
	"io/fs"

	"github.com/sdo-go/sdo/train/avatars"
	"github.com/sdo-go/sdo/train/fashion"
)

// source is a data set as recipes name it.
type source struct {
	schema Dataset // shape and attributes, without pictures
	halves bool    // whether a recipe may train on one half
	// open returns the pictures to train on, all or one half of them ("first",
	// "second"), and those that no recipe trains on under the seed heldOut.
	open func(files fs.FS, half string) (training, test Dataset, err error)
}

var sources = map[string]source{
	"avatars": {
		schema: avatars.Dataset{},
		open: func(fs.FS, string) (training, test Dataset, err error) {
			return avatars.Dataset{}, avatars.Dataset{}, nil // another seed shows other avatars
		},
	},
	"fashion-mnist": {
		schema: fashion.Dataset{},
		halves: true,
		open: func(files fs.FS, half string) (training, test Dataset, err error) {
			if files == nil {
				return nil, nil, fmt.Errorf("train: fashion-mnist is read from files; set Session.Data, for example to %s", fashion.Folder)
			}
			all, held, err := fashion.Open(files)
			if err != nil {
				return nil, nil, err
			}
			first, second := all.Halves()
			return map[string]Dataset{"": all, "first": first, "second": second}[half], held, nil
		},
	},
}

// source is the data set of the recipe.
func (r *Recipe) source() (source, error) {
	name := r.Data
	if name == "" {
		name = "avatars"
	}
	s, ok := sources[name]
	switch {
	case !ok:
		return s, fmt.Errorf(`data is %q, want "avatars" or "fashion-mnist"`, r.Data)
	case r.Half != "" && !s.halves:
		return s, fmt.Errorf("half is %q, but %s are drawn without end and have no halves; remove it", r.Half, name)
	case r.Half != "" && r.Half != "first" && r.Half != "second":
		return s, fmt.Errorf(`half is %q, want "first", "second" or nothing`, r.Half)
	}
	return s, nil
}

// open is the recipe's task on its data.
func (r *Recipe) open(files fs.FS) (Task, error) {
	s, err := r.source()
	if err != nil {
		return nil, err
	}
	training, test, err := s.open(files, r.Half)
	if err != nil {
		return nil, err
	}
	return r.task(training, test)
}
