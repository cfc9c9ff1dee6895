package sdo

import "context"

// Counters is the cost of a run in units that no machine changes.
type Counters struct {
	NetworkCalls  int   `json:"network_calls"`   // forward calls, kept ones included
	KeptCalls     int   `json:"kept_calls"`      // forward calls that left a graph alive
	BackwardCalls int   `json:"backward_calls"`  // calls of Kept.Backward
	KeptBytes     int64 `json:"kept_bytes"`      // activations pinned now
	PeakKeptBytes int64 `json:"peak_kept_bytes"` // most activations pinned at once
}

// counted is a network whose calls are counted, below guidance so that each
// branch is one call. It is a Batcher where the network is.
func counted(n Network, counters *Counters) Network {
	c := countedNetwork{n, counters}
	if batcher, ok := n.(Batcher); ok {
		return countedBatcher{c, batcher}
	}
	return c
}

type countedNetwork struct {
	Network
	counters *Counters
}

func (n countedNetwork) Predict(ctx context.Context, in Input, out Vector) error {
	n.counters.NetworkCalls++
	return n.Network.Predict(ctx, in, out)
}

func (n countedNetwork) Keep(ctx context.Context, in Input, wrt Wrt, out Vector) (Kept, error) {
	n.counters.NetworkCalls++
	kept, err := n.Network.Keep(ctx, in, wrt, out)
	if err != nil {
		return nil, err
	}
	bytes := kept.Bytes()
	n.counters.KeptCalls++
	n.counters.KeptBytes += bytes
	n.counters.PeakKeptBytes = max(n.counters.PeakKeptBytes, n.counters.KeptBytes)
	return &countedKept{Kept: kept, counters: n.counters, bytes: bytes}, nil
}

type countedBatcher struct {
	countedNetwork
	batcher Batcher
}

func (n countedBatcher) PredictBatch(ctx context.Context, ins []Input, outs []Vector) error {
	n.counters.NetworkCalls += len(ins)
	return n.batcher.PredictBatch(ctx, ins, outs)
}

type countedKept struct {
	Kept
	counters *Counters
	bytes    int64
}

func (k *countedKept) Backward(ctx context.Context, seed Vector, into Gradients) error {
	k.counters.BackwardCalls++
	return k.Kept.Backward(ctx, seed, into)
}

func (k *countedKept) Release() {
	k.counters.KeptBytes -= k.bytes
	k.bytes = 0
	k.Kept.Release()
}
