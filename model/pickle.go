package model

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
)

// Limits of the pickle reader. The largest networks that torch.save splits into
// no shards have some thousand tensors of about sixty operations.
const (
	maxPickleBytes = 16 << 20
	maxPickleOps   = 1 << 20
)

// What a pickle of a state dict can hold, beside string, int64, float64, bool and
// nil. Values are shared, not copied, as the pickle shares them.
type (
	pickleTuple  []any
	pickleList   struct{ items []any }
	pickleDict   struct{ keys, values []any } // a key that comes again replaces
	pickleGlobal string                       // "module.name"
	pickleMark   struct{}

	// pickleStorage is the block of numbers that a persistent id names.
	pickleStorage struct {
		key   string
		dtype DType
		count int64
	}
	// pickleTensor is a view of a storage, offset and strides in elements.
	pickleTensor struct {
		storage        *pickleStorage
		offset         int64
		shape, strides []int64
	}
)

// Globals that a state dict is made of. A pickle that asks for any other would
// run what its author wrote.
const (
	orderedDict      pickleGlobal = "collections.OrderedDict"
	rebuildTensor    pickleGlobal = "torch._utils._rebuild_tensor_v2"
	rebuildParameter pickleGlobal = "torch._utils._rebuild_parameter"
)

var storageTypes = map[pickleGlobal]DType{
	"torch.DoubleStorage": F64, "torch.FloatStorage": F32, "torch.HalfStorage": F16, "torch.BFloat16Storage": BF16,
	"torch.LongStorage": "I64", "torch.IntStorage": "I32", "torch.ShortStorage": "I16", "torch.CharStorage": "I8",
	"torch.ByteStorage": "U8", "torch.BoolStorage": "BOOL",
}

