// Package sampler turns a noise schedule, a timestep spacing and a solver into
// a table of scalars. It is not a sampling loop and holds no tensors: whoever
// has tensors runs the loop with the table's numbers, and gets the derivative
// of the whole loop from the same numbers (Table.Freeze).
//
// Schedules, spacings and solvers follow diffusers' schedulers, so that a
// scheduler_config.json written there means the same here. Schedules with zero
// terminal signal-to-noise are of Lin et al., arXiv 2305.08891.
package sampler

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
)

// Prediction names what a network was trained to output, in diffusers' words.
type Prediction string

const (
	PredictEpsilon Prediction = "epsilon"      // the noise
	PredictV       Prediction = "v_prediction" // Signal*noise - Noise*clean, arXiv 2202.00512
	PredictSample  Prediction = "sample"       // the clean sample
	// PredictFlow is the velocity noise - clean of a rectified flow (arXiv
	// 2209.03003), whose states are (1-t)*clean + t*noise.
	PredictFlow Prediction = "flow_prediction"
	// PredictEDM is F of Karras et al. (arXiv 2206.00364, equation 7), the
	// network inside their preconditioning. In diffusers' files it hides behind
	// the class of the scheduler and the word epsilon.
	PredictEDM Prediction = "edm"
)

// variancePreserving are the predictions of networks on a schedule of betas,
// withEDM those of the networks that a solver in sigma can ask.
var (
	variancePreserving = []Prediction{PredictEpsilon, PredictV, PredictSample}
	withEDM            = append(variancePreserving[:3:3], PredictEDM)
)

// Spacing names the rule that picks inference timesteps among the training
// timesteps, in diffusers' words.
type Spacing string

const (
	SpacingLeading  Spacing = "leading"
	SpacingLinspace Spacing = "linspace"
	SpacingTrailing Spacing = "trailing"
)

// Beta schedules, in diffusers' words.
const (
	ScheduleLinear       = "linear"
	ScheduleScaledLinear = "scaled_linear"
	ScheduleCosine       = "squaredcos_cap_v2"
)

// Where a sigma solver ends, in diffusers' words.
const (
	FinalSigmaZero = "zero"      // without noise
	FinalSigmaMin  = "sigma_min" // at the noise of training timestep 0
)

// varianceFixedSmall is the one variance of DDPM that needs no second output of
// the network and does not add more noise than the posterior holds.
const varianceFixedSmall = "fixed_small"

// maxTrainTimesteps bounds a config that lies about its size; real schedules
// have a thousand or a few thousand.
const maxTrainTimesteps = 1_000_000

// maxScale and its inverse bound the scales of a config, so that a file with a
// typing error ends in a sentence and not in infinities. Real ones are 0.002 to
// 120.
const maxScale = 1e5

// Config is diffusers' scheduler_config.json. Start from DefaultConfig or
// ParseConfig: the zero value is not valid.
type Config struct {
	NumTrainTimesteps        int        `json:"num_train_timesteps"`
	BetaStart                float64    `json:"beta_start"`
	BetaEnd                  float64    `json:"beta_end"`
	BetaSchedule             string     `json:"beta_schedule"`
	TrainedBetas             []float64  `json:"trained_betas"` // replaces the beta schedule
	ClipSample               bool       `json:"clip_sample"`   // must be false, see Validate
	SetAlphaToOne            bool       `json:"set_alpha_to_one"`
	StepsOffset              int        `json:"steps_offset"` // leading spacing only
	PredictionType           Prediction `json:"prediction_type"`
	Thresholding             bool       `json:"thresholding"` // must be false, see Validate
	DynamicThresholdingRatio float64    `json:"dynamic_thresholding_ratio"`
	ClipSampleRange          float64    `json:"clip_sample_range"`
	SampleMaxValue           float64    `json:"sample_max_value"`
	TimestepSpacing          Spacing    `json:"timestep_spacing"`
	RescaleBetasZeroSNR      bool       `json:"rescale_betas_zero_snr"`
	VarianceType             string     `json:"variance_type"`     // DDPM only
	UseKarrasSigmas          bool       `json:"use_karras_sigmas"` // sigma solvers only
	FinalSigmasType          string     `json:"final_sigmas_type"` // sigma solvers but Heun
	LowerOrderFinal          bool       `json:"lower_order_final"` // DPM-Solver++ and UniPC only

	// Of LCM: the timesteps are chosen among as many of distillation, and the
	// boundary scalings see timesteps times the scaling.
	OriginalInferenceSteps int     `json:"original_inference_steps"`
	TimestepScaling        float64 `json:"timestep_scaling"`

	// Shift moves a flow's times towards noise: t becomes shift*t/(1+(shift-1)*t).
	Shift float64 `json:"shift"`

	// Of EDM: the noise range, and the deviation of the data that the
	// preconditioning assumes. 0 for all others, whose levels follow from betas.
	SigmaMin  float64 `json:"sigma_min,omitempty"`
	SigmaMax  float64 `json:"sigma_max,omitempty"`
	SigmaData float64 `json:"sigma_data,omitempty"`
}

