package model

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// configBound is how many bytes judging a config and declaring its network may
// allocate: the graph of maxBlocks blocks, however wide, and no weight.
const configBound = 96 << 20

// FuzzConfig changes config.json of every class that this package reads. One that
// is accepted declares its parameters, however many it asks for, and takes what it
// writes itself.
func FuzzConfig(f *testing.F) {
	configs, err := filepath.Glob("testdata/*/" + configFile)
	if err != nil || len(configs) == 0 {
		f.Fatalf("no configs in testdata: %v", err)
	}
	for _, name := range configs {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add(configJSON(nil))
	f.Add(configJSON(map[string]any{"block_out_channels": []int{1 << 18, 1 << 19}}))
	f.Add(conditionJSON(map[string]any{"layers_per_block": 64, "transformer_layers_per_block": []any{[]int{64}, 3}}))
	f.Add(conditionJSON(map[string]any{"sample_size": []int{4096, 4095}, "cross_attention_dim": []int{6, 6}, "conv_in_kernel": 64}))
	f.Fuzz(func(t *testing.T, text []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		for _, parse := range configParsers {
			config, err := parse(text)
			if err == nil {
				_, err = config.Params()
			}
			if err != nil {
				sentence(t, err)
			}
		}
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > configBound+64*uint64(len(text)) {
			t.Errorf("%d bytes made the readers allocate %d, the bound is %d", len(text), used, configBound)
		}
		if took > 20*time.Second {
			t.Errorf("%d bytes took %v", len(text), took)
		}
	})
}

type declarer interface{ Params() ([]Param, error) }

var configParsers = []func(text []byte) (declarer, error){
	func(text []byte) (declarer, error) { return ParseUNet2DConfig(text) },
	func(text []byte) (declarer, error) { return ParseUNet2DConditionConfig(text) },
	func(text []byte) (declarer, error) { return ParseClassifierConfig(text) },
	func(text []byte) (declarer, error) { return ParseAutoencoderConfig(text) },
	func(text []byte) (declarer, error) { return ParseCLIPTextConfig(text) },
	func(text []byte) (declarer, error) { return ParseCLIPVisionConfig(text) },
}
