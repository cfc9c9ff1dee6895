package webgpu

// preset holds what differs between kinds of adapters: workgroup sizes, and
// which of two formulations of a kernel is the faster one. Results agree to
// rounding; nothing else may depend on it.
type preset struct {
	// lanes is the workgroup size of kernels without workgroup memory.
	lanes int
	// team is the workgroup size of reductions, which share partial sums in
	// workgroup memory. A power of two.
	team int
	// tiles selects the matrix product that stages tiles in workgroup memory.
	// Without it the right operand is packed once and read directly.
	tiles bool
	// own and others are the rows of either side of attention that an
	// invocation holds at once.
	own, others int
	// crew is about how many invocations keep the adapter busy: work that
	// could stay whole is split until there are so many.
	crew int
}

// softwarePreset suits Mesa's llvmpipe: a workgroup is a loop over groups of 8
// invocations on one core, a load costs as much as ten multiplications, and a
// barrier saves and restores every register.
var softwarePreset = preset{lanes: 16, team: 16, tiles: false, own: 4, others: 4, crew: 1024}

// hardwarePreset suits GPUs: enough invocations per workgroup to hide memory
// latency, and tiles in workgroup memory instead of repeated loads.
var hardwarePreset = preset{lanes: 64, team: 256, tiles: true, own: 1, others: 8, crew: 65536}

func presetFor(software bool) *preset {
	if software {
		return &softwarePreset
	}
	return &hardwarePreset
}
