package model

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Files of torch.save hold what PyTorch reads from them, element types, strides
// and shared numbers included.
func TestTorchFilesAgainstPyTorch(t *testing.T) {
	files := os.DirFS("testdata/torch")
	want, closeWant, err := openSafetensors(files, "tensors.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer closeWant()
	for _, name := range []string{"state_dict.pth", "nested.ckpt", "protocol5.bin"} {
		c, err := OpenCheckpoint(files, name)
		if err != nil {
			t.Error(err)
			continue
		}
		if !slices.Equal(c.Names(), want.Names()) {
			t.Errorf("%s: holds %v, want %v", name, c.Names(), want.Names())
		}
		for _, tensor := range want.Names() {
			info, _ := c.Info(tensor)
			wantInfo, _ := want.Info(tensor)
			if !reflect.DeepEqual(info, wantInfo) {
				t.Errorf("%s: %s is %v, want %v", name, tensor, info, wantInfo)
			}
			got, err := c.Read(tensor)
			if !info.DType.floating() {
				if err == nil || !strings.HasPrefix(err.Error(), name+": tensor ") {
					t.Errorf("%s: %s of %s: %v", name, tensor, info.DType, err)
				}
				continue
			}
			wanted, wantErr := want.Read(tensor)
			if err != nil || wantErr != nil || !reflect.DeepEqual(got, wanted) {
				t.Errorf("%s: %s is %v, %v; want %v, %v", name, tensor, got, err, wanted, wantErr)
			}
			for file, s := range map[string]Source{name: c, "tensors.safetensors": want} {
				switch halves, err := s.ReadHalves(tensor); {
				case info.DType != F16:
					if err == nil {
						t.Errorf("%s: %s of %s was read as halves", file, tensor, info.DType)
					}
				case err != nil || len(halves) != 2*len(wanted.Data):
					t.Errorf("%s: the halves of %s: %d bytes, %v", file, tensor, len(halves), err)
				default:
					got := make([]float32, len(wanted.Data))
					decode(got, F16, halves)
					if !slices.Equal(got, wanted.Data) {
						t.Errorf("%s: the halves of %s are %v, want %v", file, tensor, got, wanted.Data)
					}
				}
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What is no state dict is refused by what it is.
func TestTorchFilesRefused(t *testing.T) {
	files := os.DirFS("testdata/torch")
	for name, want := range map[string]string{
		"module.pth":    `it asks for the Python object "torch.nn.modules.linear.Linear", and no program is run`,
		"legacy.bin":    "no zip archive as torch.save writes one since PyTorch 1.6; load it in Python",
		"numpy.pt":      `the Python object "numpy`,
		"script.pt":     "a TorchScript archive, a program",
		"optimizer.pt":  `the entry "step" is no tensor`,
		"not-there.pth": "not-there.pth: the file is missing",
	} {
		_, err := OpenCheckpoint(files, name)
		if err == nil || !strings.HasPrefix(err.Error(), name+": ") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one sentence with %q", name, err, want)
		}
	}
	// A file is known by its contents where its name says nothing.
	for _, name := range []string{"state_dict.pth", "legacy.bin"} {
		contents, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		if pickled, err := looksPickled(bytes.NewReader(contents), int64(len(contents))); !pickled || err != nil {
			t.Errorf("%s: looks pickled: %v, %v", name, pickled, err)
		}
	}
}

// archive writes a zip of members as torch.save lays them out, with a change to
// each header.
func archive(t testing.TB, members map[string]string, change func(h *zip.FileHeader)) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		h := &zip.FileHeader{Name: name, Method: zip.Store}
		if change != nil {
			change(h)
		}
		m, err := w.CreateHeader(h)
		if err == nil {
			_, err = io.WriteString(m, members[name])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// program assembles a pickle of {"a": tensor} from the parts of its tensor.
func program(storage, offset, shape, strides string) string {
	return "\x80\x02}U\x01a" + tensorProgram(storage, offset, shape, strides) + "s."
}

func tensorProgram(storage, offset, shape, strides string) string {
	return "ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + shape + strides + "\x89ccollections\nOrderedDict\n)Rt" + "R"
}

const (
	floats4 = "(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04tQ" // 4 numbers of F32 in data/0
	sixteen = "0123456789abcdef"
)

// A damaged or dishonest file ends in one sentence.
func TestTorchFileRefusesDamage(t *testing.T) {
	good := program(floats4, "K\x00", "K\x02K\x02\x86", "K\x02K\x01\x86")
	whole := map[string]string{"a/data.pkl": good, "a/data/0": sixteen, "a/byteorder": "little"}
	contents := archive(t, whole, nil)
	f, err := ParseTorch("w.pth", contents)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read("a"); err != nil {
		t.Fatal(err)
	}
	with := func(member, text string) []byte {
		members := map[string]string{member: text}
		for name, text := range whole {
			if _, ok := members[name]; !ok {
				members[name] = text
			}
		}
		return archive(t, members, nil)
	}
	pickled := func(text string) []byte { return with("a/data.pkl", text) }
	// Trainers keep more than the state dict, which has one of two names.
	for _, name := range []string{"state_dict", "model_state_dict"} {
		key := "U" + string(byte(len(name))) + name
		f, err := ParseTorch("w.pth", pickled("\x80\x02}(U\x05epochK\x03"+key+"}U\x01a"+tensorProgram(floats4, "K\x00", "K\x04\x85", "K\x01\x85")+"su."))
		if err != nil || !slices.Equal(f.Names(), []string{"a"}) {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	long := func(n uint32) string { return "J" + string(binary.LittleEndian.AppendUint32(nil, n)) }
	for name, c := range map[string]struct {
		contents []byte
		want     string
	}{
		"empty":               {nil, "no zip archive"},
		"two bytes":           {[]byte("PK"), "no zip archive"},
		"only a beginning":    {[]byte("PK\x03\x04PK\x03\x04"), "the zip archive cannot be read"},
		"cut":                 {contents[:len(contents)-9], "the zip archive cannot be read"},
		"no pickle":           {archive(t, map[string]string{"a/x": ""}, nil), "no data.pkl"},
		"pickle in no folder": {archive(t, map[string]string{"data.pkl": good}, nil), "no data.pkl"},
		"two pickles":         {with("b/data.pkl", good), "two data.pkl"},
		"big-endian":          {with("a/byteorder", "big"), `the byte order is "big"`},
		"long byte order":     {with("a/byteorder", strings.Repeat("x", 17)), "the limit is 16"},
		"compressed":          {archive(t, whole, func(h *zip.FileHeader) { h.Method = zip.Deflate }), "is compressed or encrypted"},
		"numbers missing":     {archive(t, map[string]string{"a/data.pkl": good}, nil), `lacks its numbers, "a/data/0"`},
		"numbers short":       {with("a/data/0", sixteen[1:]), "4 numbers of F32 have 15 bytes"},
		"numbers long":        {with("a/data/0", sixteen+"x"), "have 17 bytes"},
		"a huge count":        {pickled(program(strings.Replace(floats4, "K\x04", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", 1), "K\x00", ")", ")")), "numbers of F32 have 16 bytes"},
		"negative count":      {pickled(program(strings.Replace(floats4, "K\x04", long(1<<31), 1), "K\x00", ")", ")")), "names a storage in a way"},
		"too many rows":       {pickled(program(floats4, "K\x00", "K\x05\x85", "K\x01\x85")), "more numbers than the 4"},
		"expanded":            {pickled(program(floats4, "K\x00", long(1<<30)+"\x85", "K\x00\x85")), "more numbers than the 4"},
		"huge extent":         {pickled(program(floats4, "K\x00", "\x8a\x05\xff\xff\xff\xff\x01K\x00\x86", "K\x00K\x00\x86")), "axis 0 has extent"},
		"negative extent":     {pickled(program(floats4, "K\x00", long(1<<32-1)+"\x85", "K\x01\x85")), "makes a tensor in a way"},
		"strides beyond":      {pickled(program(floats4, "K\x00", "K\x02K\x02\x86", "K\x03K\x01\x86")), "begins at number 0 of 4 and reaches beyond"},
		"huge strides":        {pickled(program(floats4, "K\x00", "K\x02\x85", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85")), "strides [9223372036854775807] reach beyond"},
		"offset beyond":       {pickled(program(floats4, "K\x01", "K\x02K\x02\x86", "K\x02K\x01\x86")), "begins at number 1 of 4"},
		"negative offset":     {pickled(program(floats4, long(1<<32-1), ")", ")")), "makes a tensor in a way"},
		"shape of no numbers": {pickled(program(floats4, "K\x00", "N\x85", "N\x85")), "makes a tensor in a way"},
		"nine axes":           {pickled(program(floats4, "K\x00", "("+strings.Repeat("K\x01", 9)+"t", "("+strings.Repeat("K\x01", 9)+"t")), "makes a tensor in a way"},
		"one axis too few":    {pickled(program(floats4, "K\x00", "K\x02K\x02\x86", "K\x02\x85")), "makes a tensor in a way"},
		"unknown storage":     {pickled(program("(U\x07storagectorch\nComplexFloatStorage\nU\x010U\x03cpuK\x04tQ", "K\x00", ")", ")")), `"torch.ComplexFloatStorage"`},
		"a program":           {pickled("\x80\x02cos\nsystem\nU\x02ls\x85R."), `asks for the Python object "os.system", and no program is run`},
		"a program, newer":    {pickled("\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R."), `"os.system"`},
		"numbers for a name":  {pickled("\x80\x04K\x01K\x02\x93."), "by something else than text"},
		"no text key":         {pickled("\x80\x02}K\x01" + tensorProgram(floats4, "K\x00", ")", ")") + "s."), "a key that is no text"},
		"a tensor alone":      {pickled("\x80\x02" + tensorProgram(floats4, "K\x00", ")", ")") + "."), "no dictionary of tensors"},
		"empty program":       {pickled(""), "cut short"},
		"cut program":         {pickled(good[:len(good)-1]), "cut short"},
		"cut text":            {pickled("\x80\x02X\xff\xff\xff\xff"), "cut short"},
		"cut text of 2^63":    {pickled("\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xff"), "cut short"},
		"cut name":            {pickled("\x80\x02cos"), "cut short"},
		"old protocol":        {pickled("\x80\x01}."), "protocol 1"},
		"two beginnings":      {pickled("\x80\x02\x80\x02}."), "starts twice"},
		"nothing left":        {pickled("\x80\x02."), "leaves 0 values"},
		"two left":            {pickled("\x80\x02}}."), "leaves 2 values"},
		"empty stack":         {pickled("\x80\x02a"), "empty stack"},
		"tuple of nothing":    {pickled("\x80\x02\x86"), "empty stack"},
		"no mark":             {pickled("\x80\x02t"), "lacks a mark"},
		"mark for a value":    {pickled("\x80\x02]((e"), "a mark for a value"},
		"append to a tuple":   {pickled("\x80\x02)Na"), "appends to what is no list"},
		"a new word":          {pickled("\x80\x02}X\x0f\x00\x00\x00string_to_token}s."), "of textual inversion, the embedding of a new word, which is not supported"},
		"item of a list":      {pickled("\x80\x02]NNs"), "sets items of what is no dictionary"},
		"odd items":           {pickled("\x80\x02}(Nu"), "sets items of what is no dictionary"},
		"no such value":       {pickled("\x80\x02h\x07."), "asks for value 7"},
		"attributes":          {pickled("\x80\x02]}b"), "sets attributes of what is no dictionary"},
		"call of a list":      {pickled("\x80\x02])R"), "calls what is no function"},
		"call with a list":    {pickled("\x80\x02ccollections\nOrderedDict\n]R"), "something else than a tuple"},
		"dict with arguments": {pickled("\x80\x02ccollections\nOrderedDict\n]\x85R"), "makes a dictionary in a way"},
		"parameter of text":   {pickled("\x80\x02ctorch._utils\n_rebuild_parameter\nU\x01a\x88}\x87R."), "makes a parameter in a way"},
		"other operation":     {pickled("\x80\x02\x81."), "operation 0x81 at byte 2"},
		"long number":         {pickled("\x80\x02\x8a\x09123456789."), "a number of 9 bytes"},
		"many operations":     {pickled("\x80\x02" + strings.Repeat("N", maxPickleOps) + "."), "more than 1048576 operations"},
		"many bytes":          {pickled(strings.Repeat("N", maxPickleBytes+1)), "the limit is 16777216"},
	} {
		_, err := ParseTorch("w.pth", c.contents)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		} else if !strings.HasPrefix(err.Error(), "w.pth: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %q is not one sentence that names the file", name, err)
		}
	}
}

// Tensors may share numbers, but not without end.
func TestTorchFileSharedNumbers(t *testing.T) {
	tied := func(n int) []byte {
		text := "\x80\x02}(U\x02Aa" + tensorProgram(strings.Replace(floats4, "K\x04", "M\x00\x10", 1), "K\x00", "M\x00\x10\x85", "K\x01\x85") + "q\x00"
		for i := range n - 1 {
			text += "U\x02" + string([]byte{'a' + byte(i%26), 'a' + byte(i/26)}) + "h\x00"
		}
		return archive(t, map[string]string{"a/data.pkl": text + "u.", "a/data/0": strings.Repeat(sixteen, 1<<10)}, nil)
	}
	if f, err := ParseTorch("w.pth", tied(3)); err != nil || len(f.Names()) != 3 {
		t.Errorf("three tensors of the same numbers: %v", err)
	}
	// Two numbers each, one from either end: all between them is read, too.
	spread := func(n int) []byte {
		text := "\x80\x02}("
		for i := range n {
			text += "U\x02" + string([]byte{'a' + byte(i%26), 'a' + byte(i/26)}) + tensorProgram(strings.Replace(floats4, "K\x04", "M\x00\x10", 1), "K\x00", "K\x02\x85", "M\xff\x0f\x85")
		}
		return archive(t, map[string]string{"a/data.pkl": text + "u.", "a/data/0": strings.Repeat(sixteen, 1<<10)}, nil)
	}
	if f, err := ParseTorch("w.pth", spread(3)); err != nil || len(f.Names()) != 3 {
		t.Errorf("three tensors across the file: %v", err)
	}
	if _, err := ParseTorch("w.pth", spread(40)); err == nil || !strings.Contains(err.Error(), "more than 8 times as many numbers as the file") {
		t.Errorf("forty tensors across the file: %v", err)
	}
	if _, err := ParseTorch("w.pth", tied(40)); err == nil || !strings.Contains(err.Error(), "more than 8 times as many numbers as the file") {
		t.Errorf("forty tensors of the same numbers: %v", err)
	}
}

// The file is closed and read like any other.
func TestTorchFileOfTheSystem(t *testing.T) {
	c, err := OpenCheckpoint(os.DirFS("testdata/torch"), "state_dict.pth")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read("transposed"); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("reading a closed file: %v", err)
	}
}
