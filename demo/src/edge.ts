// The edge: the server of this site, where it steers, too (docs/edge.md). A run
// there is told of in the core's own words, its pictures aside, which come as PNG.
import { CoreError } from './client'
import { sentence } from './format'
import type { Memory, Pictures, Recipe, SteerEvent, SteerResult } from './protocol'
import type { Work } from './state'

/** What an edge has and allows. */
export interface Edge {
  loras: boolean // it keeps adapters
  slices: boolean // a run may take several requests
  budget: {
    cpu_seconds: number // of a request
    multiply_adds_per_second: number
    bytes: number // of all runs together
  }
}

/** Where a run goes on whose request has computed long enough. */
export interface Resume {
  token: string
  update: number
  slices: Slices
  /** What was found until there. */
  found: SteerResult
}

/** Requests of a run: the one it is at, and how many are planned. */
export interface Slices {
  at: number
  of: number
}

/** Why an edge did not do what it was asked. */
export class EdgeError extends Error {
  /** again: the same may work another time. */
  constructor(
    message: string,
    readonly again: boolean,
  ) {
    super(message)
    this.name = 'EdgeError'
  }
}

/**
 * The edge behind this page; null for none. A server that is one says so with the
 * page, by the header "Server-Timing: sdo-edge", so that no other host is asked
 * for what it does not have.
 */
export async function findEdge(): Promise<Edge | null> {
  const [page] = performance.getEntriesByType('navigation') as PerformanceNavigationTiming[]
  if (!page?.serverTiming?.some((t) => t.name === 'sdo-edge')) return null
  const response = await fetch('v1/health').catch(() => null)
  const health = (await response?.json().catch(() => null)) as (Edge & { service: string }) | null
  return health?.service === 'sdo-edge' ? health : null // without one the page does all of it by itself
}

/** What is told of a run besides the core's events. */
export interface Listener {
  event(e: SteerEvent): void
  slices(s: Slices): void
  /** From here on it could go on after an accident. */
  resumable(r: Resume): void
}

/**
 * Steers a recipe, in as many requests as that takes. judge is what its judge
 * looks for, for the result of a run that is ended early.
 */
export function steerThere(recipe: Recipe, judge: string, from: Resume | null, tell: Listener): Work<SteerResult> {
  const end = new AbortController()
  return { result: run(recipe, judge, from, tell, end.signal), cancel: async () => end.abort() }
}

async function run(recipe: Recipe, judge: string, from: Resume | null, tell: Listener, ended: AbortSignal): Promise<SteerResult> {
  let found = from?.found ?? null
  try {
    let body: object = from ? { resume: from.token } : { recipe }
    for (let at = (from?.slices.at ?? 0) + 1, of = at; ; at++) {
      const last = await request(body, ended, async (name, data) => {
        if (name === 'plan') {
          const { estimate, memory } = data as PlanEvent
          of = at - 1 + estimate.slices
          found ??= nothing(judge, memory)
          tell.slices({ at, of })
          return
        }
        const told = data as Packed<SteerEvent>
        const e = { ...told, pictures: told.pictures && (await unpack(told.pictures)) }
        if (ended.aborted) return
        if (e.kind === 'update') found = improve(found!, e)
        tell.event(e)
      })
      if (last.name === 'result') {
        const r = last.data as Packed<SteerResult>
        const [before, after] = await Promise.all([unpack(r.before), unpack(r.after)])
        return { ...r, before, after }
      }
      const { token, update } = last.data as { token: string; update: number }
      tell.resumable({ token, update, slices: { at, of }, found: found! })
      body = { resume: token }
    }
  } catch (error) {
    if (!ended.aborted) throw error
    if (found && found.losses.length > 0) return found
    throw new CoreError({ kind: 'cancelled', message: 'The run was ended before its first sample.' })
  }
}

interface PlanEvent {
  estimate: { slices: number }
  memory: Memory
}

/** Pictures as they come: each a PNG in base64. */
interface PackedPictures {
  count: number
  width: number
  height: number
  png: string[]
}

type Packed<T> = { [K in keyof T]: T[K] extends Pictures ? PackedPictures : T[K] extends Pictures | undefined ? PackedPictures | undefined : T[K] }

/** One request for a run: tells of every event, and answers with the last. */
async function request(body: object, ended: AbortSignal, tell: (name: string, data: unknown) => Promise<void>): Promise<{ name: string; data: unknown }> {
  const response = await fetch('v1/steer', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body), signal: ended }).catch(broken)
  if (!response.ok) throw await refusal(response)
  let last: { name: string; data: unknown } | null = null
  for await (const { name, data } of events(response.body!)) {
    if (name === 'error') throw new EdgeError(sentence((data as { message: string }).message), true)
    if (name === 'result' || name === 'continue') last = { name, data }
    else await tell(name, data)
  }
  return last ?? broken()
}

/** Fails for a connection that broke off: each browser has its own words for it. */
function broken(): never {
  throw new EdgeError('The connection to the edge broke off. Check the network and try again, or steer on this device.', true)
}

