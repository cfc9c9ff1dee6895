//go:build !js

package gpu

// spins keep a device busy for longer than a test waits.
const spins = 20_000_000
