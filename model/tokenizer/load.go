package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sdo-go/sdo/model/placeholder"
)

// Names of the files of a folder. Those that transformers wrote before 2026 are
// vocab.json and merges.txt, the newer one has all in tokenizer.json.
const (
	vocabFile   = "vocab.json"
	mergesFile  = "merges.txt"
	wholeFile   = "tokenizer.json"
	configFile  = "tokenizer_config.json"
	specialFile = "special_tokens_map.json"
	addedFile   = "added_tokens.json"
)

// Limits, so that a wrong file ends in a sentence.
const (
	maxIDs       = 1 << 24 // ids are carried as float32
	maxContent   = 256     // bytes of an added token
	maxAdded     = 1 << 18 // bytes of all of them
	maxMaxLength = 1 << 16
	maxFile      = 64 << 20 // bytes of any of the files; CLIP's have at most a few megabytes
)

// defaultMaxLength is CLIP's, for folders that do not say.
const defaultMaxLength = 77

// Load reads a tokenizer's folder as transformers' CLIPTokenizer.from_pretrained
// does: tokenizer.json, or else vocab.json and merges.txt, with
// tokenizer_config.json, special_tokens_map.json and added_tokens.json where
// there are any.
func Load(fsys fs.FS, dir string) (*Tokenizer, error) {
	l := loader{fsys: fsys, dir: dir}
	whole, err := l.model()
	if err != nil {
		return nil, err
	}
	config, err := l.config(whole)
	if err != nil {
		return nil, err
	}
	t, err := newTokenizer(l.vocab, l.merges, config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path.Join(dir, l.file), err)
	}
	return t, nil
}

// loader reads the files of a folder.
type loader struct {
	fsys   fs.FS
	dir    string
	file   string // that the vocabulary is in
	vocab  map[string]int
	merges [][2]string
}

