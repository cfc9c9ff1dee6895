//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A pipe or a device in place of a file ends in a sentence, and nobody waits for
// what it will never say.
func TestNoFileIsWaitedFor(t *testing.T) {
	pipe := func(path string) string {
		t.Helper()
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(path, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pipeline := func(file string) string {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "model")
		if err := os.CopyFS(dir, os.DirFS("../model/testdata/stable-diffusion")); err != nil {
			t.Fatal(err)
		}
		pipe(filepath.Join(dir, file))
		return dir
	}
	here := t.TempDir()
	lora, out := pipe(filepath.Join(here, "lora.safetensors")), filepath.Join(here, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	pipe(filepath.Join(out, checkpointFile))
	hubOf(t)
	pulled := filepath.Join(here, "pulled")
	if err := os.Mkdir(pulled, 0o755); err != nil {
		t.Fatal(err)
	}
	pipe(filepath.Join(pulled, "config.json"))
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"a pipeline's weights":  {[]string{"sample", "--device", "cpu", "--model", pipeline("unet/diffusion_pytorch_model.safetensors"), "--out", here}, "unet/diffusion_pytorch_model.safetensors: is a pipe, want a file; put the file itself in its place"},
		"a pipeline's config":   {[]string{"sample", "--device", "cpu", "--model", pipeline("vae/config.json"), "--out", here}, "vae/config.json: is a pipe, want a file"},
		"a pipeline's words":    {[]string{"sample", "--device", "cpu", "--model", pipeline("tokenizer/vocab.json"), "--out", here}, "tokenizer/vocab.json: is a pipe, want a file"},
		"an adapter":            {[]string{"sample", "--lora", lora}, "lora.safetensors: is a pipe, want a file"},
		"an adapter, a device":  {[]string{"sample", "--lora", "/dev/zero"}, "zero: is a device, want a file"},
		"inspecting an adapter": {[]string{"model", "inspect", lora}, "lora.safetensors: is a pipe, want a file"},
		"inspecting a device":   {[]string{"model", "inspect", "/dev/zero"}, "zero: is a device, want a file"},
		"inspecting a pipeline": {[]string{"model", "inspect", "--device", "cpu", pipeline("vae/diffusion_pytorch_model.safetensors")}, "vae/diffusion_pytorch_model.safetensors: is a pipe, want a file"},
		"merging an adapter":    {[]string{"model", "merge", "avatars-16-s", "--lora", lora, "--to", filepath.Join(here, "to")}, "lora.safetensors: is a pipe, want a file"},
		"a checkpoint":          {[]string{"steer", "dark-glasses", "--device", "cpu", "--out", out}, checkpointFile + ": is a pipe, want a file"},
		"a pulled file":         {[]string{"model", "pull", "some-one/avatars", "--to", pulled}, "config.json is there and is not a file; move it away, or give another folder with --to"},
		"training without end":  {[]string{"train", "/dev/zero"}, "/dev/zero: has more than"},
		"a recipe without end":  {[]string{"steer", "/dev/zero"}, "/dev/zero: recipe: expected at most 256 KiB"},
		"a picture without end": {[]string{"sample", "--device", "cpu", "--out", here, "--set", "start.image=/dev/zero"}, "picture /dev/zero: not a PNG file"},
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				code, _, stderr := invoke(t, append(tt.args, "-q")...)
				if code != exitUsage || !strings.Contains(stderr, tt.want) || strings.Count(strings.TrimSpace(stderr), "\n") > 0 {
					t.Errorf("exit code %d, standard error %q, want one sentence with %q", code, stderr, tt.want)
				}
			}()
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				t.Fatal("it waits")
			}
		})
	}
}

// The first Ctrl-C is told what it waits for where that takes long, a second one
// waits for nothing. Here it is a recipe that somebody has yet to write.
func TestSecondInterruptEndsAtOnce(t *testing.T) {
	if path := os.Getenv("SDO_TEST_INTERRUPT"); path != "" {
		os.Args = []string{"sdo", "steer", path}
		main()
	}
	path := filepath.Join(t.TempDir(), "recipe.yaml")
	if err := syscall.Mkfifo(path, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestSecondInterruptEndsAtOnce$")
	cmd.Env = append(os.Environ(), "SDO_TEST_INTERRUPT="+path)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() }).Stop()
	// Who waits for the recipe listens for signals. A pipe takes no writer before.
	writer, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	for deadline := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		writer, err = os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	told := make(chan string)
	go func() {
		text := make([]byte, 1000)
		n, _ := stderr.Read(text)
		told <- string(text[:n])
	}()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if says := <-told; !strings.Contains(says, "Ctrl-C again ends at once") {
		t.Errorf("after the first it says %q", says)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "interrupt") {
		t.Errorf("after the second it ends with %v", err)
	}
}
