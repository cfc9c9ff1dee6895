package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sdo-go/sdo/demo"
)

// served is what `sdo demo --json` prints once it serves. Keys are stable.
type served struct {
	URL    string `json:"url"`
	Secure bool   `json:"secure"` // WebGPU works for whoever can reach it
}

func (a *app) demo() *cobra.Command {
	var addr, dir string
	var open bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Serve the page that steers in a browser, from this binary",
		Long: `demo serves the page that steers the built-in model in a browser: on the
browser's WebGPU, without this machine's GPU and without a network after the page
has loaded. It prints the address and serves until Ctrl-C.

The folder make site leaves in demo/dist also works from any static host.`,
		Example: `  sdo demo
  sdo demo --open
  sdo demo --addr 127.0.0.1:9000 --dir demo/dist`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			site, err := a.site(dir)
			if err != nil {
				return err
			}
			listener, err := listen(cmd.Context(), addr)
			if err != nil {
				return err
			}
			return a.serve(cmd.Context(), listener, site, open)
		},
	}
	cmd.Flags().StringVar(&addr, "addr", "127.0.0.1:8321", "host and port to serve on; port 0 takes a free one")
	cmd.Flags().StringVar(&dir, "dir", "", "serve this built page instead of the one in this binary")
	cmd.Flags().BoolVar(&open, "open", false, "open the page in the browser")
	return cmd
}

// site is the page to serve: the one in the binary, or a folder as it is at any
// moment.
func (a *app) site(dir string) (fs.FS, error) {
	if dir == "" {
		if !demo.Built(demo.Site()) {
			return nil, errors.New("this binary was built without the page; make demo builds one with it and serves it, or name a built page with --dir")
		}
		return demo.Site(), nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, usageError{fmt.Errorf("--dir: %w", err)}
	}
	if !demo.Built(root.FS()) {
		return nil, usageError{fmt.Errorf("--dir %s: there is no index.html in it; make site builds the page into demo/dist", dir)}
	}
	return root.FS(), nil
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, usageError{fmt.Errorf("--addr %s: want a host and a port, such as 127.0.0.1:8321", addr)}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("another program serves on %s already, maybe another sdo demo; end it, or take another port, such as --addr 127.0.0.1:0 for any free one", addr)
	case err != nil:
		return nil, usageError{fmt.Errorf("--addr %s: %w", addr, err)}
	}
	return listener, nil
}

// serve serves until ctx ends, which is how it is meant to end.
func (a *app) serve(ctx context.Context, listener net.Listener, site fs.FS, open bool) error {
	s := address(listener.Addr().(*net.TCPAddr))
	if a.json {
		if err := a.printJSON(s); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.stdout, "%s steers in your browser; Ctrl-C ends it\n", s.URL)
	}
	if !s.Secure {
		a.say("warning: browsers offer WebGPU only to https and to this machine itself, so from another machine the page runs on its CPU; put it behind https for more")
	}
	if open {
		if err := openBrowser(ctx, s.URL); err != nil {
			a.say("warning: no browser could be opened: %v", err)
		}
	}
	server := &http.Server{
		Handler:           demo.Handler(site),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(a.stderr, "sdo: ", 0),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	// Who is loading the page may finish, within reason.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); errors.Is(err, context.DeadlineExceeded) {
		return server.Close()
	} else if err != nil {
		return err
	}
	return nil
}

// address is where a browser finds what listens on addr. An address that means
// every one of this machine's is reached by others too.
func address(addr *net.TCPAddr) served {
	s := served{URL: fmt.Sprintf("http://%s/", addr), Secure: addr.IP.IsLoopback()}
	if addr.IP.IsUnspecified() {
		s.URL = fmt.Sprintf("http://localhost:%d/", addr.Port)
	}
	return s
}

// openBrowser asks the desktop to show a page.
func openBrowser(ctx context.Context, url string) error {
	openers := map[string][]string{
		"darwin":  {"open"},
		"windows": {"rundll32", "url.dll,FileProtocolHandler"},
	}
	opener, ok := openers[runtime.GOOS]
	if !ok {
		opener = []string{"xdg-open"}
	}
	return exec.CommandContext(context.WithoutCancel(ctx), opener[0], append(opener[1:], url)...).Start()
}
