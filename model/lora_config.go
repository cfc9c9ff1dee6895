package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Every module is held against all patterns of a config. maxPatterns bounds their
// number, maxPatternBytes the bytes of those with alternatives or repeats, each of
// which may have to be tried at every character of a name.
const (
	maxPatterns     = 1 << 11
	maxPatternBytes = 1 << 11
)

// adapterConfig is what of PEFT's LoraConfig the numbers of a trained adapter
// depend on.
type adapterConfig struct {
	rank   int
	alpha  float64
	root   bool // whether alpha is divided by the rank's root (arXiv 2312.03732)
	ranks  []pattern[int]
	alphas []pattern[float64]
}

// pattern says something of the modules whose name, or the end of it after a
// dot, matches; of several the first counts.
type pattern[V any] struct {
	names *regexp.Regexp
	value V
}

// told lists the keys of PEFT's config that change nothing in a trained
// adapter's numbers, and those that are read. Any other key must say nothing.
var told = []string{
	"peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode",
	"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "init_lora_weights", "lora_dropout",
	"megatron_config", "megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size",
	"ensure_weight_tying", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora",
}

// parseAdapterConfig reads a LoraConfig as PEFT writes it, its keys after a
// prefix, and refuses one that asks for anything but W x + s B A x; nil where no
// key has the prefix, or only another's.
func parseAdapterConfig(text []byte, prefix string) (*adapterConfig, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		return nil, plain(err)
	}
	config := map[string]json.RawMessage{}
	for key, value := range keys {
		if name, ok := strings.CutPrefix(key, prefix); ok && !strings.Contains(name, ".") {
			config[name] = value
		}
	}
	if len(config) == 0 && (prefix != "" || len(keys) > 0) {
		return nil, nil
	}
	for _, key := range slices.Sorted(maps.Keys(config)) {
		silent := slices.Contains([]string{"null", "false", "{}", "[]", "0", `""`, `"none"`}, string(config[key]))
		if !silent && !slices.Contains(told, key) {
			return nil, fmt.Errorf("%s: %s is not supported, want a plain LoRA", short(strconv.Quote(key)), onOneLine(config[key]))
		}
	}
	if kind := config["peft_type"]; kind != nil && string(kind) != `"LORA"` {
		return nil, fmt.Errorf(`"peft_type": %s is not supported, want "LORA"`, onOneLine(kind))
	}
	c := &adapterConfig{}
	if err := json.Unmarshal(config["r"], &c.rank); err != nil || c.rank < 1 {
		return nil, errors.New("r is not a positive whole number")
	}
	if err := json.Unmarshal(config["lora_alpha"], &c.alpha); err != nil || !(c.alpha > 0) {
		return nil, errors.New("lora_alpha is not a positive number")
	}
	if text := config["use_rslora"]; text != nil {
		if err := json.Unmarshal(text, &c.root); err != nil {
			return nil, errors.New("use_rslora is neither true nor false")
		}
	}
	var err error
	if c.ranks, err = parsePatterns(config["rank_pattern"], func(rank int) bool { return rank > 0 }); err != nil {
		return nil, fmt.Errorf("rank_pattern: %w", err)
	}
	if c.alphas, err = parsePatterns(config["alpha_pattern"], func(alpha float64) bool { return alpha > 0 }); err != nil {
		return nil, fmt.Errorf("alpha_pattern: %w", err)
	}
	return c, nil
}

// parsePatterns reads {"regular expression": value} in order.
func parsePatterns[V any](text json.RawMessage, good func(V) bool) (patterns []pattern[V], err error) {
	if text == nil || string(text) == "null" {
		return nil, nil
	}
	wrong := errors.New("is not an object of patterns and positive numbers")
	branching := 0
	d := json.NewDecoder(bytes.NewReader(text))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, wrong
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, wrong
		}
		p := pattern[V]{}
		if err := plainPattern(key.(string)); err != nil { // keys of an object are strings, or Token fails
			return nil, err
		}
		if name := key.(string); strings.ContainsAny(name, "*+|([") {
			if branching += len(name); branching > maxPatternBytes {
				return nil, fmt.Errorf("patterns with *, +, |, ( or [ of more than %d bytes", maxPatternBytes)
			}
		}
		if err := d.Decode(&p.value); err != nil || !good(p.value) {
			return nil, wrong
		}
		if p.names, err = regexp.Compile(fmt.Sprintf(`^(?:.*\.)?(?:%s)$`, key)); err != nil {
			return nil, fmt.Errorf("%.200q is not a pattern that is understood here (%w)", key, err)
		}
		if patterns = append(patterns, p); len(patterns) > maxPatterns {
			return nil, fmt.Errorf("more than %d patterns", maxPatterns)
		}
	}
	return patterns, nil
}

// plainPattern refuses what lets a short expression ask for a large program:
// counted repeats, flags, and classes of Unicode.
func plainPattern(text string) error {
	rest := text
	for _, harmless := range []string{`\d`, `\w`, `\.`, `\-`, `\_`} {
		rest = strings.ReplaceAll(rest, harmless, "")
	}
	if strings.ContainsAny(rest, `{}\?`) {
		return fmt.Errorf("%.200q is not a pattern that is understood here, want names with *, +, |, (), [], \\d and \\w", text)
	}
	return nil
}

// of is the rank of a module, and the alpha that makes alpha/rank its factor.
func (c *adapterConfig) of(module string) (rank int, alpha float64) {
	rank, alpha = first(c.ranks, module, c.rank), first(c.alphas, module, c.alpha)
	if c.root {
		alpha *= math.Sqrt(float64(rank))
	}
	return rank, alpha
}

func first[V any](patterns []pattern[V], module string, otherwise V) V {
	for _, p := range patterns {
		if p.names.MatchString(module) {
			return p.value
		}
	}
	return otherwise
}