/** What an answer that is none says, as a sentence. */
async function refusal(response: Response): Promise<EdgeError> {
  const body = (await response.json().catch(() => null)) as { error?: { message?: string } } | null
  const message = body?.error?.message ?? `the edge is out of order (status ${response.status}); try again later, or steer on this device`
  return new EdgeError(sentence(message), response.status >= 500 || response.status === 429)
}

/** Server-sent events: blocks of lines, an empty one after each. */
async function* events(body: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<{ name: string; data: unknown }> {
  let text = ''
  for await (const part of chunks(body.pipeThrough(new TextDecoderStream()))) {
    let seen = Math.max(0, text.length - 1) // the end may have come in halves
    text += part
    for (let end; (end = text.indexOf('\n\n', seen)) >= 0; seen = 0) {
      const fields = new Map(text.slice(0, end).split('\n').map((line) => line.split(/: ?(.*)/s, 2) as [string, string]))
      text = text.slice(end + 2)
      yield { name: fields.get('event') ?? '', data: JSON.parse(fields.get('data') ?? 'null') }
    }
  }
}

/** What a stream brings; one that is left early is told so. Safari cannot iterate over streams. */
async function* chunks<T>(stream: ReadableStream<T>): AsyncGenerator<T> {
  const reader = stream.getReader()
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(broken)
      if (done) return
      yield value
    }
  } finally {
    await reader.cancel().catch(() => {}) // it has failed already
  }
}

/** Bytes as they were before they became PNG: nothing may convert colours. */
async function unpack(p: PackedPictures): Promise<Pictures> {
  const bitmaps = await Promise.all(
    p.png.map((text) => createImageBitmap(new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]), { colorSpaceConversion: 'none', premultiplyAlpha: 'none' })),
  )
  // One above the other is one after the other in memory.
  const canvas = new OffscreenCanvas(p.width, p.height * p.count)
  const context = canvas.getContext('2d', { willReadFrequently: true })!
  bitmaps.forEach((bitmap, i) => {
    context.drawImage(bitmap, 0, i * p.height)
    bitmap.close()
  })
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height)
  return { count: p.count, width: p.width, height: p.height, rgba: data as Uint8ClampedArray<ArrayBuffer> }
}

const noPictures: Pictures = { count: 0, width: 0, height: 0, rgba: new Uint8ClampedArray() }

/** The result of a run that has no sample yet. */
function nothing(judge: string, memory: Memory): SteerResult {
  return {
    before: noPictures,
    after: noPictures,
    losses: [],
    best_loss: [],
    best_update: [],
    row_updates: [],
    stopped: [],
    drifted: [],
    updates: 0,
    cancelled: true,
    judge_label: judge,
    drift: 0,
    seconds: 0,
    counters: { network_calls: 0, backward_calls: 0 },
    planned_bytes: memory.activation_bytes,
    peak_bytes: 0, // only a whole result tells
  }
}

/** The result of a run that ends with an update: of every picture the best, as the core's own. */
function improve(r: SteerResult, e: SteerEvent): SteerResult {
  const { losses = [], best = losses, stopped = losses.map(() => false), pictures = r.after } = e
  const first = r.losses.length === 0
  const better = best.map((loss, i) => first || loss !== r.best_loss[i])
  const after = first ? pictures : merged(r.after, pictures, better)
  const before = first ? pictures : r.before
  const verdicts = e.verdicts && better.map((yes, i) => (yes ? e.verdicts![i]! : r.judge_after![i]!))
  return {
    ...r,
    before,
    after,
    losses: [...r.losses, losses],
    best_loss: best,
    best_update: better.map((yes, i) => (yes ? e.update : r.best_update[i]!)),
    row_updates: stopped.map((_, i) => (first ? 0 : r.row_updates[i]! + (r.stopped[i] ? 0 : 1))),
    stopped,
    drifted: stopped.map(() => false), // only a whole result tells
    updates: e.update,
    judge_before: first ? e.verdicts : r.judge_before,
    judge_after: verdicts,
    drift: drift(before, after),
    seconds: e.seconds,
    counters: e.counters,
  }
}

/** A batch with those of its pictures replaced that have become better. */
function merged(batch: Pictures, now: Pictures, better: boolean[]): Pictures {
  const rgba = batch.rgba.slice()
  const size = 4 * batch.width * batch.height
  better.forEach((yes, i) => yes && rgba.set(now.rgba.subarray(i * size, (i + 1) * size), i * size))
  return { ...batch, rgba }
}

/** The mean over pictures of how much their values changed, root mean square, of -1..1. */
function drift(a: Pictures, b: Pictures): number {
  const size = 4 * a.width * a.height
  let total = 0
  for (let from = 0; from < a.rgba.length; from += size) {
    let square = 0
    for (let i = from; i < from + size; i++) square += (a.rgba[i]! - b.rgba[i]!) ** 2 // alpha never changes
    total += Math.sqrt(square / (0.75 * size)) / 127.5
  }
  return total / a.count
}
