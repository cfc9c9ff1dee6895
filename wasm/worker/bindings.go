//go:build js

package main

import (
	"context"
	"fmt"
	"io/fs"
	"syscall/js"
	"time"

	"github.com/sdo-go/sdo/wasm/edge"
)

// bucket is an R2 bucket. The library's own waits for ever where the caller has
// gone, and lists without what is known about a file.
type bucket struct{ js.Value }

var _ edge.Bucket = bucket{}

func (b bucket) Get(ctx context.Context, key string) ([]byte, map[string]string, error) {
	object, err := awaitBriefly(ctx, b.Call("get", key))
	if err != nil {
		return nil, nil, fmt.Errorf("bucket: %s: %w", key, err)
	}
	if object.IsNull() {
		return nil, nil, fmt.Errorf("bucket: %s: %w", key, fs.ErrNotExist)
	}
	if size := object.Get("size").Float(); size > edge.MaxLoRA {
		return nil, nil, fmt.Errorf("bucket: %s: has %.0f bytes, at most %d are read", key, size, edge.MaxLoRA)
	}
	content, err := awaitBriefly(ctx, object.Call("arrayBuffer"))
	if err != nil {
		return nil, nil, fmt.Errorf("bucket: %s: %w", key, err)
	}
	return bytesOf(js.Global().Get("Uint8Array").New(content)), record(object.Get("customMetadata")), nil
}

func (b bucket) Put(ctx context.Context, key string, data []byte, about map[string]string) error {
	metadata := map[string]any{}
	for k, v := range about {
		metadata[k] = v
	}
	if _, err := awaitBriefly(ctx, b.Call("put", key, arrayOf(data), map[string]any{"customMetadata": metadata})); err != nil {
		return fmt.Errorf("bucket: %s: %w", key, err)
	}
	return nil
}

func (b bucket) Delete(ctx context.Context, key string) error {
	if _, err := awaitBriefly(ctx, b.Call("delete", key)); err != nil {
		return fmt.Errorf("bucket: %s: %w", key, err)
	}
	return nil
}

func (b bucket) List(ctx context.Context, prefix string) (entries []edge.Entry, err error) {
	options := map[string]any{"prefix": prefix, "include": []any{"customMetadata"}}
	for {
		page, err := awaitBriefly(ctx, b.Call("list", options))
		if err != nil {
			return nil, fmt.Errorf("bucket: list of %s: %w", prefix, err)
		}
		objects := page.Get("objects")
		for i := range objects.Length() {
			o := objects.Index(i)
			entries = append(entries, edge.Entry{
				Key: o.Get("key").String(), Size: int64(o.Get("size").Float()),
				Uploaded: time.UnixMilli(int64(o.Get("uploaded").Call("getTime").Float())),
				About:    record(o.Get("customMetadata")),
			})
		}
		if !page.Get("truncated").Bool() {
			return entries, nil
		}
		options["cursor"] = page.Get("cursor")
	}
}

// record is an object of texts.
func record(object js.Value) map[string]string {
	texts := map[string]string{}
	if !object.Truthy() {
		return texts
	}
	keys := js.Global().Get("Object").Call("keys", object)
	for i := range keys.Length() {
		key := keys.Index(i).String()
		texts[key] = object.Get(key).String()
	}
	return texts
}

// links is a KV namespace.
type links struct{ js.Value }

var _ edge.Links = links{}

func (l links) Get(ctx context.Context, key string) (string, error) {
	text, err := awaitBriefly(ctx, l.Call("get", key))
	if err != nil {
		return "", fmt.Errorf("links: %s: %w", key, err)
	}
	if text.IsNull() {
		return "", fmt.Errorf("links: %s: %w", key, fs.ErrNotExist)
	}
	return text.String(), nil
}

func (l links) Put(ctx context.Context, key, text string, life time.Duration) error {
	options := map[string]any{}
	if life > 0 {
		options["expirationTtl"] = max(60, int(life.Seconds())) // a minute is the platform's least
	}
	if _, err := awaitBriefly(ctx, l.Call("put", key, text, options)); err != nil {
		return fmt.Errorf("links: %s: %w", key, err)
	}
	return nil
}

// limiter is a rate limiting binding.
type limiter struct{ js.Value }

func (l limiter) take(ctx context.Context, caller string) (bool, error) {
	answer, err := awaitBriefly(ctx, l.Call("limit", map[string]any{"key": caller}))
	if err != nil {
		return false, fmt.Errorf("rate limit: %w", err)
	}
	return answer.Get("success").Bool(), nil
}
