package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sdo-go/sdo/graph"
)

// What a download keeps in the model's folder beside the model: a lock, the
// files that are not complete, named after their checksums, and a record of
// what came from where.
const (
	privateFolder = ".pull"
	lockFile      = privateFolder + "/lock"
	recordFile    = privateFolder + "/record.json"
)

var errBusy = errors.New("another download into this folder is under way")

// Progress is how far a download is.
type Progress struct {
	Checking    bool // files that are there already, before anything is fetched
	File        string
	Done, Total int64 // bytes of all files
}

// Pulled is what became of one file.
type Pulled struct {
	File
	Had     int64 // bytes that were there already
	Fetched int64 // bytes that came over the network
}

// Record says what a folder was pulled from. It lies in .pull/record.json.
type Record struct {
	Format   int               `json:"format"` // 1
	Endpoint string            `json:"endpoint"`
	Name     string            `json:"name"`
	Revision string            `json:"revision"`
	Commit   string            `json:"commit"`
	Files    map[string]Digest `json:"files"`
}

// ReadRecord reads a folder's record; fs.ErrNotExist where it was not pulled.
func ReadRecord(folder fs.FS) (*Record, error) {
	text, err := fs.ReadFile(folder, recordFile)
	if err != nil {
		return nil, err
	}
	r := &Record{}
	if err := json.Unmarshal(text, r); err != nil || r.Format != 1 {
		return nil, fmt.Errorf("%s: damaged, or of a later version; remove it", recordFile)
	}
	for name, digest := range r.Files {
		if digest == "" || digestOf(digest.hex()) != digest {
			return nil, fmt.Errorf("%s: the checksum of %q is none; remove the record", recordFile, name)
		}
	}
	return r, nil
}

// Pull brings files of a listing into a folder, which is made. What is there
// with the right checksum is kept; what an earlier download left unfinished is
// continued; a file that no download put there is never replaced. Every file
// appears under its name complete and checked. One download has a folder at a
// time. A cancelled download keeps what has come.
func (c *Client) Pull(ctx context.Context, l *Listing, files []File, dir string, progress func(Progress)) ([]Pulled, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, Refusal{fmt.Errorf("%w; give another folder with --to", err)}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := root.MkdirAll(privateFolder, 0o755); err != nil {
		return nil, err
	}
	unlock, err := lock(root)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	defer unlock()

	p := &pull{c: c, l: l, root: root, total: total(files), report: progress}
	missing, err := p.check(ctx, files)
	if err != nil {
		return nil, err
	}
	if err := p.room(missing, dir); err != nil {
		return nil, err
	}
	for i := range p.pulled {
		f := &p.pulled[i]
		if f.Had == f.Size && !missing[f.Path] {
			continue
		}
		if err := p.fetch(ctx, f); err != nil {
			return p.pulled, fmt.Errorf("%s: %w", f.Path, c.explain(l, f.Path, err))
		}
	}
	return p.pulled, p.tidy()
}

// pull is one download under way.
type pull struct {
	c      *Client
	l      *Listing
	root   *os.Root
	pulled []Pulled
	total  int64
	done   int64 // bytes that are there, complete or not
	report func(Progress)
}

// part is where a file grows: for one path and one checksum.
func part(f File) string {
	path := fnv.New32a()
	path.Write([]byte(f.Path))
	return fmt.Sprintf("%s/%s-%08x.part", privateFolder, f.Digest.hex(), path.Sum32())
}

// check looks at what is there, and leaves a record of what will be.
func (p *pull) check(ctx context.Context, files []File) (missing map[string]bool, err error) {
	old, err := ReadRecord(p.root.FS())
	if errors.Is(err, fs.ErrNotExist) {
		old, err = &Record{}, nil
	}
	if err != nil {
		return nil, err
	}
	record := &Record{1, p.c.endpoint.String(), p.l.Name, p.l.Revision, p.l.Commit, map[string]Digest{}}
	for name, digest := range old.Files {
		record.Files[name] = digest
	}
	missing, folded := map[string]bool{}, map[string]string{}
	seen := int64(0)
	for _, f := range files {
		// Two names may be one file where upper and lower case are the same.
		if other, taken := folded[strings.ToLower(f.Path)]; taken {
			return nil, fmt.Errorf("the model holds both %s and %s, which not every disk can tell apart", other, f.Path)
		}
		folded[strings.ToLower(f.Path)] = f.Path

		p.report(Progress{true, f.Path, seen, p.total})
		had, err := p.sum(ctx, f.Path, f.Digest, func(n int64) { p.report(Progress{true, f.Path, seen + n, p.total}) })
		seen += f.Size
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing[f.Path] = true
			record.Files[f.Path] = f.Digest // whatever interrupts, it is known for ours
		case err != nil:
			return nil, err
		case had == f.Digest:
			p.pulled = append(p.pulled, Pulled{f, f.Size, 0})
			p.done += f.Size
			record.Files[f.Path] = f.Digest
			continue
		default:
			was, ours := old.Files[f.Path]
			if ours && was.kind() != f.Digest.kind() {
				had, err = p.sum(ctx, f.Path, was, func(int64) {})
			}
			if err != nil {
				return nil, err
			}
			if !ours || had != was { // nobody's, or somebody has changed it since
				why := "no download put it there"
				if ours {
					why = "it was changed after it was downloaded"
				}
				return nil, Refusal{fmt.Errorf("%s is there and is not what the hub has; %s, so it is not replaced: move it away, or give another folder with --to", filepath.Join(p.root.Name(), filepath.FromSlash(f.Path)), why)}
			}
			missing[f.Path] = true
		}
		begun := int64(0)
		if stat, err := p.root.Stat(part(f)); err == nil && stat.Size() <= f.Size {
			begun = stat.Size()
		}
		p.pulled = append(p.pulled, Pulled{f, begun, 0})
		p.done += begun
	}
	return missing, p.keep(record)
}