// unpickle runs the part of Python's pickle machine that state dicts need
// (Lib/pickletools.py lists all of it) and returns what the program leaves. It
// calls nothing: the few globals above are known by what they make of their
// arguments. Time and memory are within a constant of the length of the program.
func unpickle(program []byte) (any, error) {
	if len(program) > maxPickleBytes {
		return nil, fmt.Errorf("its data.pkl has %d bytes, the limit is %d", len(program), maxPickleBytes)
	}
	p := &pickle{text: string(program), memo: map[uint32]any{}}
	for op := range maxPickleOps {
		code, err := p.take(1)
		if err != nil {
			return nil, err
		}
		if code == "." {
			if len(p.stack) != 1 {
				return nil, fmt.Errorf("its data.pkl leaves %d values, want one", len(p.stack))
			}
			return p.stack[0], nil
		}
		if code == "\x80" && op > 0 {
			return nil, errors.New("its data.pkl starts twice")
		}
		if err := p.run(code[0]); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("its data.pkl has more than %d operations", maxPickleOps)
}

// pickle is the machine: a program, a stack and a memo.
type pickle struct {
	text  string
	at    int
	stack []any
	memo  map[uint32]any
}

var errPickleCut = errors.New("its data.pkl is cut short")

func (p *pickle) take(n uint64) (string, error) {
	if n > uint64(len(p.text)-p.at) {
		return "", errPickleCut
	}
	part := p.text[p.at:][:n]
	p.at += int(n)
	return part, nil
}

// number reads a little-endian whole number of some bytes.
func (p *pickle) number(bytes uint64) (uint64, error) {
	raw, err := p.take(bytes)
	if err != nil {
		return 0, err
	}
	n := uint64(0)
	for i := range len(raw) {
		n |= uint64(raw[i]) << (8 * i)
	}
	return n, nil
}

// counted reads a string that is preceded by its length.
func (p *pickle) counted(bytes uint64) (string, error) {
	n, err := p.number(bytes)
	if err != nil {
		return "", err
	}
	return p.take(n)
}

func (p *pickle) line() (string, error) {
	end := strings.IndexByte(p.text[p.at:], '\n')
	if end < 0 {
		return "", errPickleCut
	}
	line, _ := p.take(uint64(end) + 1)
	return line[:end], nil
}

func (p *pickle) push(value any) error {
	p.stack = append(p.stack, value)
	return nil
}

func (p *pickle) pop() (any, error) {
	last := len(p.stack) - 1
	if last < 0 {
		return nil, errors.New("its data.pkl takes from an empty stack")
	}
	value := p.stack[last]
	if value == (pickleMark{}) {
		return nil, errors.New("its data.pkl takes a mark for a value")
	}
	p.stack = p.stack[:last]
	return value, nil
}

// marked pops everything above the last mark, and the mark.
func (p *pickle) marked() ([]any, error) {
	for i := len(p.stack) - 1; i >= 0; i-- {
		if p.stack[i] == (pickleMark{}) {
			items := append([]any(nil), p.stack[i+1:]...)
			p.stack = p.stack[:i]
			return items, nil
		}
	}
	return nil, errors.New("its data.pkl lacks a mark")
}

func (p *pickle) top() (any, error) {
	value, err := p.pop()
	if err == nil {
		p.push(value)
	}
	return value, err
}

// run executes one operation.
func (p *pickle) run(code byte) error {
	text := func(s string, err error) error {
		if err != nil {
			return err
		}
		return p.push(s)
	}
	get := func(n uint64, err error) error {
		if err != nil {
			return err
		}
		value, ok := p.memo[uint32(n)]
		if !ok {
			return fmt.Errorf("its data.pkl asks for value %d before there is one", n)
		}
		return p.push(value)
	}
	put := func(n uint64, err error) error {
		if err != nil {
			return err
		}
		p.memo[uint32(n)], err = p.top()
		return err
	}
	tuple := func(n int) error {
		if n > len(p.stack) {
			return errors.New("its data.pkl takes from an empty stack")
		}
		items := append(pickleTuple(nil), p.stack[len(p.stack)-n:]...)
		p.stack = p.stack[:len(p.stack)-n]
		return p.push(items)
	}
	switch code {
	case '\x80': // PROTO
		version, err := p.number(1)
		if err == nil && (version < 2 || version > 5) {
			err = fmt.Errorf("its data.pkl has protocol %d, want 2 to 5", version)
		}
		return err
	case '\x95': // FRAME: how much of the program follows at least
		_, err := p.number(8)
		return err
	case '(': // MARK
		return p.push(pickleMark{})
	case 'N':
		return p.push(nil)
	case '\x88':
		return p.push(true)
	case '\x89':
		return p.push(false)
	case 'K', 'M': // BININT1, BININT2
		n, err := p.number(map[byte]uint64{'K': 1, 'M': 2}[code])
		if err != nil {
			return err
		}
		return p.push(int64(n))
	case 'J': // BININT
		n, err := p.number(4)
		if err != nil {
			return err
		}
		return p.push(int64(int32(n)))
	case '\x8a': // LONG1: two's complement of as many bytes as are needed
		raw, err := p.counted(1)
		if err != nil {
			return err
		}
		if len(raw) > 8 {
			return fmt.Errorf("its data.pkl holds a number of %d bytes, want at most 8", len(raw))
		}
		n, shift := int64(0), 64-8*len(raw)
		for i := range len(raw) {
			n |= int64(raw[i]) << (8 * i)
		}
		return p.push(n << shift >> shift)
	case 'G': // BINFLOAT, big-endian
		raw, err := p.take(8)
		if err != nil {
			return err
		}
		return p.push(math.Float64frombits(binary.BigEndian.Uint64([]byte(raw))))
	case 'X', 'T': // BINUNICODE, BINSTRING
		return text(p.counted(4))
	case '\x8c', 'U': // SHORT_BINUNICODE, SHORT_BINSTRING
		return text(p.counted(1))
	case '\x8d': // BINUNICODE8
		return text(p.counted(8))
	case ')':
		return p.push(pickleTuple(nil))
	case '\x85', '\x86', '\x87': // TUPLE1 to TUPLE3
		return tuple(int(code - '\x84'))
	case 't': // TUPLE
		items, err := p.marked()
		if err != nil {
			return err
		}
		return p.push(pickleTuple(items))
	case ']':
		return p.push(&pickleList{})
	case '}':
		return p.push(&pickleDict{})
	case 'a', 'e': // APPEND, APPENDS
		return p.extend(code == 'a')
	case 's', 'u': // SETITEM, SETITEMS
		return p.assign(code == 's')
	case 'q': // BINPUT
		return put(p.number(1))
	case 'r': // LONG_BINPUT
		return put(p.number(4))
	case '\x94': // MEMOIZE
		return put(uint64(len(p.memo)), nil)
	case 'h': // BINGET
		return get(p.number(1))
	case 'j': // LONG_BINGET
		return get(p.number(4))
	case 'c': // GLOBAL
		module, err := p.line()
		if err != nil {
			return err
		}
		name, err := p.line()
		if err != nil {
			return err
		}
		return p.global(module, name)
	case '\x93': // STACK_GLOBAL
		name, err := p.pop()
		if err != nil {
			return err
		}
		module, err := p.pop()
		if err != nil {
			return err
		}
		m, ok := module.(string)
		n, also := name.(string)
		if !ok || !also {
			return errors.New("its data.pkl names a global by something else than text")
		}
		return p.global(m, n)
	case 'Q': // BINPERSID
		return p.storage()
	case 'R': // REDUCE
		return p.call()
	case 'b': // BUILD
		return p.build()
	}
	return fmt.Errorf("its data.pkl has operation %#02x at byte %d, which no state dict needs", code, p.at-1)
}

func (p *pickle) extend(one bool) error {
	var items []any
	var err error
	if one {
		items = make([]any, 1)
		items[0], err = p.pop()
	} else {
		items, err = p.marked()
	}
	if err != nil {
		return err
	}
	into, err := p.top()
	if err != nil {
		return err
	}
	list, ok := into.(*pickleList)
	if !ok {
		return errors.New("its data.pkl appends to what is no list")
	}
	list.items = append(list.items, items...)
	return nil
}

func (p *pickle) assign(one bool) error {
	var items []any
	var err error
	if one {
		items = make([]any, 2)
		for i := range items {
			if items[1-i], err = p.pop(); err != nil {
				return err
			}
		}
	} else if items, err = p.marked(); err != nil {
		return err
	}
	into, err := p.top()
	if err != nil {
		return err
	}
	dict, ok := into.(*pickleDict)
	if !ok || len(items)%2 != 0 {
		return errors.New("its data.pkl sets items of what is no dictionary")
	}
	for i := 0; i < len(items); i += 2 {
		dict.keys, dict.values = append(dict.keys, items[i]), append(dict.values, items[i+1])
	}
	return nil
}

func (p *pickle) global(module, name string) error {
	g := pickleGlobal(module + "." + name)
	if _, storage := storageTypes[g]; !storage && g != orderedDict && g != rebuildTensor && g != rebuildParameter {
		return foreignGlobal(g)
	}
	return p.push(g)
}

// foreignGlobal is the error of a pickle that asks for more than numbers.
type foreignGlobal pickleGlobal

func (g foreignGlobal) Error() string {
	return fmt.Sprintf("it asks for the Python object %.200q, and no program is run from a file of numbers here; save model.state_dict() alone, as safetensors or with torch.save", string(g))
}

// storage makes a block of numbers of the persistent id on the stack:
// ("storage", type, key, device, number of elements).
func (p *pickle) storage() error {
	value, err := p.pop()
	if err != nil {
		return err
	}
	wrong := errors.New("its data.pkl names a storage in a way that torch.save does not")
	id, ok := value.(pickleTuple)
	if !ok || len(id) != 5 || id[0] != any("storage") {
		return wrong
	}
	kind, isGlobal := id[1].(pickleGlobal)
	key, isText := id[2].(string)
	count, isNumber := id[4].(int64)
	dtype, known := storageTypes[kind]
	if !isGlobal || !isText || !isNumber || !known || count < 0 {
		return wrong
	}
	return p.push(&pickleStorage{key, dtype, count})
}

// call makes of a global's arguments what it makes of them.
func (p *pickle) call() error {
	value, err := p.pop()
	if err != nil {
		return err
	}
	function, err := p.pop()
	if err != nil {
		return err
	}
	args, ok := value.(pickleTuple)
	if !ok {
		return errors.New("its data.pkl calls with something else than a tuple")
	}
	switch function {
	case any(orderedDict):
		if len(args) == 0 {
			return p.push(&pickleDict{})
		}
		return errors.New("its data.pkl makes a dictionary in a way that torch.save does not")
	case any(rebuildTensor):
		tensor, err := rebuild(args)
		if err != nil {
			return err
		}
		return p.push(tensor)
	case any(rebuildParameter):
		if len(args) == 3 {
			if tensor, ok := args[0].(*pickleTensor); ok && empty(args[2]) {
				return p.push(tensor)
			}
		}
		return errors.New("its data.pkl makes a parameter in a way that torch.save does not")
	}
	return errors.New("its data.pkl calls what is no function")
}

// rebuild is torch._utils._rebuild_tensor_v2: (storage, offset, shape, strides,
// requires_grad, hooks), and since PyTorch 1.12 metadata.
func rebuild(args pickleTuple) (*pickleTensor, error) {
	wrong := errors.New("its data.pkl makes a tensor in a way that torch.save does not")
	if len(args) != 6 && len(args) != 7 || !empty(args[5]) || len(args) == 7 && !empty(args[6]) {
		return nil, wrong
	}
	storage, ok := args[0].(*pickleStorage)
	offset, isNumber := args[1].(int64)
	shape, isShape := numbers(args[2])
	strides, isStrides := numbers(args[3])
	if !ok || !isNumber || !isShape || !isStrides || len(shape) != len(strides) || offset < 0 {
		return nil, wrong
	}
	return &pickleTensor{storage, offset, shape, strides}, nil
}

// numbers are those of a tuple of whole numbers of 0 or more, one for an axis.
func numbers(value any) ([]int64, bool) {
	tuple, ok := value.(pickleTuple)
	if !ok || len(tuple) > maxRank {
		return nil, false
	}
	all := make([]int64, len(tuple))
	for i, v := range tuple {
		if all[i], ok = v.(int64); !ok || all[i] < 0 {
			return nil, false
		}
	}
	return all, true
}

// empty tells whether a value says nothing: None, or a dictionary of nothing.
func empty(value any) bool {
	dict, ok := value.(*pickleDict)
	return value == nil || ok && len(dict.keys) == 0
}

// build sets attributes. A state dict has one, the versions of its layers'
// formats, which no layer here depends on.
func (p *pickle) build() error {
	state, err := p.pop()
	if err != nil {
		return err
	}
	of, err := p.top()
	if err != nil {
		return err
	}
	_, ok := of.(*pickleDict)
	_, also := state.(*pickleDict)
	if !ok || !also {
		return errors.New("its data.pkl sets attributes of what is no dictionary")
	}
	return nil
}
