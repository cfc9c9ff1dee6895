package hub

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Limits of a listing.
const (
	maxListing = 64 << 20 // bytes of JSON
	maxFiles   = 100_000
	maxName    = 1024
	maxSize    = 1 << 44  // bytes of a file
	maxText    = 16 << 20 // bytes of a file that is read into memory
)

// File is a file of a model as the hub lists it.
type File struct {
	Path   string // with slashes, inside the folder
	Size   int64  // bytes
	Digest Digest // of the contents
}

// Digest is the checksum of a file: "sha256:" and 64 hexadecimal digits for the
// large files that Git does not hold itself, "git-sha1:" and 40 for the others,
// whose checksum is that of a Git blob.
type Digest string

const (
	sha256Kind = "sha256"
	gitKind    = "git-sha1"
)

// digestOf recognises a checksum by its form, in an ETag or as it is; empty if
// it is none.
func digestOf(s string) Digest {
	s = strings.ToLower(strings.Trim(strings.TrimPrefix(s, "W/"), `"`))
	if _, err := hex.DecodeString(s); err != nil {
		return ""
	}
	switch len(s) {
	case 2 * sha256.Size:
		return Digest(sha256Kind + ":" + s)
	case 2 * sha1.Size:
		return Digest(gitKind + ":" + s)
	}
	return ""
}

func (d Digest) kind() string {
	kind, _, _ := strings.Cut(string(d), ":")
	return kind
}

func (d Digest) hex() string {
	_, hex, _ := strings.Cut(string(d), ":")
	return hex
}

// hash begins a checksum of the same kind, of a file of the given size.
func (d Digest) hash(size int64) hash.Hash {
	if d.kind() == sha256Kind {
		return sha256.New()
	}
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", size)
	return h
}

// sum is the digest that a hash begun by d has come to.
func (d Digest) sum(h hash.Hash) Digest {
	return Digest(d.kind() + ":" + hex.EncodeToString(h.Sum(nil)))
}

// Listing is what a hub says a model holds at one commit.
type Listing struct {
	Name     string // OWNER/NAME
	Revision string // as asked for: a branch, a tag or a commit
	Commit   string // which that was
	Files    []File // sorted by path
}

// Find returns the file of a path.
func (l *Listing) Find(path string) (File, bool) {
	i, found := slices.BinarySearchFunc(l.Files, path, func(f File, path string) int { return strings.Compare(f.Path, path) })
	if !found {
		return File{}, false
	}
	return l.Files[i], true
}

var (
	nameForm   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$`)
	commitForm = regexp.MustCompile(`^[0-9a-f]{7,64}$`)
)

// CheckName wants OWNER/NAME.
func CheckName(name string) error {
	if !nameForm.MatchString(name) || strings.Contains(name, "..") {
		return fmt.Errorf("model %q: expected OWNER/NAME, as the hub writes it", name)
	}
	return nil
}

// List asks which files a model holds at a revision.
func (c *Client) List(ctx context.Context, name, revision string) (*Listing, error) {
	if err := CheckName(name); err != nil {
		return nil, Refusal{err}
	}
	if revision == "" || len(revision) > 200 || strings.ContainsFunc(revision, unicode.IsControl) || strings.Contains(revision, "..") {
		return nil, Refusal{fmt.Errorf("revision %q: expected a branch, a tag or a commit", revision)}
	}
	asked := &Listing{Name: name, Revision: revision}
	text, err := c.read(ctx, name, "/api/models/"+name+"/revision/"+url.PathEscape(revision)+"?blobs=true", maxListing)
	if err != nil {
		return nil, c.explain(asked, "", err)
	}
	l, err := parseListing(text)
	if err != nil {
		return nil, fmt.Errorf("%s at %s: %w", name, c.endpoint.Host, err)
	}
	if l.Name, l.Revision = name, revision; l.Commit == "" {
		l.Commit = revision
	}
	for i := range l.Files {
		if l.Files[i].Digest == "" || l.Files[i].Size < 0 {
			if err := c.look(ctx, l, &l.Files[i]); err != nil {
				return nil, fmt.Errorf("%s: %w", l.Files[i].Path, c.explain(l, l.Files[i].Path, err))
			}
		}
	}
	return l, nil
}

// explain says what a refusal means for a model, or for a file that it lists.
func (c *Client) explain(l *Listing, file string, err error) error {
	status := (*statusError)(nil)
	if !errors.As(err, &status) {
		return err
	}
	where := l.Name + " at " + c.endpoint.Host
	switch status.status {
	case http.StatusUnauthorized:
		advice := "set HF_TOKEN to a token that may read it, or correct the name: a hub does not tell a private model from none"
		if c.token != "" {
			advice = "the token in HF_TOKEN may be wrong, or the model not there: a hub does not tell a private model from none"
			if !c.mayTell() {
				advice = "the token in HF_TOKEN is not sent over plain HTTP; give an https address"
			}
		}
		return Refusal{fmt.Errorf("%s: %w; %s", where, err, advice)}
	case http.StatusForbidden:
		return Refusal{fmt.Errorf("%s: %w; accept its conditions on its page, and set HF_TOKEN to a token of that account", where, err)}
	case http.StatusNotFound:
		if file != "" {
			return fmt.Errorf("%s: %w; the hub lists the file and does not have it", where, err)
		}
		return Refusal{fmt.Errorf("%s: %w; there is no such model, or it has no revision %q", where, err, l.Revision)}
	}
	return fmt.Errorf("%s: %w", where, err)
}

// parseListing reads a hub's answer. Sizes that it does not give are -1.
func parseListing(text []byte) (*Listing, error) {
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("<")) {
		return nil, errors.New("the server answers with a web page; is this the address of a hub, and does nothing in between ask to log in?")
	}
	var answer struct {
		SHA      string `json:"sha"`
		Siblings []struct {
			Name string `json:"rfilename"`
			Size *int64 `json:"size"`
			Blob string `json:"blobId"`
			LFS  *struct {
				SHA256 string `json:"sha256"`
				Size   *int64 `json:"size"`
			} `json:"lfs"`
		} `json:"siblings"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, errors.New("the server's listing is not the JSON of a hub; is the address right?")
	}
	if len(answer.Siblings) == 0 {
		return nil, errors.New("the server lists no files")
	}
	if len(answer.Siblings) > maxFiles {
		return nil, fmt.Errorf("the server lists %d files, the limit is %d", len(answer.Siblings), maxFiles)
	}
	if answer.SHA != "" && !commitForm.MatchString(answer.SHA) {
		return nil, errors.New("the server's listing names a commit that is none")
	}
	l := &Listing{Commit: answer.SHA}
	for _, s := range answer.Siblings {
		if err := checkPath(s.Name); err != nil {
			return nil, err
		}
		f := File{Path: s.Name, Size: -1, Digest: digestOf(s.Blob)}
		if s.Size != nil {
			f.Size = *s.Size
		}
		if s.LFS != nil {
			// What Git holds of such a file is a pointer; its checksum is not the file's.
			if f.Digest = digestOf(s.LFS.SHA256); f.Digest == "" {
				return nil, fmt.Errorf("the server's listing gives %q a checksum that is none", f.Path)
			}
			if s.LFS.Size != nil {
				f.Size = *s.LFS.Size
			}
		}
		if s.Size != nil && f.Size < 0 || f.Size > maxSize {
			return nil, fmt.Errorf("the server's listing gives %q a size of %d bytes", f.Path, f.Size)
		}
		l.Files = append(l.Files, f)
	}
	slices.SortFunc(l.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	for i := 1; i < len(l.Files); i++ {
		if l.Files[i].Path == l.Files[i-1].Path {
			return nil, fmt.Errorf("the server lists %q twice", l.Files[i].Path)
		}
	}
	return l, nil
}

