package main

import (
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/sdo-go/sdo/native/report"
)

// version is set by the Makefile from git describe.
var version = "devel"

type buildInfo struct{ report.Program }

func (b buildInfo) String() string {
	s := b.Version
	if b.Commit != "" {
		s += " (" + b.Commit + ")"
	}
	return s + ", " + b.Go + ", " + b.Platform
}

// program says which build this is, as far as the toolchain recorded it.
func program() buildInfo {
	p := report.Program{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				p.Commit = s.Value[:min(12, len(s.Value))]
			case "vcs.modified":
				p.Modified = s.Value == "true"
			case "-tags":
				if strings.Contains(s.Value, "openblas") {
					p.Platform += " with OpenBLAS"
				}
			}
		}
	}
	return buildInfo{p}
}
