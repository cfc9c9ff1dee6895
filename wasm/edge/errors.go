package edge

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// Error is a refusal: its status and, in the body, {"error": {"code", "message"}}
// with a sentence that says what to do.
type Error struct {
	Status  int
	Code    string // a word for programs
	Message string
}

func (e *Error) Error() string { return e.Message }

// errorBody is the JSON of a refusal.
type errorBody struct {
	Error errorJSON `json:"error"`
}

type errorJSON struct {
	Code     string    `json:"code"`
	Message  string    `json:"message"`
	Problems []problem `json:"problems,omitempty"` // of a recipe
	Estimate *Estimate `json:"estimate,omitempty"` // of a run that is too large
	Budget   *Budget   `json:"budget,omitempty"`
}

// problem is one thing that is wrong with a recipe.
type problem struct {
	Message string `json:"message"`
	Line    int    `json:"line,omitempty"`
	Path    string `json:"path,omitempty"`
}

// badRequest is a refusal of what the caller sent.
func badRequest(format string, args ...any) *Error {
	return &Error{http.StatusBadRequest, "bad_request", fmt.Sprintf(format, args...)}
}

// explain is an error as the caller sees it.
func explain(err error) (status int, body errorJSON) {
	var refusal *Error
	var tooLarge *tooLarge
	var body413 *http.MaxBytesError
	var one recipes.Problem
	var several recipes.Problems
	var diverged *sdo.NotFiniteError
	switch {
	case errors.As(err, &refusal):
		return refusal.Status, errorJSON{Code: refusal.Code, Message: refusal.Message}
	case errors.As(err, &tooLarge):
		return http.StatusUnprocessableEntity, errorJSON{Code: "too_large", Message: tooLarge.Error(), Estimate: &tooLarge.estimate, Budget: &tooLarge.budget}
	case errors.As(err, &body413):
		return http.StatusRequestEntityTooLarge, errorJSON{Code: "body_too_large", Message: fmt.Sprintf("the body is larger than the %d bytes allowed here", body413.Limit)}
	case errors.As(err, &several):
		body = errorJSON{Code: "bad_recipe", Message: err.Error()}
		for _, p := range several {
			body.Problems = append(body.Problems, newProblem(p))
		}
		return http.StatusBadRequest, body
	case errors.As(err, &one):
		return http.StatusBadRequest, errorJSON{Code: "bad_recipe", Message: err.Error(), Problems: []problem{newProblem(one)}}
	case errors.As(err, &diverged):
		return http.StatusUnprocessableEntity, errorJSON{Code: "not_finite", Message: strings.TrimPrefix(diverged.Error(), "sdo: ")}
	case errors.Is(err, cpu.ErrOutOfMemory):
		return http.StatusServiceUnavailable, errorJSON{Code: "out_of_memory", Message: err.Error() + "; ask for fewer pictures"}
	}
	return http.StatusInternalServerError, errorJSON{Code: "fault", Message: strings.TrimPrefix(err.Error(), "sdo: ")}
}

func newProblem(p recipes.Problem) problem {
	message, line := p.Placed()
	return problem{message, line, p.Field}
}

// fault is a panic as an error. What it says is for the log alone.
func (s *Server) fault(p any) *Error {
	s.Log(fmt.Sprintf("a fault of the program: %v\n%s", p, debug.Stack()))
	return &Error{http.StatusInternalServerError, "fault", "a fault of the program, which its log describes; please report it"}
}

// fail answers with an error, unless nobody is there. No answer may have begun.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if cancelled(r.Context(), err) {
		return
	}
	status, body := explain(err)
	if status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable {
		s.Log(fmt.Sprintf("%s %s: %v", r.Method, r.URL.Path, err))
	}
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="sdo"`)
	}
	writeJSON(w, status, errorBody{body})
}

// retryAfter is how long a caller is told to wait where there is no room.
const retryAfter = 5 * time.Second

// writeJSON answers with a value.
func writeJSON(w http.ResponseWriter, status int, value any) {
	data, err := json.Marshal(value)
	if err != nil {
		panic("edge: " + err.Error()) // every answer is plain data
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)+1))
	w.WriteHeader(status)
	w.Write(append(data, '\n'))
}
