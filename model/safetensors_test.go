package model

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// file assembles a safetensors file from a header and data bytes.
func file(header string, data int) []byte {
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(out, header...), make([]byte, data)...)
}

func TestSafetensorsRefusesDamage(t *testing.T) {
	entry := func(dtype, shape string, begin, end int) string {
		return fmt.Sprintf(`{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, dtype, shape, begin, end)
	}
	for name, c := range map[string]struct {
		contents []byte
		want     string
	}{
		"empty":            {nil, "only 0 bytes"},
		"short prefix":     {[]byte{1, 2, 3}, "only 3 bytes"},
		"huge header":      {binary.LittleEndian.AppendUint64(nil, math.MaxUint64), "exceeds the limit"},
		"header past end":  {append(binary.LittleEndian.AppendUint64(nil, 100), '{'), "does not fit"},
		"no header":        {file("", 0), "not a JSON object"},
		"not an object":    {file("[]", 0), "not a JSON object"},
		"cut JSON":         {file(`{"a":{"dtype":"F32"`, 0), "not JSON"},
		"bad UTF-8":        {file("{\"\xff\":1}", 0), "not UTF-8"},
		"trailing text":    {file(`{}x`, 0), "followed by something"},
		"unknown dtype":    {file(`{"a":`+entry("F4", "[1]", 0, 4)+`}`, 4), `tensor "a": unknown dtype "F4"`},
		"wrong size":       {file(`{"a":`+entry("F32", "[3]", 0, 4)+`}`, 4), "F32[3] takes 12 bytes, data_offsets give it 4"},
		"negative extent":  {file(`{"a":`+entry("F32", "[-1]", 0, 4)+`}`, 4), "axis 0 has extent -1"},
		"fraction":         {file(`{"a":`+entry("F32", "[1.5]", 0, 4)+`}`, 4), "whole numbers"},
		"overflow":         {file(`{"a":`+entry("F32", "[2147483647,2147483647,2147483647]", 0, 4)+`}`, 4), "overflows"},
		"many axes":        {file(`{"a":`+entry("F32", "[1,1,1,1,1,1,1,1,1]", 0, 4)+`}`, 4), "9 axes"},
		"backwards":        {file(`{"a":`+entry("F32", "[1]", 4, 0)+`}`, 4), "not a range"},
		"negative offset":  {file(`{"a":`+entry("F32", "[1]", -4, 0)+`}`, 4), "not a range"},
		"past the end":     {file(`{"a":`+entry("F32", "[2]", 0, 8)+`}`, 4), "cut short"},
		"gap before":       {file(`{"a":`+entry("F32", "[1]", 4, 8)+`}`, 8), "belong to none"},
		"gap after":        {file(`{"a":`+entry("F32", "[1]", 0, 4)+`}`, 8), "belong to none"},
		"overlap":          {file(`{"a":`+entry("F32", "[2]", 0, 8)+`,"b":`+entry("F32", "[1]", 4, 8)+`}`, 8), "overlaps"},
		"same name":        {file(`{"a":`+entry("F32", "[1]", 0, 4)+`,"a":`+entry("F32", "[1]", 4, 8)+`}`, 8), `tensor "a" appears twice`},
		"missing key":      {file(`{"a":{"dtype":"F32","shape":[1]}}`, 4), "lacks one of"},
		"unknown key":      {file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}`, 4), "entry is not"},
		"key twice":        {file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2],"dtype":"F16","shape":[1]}}`, 2), `key "dtype" is unknown or there twice`},
		"key in capitals":  {file(`{"a":{"DType":"F32","shape":[1],"data_offsets":[0,4]}}`, 4), `key "DType" is unknown or there twice`},
		"one offset":       {file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}`, 4), "lacks one of"},
		"entry is a list":  {file(`{"a":[]}`, 0), "entry is not"},
		"metadata numbers": {file(`{"__metadata__":{"a":1}}`, 0), "__metadata__ is not"},
		"metadata null":    {file(`{"__metadata__":null}`, 0), "__metadata__ is not"},
	} {
		_, err := ParseSafetensors("w.safetensors", c.contents)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		} else if !strings.HasPrefix(err.Error(), "w.safetensors: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %q is not one sentence that names the file", name, err)
		}
	}
}

func TestSafetensorsTypes(t *testing.T) {
	header := `{"b":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},"h":{"dtype":"F16","shape":[1,2],"data_offsets":[4,8]},` +
		`"i":{"dtype":"I64","shape":[],"data_offsets":[8,16]},"none":{"dtype":"F32","shape":[0,5],"data_offsets":[16,16]},` +
		`"u":{"dtype":"U8","shape":[2],"data_offsets":[16,18]}}`
	contents := append(file(header, 0), 0x80, 0x3f, 0x20, 0xc0, 0x00, 0x3c, 0x01, 0x00)
	contents = append(contents, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 7, 255)
	s, err := ParseSafetensors("types", contents)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]float32{"b": {1, -2.5}, "h": {1, 0x1p-24}, "none": {}} {
		got, err := s.Read(name)
		if err != nil || fmt.Sprint(got.Data) != fmt.Sprint(want) {
			t.Errorf("%s: %v, %v, want %v", name, got.Data, err, want)
		}
	}
	for name, want := range map[string][]int64{"i": {-2}, "u": {7, 255}} {
		_, got, err := s.ReadInts(name)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, want)
		}
	}
	if _, err := s.Read("u"); err == nil {
		t.Error("whole numbers were read as floats")
	}
	if _, err := s.Read("absent"); err == nil {
		t.Error("an absent tensor was read")
	}
}