// sum is the checksum of a file that is there, in the form of another.
func (p *pull) sum(ctx context.Context, name string, like Digest, at func(int64)) (Digest, error) {
	stat, err := p.root.Stat(filepath.FromSlash(name)) // a pipe would not even open
	if err != nil {
		return "", err
	}
	if !stat.Mode().IsRegular() {
		return "", Refusal{fmt.Errorf("%s is there and is not a file; move it away, or give another folder with --to", name)}
	}
	file, err := p.root.Open(filepath.FromSlash(name))
	if err != nil {
		return "", err
	}
	defer file.Close()
	h := like.hash(stat.Size())
	_, err = io.Copy(h, &watched{ctx: ctx, r: file, at: at})
	return like.sum(h), err
}

// watched is a reader that says how far it is, and ends with its context.
type watched struct {
	ctx context.Context
	r   io.Reader
	at  func(int64)
	n   int64
}

func (w *watched) Read(b []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.r.Read(b)
	w.n += int64(n)
	w.at(w.n)
	return n, err
}

// room wants space for what is missing before any of it is fetched.
func (p *pull) room(missing map[string]bool, dir string) error {
	need := int64(0)
	for _, f := range p.pulled {
		if missing[f.Path] {
			if need += f.Size - f.Had; need < 0 {
				return distrust("the hub lists more bytes than there can be")
			}
		}
	}
	if free, known := p.c.space(dir); known && need > free {
		return fmt.Errorf("%s: %s are to come and %s are free; make room, or give another folder with --to", dir, graph.Bytes(need), graph.Bytes(free))
	}
	return nil
}

// fetch downloads one file, from where an earlier download left it.
func (p *pull) fetch(ctx context.Context, f *Pulled) error {
	var err error
	for again := range 2 {
		if err = p.fetchPart(ctx, f); err == nil {
			return p.land(f.File)
		}
		var wrong wrongSum
		if !errors.As(err, &wrong) {
			return err
		}
		// What was resumed may have been damaged on this disk. Bytes that all
		// came now were wrong where they came from.
		if removeErr := p.root.Remove(part(f.File)); removeErr != nil {
			return removeErr
		}
		p.done -= f.Size
		if resumed := f.Had > 0; !resumed || again > 0 {
			return err
		}
		if p.c.Note != nil {
			p.c.Note(fmt.Sprintf("%s: %v; from the beginning", f.Path, err))
		}
		f.Had = 0
	}
	return err
}

// wrongSum is a complete file of another checksum than was listed.
type wrongSum struct{ got, want Digest }

func (e wrongSum) Error() string {
	return fmt.Sprintf("the checksum is %s, the hub lists %s; nothing of it was kept, the server or something in between changes files", e.got, e.want)
}

// fetchPart completes a file's part and checks it.
func (p *pull) fetchPart(ctx context.Context, f *Pulled) (err error) {
	file, err := p.root.OpenFile(part(f.File), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
	}()
	if f.Had == 0 { // also one that had grown too long
		if err := file.Truncate(0); err != nil {
			return err
		}
	}
	at := f.Had
	fetched := int64(0)
	err = p.c.persist(ctx, f.Path, func() (bool, error) {
		if at == f.Size {
			return false, nil
		}
		n, err := p.continuePart(ctx, f.File, file, at)
		at += n
		fetched += n
		return n >= ground, err
	})
	f.Fetched += fetched
	if err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	h := f.Digest.hash(f.Size)
	if _, err := io.Copy(h, &watched{ctx: ctx, r: file, at: func(int64) {}}); err != nil {
		return err
	}
	if got := f.Digest.sum(h); got != f.Digest {
		return wrongSum{got, f.Digest}
	}
	return file.Sync()
}