// DefaultConfig holds the defaults of diffusers' DDIMScheduler, which is what
// a key that is absent from scheduler_config.json means, and those of its
// siblings where it has no such key. Clipping is on there; turn ClipSample off
// before use.
func DefaultConfig() Config {
	return Config{
		NumTrainTimesteps:        1000,
		BetaStart:                0.0001,
		BetaEnd:                  0.02,
		BetaSchedule:             ScheduleLinear,
		ClipSample:               true,
		SetAlphaToOne:            true,
		PredictionType:           PredictEpsilon,
		DynamicThresholdingRatio: 0.995,
		ClipSampleRange:          1,
		SampleMaxValue:           1,
		TimestepSpacing:          SpacingLeading,
		VarianceType:             varianceFixedSmall,
		FinalSigmasType:          FinalSigmaZero,
		LowerOrderFinal:          true,
		OriginalInferenceSteps:   50,
		TimestepScaling:          10,
		Shift:                    1,
	}
}

// classDefaults are where the defaults of diffusers' scheduler classes differ
// from DefaultConfig.
var classDefaults = map[string]func(*Config){
	"PNDMScheduler":                   func(c *Config) { c.ClipSample, c.SetAlphaToOne = false, false },
	"EulerDiscreteScheduler":          linspaceDefaults,
	"EulerAncestralDiscreteScheduler": linspaceDefaults,
	"LMSDiscreteScheduler":            linspaceDefaults,
	"HeunDiscreteScheduler":           heunDefaults,
	"KDPM2DiscreteScheduler":          heunDefaults,
	"KDPM2AncestralDiscreteScheduler": heunDefaults,
	"DPMSolverSDEScheduler":           heunDefaults,
	"DPMSolverMultistepScheduler":     linspaceDefaults,
	"DPMSolverSinglestepScheduler":    linspaceDefaults,
	"DEISMultistepScheduler":          linspaceDefaults,
	"UniPCMultistepScheduler":         linspaceDefaults,
	"LCMScheduler":                    lcmDefaults,
	"TCDScheduler":                    lcmDefaults,
	"FlowMatchEulerDiscreteScheduler": func(c *Config) { c.ClipSample, c.PredictionType = false, PredictFlow },
	"EDMEulerScheduler":               edmDefaults,
	"EDMDPMSolverMultistepScheduler":  edmDefaults,
}

// classSolvers are the solvers of diffusers' scheduler classes; of those without
// one here, the deterministic solver nearest to them.
var classSolvers = map[string]string{
	"DDIMScheduler": "ddim", "DDIMParallelScheduler": "ddim", "DDIMInverseScheduler": "ddim", "DDPMScheduler": "ddim", "DDPMParallelScheduler": "ddim",
	"PNDMScheduler": "ddim", "LMSDiscreteScheduler": "euler",
	"EulerDiscreteScheduler": "euler", "EulerAncestralDiscreteScheduler": "euler", "EDMEulerScheduler": "euler",
	"HeunDiscreteScheduler": "heun", "KDPM2DiscreteScheduler": "heun", "KDPM2AncestralDiscreteScheduler": "heun", "DPMSolverSDEScheduler": "heun",
	"DPMSolverMultistepScheduler": "dpmpp-2m", "DPMSolverSinglestepScheduler": "dpmpp-2m", "EDMDPMSolverMultistepScheduler": "dpmpp-2m",
	"DEISMultistepScheduler": "dpmpp-2m", "UniPCMultistepScheduler": "unipc", "LCMScheduler": "lcm", "TCDScheduler": "lcm", "FlowMatchEulerDiscreteScheduler": "flow-euler",
}