func TestSafetensorsRoundTrip(t *testing.T) {
	weights := Weights{
		"b.bias":   {[]int{3}, []float32{-1.5, 0, 1e-8}},
		"a.weight": {[]int{2, 1}, []float32{65504, 0.1}},
		"scalar":   {[]int{}, []float32{3}},
		"ünï\"":    {[]int{0}, []float32{}},
	}
	for dtype, tolerance := range map[DType]float64{F32: 0, F16: 1. / 2048, BF16: 1. / 256} {
		var first, second bytes.Buffer
		if err := WriteSafetensors(&first, weights, dtype, map[string]string{"z": "1", "format": "pt"}); err != nil {
			t.Fatal(err)
		}
		WriteSafetensors(&second, weights.Clone(), dtype, map[string]string{"format": "pt", "z": "1"})
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Errorf("%s: equal tensors made different files", dtype)
		}
		if binary.LittleEndian.Uint64(first.Bytes())%8 != 0 {
			t.Errorf("%s: the data is not aligned", dtype)
		}
		s, err := ParseSafetensors("round", first.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.ReadAll()
		if err != nil || len(got) != len(weights) || s.Metadata["format"] != "pt" {
			t.Fatalf("%s: %v, %v", dtype, got, err)
		}
		for name, w := range weights {
			for i, v := range w.Data {
				if d := math.Abs(float64(got[name].Data[i] - v)); d > tolerance*math.Abs(float64(v))+0x1p-24*tolerance*2048 {
					t.Errorf("%s: %s[%d] = %g, want %g", dtype, name, i, got[name].Data[i], v)
				}
			}
		}
	}
	if err := WriteSafetensors(&bytes.Buffer{}, Weights{"a": {[]int{1}, []float32{70000}}}, F16, nil); err == nil {
		t.Error("70000 was written as F16")
	}
	if err := WriteSafetensors(&bytes.Buffer{}, Weights{"a": {[]int{2}, []float32{1}}}, F32, nil); err == nil {
		t.Error("a tensor with too few numbers was written")
	}
}

func TestWriteFileAtomicKeepsTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "w.safetensors")
	if err := SaveSafetensors(path, Weights{"a": {[]int{1}, []float32{1}}}, F32, nil); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	if err := SaveSafetensors(path, Weights{"a": {[]int{1}, []float32{1}}, "b": {[]int{1}, []float32{1e9}}}, F16, nil); err == nil {
		t.Fatal("a failing write succeeded")
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("a failed write changed the file (%v)", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("a failed write left %v", entries)
	}
	// What goes wrong is told of the file, not of the one that would become it.
	taken := filepath.Join(dir, "taken")
	if err := os.Mkdir(taken, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{filepath.Join(dir, "missing", "w.safetensors"), filepath.Join(path, "w.safetensors"), taken} {
		err := SaveSafetensors(at, Weights{"a": {[]int{1}, []float32{1}}}, F32, nil)
		if err == nil || !strings.HasPrefix(err.Error(), "write "+at+": ") {
			t.Errorf("%s: %v", at, err)
		}
	}
}

// FuzzSafetensors: whatever the bytes, opening ends in an error or in a file
// whose tensors can all be read and written again to the same numbers.
func FuzzSafetensors(f *testing.F) {
	var small bytes.Buffer
	WriteSafetensors(&small, Weights{"a": {[]int{2}, []float32{1, 2}}, "b": {[]int{1, 1}, []float32{3}}}, F32, map[string]string{"k": "v"})
	f.Add(small.Bytes())
	f.Add(file(`{}`, 0))
	f.Add(file(`{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}   `, 4))
	f.Add(file(`{"a":{"dtype":"F32","shape":[0,9223372036854775807],"data_offsets":[0,0]}}`, 0))
	f.Add(file(`{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"a":{"dtype":"U8","shape":[],"data_offsets":[8,9]}}`, 9))
	f.Add(file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[9223372036854775804,9223372036854775807]}}`, 4))
	f.Fuzz(func(t *testing.T, contents []byte) {
		var s *Safetensors
		var err error
		bounded(t, len(contents), func() {
			if s, err = ParseSafetensors("fuzz", contents); err == nil {
				readable(t, s)
			}
		})
		if err != nil {
			sentence(t, err)
			return
		}
		for _, name := range s.Names() {
			info, _ := s.Info(name)
			switch info.DType {
			case F32, F16, BF16, "F64":
				if info.DType == "F64" {
					_, err = s.Read(name)
					break
				}
				var tensor, again Tensor
				if tensor, err = s.Read(name); err != nil {
					break
				}
				var out bytes.Buffer
				if err = WriteSafetensors(&out, Weights{name: tensor}, info.DType, nil); err != nil {
					break
				}
				var back *Safetensors
				if back, err = ParseSafetensors("again", out.Bytes()); err != nil {
					break
				}
				if again, err = back.Read(name); err != nil {
					break
				}
				for i, v := range tensor.Data {
					if math.Float32bits(v) != math.Float32bits(again.Data[i]) && v == v {
						t.Fatalf("%s[%d]: %g became %g", name, i, v, again.Data[i])
					}
				}
			case "F8_E5M2", "F8_E4M3", "U64":
			default:
				_, _, err = s.ReadInts(name)
			}
			if err != nil {
				t.Fatalf("an accepted file failed at %q: %v", name, err)
			}
		}
	})
}