// continuePart fetches a file's bytes from at on, as far as they come; n is how
// many were written.
func (p *pull) continuePart(ctx context.Context, f File, file *os.File, at int64) (n int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	header := http.Header{}
	if at > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", at))
	}
	answer, err := p.c.ask(ctx, http.MethodGet, p.l.address(f), header)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	if d := digestOf(answer.linked.Get("X-Linked-Etag")); d != "" && d.kind() == f.Digest.kind() && d != f.Digest {
		return 0, distrust("the hub now holds another file than it listed; try again")
	}
	skip, err := begins(answer.Response, at, f.Size)
	if err != nil {
		return 0, err
	}
	body := p.c.patiently(answer.Body, cancel)
	defer body.timer.Stop()
	// A server that knows no ranges begins again; what is here needs no second
	// writing.
	if _, err := io.CopyN(io.Discard, body, skip); err != nil {
		return 0, cut(err)
	}
	buffer := make([]byte, 1<<17)
	for {
		got, err := body.Read(buffer)
		if over := at + n + int64(got) - f.Size; over > 0 {
			return n, distrust("the server sends more than the %d bytes it lists", f.Size)
		}
		if _, writeErr := file.WriteAt(buffer[:got], at+n); writeErr != nil {
			return n, mistrust{writeErr.Error()} // a full disk is full the next time, too
		}
		n += int64(got)
		p.done += int64(got)
		p.report(Progress{false, f.Path, p.done, p.total})
		switch {
		case err == io.EOF && at+n == f.Size:
			return n, nil
		case err != nil:
			return n, cut(err)
		}
	}
}

// cut is the error of a body that ended before its file did.
func cut(err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the connection was cut")
	}
	return err
}

// begins says how many bytes of an answer come before the byte at, and refuses
// one that is about something else than a file of the given size.
func begins(answer *http.Response, at, size int64) (skip int64, err error) {
	length, kind := answer.ContentLength, answer.Header.Get("Content-Type")
	if answer.StatusCode == http.StatusOK {
		if length > size || length >= 0 && length < size && strings.HasPrefix(kind, "text/html") {
			what := fmt.Sprintf("a file of %d bytes", length)
			if strings.HasPrefix(kind, "text/html") {
				what = "a web page"
			}
			return 0, distrust("the server sends %s where it lists %d bytes; does something in between ask to log in?", what, size)
		}
		return at, nil
	}
	if at == 0 {
		return 0, distrust("the server sends a part of the file where all of it was asked for")
	}
	from, of, ok := parseRange(answer.Header.Get("Content-Range"))
	switch {
	case !ok:
		return 0, distrust("the server sends a part of the file without saying which")
	case from != at:
		return 0, distrust("the server sends the file from byte %d where byte %d was asked for", from, at)
	case of >= 0 && of != size:
		return 0, distrust("the server sends a file of %d bytes where it lists %d", of, size)
	}
	return 0, nil
}

// parseRange reads a Content-Range: "bytes 5-9/10", or with a * for the whole.
func parseRange(s string) (from, of int64, ok bool) {
	s, found := strings.CutPrefix(s, "bytes ")
	span, whole, slash := strings.Cut(s, "/")
	first, _, dash := strings.Cut(span, "-")
	from, err := strconv.ParseInt(first, 10, 64)
	if !found || !slash || !dash || err != nil {
		return 0, 0, false
	}
	if of, err = strconv.ParseInt(whole, 10, 64); err != nil {
		of = -1
	}
	return from, of, true
}

// land moves a checked part to its name, and notes that in the record.
func (p *pull) land(f File) error {
	name := filepath.FromSlash(f.Path)
	if dir := path.Dir(f.Path); dir != "." {
		if err := p.root.MkdirAll(filepath.FromSlash(dir), 0o755); err != nil {
			return err
		}
	}
	if err := p.root.Rename(part(f), name); err != nil {
		return err
	}
	record, err := ReadRecord(p.root.FS())
	if err != nil {
		return err
	}
	record.Files[f.Path] = f.Digest
	return p.keep(record)
}

// keep writes the record in one step.
func (p *pull) keep(r *Record) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := p.root.WriteFile(recordFile+".new", append(text, '\n'), 0o644); err != nil {
		return err
	}
	return p.root.Rename(recordFile+".new", recordFile)
}

// tidy removes what earlier downloads of other revisions left unfinished.
func (p *pull) tidy() error {
	parts, err := fs.Glob(p.root.FS(), privateFolder+"/*.part")
	if err != nil {
		return err
	}
	for _, name := range parts {
		if err := p.root.Remove(name); err != nil {
			return err
		}
	}
	return nil
}
