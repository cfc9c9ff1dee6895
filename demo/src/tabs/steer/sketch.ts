// A drawing as the editor holds it, and as a recipe writes it: rows of
// characters and a palette that gives each its colour.
import type { Term } from '../../protocol'

/** Colours row by row; null is free: the picture may be anything there. */
export interface Sketch {
  width: number
  height: number
  cells: (string | null)[]
}

export const free = '.'

export function emptySketch(width: number, height: number): Sketch {
  return { width, height, cells: new Array<string | null>(width * height).fill(null) }
}

export function readSketch(t: Term, width: number, height: number): Sketch {
  const s = emptySketch(width, height)
  t.rows?.slice(0, height).forEach((row, y) => {
    ;[...row].slice(0, width).forEach((c, x) => {
      const colour = t.palette?.[c]
      s.cells[y * width + x] = !colour || colour === 'free' ? null : colour.toLowerCase()
    })
  })
  return s
}

const letters = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'
/** More colours than a recipe has characters for here. */
export const mostColours = letters.length

/** Rows and palette. Colours keep the characters they have in before. */
export function writeSketch(s: Sketch, before: Record<string, string> = {}): { rows: string[]; palette: Record<string, string> } {
  const palette: Record<string, string> = { [free]: 'free' }
  const names = new Map<string, string>()
  const used = new Set(s.cells.filter((c): c is string => c !== null))
  for (const [name, colour] of Object.entries(before)) {
    const c = colour.toLowerCase()
    if (name === free || !used.has(c) || names.has(c)) continue
    names.set(c, name)
    palette[name] = c
  }
  for (const colour of used) {
    if (names.has(colour)) continue
    const name = [...letters].find((l) => !(l in palette))
    if (!name) throw new Error(`a drawing has at most ${mostColours} colours`)
    names.set(colour, name)
    palette[name] = colour
  }
  const rows = Array.from({ length: s.height }, (_, y) =>
    s.cells
      .slice(y * s.width, (y + 1) * s.width)
      .map((c) => (c === null ? free : names.get(c)!))
      .join(''),
  )
  return { rows, palette }
}

/** Colours every touching pixel of the same colour. */
export function fill(s: Sketch, at: number, colour: string | null): Sketch {
  const from = s.cells[at]
  if (from === colour) return s
  const cells = [...s.cells]
  const open = [at]
  while (open.length > 0) {
    const i = open.pop()!
    if (cells[i] !== from) continue
    cells[i] = colour
    const x = i % s.width
    if (x > 0) open.push(i - 1)
    if (x < s.width - 1) open.push(i + 1)
    if (i >= s.width) open.push(i - s.width)
    if (i < s.width * (s.height - 1)) open.push(i + s.width)
  }
  return { ...s, cells }
}

/** Colours one pixel, and its mirror image. */
export function dot(s: Sketch, at: number, colour: string | null, mirrored: boolean): Sketch {
  const x = at % s.width
  const twin = at - x + (s.width - 1 - x)
  if (s.cells[at] === colour && (!mirrored || s.cells[twin] === colour)) return s
  const cells = [...s.cells]
  cells[at] = colour
  if (mirrored) cells[twin] = colour
  return { ...s, cells }
}

/** Pixels from one to another, so that a fast pointer leaves no gaps. */
export function line(from: number, to: number, width: number): number[] {
  let x = from % width
  let y = Math.floor(from / width)
  const x1 = to % width
  const y1 = Math.floor(to / width)
  const n = Math.max(Math.abs(x1 - x), Math.abs(y1 - y))
  if (n === 0) return [to]
  const cells: number[] = []
  const dx = (x1 - x) / n
  const dy = (y1 - y) / n
  for (let i = 0; i <= n; i++, x += dx, y += dy) cells.push(Math.round(y) * width + Math.round(x))
  return cells
}
