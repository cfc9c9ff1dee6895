// Command memory writes docs/models.md's table of what runs of Stable Diffusion 1.5
// take, by their plans: nothing is allocated, and of the model its released configs
// are all that is read. A test fails when the table is out of date.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/model/tokenizer"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/tools/marked"
)

// markers are those of the table.
const markers = "memory"

func main() {
	file := flag.String("w", "", "file to write the table into, between its markers")
	root := flag.String("root", ".", "root of the repository")
	flag.Parse()
	if err := run(*root, *file); err != nil {
		fmt.Fprintln(os.Stderr, "memory:", err)
		os.Exit(1)
	}
}

func run(root, file string) error {
	table, err := tableOf(root)
	if err != nil {
		return err
	}
	if file == "" {
		fmt.Print(table)
		return nil
	}
	return marked.Write(file, markers, table)
}

// checkpoint reads the released configs of Stable Diffusion 1.5, with weights as
// they would be stored and an autoencoder of that name to decode with.
func checkpoint(root, autoencoder string, stored model.DType) (*engine.Networks, error) {
	var missing error
	released := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(root, "model/testdata/released", name+".json"))
		missing = errors.Join(missing, err)
		return text
	}
	const name = "stable-diffusion-v1-5"
	unet, unetErr := model.ParseUNet2DConditionConfig(released(name + ".unet"))
	text, textErr := model.ParseCLIPTextConfig(released(name + ".text"))
	vae, vaeErr := model.ParseAutoencoderConfig(released(autoencoder + ".vae"))
	// Of a tokenizer only the length of a text matters, which is CLIP's.
	words, wordsErr := tokenizer.Load(os.DirFS(filepath.Join(root, "model/testdata/stable-diffusion")), "tokenizer")
	scheduler := released(name + ".scheduler")
	if err := cmp.Or(missing, unetErr, textErr, vaeErr, wordsErr); err != nil {
		return nil, err
	}
	unet.Tokens = text.MaxPositionEmbeddings
	return &engine.Networks{Pipeline: &model.Pipeline{
		UNet:        &model.UNet2DCondition{Config: unet, Stored: stored},
		Text:        &model.CLIPText{Config: text, Stored: stored},
		Autoencoder: &model.AutoencoderModel{Config: vae, Stored: stored},
		Tokenizer:   words,
		Scheduler:   scheduler,
	}}, nil
}

const (
	full = "stable-diffusion-v1-5"
	tiny = "taesd"

	byLatents  = "objective: [{term: total_variation, space: latents}]\n"
	byPictures = "objective: [{term: total_variation}]\n"
	lora       = "variables: {parameters: {lora: {rank: 4, alpha: 4}}}\nguards: {latent_norm: none, early_stop: false}\ntune: {batch_size: 1}\n"
)

// sizes are the pictures' sides, with what an update should take at most there.
var sizes = []struct {
	side   int
	target int64
}{{256, 3 << 30}, {512, 13 << 29}}

// rows are the runs.
var rows = []struct{ says, decoder, recipe string }{
	{"sample", full, "updates: 0\n"},
	{"steer by what is in the latents", full, byLatents},
	{"steer by what is in the pictures, through TAESD", tiny, byPictures},
	{"steer by what is in the pictures, through the full decoder", full, byPictures},
	{"tune a LoRA of rank 4 by what is in the latents", full, byLatents + lora},
	{"tune it by what is in the pictures, through TAESD", tiny, byPictures + lora},
	{"tune it by what is in the pictures, through the full decoder", full, byPictures + lora},
}

// count plans a run of one picture: what it takes, or the least that a budget can
// bring it to.
func count(root, decoder, recipe string, stored model.DType, side int, least bool) (engine.Memory, error) {
	networks, err := checkpoint(root, decoder, stored)
	if err != nil {
		return engine.Memory{}, err
	}
	text := fmt.Sprintf("version: 1\nname: memory\nmodel: any\nprompt: a picture\nnum_images: 1\nguidance_scale: 7.5\nheight: %d\nwidth: %[1]d\n", side) + recipe
	r, err := recipes.Parse([]byte(text), "memory")
	if err != nil {
		return engine.Memory{}, err
	}
	m, err := networks.Model(r)
	if err != nil {
		return engine.Memory{}, err
	}
	o := m.Options()
	if least {
		o.MemoryBudget = 1
	}
	var counted engine.Memory
	if strings.Contains(recipe, "lora") {
		p, err := engine.NewTuningPlan(r, m, nil, o)
		if err == nil {
			counted = p.Memory(nil)
		}
		return bare(counted, err)
	}
	p, err := engine.NewPlan(r, m, nil, o)
	if err == nil {
		counted = p.Memory(nil)
	}
	return bare(counted, err)
}

// bare takes the least that a run needs out of the refusal of its budget.
func bare(counted engine.Memory, err error) (engine.Memory, error) {
	var over *engine.OverBudget
	if errors.As(err, &over) {
		return over.Least, nil
	}
	return counted, err
}

func tableOf(root string) (string, error) {
	head, rule, target := "| Run |", "|---|", "| *target for an update* |"
	for _, s := range sizes {
		head += fmt.Sprintf(" %d x %[1]d | at least |", s.side)
		rule += "---|---|"
		target += fmt.Sprintf(" *%s* | |", engine.Bytes(s.target))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n", head, rule)
	for _, row := range rows {
		fmt.Fprintf(&b, "| %s |", row.says)
		for _, s := range sizes {
			for _, least := range []bool{false, true} {
				m, err := count(root, row.decoder, row.recipe, model.F16, s.side, least)
				if err != nil {
					return "", fmt.Errorf("%s at %d: %w", row.says, s.side, err)
				}
				mark := ""
				if m.Total() > s.target {
					mark = ", over"
				}
				fmt.Fprintf(&b, " %s%s |", engine.Bytes(m.Total()), mark)
			}
		}
		fmt.Fprintln(&b)
	}
	fmt.Fprintf(&b, "%s\n", target)
	return b.String(), nil
}
