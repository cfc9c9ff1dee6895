package edge

import (
	"context"
	"time"
)

// Bucket keeps files with a few words about each: R2 on Cloudflare.
type Bucket interface {
	// Get reads a file; an error that is fs.ErrNotExist where there is none.
	Get(ctx context.Context, key string) (data []byte, about map[string]string, err error)
	// Put writes a file as a whole, in place of one that is there.
	Put(ctx context.Context, key string, data []byte, about map[string]string) error
	// Delete removes a file; one that does not exist is no error.
	Delete(ctx context.Context, key string) error
	// List tells of the files whose keys begin with prefix, by key.
	List(ctx context.Context, prefix string) ([]Entry, error)
}

// Entry is a file of a bucket.
type Entry struct {
	Key      string
	Size     int64
	Uploaded time.Time
	About    map[string]string
}

// Links keeps short texts: a KV namespace on Cloudflare.
type Links interface {
	// Get reads a text; an error that is fs.ErrNotExist where there is none.
	Get(ctx context.Context, key string) (string, error)
	// Put writes a text, for this long; 0 for ever.
	Put(ctx context.Context, key, text string, life time.Duration) error
}
