package edge

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
)

// authorized says why a request may not change the registry; nil if it may.
func (s *Server) authorized(r *http.Request) error {
	if s.Secret == "" {
		return &Error{http.StatusForbidden, "read_only", "nothing can be uploaded or deleted here, because this deployment has no secret; " +
			"whoever runs it sets one with `wrangler secret put SDO_SECRET` and sends it as Authorization: Bearer SECRET"}
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || given == "" {
		return &Error{http.StatusUnauthorized, "unauthorized", "changing the registry takes this deployment's secret; send it as Authorization: Bearer SECRET"}
	}
	// Hashes are equally long, so how long comparing takes does not tell how long
	// the secret is either.
	want, got := sha256.Sum256([]byte(s.Secret)), sha256.Sum256([]byte(given))
	if subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
		return &Error{http.StatusUnauthorized, "unauthorized", "the secret in the Authorization header is not this deployment's; check SDO_SECRET"}
	}
	return nil
}
