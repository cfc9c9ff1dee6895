// Package demo is the web page that steers in the browser: its files as the
// build left them, and the handler that serves them. The page itself is
// TypeScript in src; its core is the Go module of wasm/browser.
package demo

import (
	"embed"
	"io/fs"
)

// dist is empty but for .gitkeep until `make site` has built the page.
//
//go:embed all:dist
var dist embed.FS

// Site returns the page built into this binary.
func Site() fs.FS {
	site, err := fs.Sub(dist, "dist")
	if err != nil {
		panic("demo: " + err.Error()) // the folder is embedded
	}
	return site
}

// Built tells whether site holds a built page.
func Built(site fs.FS) bool {
	info, err := fs.Stat(site, "index.html")
	return err == nil && info.Mode().IsRegular()
}
