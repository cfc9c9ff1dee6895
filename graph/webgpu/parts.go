package webgpu

// Sums are cut into parts, which another launch adds in a fixed order, where they are
// too few to keep an adapter busy or too long for one invocation.

// maxTurns bounds the turns of an invocation's loops. Mesa's llvmpipe ends them
// after 65535 and says nothing; drivers of GPUs end a dispatch that takes too long.
const maxTurns = 1 << 15

// shortSum is the length up to which one invocation adds alone.
const shortSum = 32

// shortProduct is the number of terms from which on a sum of products is worth
// being taken apart.
const shortProduct = 256

// parts cuts terms of repeats multiply-adds each, which threads invocations would
// add up, into parts: so many that the adapter is busy, and no invocation turns
// too often.
func (p *preset) parts(threads, terms, repeats int) (part, parts int) {
	parts = max(1, min(p.crew/threads, terms*repeats/shortProduct, terms))
	part = min(ceil(terms, parts), max(1, maxTurns/repeats))
	return part, ceil(terms, part)
}

// partsOfLines cuts a reduction over lines of so many elements, many times over, into
// parts of each line: as many as keep the adapter busy where workgroups are few,
// and at least so many that no invocation turns too often.
func (p *preset) partsOfLines(sums, lines, length int) (part, parts int) {
	rows := teamRows(p.team, length)
	lines = ceil(lines, rows)
	columns := p.team / rows
	parts = min(p.crew/(p.team*sums), lines*length/(columns*shortSum))
	part = ceil(length, max(1, min(parts, length)))
	part = min(part, max(1, maxTurns/(2*lines))*columns)
	return part, ceil(length, part)
}
