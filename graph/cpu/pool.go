package cpu

import (
	"sync"
	"sync/atomic"
)

// task is a loop over count independent items, handed out in runs of grain.
type task[T Float] struct {
	phase *phase[T]
	call  *call[T]
	next  atomic.Int64 // first item not yet taken
	grain int
}

// pool is the executor's workers: worker 0 is the caller, the others wait in
// goroutines of their own. Handing out work allocates nothing.
type pool[T Float] struct {
	frames []call[T]       // worker k's own copy of the call, with its private memory
	wake   []chan struct{} // of workers 1 and up
	busy   sync.WaitGroup
	task   task[T]
}

// smallest is the work, in rough floating point operations, below which waking
// another worker costs more than it saves.
const smallest = 1 << 15

func newPool[T Float](workers int) *pool[T] {
	p := &pool[T]{
		frames: make([]call[T], workers),
		wake:   make([]chan struct{}, workers),
	}
	for k := 1; k < workers; k++ {
		p.wake[k] = make(chan struct{})
		go func() {
			for range p.wake[k] {
				p.work(k)
				p.busy.Done()
			}
		}()
	}
	return p
}

// run performs one phase of a kernel and returns when all items are done.
func (p *pool[T]) run(ph *phase[T], c *call[T]) {
	workers := min(len(p.frames), ph.items, 1+ph.items*ph.cost/smallest)
	p.task.phase, p.task.call = ph, c
	p.task.next.Store(0)
	// A few runs per worker even out processors that other programs share.
	p.task.grain = max(1, ph.items/(4*workers))
	if workers == 1 {
		p.task.grain = ph.items
	}
	p.busy.Add(workers - 1)
	for k := 1; k < workers; k++ {
		p.wake[k] <- struct{}{}
	}
	p.work(0)
	p.busy.Wait()
}

func (p *pool[T]) work(k int) {
	t := &p.task
	frame := &p.frames[k]
	*frame = *t.call
	private := len(frame.local) / len(p.frames)
	frame.local = frame.local[k*private:][:private]
	for {
		end := int(t.next.Add(int64(t.grain)))
		start := end - t.grain
		if start >= t.phase.items {
			return
		}
		t.phase.run(frame, start, min(end, t.phase.items))
	}
}

func (p *pool[T]) close() {
	for _, wake := range p.wake[1:] {
		close(wake)
	}
}
