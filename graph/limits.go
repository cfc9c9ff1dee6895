package graph

import "errors"

// ErrTooLarge is wrapped where a graph has a tensor that the device cannot hold,
// or its kernels cannot see, and that cannot be taken apart: the device's
// shortage, as running out of its memory is, and found before anything is
// allocated.
var ErrTooLarge = errors.New("too large for the device")
