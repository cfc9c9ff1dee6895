package edge

import (
	"bytes"
	"compress/gzip"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// A resume token is where a run stands, kept by the caller: nothing is stored
// here, and any instance goes on with it. It is the run's state with its recipe
// as a safetensors file (engine.WriteState), compressed, in base64url, and after
// a dot the HMAC-SHA256 of that by the deployment's key.

// saved is what a token holds.
type saved struct {
	recipe  *recipes.Recipe
	adapter string // SHA-256 of the recipe's LoRA; empty for none
	seconds float64
	state   *sdo.RunState
}

// tokenVersion goes into what is signed: tokens of another layout are none.
const tokenVersion = "sdo-resume-1\n"

// maxToken is the longest token that is made or read.
const maxToken = 2 << 20

// Words of a token's file.
const (
	wordRecipe  = "recipe"
	wordAdapter = "lora_sha256"
	wordWeights = "weights_sha256" // of the built-in networks
	wordExpires = "expires"
	wordSeconds = "seconds"
)

// seal makes a token.
func (s *Server) seal(v *saved, expires time.Time) (string, error) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	err := engine.WriteState(z, v.state, map[string]string{
		wordRecipe: recipeJSON(v.recipe), wordAdapter: v.adapter, wordWeights: weightsSum(),
		wordExpires: strconv.FormatInt(expires.Unix(), 10), wordSeconds: strconv.FormatFloat(v.seconds, 'g', -1, 64),
	})
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		return "", fmt.Errorf("resume token: %w", err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode(packed.Bytes()) + "." + encode(s.sign(packed.Bytes())), nil
}

func (s *Server) sign(packed []byte) []byte {
	mac := hmac.New(sha256.New, s.Key)
	mac.Write([]byte(tokenVersion))
	mac.Write(packed)
	return mac.Sum(nil)
}

// unseal reads a token of this deployment.
func (s *Server) unseal(token string) (*saved, error) {
	refuse := &Error{http.StatusForbidden, "bad_token", "the resume token was not made here, or was changed; send it as the event continue gave it, or start the run anew"}
	if len(s.Key) == 0 {
		return nil, &Error{http.StatusNotImplemented, "no_slices", "this deployment continues no runs; set the secret SDO_KEY (docs/edge.md)"}
	}
	body, signature, _ := strings.Cut(token, ".")
	packed, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return nil, refuse
	}
	given, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil || !hmac.Equal(given, s.sign(packed)) {
		return nil, refuse
	}
	v, expires, err := unpack(packed)
	if err != nil { // signed here by another build
		return nil, &Error{http.StatusConflict, "old_token", fmt.Sprintf("the resume token is of another version of this program (%v); start the run anew", err)}
	}
	if now := s.Now(); !now.Before(expires) {
		return nil, &Error{http.StatusGone, "token_expired", fmt.Sprintf("the resume token expired at %s; start the run anew", expires.UTC().Format(time.RFC3339))}
	}
	return v, nil
}

// unpack reads what seal packed.
func unpack(packed []byte) (v *saved, expires time.Time, err error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, expires, err
	}
	data, err := io.ReadAll(z)
	if err != nil {
		return nil, expires, err
	}
	file, err := model.ParseSafetensors("resume token", data)
	if err != nil {
		return nil, expires, err
	}
	tensors, err := file.ReadAll()
	if err != nil {
		return nil, expires, err
	}
	if file.Metadata[wordWeights] != weightsSum() {
		return nil, expires, errors.New("its models had other weights")
	}
	v = &saved{adapter: file.Metadata[wordAdapter]}
	if v.recipe, err = recipes.Parse([]byte(file.Metadata[wordRecipe]), "resume token"); err != nil {
		return nil, expires, err
	}
	if v.state, err = engine.ReadState(tensors, file.Metadata); err != nil {
		return nil, expires, err
	}
	if v.seconds, err = strconv.ParseFloat(file.Metadata[wordSeconds], 64); err != nil {
		return nil, expires, err
	}
	unix, err := strconv.ParseInt(file.Metadata[wordExpires], 10, 64)
	return v, time.Unix(unix, 0), err
}
