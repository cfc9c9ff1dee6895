//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package model

import "io/fs"

// mapFile maps nothing here: a file is read range by range.
func mapFile(fs.File, int64) mapped { return nil }
