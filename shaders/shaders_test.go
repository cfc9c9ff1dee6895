package shaders

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

var update = flag.Bool("update", false, "rewrite the golden variants under testdata; read the diff before committing it")

// variants are shipped texts whose exact wording is held by a golden file, so
// that a change of the specialiser or of a helper shows what it does to them.
var variants = map[string]struct {
	shader string
	params map[string]string
}{
	"vector_copy":      {"vector_copy", nil},
	"vector_combine":   {"vector_combine", map[string]string{"WORKGROUP": "16u"}},
	"vector_dots_same": {"vector_dots", map[string]string{"WORKGROUP": "16u", "SAME": "true"}},
	"vector_normal":    {"vector_normal", map[string]string{"WORKGROUP": "64u"}},
}

func TestGoldenVariants(t *testing.T) {
	for name, v := range variants {
		text, err := Specialise(v.shader, v.params)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", name+".golden.wgsl")
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		golden, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if text != string(golden) {
			t.Errorf("%s: the variant differs from %s; if that is meant, run: go test ./shaders -update", name, path)
		}
	}
}

// The native library's front end is from early 2024 and fails on these with an
// error that names no cause.
func TestNoForbiddenTokens(t *testing.T) {
	for _, file := range files(t) {
		text, err := fs.ReadFile(FS, file)
		if err != nil {
			t.Fatal(err)
		}
		if line, token := findForbidden(strings.Split(string(text), "\n")); token != "" {
			t.Errorf("%s:%d: %s is outside the portable subset", file, line, token)
		}
	}
}

func TestEveryFileSpecialisesAsItStands(t *testing.T) {
	for _, file := range files(t) {
		text, err := Specialise(strings.TrimSuffix(file, ".wgsl"), nil)
		if err != nil {
			t.Error(err)
		}
		if marker.MatchString(text) {
			t.Errorf("%s: a marker is left in the text", file)
		}
		if source, _ := fs.ReadFile(FS, file); !strings.HasPrefix(string(source), "//") {
			t.Errorf("%s: no header comment", file)
		}
	}
}

// All bindings of the arena must have one usage, so storage is read_write.
func TestStorageIsReadWrite(t *testing.T) {
	storage := regexp.MustCompile(`var<storage[^>]*>`)
	for _, file := range files(t) {
		text, _ := fs.ReadFile(FS, file)
		for _, declaration := range storage.FindAllString(string(text), -1) {
			if declaration != "var<storage, read_write>" {
				t.Errorf("%s: %s", file, declaration)
			}
		}
	}
}

func files(t *testing.T) []string {
	t.Helper()
	names, err := fs.Glob(FS, "*.wgsl")
	if err != nil || len(names) == 0 {
		t.Fatalf("no shaders: %v", err)
	}
	return names
}

func sample(text string, helpers ...string) fs.FS {
	files := fstest.MapFS{"k.wgsl": {Data: []byte(text)}}
	for i := 0; i < len(helpers); i += 2 {
		files[helpers[i]] = &fstest.MapFile{Data: []byte(helpers[i+1])}
	}
	return files
}

func TestSpecialise(t *testing.T) {
	files := sample(
		"// use: a.wgsl\n// use: b.wgsl\nconst TILE = 4u;   // param\nconst EDGE : bool = false; // param\nalias T = f32; // param\nconst FIXED = 7u;\n",
		"a.wgsl", "// use: b.wgsl\nfn a() {}\n", "b.wgsl", "const W = true; // param\nfn b() {}\n")
	got, err := specialise(files, "k", map[string]string{"TILE": "8u", "T": "vec4<f32>", "W": "false"})
	if err != nil {
		t.Fatal(err)
	}
	want := "const W = false;\nfn b() {}\nfn a() {}\nconst TILE = 8u;\nconst EDGE : bool = false;\nalias T = vec4<f32>;\nconst FIXED = 7u;\n"
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestSpecialiseRefuses(t *testing.T) {
	one := map[string]string{"TILE": "8u"}
	for name, c := range map[string]struct {
		files  fs.FS
		params map[string]string
		says   string
	}{
		"unknown parameter": {sample("const A = 1u; // param\n"), one, "declares TILE"},
		"unmarked line":     {sample("const TILE = 1u;\n"), one, "declares TILE"},
		"leftover marker":   {sample("var<private> TILE = 1u; // param\n"), nil, "is marked but"},
		"late directive":    {sample("fn f() {} // use: a.wgsl\n", "a.wgsl", ""), nil, "is marked but"},
		"declared twice":    {sample("const TILE = 1u; // param\nconst TILE = 2u; // param\n"), one, "twice"},
		"cycle":             {sample("// use: a.wgsl\n", "a.wgsl", "// use: k.wgsl\n"), nil, "k.wgsl -> a.wgsl -> k.wgsl"},
		"missing helper":    {sample("// use: a.wgsl\n"), nil, "no file a.wgsl"},
		"missing file":      {fstest.MapFS{}, nil, "no file k.wgsl"},
		"second statement":  {sample("const TILE = 1u; // param\n"), map[string]string{"TILE": "1u; override x = 2u"}, "cannot be"},
		"comment":           {sample("const TILE = 1u; // param\n"), map[string]string{"TILE": "1u //"}, "cannot be"},
		"empty value":       {sample("const TILE = 1u; // param\n"), map[string]string{"TILE": " "}, "cannot be"},
		"forbidden value":   {sample("const TILE = 1u; // param\n"), map[string]string{"TILE": "subgroupAdd(1u)"}, "line 1"},
		"forbidden source":  {sample("\nenable f16;\n"), nil, "line 2"},
	} {
		_, err := specialise(c.files, "k", c.params)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.says)
		}
	}
}

func TestForbiddenTokensInCommentsAreFine(t *testing.T) {
	for _, text := range []string{
		"// override constants do not parse\n", "/* enable /* nested */ diagnostic */ const a = 1u;\n", "const overrides = 1u;\n",
	} {
		if _, err := specialise(sample(text), "k", nil); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := specialise(sample("/* */ override a = 1u;\n"), "k", nil); err == nil {
		t.Error("a token behind a comment was missed")
	}
}

// Whatever value is given, the text has no forbidden token and the same
// bindings, or there is an error.
func FuzzSpecialise(f *testing.F) {
	for _, v := range []string{"16u", "vec4<f32>", "1u; enable f16", "4u // param", "\n@group(0)", "(1u+2u)*3u", "override", "1u /*"} {
		f.Add("vector_dots", "WORKGROUP", v)
	}
	f.Add("vector_dots", "SAME", "true")
	f.Add("vector_copy", "n", "1")
	bindings := regexp.MustCompile(`@binding\(\d+\) var<[^;]*;`)
	f.Fuzz(func(t *testing.T, shader, key, value string) {
		plain, err := Specialise(shader, nil)
		if err != nil {
			return
		}
		text, err := Specialise(shader, map[string]string{key: value})
		if err != nil {
			return
		}
		if _, token := findForbidden(strings.Split(text, "\n")); token != "" {
			t.Errorf("%s", token)
		}
		if !slices.Equal(bindings.FindAllString(text, -1), bindings.FindAllString(plain, -1)) {
			t.Error("the bindings changed")
		}
		if strings.Count(text, "\n") != strings.Count(plain, "\n") {
			t.Error("the number of lines changed")
		}
	})
}