// checkPath wants a path that stays inside the folder it is written into, on
// every system.
func checkPath(name string) error {
	first, _, _ := strings.Cut(name, "/")
	if !fs.ValidPath(name) || name == "." || len(name) > maxName || strings.Contains(name, `\`) ||
		strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) || strings.EqualFold(first, privateFolder) || strings.EqualFold(first, ".git") { // on many disks upper and lower case are one
		return fmt.Errorf("the server lists a file %q, a name that does not stay inside the model's folder; nothing of this server is taken", name)
	}
	return nil
}

// look asks for the size and checksum of a file whose listing leaves them out,
// as mirrors do.
func (c *Client) look(ctx context.Context, l *Listing, f *File) error {
	return c.persist(ctx, f.Path, func() (bool, error) {
		answer, err := c.ask(ctx, http.MethodHead, l.address(*f), nil)
		if err != nil {
			return false, err
		}
		answer.Body.Close()
		for _, tag := range []string{answer.linked.Get("X-Linked-Etag"), answer.linked.Get("ETag"), answer.Header.Get("ETag")} {
			if f.Digest == "" {
				f.Digest = digestOf(tag)
			}
		}
		if size, err := strconv.ParseInt(answer.linked.Get("X-Linked-Size"), 10, 64); err == nil && f.Size < 0 {
			f.Size = size
		} else if f.Size < 0 {
			f.Size = answer.ContentLength
		}
		if f.Size > maxSize {
			return false, distrust("the server gives a size of %d bytes", f.Size)
		}
		if f.Digest == "" || f.Size < 0 {
			return false, distrust("the server gives neither a listing with checksums nor X-Linked-Etag and X-Linked-Size, so that what comes could not be checked")
		}
		return false, nil
	})
}

// address is where a file lies below the hub's address.
func (l *Listing) address(f File) string {
	parts := strings.Split(f.Path, "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	return "/" + l.Name + "/resolve/" + url.PathEscape(l.Commit) + "/" + strings.Join(parts, "/")
}

// ReadFile fetches a small file into memory and checks it.
func (c *Client) ReadFile(ctx context.Context, l *Listing, f File) ([]byte, error) {
	if f.Size > maxText {
		return nil, fmt.Errorf("%s: %d bytes, where at most %d are expected", f.Path, f.Size, maxText)
	}
	text, err := c.read(ctx, f.Path, l.address(f), int(f.Size))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, c.explain(l, f.Path, err))
	}
	h := f.Digest.hash(f.Size)
	h.Write(text)
	if got := f.Digest.sum(h); got != f.Digest {
		return nil, fmt.Errorf("%s: %w", f.Path, wrongSum{got, f.Digest})
	}
	return text, nil
}

// read fetches at most limit bytes into memory.
func (c *Client) read(ctx context.Context, what, path string, limit int) (text []byte, err error) {
	err = c.persist(ctx, what, func() (bool, error) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		answer, err := c.ask(ctx, http.MethodGet, path, nil)
		if err != nil {
			return false, err
		}
		defer answer.Body.Close()
		body := c.patiently(answer.Body, cancel)
		defer body.timer.Stop()
		if text, err = io.ReadAll(io.LimitReader(body, int64(limit)+1)); err != nil {
			return false, err
		}
		if len(text) > limit {
			return false, distrust("the server's answer is longer than %d bytes", limit)
		}
		return false, nil
	})
	return text, err
}
