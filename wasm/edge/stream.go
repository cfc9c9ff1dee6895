package edge

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// stream tells a caller of a run as it goes: server-sent events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html).
type stream struct {
	w        http.ResponseWriter
	rc       *http.ResponseController
	now      func() time.Time
	patience time.Duration
	mute     bool // the caller wants the last event only, as JSON
	began    bool // something was told
	done     bool // the last event was
}

// newStream begins no answer yet.
func (s *Server) newStream(w http.ResponseWriter, r *http.Request) *stream {
	return &stream{w: w, rc: http.NewResponseController(w), now: s.Now, patience: s.Patience, mute: accepts(r, "application/json") && !accepts(r, "text/event-stream")}
}

// accepts reports whether a caller asks for a media type by name.
func accepts(r *http.Request, media string) bool {
	for one := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		name, parameters, err := mime.ParseMediaType(one)
		if err != nil || name != media {
			continue
		}
		weight, err := strconv.ParseFloat(cmp.Or(parameters["q"], "1"), 64)
		return err == nil && weight > 0
	}
	return false
}

// tell sends an event. The error is of a caller who has gone, or reads too
// slowly.
func (s *stream) tell(event string, data any) error {
	if s.mute {
		return nil
	}
	if !s.began {
		s.began = true
		s.w.Header().Set("Content-Type", "text/event-stream")
		s.w.Header().Set("Cache-Control", "no-store, no-transform") // compressing would hold events back
		s.w.WriteHeader(http.StatusOK)
	}
	return s.send(event, data)
}

func (s *stream) send(event string, data any) error {
	text, err := json.Marshal(data)
	if err != nil { // a number that is not finite
		return fmt.Errorf("event %s: %w", event, err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", event, text)
	// Only servers with real connections know deadlines.
	if err := s.rc.SetWriteDeadline(s.now().Add(s.patience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := s.w.Write(b.Bytes()); err != nil {
		return err
	}
	return s.rc.Flush()
}

// end is the last event or, with a status, the whole answer.
func (s *stream) end(status int, event string, data any) error {
	s.done = true
	if s.mute {
		s.began = true
		writeJSON(s.w, status, data)
		return nil
	}
	return s.tell(event, data)
}

// fail ends a stream that has begun with an error event, if anybody is there.
// What it returns is for an answer that has not begun.
func (s *stream) fail(ctx context.Context, err error) error {
	if err == nil || !s.began {
		return err
	}
	if !s.done && !cancelled(ctx, err) {
		_, body := explain(err)
		s.end(0, "error", body)
	}
	return nil
}
