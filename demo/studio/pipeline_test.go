package studio

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/engine/enginetest"
	"github.com/sdo-go/sdo/recipes"
)

// bring puts a folder of model/testdata into the store, looks into it as the page
// does and keeps it.
func (b *bench) bring(name string) (i inspected, info modelInfo) {
	b.Helper()
	dir := filepath.Join("..", "..", "model", "testdata", name)
	var files []map[string]any
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		path, err := filepath.Rel(dir, at)
		path = filepath.ToSlash(path)
		file := map[string]any{"path": path, "size": len(data)}
		if filepath.Ext(path) == ".json" {
			file["text"] = string(data)
		}
		files = append(files, file)
		b.files["models/"+name+"/"+path] = data
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	b.must("inspect", map[string]any{"name": name, "files": files, "num_images": 16}, &i)
	b.must("add_model", map[string]any{"name": name}, &info)
	return i, info
}

// A pipeline's folder and what helps it are looked into, kept and steered, with
// the losses of a native run.
func TestBringAPipeline(t *testing.T) {
	b := newBench(t)
	i, info := b.bring("stable-diffusion")
	names := []string{}
	parameters, bytes := 0, int64(0)
	for _, c := range info.Components {
		names = append(names, c.Name+" "+c.Class)
		parameters, bytes = parameters+c.Parameters, bytes+c.Bytes
		if c.Bytes < 2*int64(c.Parameters) || c.Bytes > 3*int64(c.Parameters) {
			t.Errorf("%s has %d halves in %d bytes", c.Name, c.Parameters, c.Bytes)
		}
	}
	if got := strings.Join(names, ", "); got != "unet UNet2DConditionModel, vae AutoencoderKL, text_encoder CLIPTextModel" {
		t.Errorf("components %s", got)
	}
	if !info.Draws || !info.Text || info.Class != "StableDiffusionPipeline" || info.Parameters != parameters || info.Bytes < bytes || info.Width != 32 || info.Height != 32 {
		t.Errorf("got %+v", info)
	}
	if !i.OK || i.NumImages != 1 || i.Message != "a StableDiffusionPipeline with "+strconv.Itoa(parameters)+" parameters, for pictures of 32x32 pixels from a prompt" {
		t.Errorf("got %+v", i)
	}

	latents := enginetest.Latents{Root: "../..", Example: "steer-by-clip.yaml"}
	r := latents.Recipe(t)
	look := func(want string) {
		t.Helper()
		var c checked
		b.must("check", map[string]any{"text": string(r.Canonical())}, &c)
		switch {
		case want == "" && len(c.Problems) > 0:
			t.Errorf("problems %v", c.Problems)
		case want != "" && (len(c.Problems) != 1 || c.Problems[0].Message != want):
			t.Errorf("problems %v, want %s", c.Problems, want)
		}
	}
	look(`decoder: "taesd" is not here; bring its folder on the Models page, and name it as it is called there`)
	if _, info = b.bring("taesd"); info.Class != "AutoencoderTiny" || info.Draws || len(info.Components) != 1 {
		t.Errorf("got %+v", info)
	}
	look(`clip: "clip" is not here; bring its folder on the Models page, and name it as it is called there`)
	if i, info = b.bring("clip"); info.Class != "CLIPModel" || info.Draws || !i.OK || i.Steer.Total != 0 {
		t.Errorf("got %+v and %+v", i, info)
	}
	look("")
	r.Model = "clip"
	look("model clip is a CLIPModel, which makes no pictures; choose one that does")
	r.Model = "stable-diffusion"

	// The plan of the folder before it was kept is that of the run.
	var p planned
	plain := r.Clone()
	plain.Prompt, plain.NegativePrompt, plain.GuidanceScale, plain.Decoder = "", "", 1, ""
	plain.Sampler, plain.Objective = recipes.Defaults().Sampler, []recipes.Term{{Term: "total_variation", Weight: 1}}
	i, _ = b.bring("stable-diffusion")
	b.must("plan", map[string]any{"recipe": plain}, &p)
	if p.Memory.Activations != i.Steer.Activations || p.Memory.Params != i.Steer.Params {
		t.Errorf("the folder needs %+v, a run %+v", i.Steer, p.Memory)
	}

	for _, set := range [][]string{nil, {"decoder=\"\"", "variables=[latents, condition]"}} {
		latents.Set = set
		r := latents.Recipe(t)
		want, _ := enginetest.Run(t, r, latents.Open)
		var got steerResult
		reply := b.must("steer", map[string]any{"recipe": r}, &got)
		if worst := enginetest.Apart(got.Losses, want.Losses); worst > enginetest.Tolerance {
			t.Errorf("%v: losses %v, natively %v", set, got.Losses, want.Losses)
		}
		if got.After.Width != 32 || got.After.Height != 32 || len(reply.buffers[1]) != 4*32*32 {
			t.Errorf("%v: pictures of %dx%d in %d bytes", set, got.After.Width, got.After.Height, len(reply.buffers[1]))
		}
	}
	for _, name := range []string{"stable-diffusion", "clip", "taesd"} {
		b.must("remove_model", map[string]any{"name": name}, nil)
	}

	b.files["models/half/model_index.json"] = []byte(`{"_class_name": "StableDiffusionPipeline"}`)
	b.refused(kindInput, "the component scheduler is missing", "add_model", map[string]any{"name": "half"})
	b.files["models/other/model_index.json"] = []byte(`{"_class_name": "FluxPipeline"}`)
	b.refused(kindInput, "Flux", "add_model", map[string]any{"name": "other"})
	if len(b.files) > 0 {
		t.Errorf("%d files are still kept", len(b.files))
	}
}
