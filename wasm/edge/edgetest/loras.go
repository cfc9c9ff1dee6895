package edgetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/model/builtin"
)

// Adapter draws an adapter of a built-in model which changes it a little.
// targets are as of model.LoRAConfig.
func Adapter(t testing.TB, of string, rank int, alpha float64, targets ...string) *model.LoRA {
	t.Helper()
	files, err := builtin.Open(of)
	if err != nil {
		t.Fatal(err)
	}
	text, err := fs.ReadFile(files, "config.json")
	if err != nil {
		t.Fatal(err)
	}
	config, err := model.ParseUNet2DConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	lora, err := model.NewLoRA(model.LoRAConfig{Rank: rank, Alpha: alpha, Targets: targets}, config, 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range lora.Weights { // B is drawn as zero
		if strings.HasSuffix(name, ".lora_B.weight") {
			for i := range w.Data {
				w.Data[i] = 0.05 * float32(math.Sin(float64(i+len(name))))
			}
		}
	}
	return lora
}

// Kohya is an adapter as kohya-ss' file.
func Kohya(t testing.TB, lora *model.LoRA) []byte {
	t.Helper()
	var file bytes.Buffer
	if err := lora.WriteKohya(&file, model.F32); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// PEFT is an adapter as diffusers' single file under PEFT's names.
func PEFT(t testing.TB, lora *model.LoRA) []byte {
	t.Helper()
	return written(t, lora.Weights, "", map[string]string{
		"lora_adapter_metadata": fmt.Sprintf(`{"unet.r":%d,"unet.lora_alpha":%g}`, lora.Rank, lora.Alpha),
	})
}

func written(t testing.TB, weights model.Weights, prefix string, metadata map[string]string) []byte {
	t.Helper()
	named := model.Weights{}
	for name, w := range weights {
		named[prefix+name] = w
	}
	var file bytes.Buffer
	if err := model.WriteSafetensors(&file, named, model.F32, metadata); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// Upload is a file that is no adapter, and what the refusal must say.
type Upload struct {
	Name string
	File []byte
	Gist string
}

// BadLoRAs are files that nobody may store.
func BadLoRAs(t testing.TB) []Upload {
	file := func(header string, data int) []byte {
		out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
		return append(append(out, header...), make([]byte, data)...)
	}
	entry := func(dtype, shape string, begin, end int) string {
		return fmt.Sprintf(`{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, dtype, shape, begin, end)
	}
	good := Kohya(t, Adapter(t, "avatars-16-s", 2, 2, "to_q"))
	// changed is an adapter of attention, kohya's or PEFT's, with one tensor replaced.
	const q = "down_blocks.1.attentions.0.to_q"
	const kq = "lora_unet_down_blocks_1_attentions_0_to_q"
	changed := func(name string, shape []int, data ...float32) []byte {
		lora := Adapter(t, "avatars-16-s", 2, 2, "to_q")
		size := 1
		for _, extent := range shape {
			size *= extent
		}
		lora.Weights[name] = model.Tensor{Shape: shape, Data: append(data, make([]float32, size-len(data))...)}
		return written(t, lora.Weights, "", nil)
	}
	alpha := func(alpha float32) []byte {
		read, err := model.ParseSafetensors("good", good)
		if err != nil {
			t.Fatal(err)
		}
		weights, err := read.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		weights[kq+".alpha"] = model.Tensor{Shape: []int{}, Data: []float32{alpha}}
		return written(t, weights, "", nil)
	}
	with := func(metadata string) []byte {
		return written(t, Adapter(t, "avatars-16-s", 2, 2, "to_q").Weights, "", map[string]string{"lora_adapter_metadata": metadata})
	}
	crowd := func(n int) []byte {
		var header strings.Builder
		for i := range n {
			fmt.Fprintf(&header, `,"t%d":%s`, i, entry("F32", "[0]", 0, 0))
		}
		return file("{"+header.String()[1:]+"}", 0)
	}
	nan := float32(math.NaN())
	return []Upload{
		{"empty", nil, "only 0 bytes"},
		{"no safetensors", []byte("PK\x03\x04 a zip file, or anything"), "exceeds the limit"},
		{"a form", []byte("--boundary\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n"), "not safetensors"},
		{"huge header", binary.LittleEndian.AppendUint64(nil, math.MaxUint64), "exceeds the limit"},
		{"header beyond the file", append(binary.LittleEndian.AppendUint64(nil, 99_999_999), '{'), "does not fit"},
		{"no JSON", file(`{"a":{"dtype"`, 0), "not JSON"},
		{"deep JSON", file(strings.Repeat(`{"a":`, 50_000), 0), "not JSON"},
		{"not UTF-8", file("{\"\xff\":1}", 0), "not UTF-8"},
		{"two names", file(`{"a":`+entry("F32", "[1]", 0, 4)+`,"a":`+entry("F32", "[1]", 4, 8)+`}`, 8), "appears twice"},
		{"overlap", file(`{"a":`+entry("F32", "[2]", 0, 8)+`,"b":`+entry("F32", "[1]", 4, 8)+`}`, 8), "overlaps"},
		{"gap", file(`{"a":`+entry("F32", "[1]", 4, 8)+`}`, 8), "belong to none"},
		{"bytes behind", append(bytes.Clone(good), 0), "belong to none"},
		{"cut short", good[:len(good)-1], "cut short"},
		{"cut in the header", good[:100], "does not fit"},
		{"unknown dtype", file(`{"a":`+entry("F4", "[1]", 0, 4)+`}`, 4), `unknown dtype "F4"`},
		{"negative extent", file(`{"a":`+entry("F32", "[-1]", 0, 4)+`}`, 4), "extent -1"},
		{"shape beyond any memory", file(`{"a":`+entry("F32", "[2147483647,2147483647,2147483647]", 0, 4)+`}`, 4), "overflows"},
		{"shape beyond the file", file(`{"a":`+entry("F32", "[1000000,1000000]", 0, 4)+`}`, 4), "data_offsets give it 4"},
		{"no tensors", file(`{}`, 0), "holds no tensors"},
		{"a crowd of empty tensors", crowd(4000), "no part of a low-rank branch"},
		{"a larger crowd", crowd(100_000), "want at most 262144; leave out metadata"},
		{"a network's weights", file(`{"conv_in.weight":`+entry("F32", "[1]", 0, 4)+`}`, 4), "no part of a low-rank branch"},
		{"whole numbers", file(`{"`+q+`.lora_A.weight":`+entry("I32", "[1,48]", 0, 192)+`,"`+q+`.lora_B.weight":`+entry("I32", "[48,1]", 192, 384)+`}`, 384), "dtype I32"},
		{"not a number", changed(q+".lora_A.weight", []int{2, 48}, 0, 1, nan), "holds NaN at element 2"},
		{"infinite", changed(q+".lora_B.weight", []int{48, 2}, float32(math.Inf(-1))), "holds -Inf at element 0"},
		{"other input", changed(q+".lora_A.weight", []int{2, 47}), "has shape [2 47], want [2 48]"},
		{"other rank", changed(q+".lora_A.weight", []int{3, 48}), "for rank 3"},
		{"rank 0 and two thousand million columns", changed(q+".lora_A.weight", []int{0, math.MaxInt32}), "has no rank from 1"},
		{"no axes", changed(q+".lora_A.weight", []int{}), "of shape [] has no rank"},
		{"a layer nobody has", changed("encoder.to_q.lora_A.weight", []int{2, 48}), "does not have"},
		{"half a branch", changed("conv_in.lora_A.weight", []int{2, 3, 3, 3}), "lacks A or B"},
		{"alpha 0", alpha(0), "one positive number"},
		{"alpha not a number", alpha(nan), "holds NaN"},
		{"alpha untold", written(t, Adapter(t, "avatars-16-s", 2, 2, "to_q").Weights, "base_model.model.", nil), "does not say its alpha"},
		{"another kind of adapter", with(`{"r":2,"lora_alpha":2,"use_dora":true}`), `"use_dora": true is not supported`},
		{"metadata of another file", with(`{"r":4,"lora_alpha":2}`), "config says rank 4"},
		{"metadata that is no JSON", with(`{`), "JSON"},
	}
}

// listed is an adapter as the registry tells of it.
type listed struct {
	Name       string    `json:"name"`
	Bytes      int       `json:"bytes"`
	SHA256     string    `json:"sha256"`
	Model      string    `json:"model"`
	Rank       int       `json:"rank"`
	Alpha      float64   `json:"alpha"`
	Parameters int       `json:"parameters"`
	Modules    int       `json:"modules"`
	Uploaded   time.Time `json:"uploaded"`
}

// LoRAs tests the registry of a server whose secret is Secret. It leaves the
// registry as it was, but for adapters whose names begin with "edgetest-".
func LoRAs(t *testing.T, url string) {
	c := NewClient(t, url)
	const path = "/v1/loras/edgetest-one"
	clear := func() { c.Do(t, "DELETE", path, nil, "Authorization", authorization) }
	clear()
	defer clear()
	avatars := Adapter(t, "avatars-16-s", 2, 3, "to_q", "conv_in")
	file := Kohya(t, avatars)
	put := func(file []byte, more ...string) Answer {
		return c.Do(t, "PUT", path, file, append(more, "Authorization", authorization)...)
	}
	all := func() map[string]listed {
		var listing struct {
			LoRAs []listed `json:"loras"`
		}
		c.Do(t, "GET", "/v1/loras", nil).Decode(t, http.StatusOK, &listing)
		found := map[string]listed{}
		for _, l := range listing.LoRAs {
			found[l.Name] = l
		}
		return found
	}
	tag := func(file []byte) string {
		sum := sha256.Sum256(file)
		return hex.EncodeToString(sum[:])
	}
	// is wants the registry to hold a file under the name, and to tell so.
	is := func(t *testing.T, file []byte, of string, lora *model.LoRA, told listed) {
		t.Helper()
		want := listed{"edgetest-one", len(file), tag(file), of, lora.Rank, lora.Alpha, 0, len(lora.Weights) / 2, told.Uploaded}
		for _, w := range lora.Weights {
			want.Parameters += len(w.Data)
		}
		if told != want {
			t.Errorf("told %+v, want %+v", told, want)
		}
		if age := time.Since(told.Uploaded); age < -time.Hour || age > time.Hour {
			t.Errorf("uploaded %v, which is not now", told.Uploaded)
		}
		if got := all()["edgetest-one"]; got != told {
			t.Errorf("the list has %+v, want %+v", got, told)
		}
		a := c.Do(t, "GET", path, nil)
		if a.Status != http.StatusOK || !bytes.Equal(a.Body, file) {
			t.Errorf("status %d with %d bytes, want the %d bytes uploaded", a.Status, len(a.Body), len(file))
		}
	}

	t.Run("before", func(t *testing.T) {
		if got, there := all()["edgetest-one"]; there {
			t.Errorf("the list has %+v before it is uploaded", got)
		}
		c.Refuses(t, []Refusal{
			{"get", "GET", path, nil, nil, 404, "not_found", "there is no adapter edgetest-one here; GET /v1/loras lists"},
			{"delete", "DELETE", path, nil, []string{"Authorization", authorization}, 404, "not_found", "there is no adapter edgetest-one"},
		})
		if a := c.Do(t, "HEAD", path, nil); a.Status != 404 {
			t.Errorf("HEAD: status %d, want 404", a.Status)
		}
	})
	t.Run("upload", func(t *testing.T) {
		for _, step := range []struct {
			name   string
			file   []byte
			of     string
			lora   *model.LoRA
			query  string
			header []string
			status int
		}{
			{"new", file, "avatars-16-s", avatars, "", []string{"If-None-Match", "*"}, http.StatusCreated},
			{"again", file, "avatars-16-s", avatars, "", nil, http.StatusOK},
			{"another", PEFT(t, Adapter(t, "fashion-28", 4, 0.5, "conv_in")), "fashion-28", Adapter(t, "fashion-28", 4, 0.5, "conv_in"), "", nil, http.StatusOK},
			{"for one of two", Kohya(t, Adapter(t, "fashion-28", 1, 1, "mid_block.**")), "fashion-28", Adapter(t, "fashion-28", 1, 1, "mid_block.**"), "?model=fashion-28", nil, http.StatusOK},
			{"for the other", Kohya(t, Adapter(t, "fashion-28", 1, 1, "mid_block.**")), "avatars-16-s", Adapter(t, "fashion-28", 1, 1, "mid_block.**"), "?model=avatars-16-s", nil, http.StatusOK},
			{"back", file, "avatars-16-s", avatars, "", []string{"Content-Type", "application/octet-stream"}, http.StatusOK},
		} {
			t.Run(step.name, func(t *testing.T) {
				var told listed
				header := append([]string{"Authorization", "bearer " + Secret}, step.header...)
				c.Do(t, "PUT", path+step.query, step.file, header...).Decode(t, step.status, &told)
				is(t, step.file, step.of, step.lora, told)
			})
		}
	})
	t.Run("no silent overwriting", func(t *testing.T) {
		put(PEFT(t, avatars), "If-None-Match", "*").Refused(t, http.StatusPreconditionFailed, "exists", "there is an adapter edgetest-one already")
		if a := c.Do(t, "GET", path, nil); !bytes.Equal(a.Body, file) {
			t.Error("a refused upload replaced the file")
		}
	})
	t.Run("download", func(t *testing.T) {
		etag := `"` + tag(file) + `"`
		size := len(file)
		for _, d := range []struct {
			method  string
			header  []string
			status  int
			want    []byte
			length  int // of the body, or of what HEAD tells of
			content string
		}{
			{"GET", nil, 200, file, size, ""},
			{"HEAD", nil, 200, nil, size, ""},
			{"GET", []string{"If-None-Match", etag}, 304, nil, -1, ""},
			{"HEAD", []string{"If-None-Match", `"other", W/` + etag}, 304, nil, -1, ""},
			{"GET", []string{"If-None-Match", `"other"`}, 200, file, size, ""},
			{"GET", []string{"If-Match", etag}, 200, file, size, ""},
			{"GET", []string{"Range", "bytes=0-7"}, 206, file[:8], 8, fmt.Sprintf("bytes 0-7/%d", size)},
			{"GET", []string{"Range", "bytes=100-"}, 206, file[100:], size - 100, fmt.Sprintf("bytes 100-%d/%d", size-1, size)},
			{"GET", []string{"Range", "bytes=-4"}, 206, file[size-4:], 4, fmt.Sprintf("bytes %d-%d/%d", size-4, size-1, size)},
			{"GET", []string{"Range", "bytes=0-7", "If-Range", `"other"`}, 200, file, size, ""},
		} {
			t.Run(d.method+" "+strings.Join(d.header, " "), func(t *testing.T) {
				a := c.Do(t, d.method, path, nil, d.header...)
				if a.Status != d.status || !bytes.Equal(a.Body, d.want) {
					t.Fatalf("status %d with %d bytes, want %d with %d", a.Status, len(a.Body), d.status, len(d.want))
				}
				want := map[string]string{"ETag": etag, "Cache-Control": "public, no-cache", "Content-Range": d.content}
				if d.length >= 0 {
					want["Content-Length"] = fmt.Sprint(d.length)
					want["Content-Type"] = "application/octet-stream"
					want["Content-Disposition"] = `attachment; filename="edgetest-one.safetensors"`
				}
				for name, value := range want {
					if got := a.Header.Get(name); got != value {
						t.Errorf("%s: %q, want %q", name, got, value)
					}
				}
			})
		}
		c.Refuses(t, []Refusal{
			{"beyond the end", "GET", path, nil, []string{"Range", "bytes=99999999-"}, 416, "bad_range", fmt.Sprintf("has %d bytes", size)},
			{"no range", "GET", path, nil, []string{"Range", "bytes=x"}, 416, "bad_range", `Range "bytes=x" is no part of them`},
			{"another one", "GET", path, nil, []string{"If-Match", `"other"`}, 412, "precondition_failed", tag(file)},
		})
	})
	t.Run("refused", func(t *testing.T) {
		names := []Refusal{}
		for _, name := range []string{"-a", "A", "a_b", "a.safetensors", "%C3%BC", "a%2Fb", "%2e%2e%2fa", "a%20b", "a%00", strings.Repeat("a", 64)} {
			for _, method := range []string{"GET", "PUT", "DELETE"} {
				names = append(names, Refusal{method + " " + name, method, "/v1/loras/" + name, nil, []string{"Authorization", authorization},
					400, "bad_request", "is no name of an adapter; take 1 to 63 of a-z, 0-9 and -"})
			}
		}
		c.Refuses(t, names)
		for _, method := range []string{"PUT", "DELETE"} {
			c.Refuses(t, []Refusal{
				{method + " without a secret", method, path, file, nil, 401, "unauthorized", "send it as Authorization: Bearer SECRET"},
				{method + " with an empty one", method, path, file, []string{"Authorization", "Bearer "}, 401, "unauthorized", "send it as"},
				{method + " with a wrong one", method, path, file, []string{"Authorization", "Bearer edge-test-secreu"}, 401, "unauthorized", "is not this deployment's"},
				{method + " with half of it", method, path, file, []string{"Authorization", authorization[:len(authorization)-1]}, 401, "unauthorized", "is not this deployment's"},
				{method + " otherwise", method, path, file, []string{"Authorization", "Basic " + Secret}, 401, "unauthorized", "send it as"},
			})
		}
		if a := c.Do(t, "PUT", path, file); a.Header.Get("WWW-Authenticate") == "" {
			t.Error("401 without WWW-Authenticate")
		}
		const limit = 8 << 20
		both := Kohya(t, Adapter(t, "fashion-28", 1, 1, "mid_block.**"))
		c.Refuses(t, []Refusal{
			{"too large", "PUT", path, make([]byte, limit+1), []string{"Authorization", authorization, "Expect", "100-continue"}, 413, "body_too_large", "8388608 bytes"},
			{"not much too large", "PUT", path, make([]byte, limit), []string{"Authorization", authorization}, 422, "bad_lora", "not a JSON object"},
			{"fits two models", "PUT", path, both, []string{"Authorization", authorization}, 422, "bad_lora", "fits avatars-16-s and fashion-28 alike; say which it was trained for: PUT /v1/loras/edgetest-one?model="},
			{"of an unknown model", "PUT", path + "?model=sdxl", file, []string{"Authorization", authorization}, 400, "bad_request", "model=sdxl is none of avatars-16-s, fashion-28"},
			{"of the other model", "PUT", path + "?model=fashion-28", file, []string{"Authorization", authorization}, 422, "bad_lora", "(held against fashion-28)"},
			{"fits none", "PUT", path, Kohya(t, misfit(t)), []string{"Authorization", authorization}, 422, "bad_lora", "held against avatars-16-s, tensor"},
			{"another method", "POST", path, file, []string{"Authorization", authorization}, 405, "method_not_allowed", "POST"},
			{"another method on all", "DELETE", "/v1/loras", nil, []string{"Authorization", authorization}, 405, "method_not_allowed", "DELETE"},
		})
		for _, bad := range BadLoRAs(t) {
			t.Run(bad.Name, func(t *testing.T) {
				message := put(bad.File).Refused(t, http.StatusUnprocessableEntity, "bad_lora", bad.Gist)
				if _, err := model.ParseSafetensors("edgetest-one.safetensors", bad.File); err != nil && message != err.Error() {
					t.Errorf("%q, want the reader's own sentence %q", message, err)
				} else if !strings.HasPrefix(message, "edgetest-one.safetensors: ") {
					t.Errorf("%q does not name the file", message)
				}
			})
		}
		if a := c.Do(t, "GET", path, nil); !bytes.Equal(a.Body, file) {
			t.Error("what was refused changed the file that was there")
		}
	})
	t.Run("delete", func(t *testing.T) {
		if a := c.Do(t, "DELETE", path, nil, "Authorization", authorization); a.Status != http.StatusNoContent || len(a.Body) != 0 {
			t.Errorf("status %d: %s", a.Status, a.Body)
		}
		c.Do(t, "GET", path, nil).Refused(t, 404, "not_found", "there is no adapter edgetest-one here")
		c.Do(t, "DELETE", path, nil, "Authorization", authorization).Refused(t, 404, "not_found", "there is no adapter edgetest-one here")
		if _, there := all()["edgetest-one"]; there {
			t.Error("a deleted adapter is listed")
		}
	})
}

// misfit is an adapter that has a layer of each model which the other lacks.
func misfit(t *testing.T) *model.LoRA {
	lora := Adapter(t, "avatars-16-s", 1, 1, "down_blocks.1.attentions.**")
	for name, w := range Adapter(t, "fashion-28", 1, 1, "down_blocks.2.attentions.**").Weights {
		lora.Weights[name] = w
	}
	return lora
}
