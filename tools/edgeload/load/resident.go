package load

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// resident is the memory of a process that is resident, in bytes; of process 0,
// that of the largest workerd beside the program that listens at an address of
// this machine, since wrangler runs one that listens and one that computes. 0
// where neither is known: elsewhere, or not on Linux.
func resident(address string, process int) (largest int64) {
	if process != 0 {
		return residentOf(strconv.Itoa(process))
	}
	u, err := url.Parse(address)
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return 0
	}
	listener := listens(port)
	if listener == "" {
		return 0
	}
	for _, p := range processes() {
		if name, _ := os.ReadFile("/proc/" + p + "/comm"); strings.TrimSpace(string(name)) == "workerd" && status(p, "PPid") == status(listener, "PPid") {
			largest = max(largest, residentOf(p))
		}
	}
	return largest
}

func residentOf(process string) int64 {
	kib, _ := strconv.ParseInt(strings.TrimSuffix(status(process, "VmRSS"), " kB"), 10, 64)
	return kib << 10
}

func processes() (all []string) {
	found, _ := filepath.Glob("/proc/[0-9]*")
	for _, path := range found {
		all = append(all, filepath.Base(path))
	}
	return all
}

// status is a line of a process's status; empty where it has none.
func status(process, key string) string {
	text, _ := os.ReadFile("/proc/" + process + "/status")
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte(key+":")); ok {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}

// listens is the process that listens at a port; empty for none.
func listens(port int) string {
	text, _ := os.ReadFile("/proc/net/tcp")
	socket := ""
	for line := range bytes.Lines(text) {
		f := strings.Fields(string(line))
		if len(f) > 9 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) && f[3] == "0A" { // LISTEN
			socket = "socket:[" + f[9] + "]"
		}
	}
	if socket == "" {
		return ""
	}
	for _, p := range processes() {
		files, _ := filepath.Glob("/proc/" + p + "/fd/*")
		for _, name := range files {
			if target, _ := os.Readlink(name); target == socket {
				return p
			}
		}
	}
	return ""
}
