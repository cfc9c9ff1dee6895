package hub

import (
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
)

// FuzzListing reads what a server lists and chooses from it by what a
// model_index.json says: every path that is taken stays inside the folder and out
// of what a download keeps there, and what is chosen is listed, once.
func FuzzListing(f *testing.F) {
	const digest = `"0123456789012345678901234567890123456789"`
	for _, names := range [][]string{
		{"model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors", "vae/diffusion_pytorch_model.bin"},
		{"config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json", "model.fp16-00001-of-00001.bin", "model.bin.index.fp16.json"},
		{"pytorch_lora_weights.safetensors", "README.md", "LICENSE"}, {"head.pth", "a.pt"}, {"../x"}, {"/etc/passwd"}, {".PULL/record.json"}, {".Git/hooks/post-checkout"}, {`a\b`}, {"a", "a/b"}, {"C:x"},
	} {
		text := `{"sha": "0123456", "siblings": [`
		for i, name := range names {
			if i > 0 {
				text += ","
			}
			text += `{"rfilename": "` + strings.ReplaceAll(name, `\`, `\\`) + `", "size": 3, "blobId": ` + digest + `}`
		}
		f.Add([]byte(text+"]}"), []byte(stableDiffusion), "")
		f.Add([]byte(text+"]}"), []byte(`{"unet": ["a", "b"], ".": ["a", "b"], "vae": [null, null], "../x": ["a", "b"]}`), "fp16")
		f.Add([]byte(text+"]}"), []byte(nil), "fp16")
	}
	f.Add([]byte(`{"siblings": [{"rfilename": "a", "size": -1}, {"rfilename": "b", "lfs": {"sha256": "0123456789012345678901234567890123456789012345678901234567890123", "size": 99999999999999999}}]}`), []byte(`[]`), "")
	f.Add([]byte(`<html>`), []byte(`{`), "x")
	f.Fuzz(func(t *testing.T, text, index []byte, variant string) {
		l, err := parseListing(text)
		if err != nil {
			if message := err.Error(); len(message) > 8*maxName || strings.Contains(message, "\n") {
				t.Errorf("an error of %d bytes: %.300q", len(message), message)
			}
			return
		}
		for _, file := range l.Files {
			first, _, _ := strings.Cut(file.Path, "/")
			if !fs.ValidPath(file.Path) || path.IsAbs(file.Path) || strings.EqualFold(first, privateFolder) || strings.EqualFold(first, ".git") || file.Size > maxSize {
				t.Fatalf("%q of %d bytes is taken", file.Path, file.Size)
			}
			if found, ok := l.Find(file.Path); !ok || found != file {
				t.Fatalf("%q is not found again", file.Path)
			}
		}
		if len(index) == 0 {
			index = nil
		}
		chosen, _, err := Choose(l.Files, index, variant)
		if err != nil {
			return
		}
		for i, file := range chosen {
			if i > 0 && file.Path <= chosen[i-1].Path {
				t.Fatalf("%q is chosen twice, or out of order", file.Path)
			}
			if !slices.Contains(l.Files, file) {
				t.Fatalf("%q is chosen and not listed", file.Path)
			}
		}
	})
}