// SolverOf is the solver that a scheduler_config.json was saved with, or one
// near to it; empty for a class that is not known.
func SolverOf(data []byte) Solver {
	class, _ := keysOf(data)
	return Solver(classSolvers[class])
}

// standIns are the classes whose solver is not here, so that SolverOf gives one
// near to it.
var standIns = []string{
	"DDIMInverseScheduler", "DDPMScheduler", "DDPMParallelScheduler", "PNDMScheduler", "LMSDiscreteScheduler", "EulerAncestralDiscreteScheduler",
	"KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DPMSolverSDEScheduler",
	"DPMSolverSinglestepScheduler", "DEISMultistepScheduler", "TCDScheduler",
}

// variants are the keys by which a class of diffusers is one of several solvers,
// or walks other noise levels, with the values of the one that is here. Networks
// do not depend on them. Solvers share classes' files and leave keys of others in
// them, so that each reads its own, and of solver_type what others call theirs as
// its default.
var variants = []struct {
	key    string
	of     []string // solvers; nil for all
	values []string
}{
	{"algorithm_type", []string{"dpmpp-2m"}, []string{`"dpmsolver++"`, `"deis"`}},
	{"disable_corrector", []string{"unipc"}, []string{"[]"}},
	{"euler_at_final", []string{"dpmpp-2m"}, []string{"false"}},
	{"interpolation_type", []string{"euler"}, []string{`"linear"`}},
	{"lambda_min_clipped", []string{"dpmpp-2m"}, []string{"null"}},
	{"predict_x0", []string{"unipc"}, []string{"true"}},
	{"rho", nil, []string{"7.0", "7"}},
	{"sigma_schedule", nil, []string{`"karras"`}},
	{"solver_order", []string{"dpmpp-2m", "unipc"}, []string{"2"}},
	{"solver_p", []string{"unipc"}, []string{"null"}},
	{"solver_type", []string{"dpmpp-2m"}, []string{`"midpoint"`, `"logrho"`, `"bh1"`, `"bh2"`}},
	{"solver_type", []string{"unipc"}, []string{`"bh2"`, `"midpoint"`, `"heun"`, `"logrho"`}},
	{"stochastic_sampling", []string{"flow-euler"}, []string{"false"}},
	{"use_beta_sigmas", nil, []string{"false", "null"}},
	{"use_exponential_sigmas", nil, []string{"false", "null"}},
	{"use_lu_lambdas", []string{"dpmpp-2m"}, []string{"false", "null"}},
}

func isVariant(key string) bool {
	for _, v := range variants {
		if v.key == key {
			return true
		}
	}
	return false
}

// StandIn is the sampler that a scheduler_config.json was saved with where
// SolverOf gives another in its place; empty where it gives the same, or none.
func StandIn(data []byte) string {
	class, keys := keysOf(data)
	if slices.Contains(standIns, class) {
		return class
	}
	solver, known := classSolvers[class]
	if !known {
		return ""
	}
	for _, v := range variants {
		value, said := keys[v.key]
		if said && (v.of == nil || slices.Contains(v.of, solver)) && !slices.Contains(v.values, string(value)) {
			return fmt.Sprintf("%s with %s %.40s", class, v.key, value)
		}
	}
	return ""
}

// keysOf reads the class of a scheduler_config.json and all its keys.
func keysOf(data []byte) (class string, keys map[string]json.RawMessage) {
	var line bytes.Buffer // what is no JSON names no class
	if json.Compact(&line, unclippedLambda.ReplaceAll(data, []byte("${1}null"))) != nil || json.Unmarshal(line.Bytes(), &keys) != nil {
		return "", nil
	}
	_ = json.Unmarshal(keys["_class_name"], &class)
	return class, keys
}

