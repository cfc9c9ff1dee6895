package webgpu

import (
	"fmt"

	"github.com/sdo-go/sdo/gpu"
	"github.com/sdo-go/sdo/graph"
)

// maxPacked is the size of a plan's parameters up to which what kernels make of
// them is kept. A network of a few megabytes is bound by the number of its
// dispatches, and copies of its weights are small beside its activations. One
// of gigabytes is bound by arithmetic, of which packing is a few percent, and
// has no room for copies: it packs into scratch at every run.
const maxPacked = 64 << 20

// packed is what a launch makes of parameters alone, like the panel of a
// convolution: made before the first run that reads it, and again once a
// parameter was written. Programs share it, and it counts as a parameter.
type packed struct {
	key      packedKey
	pipeline *gpu.Pipeline
	uniform  []uint32
	groups   [3]uint32
	ranges   []gpu.Range
	made     *vector
	seen     [maxOperands]uint64 // versions of the parameters it was made from; none is 0
	users    int
}

// packedKey tells packed forms apart: the kernel with its block, and what is
// bound, nil for what is not a parameter.
type packedKey struct {
	kernel string
	params [maxOperands]*vector
}

// lasting returns the temp that a launch makes of parameters alone, if that is
// what it does and the plan is small enough to keep it.
func lasting(plan *graph.Plan, l launch) (temp int, ok bool) {
	params, made := 0, -1
	for _, o := range l.bind {
		switch {
		case o.unread:
		case o.node == nil && made < 0:
			made = o.temp
		case o.node == nil || plan.Slot(o.node).Region != graph.RegionParam:
			return 0, false
		default:
			params++
		}
	}
	return made, made >= 0 && params > 0 && plan.ParamBytes <= maxPacked
}

// ParamBytes counts each parameter, and each packed form that Compile would keep
// of it, once for all plans.
func (e *Executor) ParamBytes(plans ...*graph.Plan) (total int64) {
	counted := map[string]bool{}
	count := func(key string, bytes int64) {
		if !counted[key] {
			counted[key] = true
			total += bytes
		}
	}
	for i, plan := range plans {
		name := func(n *graph.Node) string {
			if n.Op == graph.OpConst {
				return fmt.Sprintf("const %d %s", i, n.Name) // every program uploads its own
			}
			return "param " + n.Name
		}
		for _, n := range plan.Params {
			count(name(n), plan.Slot(n).Bytes)
		}
		for _, segment := range plan.Segments {
			for _, n := range segment.Nodes {
				layOut, ok := kernels[n.Op]
				if !ok {
					continue
				}
				launches, err := layOut(n, e.preset)
				if err != nil {
					continue // Compile will say so
				}
				for _, l := range launches {
					temp, ok := lasting(plan, l)
					if !ok {
						continue
					}
					key := fmt.Sprint(variant(l.shader, l.consts, len(l.bind)), l.uniform)
					for _, o := range l.bind {
						if o.node != nil {
							key += " " + name(root(o.node))
						}
					}
					count(key, temps(n, e.preset)[temp])
				}
			}
		}
	}
	return total
}

// keep makes the result of a lasting launch, bytes long, a packed form and
// returns where it is. A program that has the same one shares it.
func (b *builder) keep(l launch, bytes int64) (place, error) {
	e, segment := b.p.owner, len(b.p.packed)-1
	name := variant(l.shader, l.consts, len(l.bind))
	key := packedKey{kernel: fmt.Sprint(name, l.uniform)}
	for i, o := range l.bind {
		if o.node != nil {
			key.params[i] = b.p.params[root(o.node)]
		}
	}
	k := e.packed[key]
	if k == nil {
		if err := checkGroups(l.groups); err != nil {
			return place{}, err
		}
		pipeline, err := e.pipeline(name, l.shader, l.consts, len(l.bind))
		if err != nil {
			return place{}, err
		}
		made, err := e.newVector("packed parameter", int(bytes/4), &e.usage.Params)
		if err != nil {
			return place{}, err
		}
		k = &packed{key: key, pipeline: pipeline, uniform: l.uniform, groups: l.groups, made: made}
		for i, o := range l.bind {
			switch {
			case o.unread:
				k.ranges = append(k.ranges, e.unread(0))
			case o.node == nil:
				k.ranges = append(k.ranges, made.all())
			default:
				k.ranges = append(k.ranges, key.params[i].all())
			}
		}
		e.packed[key] = k
	}
	k.users++
	b.p.packed[segment] = append(b.p.packed[segment], k)
	return place{region: graph.RegionParam, param: k.made.buffer, bytes: wholeVectors(bytes)}, nil
}

// refresh queues the launch again if a parameter was written since.
func (e *Executor) refresh(k *packed) error {
	var now [maxOperands]uint64
	for i, v := range k.key.params {
		if v != nil {
			now[i] = v.version
		}
	}
	if now == k.seen {
		return nil
	}
	for _, v := range k.key.params {
		if v != nil && v.buffer == nil {
			return fmt.Errorf("a parameter of the program was freed")
		}
	}
	if err := e.dispatch(k.pipeline, k.uniform, k.groups, k.ranges); err != nil {
		return fmt.Errorf("packing a parameter: %w", err)
	}
	k.seen = now
	return nil
}

// drop ends one program's use of a packed form.
func (e *Executor) drop(k *packed) {
	if k.users--; k.users == 0 {
		delete(e.packed, k.key)
		e.FreeVector(k.made)
	}
}
