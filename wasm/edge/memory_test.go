package edge_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sdo-go/sdo/wasm/edge"
)

// bucket is an edge.Bucket in memory.
type bucket struct {
	mu    sync.Mutex
	files map[string]stored
	// fault is asked before everything, with the method's name; an error is
	// what the method then returns.
	fault func(method string) error
}

type stored struct {
	data     []byte
	about    map[string]string
	uploaded time.Time
}

func newBucket() *bucket {
	return &bucket{files: map[string]stored{}, fault: func(string) error { return nil }}
}

func (b *bucket) Get(_ context.Context, key string) ([]byte, map[string]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fault("Get"); err != nil {
		return nil, nil, err
	}
	f, ok := b.files[key]
	if !ok {
		return nil, nil, fmt.Errorf("bucket: %s: %w", key, fs.ErrNotExist)
	}
	return bytes.Clone(f.data), maps.Clone(f.about), nil
}

func (b *bucket) Put(_ context.Context, key string, data []byte, about map[string]string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fault("Put"); err != nil {
		return err
	}
	b.files[key] = stored{bytes.Clone(data), maps.Clone(about), time.Now()}
	return nil
}

func (b *bucket) Delete(_ context.Context, key string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fault("Delete"); err != nil {
		return err
	}
	delete(b.files, key)
	return nil
}

func (b *bucket) List(_ context.Context, prefix string) (entries []edge.Entry, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fault("List"); err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(b.files)) {
		if f := b.files[key]; strings.HasPrefix(key, prefix) {
			entries = append(entries, edge.Entry{Key: key, Size: int64(len(f.data)), Uploaded: f.uploaded, About: maps.Clone(f.about)})
		}
	}
	return entries, nil
}

// links is an edge.Links in memory.
type links struct {
	mu    sync.Mutex
	now   func() time.Time
	texts map[string]kept
	fault func(method string) error // as of bucket
}

type kept struct {
	text  string
	until time.Time // zero for ever
}

func newLinks(now func() time.Time) *links {
	return &links{now: now, texts: map[string]kept{}, fault: func(string) error { return nil }}
}

func (l *links) Get(_ context.Context, key string) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.fault("Get"); err != nil {
		return "", err
	}
	k, ok := l.texts[key]
	if !ok || !k.until.IsZero() && !l.now().Before(k.until) {
		return "", fmt.Errorf("links: %s: %w", key, fs.ErrNotExist)
	}
	return k.text, nil
}

func (l *links) Put(_ context.Context, key, text string, life time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.fault("Put"); err != nil {
		return err
	}
	k := kept{text: text}
	if life > 0 {
		k.until = l.now().Add(life)
	}
	l.texts[key] = k
	return nil
}