func linspaceDefaults(c *Config) { c.ClipSample, c.TimestepSpacing = false, SpacingLinspace }

func heunDefaults(c *Config) {
	linspaceDefaults(c)
	c.BetaStart, c.BetaEnd = 0.00085, 0.012
}

func lcmDefaults(c *Config) {
	c.ClipSample = false
	c.BetaSchedule, c.BetaStart, c.BetaEnd = ScheduleScaledLinear, 0.00085, 0.012
}

func edmDefaults(c *Config) {
	c.ClipSample, c.PredictionType = false, PredictEDM
	c.SigmaMin, c.SigmaMax, c.SigmaData = 0.002, 80, 0.5
}

// foreignKeys belong to diffusers' sibling schedulers and are accepted at the
// values that describe what this package does. A key without values says
// nothing to any solver here.
var foreignKeys = map[string][]string{
	"skip_prk_steps":       nil,
	"noise_sampler_seed":   nil,
	"tensor_format":        nil, // of files from before 2023, like the next three
	"timesteps":            nil, // how many; num_train_timesteps says so, too
	"timestep_values":      {"null"},
	"predict_epsilon":      {"true"},
	"use_flow_sigmas":      {"false", "null"},
	"use_dynamic_shifting": {"false"},
	"flow_shift":           nil, // of flow sigmas
	"time_shift_type":      nil, // of dynamic shifting, like the next four
	"base_shift":           nil,
	"max_shift":            nil,
	"base_image_seq_len":   nil,
	"max_image_seq_len":    nil,
	"invert_sigmas":        {"false"},
	"shift_terminal":       {"null"},
	"timestep_type":        {`"discrete"`},
}

// unclippedLambda is how Python writes the value of lambda_min_clipped that
// clips nothing. It is not JSON.
var unclippedLambda = regexp.MustCompile(`("lambda_min_clipped"\s*:\s*)-Infinity`)

// ParseConfig reads a scheduler_config.json. Absent keys take the defaults of
// the diffusers class that _class_name names, of DDIMScheduler where there is no
// _class_name; a class that is not known here is an error, for its noise schedule
// may follow from other numbers. Other keys that begin with an underscore are
// ignored, an unknown key is an error. It does not call Validate, so that a
// caller may first change what it means to (ClipSample above all).
func ParseConfig(data []byte) (Config, error) {
	config := DefaultConfig()
	var keys map[string]json.RawMessage
	data = unclippedLambda.ReplaceAll(data, []byte("${1}null"))
	if err := json.Unmarshal(data, &keys); err != nil {
		return Config{}, plain(err)
	}
	var class string
	_ = json.Unmarshal(keys["_class_name"], &class) // what is no string names no class
	if class != "" && classSolvers[class] == "" {
		return Config{}, fmt.Errorf("scheduler config: %.100q is not a sampler whose noise schedule is known here; if the network was trained on a schedule of betas, write them into a config of DDIMScheduler", class)
	}
	for key, value := range keys {
		accepted, foreign := foreignKeys[key]
		foreign = foreign || isVariant(key)
		if foreign && accepted != nil && !slices.Contains(accepted, string(value)) {
			return Config{}, fmt.Errorf("scheduler config: %s is %s, but only %s is supported", key, value, accepted[0])
		}
		if foreign || strings.HasPrefix(key, "_") {
			delete(keys, key)
		}
	}
	if defaults, ok := classDefaults[class]; ok {
		defaults(&config)
	}
	if edm := config.PredictionType == PredictEDM; edm && keys["prediction_type"] != nil {
		// There epsilon means F, and v_prediction its negative.
		if value := string(keys["prediction_type"]); value != `"epsilon"` {
			return Config{}, fmt.Errorf("scheduler config: prediction_type of %s is %s, but only \"epsilon\" is supported", class, value)
		}
		delete(keys, "prediction_type")
	}
	known, err := json.Marshal(keys)
	if err != nil {
		return Config{}, fmt.Errorf("scheduler config: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(known))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&config); err != nil {
		return Config{}, plain(err)
	}
	return config, nil
}

// plain words an error of encoding/json for the person who wrote the file.
func plain(err error) error {
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong) && wrong.Field != "":
		return fmt.Errorf("scheduler config: %s is a %s, want %s", wrong.Field, wrong.Value, wrong.Type)
	case errors.As(err, &wrong):
		return fmt.Errorf("scheduler config: a JSON %s stands where an object should", wrong.Value)
	}
	return fmt.Errorf("scheduler config: %s", strings.Replace(strings.TrimPrefix(err.Error(), "json: "), "unknown field", "unknown key", 1))
}

