package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/native/hub"
)

// pulled is what `sdo model pull --json` prints. Keys are stable.
type pulled struct {
	Name         string       `json:"name"`
	Endpoint     string       `json:"endpoint"`
	Revision     string       `json:"revision"`
	Commit       string       `json:"commit"`
	Folder       string       `json:"folder"`
	Bytes        int64        `json:"bytes"`         // of all files
	FetchedBytes int64        `json:"fetched_bytes"` // of them over the network now
	Seconds      float64      `json:"seconds"`
	Files        []pulledFile `json:"files"`
	Notes        []string     `json:"notes"`
}

type pulledFile struct {
	Path   string     `json:"path"`
	Bytes  int64      `json:"bytes"`
	Digest hub.Digest `json:"digest"` // sha256:… or git-sha1:…, as the hub lists it and the file has it
}

func (a *app) pull() *cobra.Command {
	revision, variant, to, endpoint, all := "", "", "", "", false
	cmd := &cobra.Command{
		Use:   "pull OWNER/NAME",
		Short: "Download a model from a hub, checked and resumable",
		Long: `Download a model in diffusers' layout from a server that speaks the Hugging
Face hub's interface. Taken are configs, tokenizers and one edition of the
weights, safetensors before pickled .bin files; never checkpoints in one file,
ONNX, Flax or TensorFlow, nor the safety checker, which nothing here reads.

Every file is compared with the checksum that the hub lists before it appears
under its name. An interrupted download goes on with the same command, and
files that are there already are only checked. Files that no download put into
the folder are never replaced.

The model is then known by its name: sdo steer --model OWNER/NAME. It is kept
in the folder SDO_MODELS, by default sdo/models in the user's cache; --to gives
another place.

The hub is --endpoint, or SDO_HUB, or HF_ENDPOINT, or ` + hub.Endpoint + `.
The token in HF_TOKEN goes to it and to no other server.`,
		Example: `  sdo model pull stable-diffusion-v1-5/stable-diffusion-v1-5 --variant fp16
  sdo model pull madebyollin/taesd --to models/taesd`,
		Args: one("OWNER/NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			if err := hub.CheckName(name); err != nil {
				return usageError{err}
			}
			if to == "" {
				kept, err := keptModels()
				if err != nil {
					return usageError{err}
				}
				to = filepath.Join(kept, filepath.FromSlash(name))
			}
			if all && variant != "" {
				return usageError{errors.New("--all takes every file, so --variant has nothing to choose; give one of them")}
			}
			client, err := hub.New(cmp.Or(endpoint, os.Getenv("SDO_HUB"), os.Getenv("HF_ENDPOINT"), hub.Endpoint), os.Getenv("HF_TOKEN"))
			if err != nil {
				return usageError{err}
			}
			err = a.pullInto(cmd.Context(), client, name, revision, variant, all, to)
			if refusal := (hub.Refusal{}); errors.As(err, &refusal) {
				return usageError{err}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&revision, "revision", "main", "branch, tag or commit")
	cmd.Flags().StringVar(&variant, "variant", "", "edition of the weights where there is one, such as fp16")
	cmd.Flags().StringVar(&to, "to", "", "folder of the model (default the user's models)")
	cmd.Flags().StringVar(&endpoint, "endpoint", "", "address of the hub")
	cmd.Flags().BoolVar(&all, "all", false, "take every file, whether it is of use here or not")
	return cmd
}

// keptModels is the folder of the models that were pulled.
func keptModels() (string, error) {
	if dir := os.Getenv("SDO_MODELS"); dir != "" {
		return dir, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("there is no folder to keep models in (%w); name one by SDO_MODELS or --to", err)
	}
	return filepath.Join(cache, "sdo", "models"), nil
}

func (a *app) pullInto(ctx context.Context, client *hub.Client, name, revision, variant string, all bool, dir string) error {
	start := time.Now()
	var bar *display
	client.Note = func(note string) {
		if bar != nil {
			bar.end()
		}
		a.say("%s", note)
	}
	listing, err := client.List(ctx, name, revision)
	if err != nil {
		return err
	}
	files, notes := listing.Files, []string{}
	if !all {
		var index []byte
		if f, ok := listing.Find(hub.IndexFile); ok {
			if index, err = client.ReadFile(ctx, listing, f); err != nil {
				return err
			}
			if err := model.JudgePipeline(index); err != nil {
				return usageError{fmt.Errorf("%s: %w; --all downloads it all the same", name, err)}
			}
		}
		chosen, said, err := hub.Choose(listing.Files, index, variant)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		files, notes = chosen, append(notes, said...)
	}
	result := pulled{Name: name, Endpoint: client.Address(), Revision: revision, Commit: listing.Commit, Folder: dir, Notes: notes}
	for _, f := range files {
		result.Bytes += f.Size
		result.Files = append(result.Files, pulledFile{f.Path, f.Size, f.Digest})
	}
	a.say("%s at %.12s: %s, %s, into %s", name, listing.Commit, noun(len(files), "file"), engine.Bytes(result.Bytes), dir)
	for _, note := range notes {
		a.say("%s", note)
	}

	// One display for what is there, another for what comes: they keep their own
	// pace.
	checking, shift, unit := true, 0, ""
	came, err := client.Pull(ctx, listing, files, dir, func(p hub.Progress) {
		if bar != nil && checking && !p.Checking {
			bar.end()
			bar = nil
		}
		if bar == nil {
			shift, unit = 20, "MiB"
			if p.Total < 100<<20 {
				shift, unit = 10, "KiB"
			}
			bar, checking = a.newDisplay(max(1, int(p.Total>>shift)), unit), p.Checking
			bar.begin(int(p.Done >> shift))
		}
		label := path.Base(p.File)
		if p.Checking {
			label = "checking " + label
		}
		bar.set(int(p.Done>>shift), label)
	})
	if bar != nil {
		bar.end()
	}
	for _, f := range came {
		result.FetchedBytes += f.Fetched
	}
	if errors.Is(err, context.Canceled) {
		a.say("interrupted; %s holds what has come, and the same command goes on", dir)
		return errInterrupted
	}
	if err != nil {
		return err
	}
	result.Seconds = time.Since(start).Seconds()
	if a.json {
		return a.printJSON(result)
	}
	known := name
	if kept, err := keptModels(); err != nil || filepath.Join(kept, filepath.FromSlash(name)) != dir {
		known = dir
	}
	fmt.Fprintf(a.stdout, "%s fetched, all %s checked, in %s: %s\n", cmp.Or(engine.Bytes(result.FetchedBytes), "nothing"), noun(len(files), "file"), duration(result.Seconds), dir)
	fmt.Fprintf(a.stdout, "sdo model inspect %s says what it is and what it needs\n", known)
	return nil
}