// read returns the contents of a file, nil where there is none.
func (l *loader) read(name string) ([]byte, error) {
	f, err := l.fsys.Open(path.Join(l.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s: has more than %d bytes, which is no file of a tokenizer", path.Join(l.dir, name), maxFile)
	}
	if err == nil {
		if err = placeholder.Check(text[:min(len(text), placeholder.Bytes)]); err != nil {
			err = fmt.Errorf("%s: %w", path.Join(l.dir, name), err)
		}
	}
	return text, err
}

// decode reads a JSON file where there is one.
func (l *loader) decode(name string, into any) error {
	text, err := l.read(name)
	if err != nil || text == nil {
		return err
	}
	return l.unmarshal(name, text, into)
}

func (l *loader) unmarshal(name string, text []byte, into any) error {
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %.200s; the file is damaged, fetch it again", path.Join(l.dir, name), strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// wholeJSON is what counts in tokenizer.json. How text is normalised and split is
// written there, too, but CLIPTokenizer has its own mind about it.
type wholeJSON struct {
	AddedTokens []addedJSON `json:"added_tokens"`
	Model       struct {
		Type                    *string           `json:"type"`
		ContinuingSubwordPrefix string            `json:"continuing_subword_prefix"`
		EndOfWordSuffix         *string           `json:"end_of_word_suffix"`
		Vocab                   json.RawMessage   `json:"vocab"` // a list where Type is Unigram
		Merges                  []json.RawMessage `json:"merges"`
	} `json:"model"`
}

// model reads the vocabulary and the merges; whole is nil without a
// tokenizer.json.
func (l *loader) model() (whole *wholeJSON, err error) {
	text, err := l.read(wholeFile)
	if err != nil {
		return nil, err
	}
	if text == nil {
		return nil, l.oldModel()
	}
	l.file = wholeFile
	whole = &wholeJSON{}
	if err := l.unmarshal(wholeFile, text, whole); err != nil {
		return nil, err
	}
	m := whole.Model
	wrong := func(key, got, want string) error {
		return fmt.Errorf("%s: %s %.40q is not supported, want %q; the tokenizer is not CLIP's", path.Join(l.dir, wholeFile), key, got, want)
	}
	switch {
	case m.Type != nil && *m.Type != "BPE":
		return nil, wrong("model.type", *m.Type, "BPE")
	case m.ContinuingSubwordPrefix != "":
		return nil, wrong("model.continuing_subword_prefix", m.ContinuingSubwordPrefix, "")
	case m.EndOfWordSuffix == nil || *m.EndOfWordSuffix != wordEnd:
		got := ""
		if m.EndOfWordSuffix != nil {
			got = *m.EndOfWordSuffix
		}
		return nil, wrong("model.end_of_word_suffix", got, wordEnd)
	}
	if m.Vocab != nil {
		if err := l.unmarshal(wholeFile, m.Vocab, &l.vocab); err != nil {
			return nil, err
		}
	}
	for i, raw := range m.Merges { // "a b" or ["a", "b"]
		var parts []string
		var line string
		if json.Unmarshal(raw, &line) == nil {
			parts = strings.Split(line, " ")
		} else if json.Unmarshal(raw, &parts) != nil {
			parts = nil
		}
		if len(parts) != 2 {
			return nil, fmt.Errorf("%s: merge %d, %.40s, is not two tokens; the file is damaged, fetch it again", path.Join(l.dir, wholeFile), i, raw)
		}
		l.merges = append(l.merges, [2]string(parts))
	}
	return whole, nil
}

func (l *loader) oldModel() error {
	l.file = vocabFile
	vocab, err := l.read(vocabFile)
	if err != nil {
		return err
	}
	merges, err := l.read(mergesFile)
	if err != nil {
		return err
	}
	if vocab == nil || merges == nil {
		return fmt.Errorf("%s: holds neither %s nor both %s and %s; the folder is incomplete, fetch it again", l.dir, wholeFile, vocabFile, mergesFile)
	}
	if err := l.unmarshal(vocabFile, vocab, &l.vocab); err != nil {
		return err
	}
	if !utf8.Valid(merges) {
		return fmt.Errorf("%s: not UTF-8; the file is damaged, fetch it again", path.Join(l.dir, mergesFile))
	}
	number := 0
	for line := range strings.Lines(string(merges)) {
		number++
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if strings.HasPrefix(line, "#version") {
			continue
		}
		parts := strings.Split(line, " ")
		if len(parts) != 2 {
			return fmt.Errorf("%s: line %d, %.40q, is not two tokens; the file is damaged, fetch it again", path.Join(l.dir, mergesFile), number, line)
		}
		l.merges = append(l.merges, [2]string(parts))
	}
	return nil
}

// config is what the smaller files say.
type config struct {
	bos, eos, unknown, pad string
	added                  []addedJSON // in the order they are given ids
	maxLength              int
}

// addedJSON is an added token in a file: an object, or only its content.
type addedJSON struct {
	ID         *int   `json:"id"` // nil for the next that is free
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	Normalized *bool  `json:"normalized"` // null is the contrary of Special
	Special    bool   `json:"special"`
}

func (a *addedJSON) UnmarshalJSON(text []byte) error {
	*a = addedJSON{}
	if len(text) > 0 && text[0] == '"' {
		a.Special = true
		return json.Unmarshal(text, &a.Content)
	}
	type fields addedJSON
	return json.Unmarshal(text, (*fields)(a))
}

func (a addedJSON) normalized() bool {
	if a.Normalized != nil {
		return *a.Normalized
	}
	return !a.Special
}

// specials are the tokens with a part to play; nil where a file does not say.
type specials struct {
	BOS     *addedJSON `json:"bos_token"`
	EOS     *addedJSON `json:"eos_token"`
	Unknown *addedJSON `json:"unk_token"`
	Pad     *addedJSON `json:"pad_token"`
	Extra   extraJSON  `json:"extra_special_tokens"`
	OldName extraJSON  `json:"additional_special_tokens"` // of Extra
}

// extraJSON is a list of special tokens. Some versions of transformers write none
// as an object without keys.
type extraJSON []addedJSON

func (e *extraJSON) UnmarshalJSON(text []byte) error {
	var none struct{}
	if string(text) == "{}" && json.Unmarshal(text, &none) == nil {
		*e = nil
		return nil
	}
	return json.Unmarshal(text, (*[]addedJSON)(e))
}

// override replaces what by says something about.
func (s *specials) override(by specials) {
	for _, pair := range [][2]**addedJSON{{&s.BOS, &by.BOS}, {&s.EOS, &by.EOS}, {&s.Unknown, &by.Unknown}, {&s.Pad, &by.Pad}} {
		if *pair[1] != nil {
			(*pair[1]).Special = true
			*pair[0] = *pair[1]
		}
	}
	if len(by.Extra) > 0 {
		s.Extra = by.Extra
	}
	if len(by.OldName) > 0 {
		s.OldName = by.OldName
	}
}

// all lists the special tokens; those that no file names have CLIP's.
func (s *specials) all() []addedJSON {
	for _, token := range []**addedJSON{&s.EOS, &s.Unknown, &s.Pad} {
		if *token == nil {
			*token = &addedJSON{Content: "<|endoftext|>", Special: true}
		}
	}
	if s.BOS == nil {
		s.BOS = &addedJSON{Content: "<|startoftext|>", Special: true}
	}
	extra := s.Extra
	if len(extra) == 0 {
		extra = s.OldName
	}
	return append([]addedJSON{*s.BOS, *s.EOS, *s.Unknown, *s.Pad}, extra...)
}

// configJSON is what counts in tokenizer_config.json.
type configJSON struct {
	specials
	TokenizerClass     string            `json:"tokenizer_class"`
	ModelMaxLength     *float64          `json:"model_max_length"`
	PaddingSide        string            `json:"padding_side"`
	TruncationSide     string            `json:"truncation_side"`
	AddedTokensDecoder map[int]addedJSON `json:"added_tokens_decoder"`
}

// config reads the smaller files, in transformers' order of precedence.
func (l *loader) config(whole *wholeJSON) (c config, err error) {
	var file configJSON
	if err := l.decode(configFile, &file); err != nil {
		return c, err
	}
	name := path.Join(l.dir, configFile)
	unsupported := func(key string, value any, want string) error {
		if text, ok := value.(string); ok {
			value = fmt.Sprintf("%.40q", text)
		}
		return fmt.Errorf("%s: %s %v is not supported, want %s", name, key, value, want)
	}
	if class := file.TokenizerClass; class != "" && class != "CLIPTokenizer" && class != "CLIPTokenizerFast" {
		return c, unsupported("tokenizer_class", class, "CLIPTokenizer")
	}
	if side := file.PaddingSide; side != "" && side != "right" {
		return c, unsupported("padding_side", side, "right")
	}
	if side := file.TruncationSide; side != "" && side != "right" {
		return c, unsupported("truncation_side", side, "right")
	}
	c.maxLength = defaultMaxLength
	if n := file.ModelMaxLength; n != nil && *n < 1e9 { // a length without bound is written as a huge number
		if *n != math.Trunc(*n) || *n < 3 || *n > maxMaxLength {
			return c, unsupported("model_max_length", *n, fmt.Sprintf("a number from 3 to %d", maxMaxLength))
		}
		c.maxLength = int(*n)
	}

	byID := file.AddedTokensDecoder
	if byID == nil {
		if byID, err = l.oldAdded(&file.specials, whole); err != nil {
			return c, err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		token := byID[id]
		token.ID = &id
		c.added = append(c.added, token)
	}
	c.added = append(c.added, file.all()...)
	c.bos, c.eos, c.unknown, c.pad = file.BOS.Content, file.EOS.Content, file.Unknown.Content, file.Pad.Content
	return c, nil
}

// oldAdded collects the added tokens of folders whose tokenizer_config.json does
// not list them.
func (l *loader) oldAdded(named *specials, whole *wholeJSON) (map[int]addedJSON, error) {
	var special specials
	if err := l.decode(specialFile, &special); err != nil {
		return nil, err
	}
	named.override(special)
	var added map[string]int
	if err := l.decode(addedFile, &added); err != nil {
		return nil, err
	}
	byID, isSpecial := map[int]addedJSON{}, map[string]bool{}
	for _, a := range named.all() {
		isSpecial[a.Content] = true
	}
	for content, id := range added {
		if byID[id].Content != "" {
			return nil, fmt.Errorf("%s: two tokens have the id %d; the file is damaged, fetch it again", path.Join(l.dir, addedFile), id)
		}
		byID[id] = addedJSON{Content: content, Special: isSpecial[content]}
	}
	if whole != nil {
		for _, a := range whole.AddedTokens {
			if a.ID == nil {
				return nil, fmt.Errorf("%s: added token %.40q has no id; the file is damaged, fetch it again", path.Join(l.dir, wholeFile), a.Content)
			}
			byID[*a.ID] = a
		}
	}
	return byID, nil
}

// newTokenizer puts the parts together.
func newTokenizer(vocab map[string]int, merges [][2]string, c config) (*Tokenizer, error) {
	t := &Tokenizer{vocab: vocab, merges: make(map[pair]merge, len(merges)), raw: &trie{}, normalized: &trie{}, maxLength: c.maxLength}
	if len(vocab) == 0 {
		return nil, errors.New("holds no vocabulary; the file is damaged, fetch it again")
	}
	owner := make(map[int]string, len(vocab))
	for text, id := range vocab {
		if id < 0 || id >= maxIDs {
			return nil, fmt.Errorf("token %.40q has the id %d, want one from 0 to %d", text, id, maxIDs-1)
		}
		if other, taken := owner[id]; taken {
			return nil, fmt.Errorf("tokens %.40q and %.40q have one id, %d; the file is damaged, fetch it again", min(text, other), max(text, other), id)
		}
		owner[id] = text
		t.size = max(t.size, id+1)
	}
	for rank, parts := range merges {
		var ids [3]int
		for i, text := range []string{parts[0], parts[1], parts[0] + parts[1]} {
			id, known := vocab[text]
			if !known {
				return nil, fmt.Errorf("merge %d, of %.40q and %.40q, needs the token %.80q, which the vocabulary lacks; the files do not belong together", rank, parts[0], parts[1], text)
			}
			ids[i] = id
		}
		t.merges[pair{ids[0], ids[1]}] = merge{rank, ids[2]}
	}
	if err := t.addTokens(c.added); err != nil {
		return nil, err
	}
	t.bos, _ = t.id(c.bos)
	t.eos, _ = t.id(c.eos)
	t.pad, _ = t.id(c.pad)
	var known bool
	if t.unknown, known = vocab[c.unknown]; !known {
		for _, text := range byteText {
			for _, end := range []string{"", wordEnd} {
				if _, known := vocab[text+end]; !known {
					return nil, fmt.Errorf("the vocabulary lacks the token %.40q and the unknown token %.40q that would stand for it", text+end, c.unknown)
				}
			}
		}
	}
	return t, nil
}

// id is a token's id, an added one's or the vocabulary's.
func (t *Tokenizer) id(content string) (int, bool) {
	for _, a := range t.added {
		if a.Content == content {
			return a.ID, true
		}
	}
	id, known := t.vocab[content]
	return id, known
}

// addTokens gives added tokens their ids: the vocabulary's, or the next that is
// free. Those with an id in a file come first and are not changed by the others,
// of which the last with a content counts.
func (t *Tokenizer) addTokens(tokens []addedJSON) error {
	next, bytes := len(t.vocab), 0
	place := map[string]int{} // in t.added
	fixed := map[string]bool{}
	for _, a := range tokens {
		if a.Content == "" || fixed[a.Content] && a.ID == nil {
			continue
		}
		if len(a.Content) > maxContent {
			return fmt.Errorf("added token %.40q is %d bytes long, want at most %d", a.Content, len(a.Content), maxContent)
		}
		token := AddedToken{Content: a.Content, SingleWord: a.SingleWord, Normalized: a.normalized()}
		if at, again := place[a.Content]; again {
			token.ID = t.added[at].ID
			t.added[at] = token
		} else {
			var known bool
			if token.ID, known = t.vocab[a.Content]; !known {
				token.ID = next
				next++
			}
			place[a.Content] = len(t.added)
			t.added = append(t.added, token)
			if bytes += len(a.Content); bytes > maxAdded {
				return fmt.Errorf("added tokens of more than %d bytes in all", maxAdded)
			}
		}
		if a.ID != nil && *a.ID != token.ID {
			return fmt.Errorf("added token %.40q has the id %d, by its place it would have %d; the files do not belong together", a.Content, *a.ID, token.ID)
		}
		if token.ID >= maxIDs {
			return fmt.Errorf("added token %.40q has the id %d, want one below %d", a.Content, token.ID, maxIDs)
		}
		fixed[a.Content] = fixed[a.Content] || a.ID != nil
	}
	for i := range t.added {
		a := &t.added[i]
		t.size = max(t.size, a.ID+1)
		if a.Normalized {
			t.normalized.add(normalize(a.Content), a)
		} else {
			t.raw.add(a.Content, a)
		}
	}
	return nil
}