// Validate refuses, with one sentence, every value this package would not
// honour. Clipping and thresholding are refused because a clipped coordinate
// changes which quantity the transport scalars may hold fixed (docs/method.md, The freeze).
func (c Config) Validate() error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("scheduler config: "+format, args...)
	}
	switch {
	case c.NumTrainTimesteps < 1 || c.NumTrainTimesteps > maxTrainTimesteps:
		return refuse("num_train_timesteps is %d, want 1 to %d", c.NumTrainTimesteps, maxTrainTimesteps)
	case c.ClipSample:
		return refuse("clip_sample is true, but steering needs an unclipped sampler; set it to false")
	case c.Thresholding:
		return refuse("thresholding is true, but steering needs an unclipped sampler; set it to false")
	case c.StepsOffset < 0:
		return refuse("steps_offset is %d, want 0 or more", c.StepsOffset)
	}
	edm := c.PredictionType == PredictEDM
	switch c.PredictionType {
	case PredictEpsilon, PredictV, PredictSample:
	case PredictFlow:
		if !(c.Shift >= 1/maxScale && c.Shift <= maxScale) {
			return refuse("shift is %v, want %v to %v", c.Shift, 1/maxScale, maxScale)
		}
	case PredictEDM:
		if !(c.SigmaMin >= 1/maxScale && c.SigmaMin < c.SigmaMax && c.SigmaMax <= maxScale) {
			return refuse("sigma_min is %v and sigma_max %v, want %v <= sigma_min < sigma_max <= %v", c.SigmaMin, c.SigmaMax, 1/maxScale, maxScale)
		}
		if !(c.SigmaData >= 1/maxScale && c.SigmaData <= maxScale) {
			return refuse("sigma_data is %v, want %v to %v", c.SigmaData, 1/maxScale, maxScale)
		}
	default:
		return refuse("prediction_type is %q, want epsilon, v_prediction, sample, flow_prediction or edm", c.PredictionType)
	}
	if !edm && (c.SigmaMin != 0 || c.SigmaMax != 0 || c.SigmaData != 0) {
		return refuse("sigma_min, sigma_max or sigma_data is set, but only EDM networks have their own noise range")
	}
	switch c.TimestepSpacing {
	case SpacingLeading, SpacingLinspace, SpacingTrailing:
	default:
		return refuse("timestep_spacing is %q, want leading, linspace or trailing", c.TimestepSpacing)
	}
	switch c.FinalSigmasType {
	case FinalSigmaZero, FinalSigmaMin:
	default:
		return refuse("final_sigmas_type is %q, want zero or sigma_min", c.FinalSigmasType)
	}
	if c.TrainedBetas != nil {
		if len(c.TrainedBetas) != c.NumTrainTimesteps {
			return refuse("trained_betas has %d values, num_train_timesteps is %d", len(c.TrainedBetas), c.NumTrainTimesteps)
		}
		for i, beta := range c.TrainedBetas {
			if !(beta > 0 && beta < 1) {
				return refuse("trained_betas[%d] is %v, want a number between 0 and 1", i, beta)
			}
		}
		return nil
	}
	switch c.BetaSchedule {
	case ScheduleLinear, ScheduleScaledLinear:
		if !(c.BetaStart > 0 && c.BetaStart <= c.BetaEnd && c.BetaEnd < 1) || math.IsNaN(c.BetaEnd) {
			return refuse("beta_start is %v and beta_end %v, want 0 < beta_start <= beta_end < 1", c.BetaStart, c.BetaEnd)
		}
	case ScheduleCosine:
	default:
		return refuse("beta_schedule is %q, want linear, scaled_linear or squaredcos_cap_v2", c.BetaSchedule)
	}
	return nil
}
