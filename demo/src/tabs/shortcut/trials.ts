// The comparison: the same picture problem by several methods, each planned
// first and then really run for a few updates. State outlives the tab's component.
import { batch, computed, effect, signal } from '@preact/signals'
import { call, failure } from '../../client'
import { cancelJob, catalog, device, recipe, runJob, running, tab, told, usable } from '../../state'
import type { Pictures, Planned, Recipe, SteerEvent, SteerResult } from '../../protocol'
import { trialRecipe, ways, type Way } from './methods'

/** Pictures and updates of a trial: few, since full back-propagation really runs. */
const trialPictures = 4
export const trialUpdates = 3
/** Numbers of steps one can choose. */
export const stepChoices = [5, 10, 20, 50]

export interface Trial {
  way: Way
  steps: number
  plan: Planned | null // null where not even that worked
  state: 'waiting' | 'running' | 'done' | 'refused' | 'failed'
  why: string // of refused and failed
  peak: number // bytes of activations, measured
  calls: number // network calls of an update
  backward: number // of an update
  seconds: number // of an update, the middle one
  /** Mean loss against network calls so far, forward and backward. */
  curve: { calls: number; loss: number }[]
}

/** The states of one rollout, as they came, and where the run is now. */
export interface Film {
  way: Way
  chosen: number // steps asked for
  steps: number // steps made: fewer where a run begins from a picture
  pictures: (Pictures | undefined)[] // by steps taken; none for the start noise
  kept: number[] // calls that keep their buffers, from 0
  at: number // steps taken in the rollout that is going on
  phase: 'idle' | 'forward' | 'backward'
  hop: number // of a backward pass: calls passed
  hops: number // ... of so many
  update: number
  updates: number // a rollout after all of them only looks at what they made
  passes: number // backward passes begun, so that each is drawn anew
}

/** Steps of the sampler here; the recipe of the other tabs stays as it is. */
export const steps = signal(20)
/** Pictures of a trial. */
export const pictures = computed(() => Math.min(trialPictures, recipe.value?.num_images ?? trialPictures))
/** Methods to compare. */
export const compared = signal<string[]>(['sdo', 'full'])
/** The method whose way is drawn. */
export const shown = signal('sdo')
export const trials = signal<Trial[]>([])
export const film = signal<Film | null>(null)
export const problem = signal('')
/** Planned bytes of activations by number of steps, once the core has answered. */
export const planned = signal<{ steps: number; sdo: Planned; full: Planned['full'] }[]>([])

/** Methods the current recipe allows, at the chosen steps. */
export const offered = computed(() => (recipe.value ? ways(recipe.value, steps.value) : []))
export const way = computed(() => offered.value.find((w) => w.name === shown.value) ?? offered.value[0] ?? null)
/** Whether the comparison is the job that runs. */
export const comparing = computed(() => running.value?.tab === 'shortcut' && !running.value.background)

// Another recipe or device makes what was measured and drawn stale.
let measuredOf = ''
effect(() => {
  const now = recipe.value && JSON.stringify([{ ...recipe.value, method: null }, device.value?.kind, device.value?.name])
  if (!now || now === measuredOf) return
  measuredOf = now
  if (running.peek()?.tab === 'shortcut' && running.peek()?.background) void cancelJob()
  batch(() => {
    shown.value = 'sdo'
    trials.value = []
    film.value = null
    planned.value = []
    problem.value = ''
    steps.value = nearest(recipe.peek()!.sampler.num_inference_steps)
  })
})

// Planned bytes are asked for as soon as someone looks.
effect(() => {
  if (tab.value !== 'shortcut' || !recipe.value || !usable.value || !catalog.value || planned.value.length > 0) return
  void planAll(recipe.value)
})

function nearest(n: number): number {
  return stepChoices.reduce((best, s) => (Math.abs(s - n) < Math.abs(best - n) ? s : best))
}

let planning = 0
async function planAll(of: Recipe): Promise<void> {
  const mine = ++planning
  const what = measuredOf
  const rows: typeof planned.value = []
  let why = ''
  for (const n of stepChoices) {
    try {
      const sdo = await call('plan', { recipe: trialRecipe(of, 'sdo', n, pictures.peek(), trialUpdates) })
      rows.push({ steps: n, sdo, full: sdo.full })
    } catch (error) {
      why = failure(error).message // not every solver takes every number of steps
    }
    if (mine !== planning || what !== measuredOf || of !== recipe.peek()) return
  }
  if (rows.length > 0) planned.value = rows
  else problem.value = why
}

export function toggle(name: string): void {
  const now = compared.peek()
  compared.value = now.includes(name) ? now.filter((m) => m !== name) : [...now, name]
}

/** Runs every chosen method, one after the other, on the same noise. */
export async function compare(): Promise<void> {
  const of = recipe.peek()
  if (!of) return
  const n = steps.peek()
  const chosen = offered.peek().filter((w) => compared.peek().includes(w.name))
  problem.value = ''
  try {
    trials.value = await Promise.all(chosen.map((w) => planTrial(of, w, n)))
    for (const w of chosen) {
      if (trials.peek().find((t) => t.way === w)?.state !== 'waiting') continue
      shown.value = w.name
      change(w, { state: 'running' })
      try {
        const result = await runTrial(of, w, n)
        if (result.cancelled) break
      } catch (error) {
        change(w, { state: 'failed', why: own(error), curve: [] })
      }
    }
  } catch (error) {
    const f = failure(error)
    if (!told(f)) problem.value = f.message
  } finally {
    // What never ran, or was cut short, says nothing.
    if (compared.peek().includes('sdo')) shown.value = 'sdo'
    trials.value = trials.peek().filter((t) => t.state !== 'waiting' && t.state !== 'running')
  }
}

async function planTrial(of: Recipe, way: Way, n: number): Promise<Trial> {
  const row: Trial = { way, steps: n, plan: null, state: 'waiting', why: '', peak: 0, calls: 0, backward: 0, seconds: 0, curve: [] }
  try {
    row.plan = await call('plan', { recipe: trialRecipe(of, way.name, n, pictures.peek(), trialUpdates) })
    if (row.plan.refusal) Object.assign(row, { state: 'refused', why: row.plan.refusal })
  } catch (error) {
    Object.assign(row, { state: 'failed', why: own(error) })
  }
  return row
}

/** What a method failed with on its own account; anything else concerns them all. */
function own(error: unknown): string {
  const f = failure(error)
  if (f.kind !== 'out_of_memory' && f.kind !== 'input') throw error
  return f.message
}

let lookedAt = ''

/** One update in the background, so that the strip shows a real rollout when the tab opens. */
export async function firstLook(): Promise<void> {
  const of = recipe.peek()
  const w = offered.peek()[0]
  const n = steps.peek()
  const what = JSON.stringify([measuredOf, n])
  if (!of || !w || what === lookedAt) return
  lookedAt = what
  const reel = new Reel(w, n)
  try {
    await runJob('shortcut', 'A first look', 'steer', { recipe: trialRecipe(of, w.name, n, pictures.peek(), 1), previews: 0 }, (e) => reel.take(e), { background: true })
  } catch (error) {
    // It was only to show something; what is wrong with the recipe or the device is said where it is used.
    if (failure(error).kind === 'device_lost') lookedAt = '' // and is due on the next one
  } finally {
    reel.end()
    if (film.peek()?.pictures.length === 0) film.value = null
  }
}

function change(w: Way, to: Partial<Trial>): void {
  trials.value = trials.peek().map((t) => (t.way === w ? { ...t, ...to } : t))
}

async function runTrial(of: Recipe, w: Way, n: number): Promise<SteerResult> {
  const updates: { at: number; calls: number; backward: number; loss: number }[] = []
  const reel = new Reel(w, n)
  const result = await runJob(
    'shortcut',
    `Measuring ${w.name}`,
    'steer',
    { recipe: trialRecipe(of, w.name, n, pictures.peek(), trialUpdates), previews: 0 },
    (e: SteerEvent) => {
      reel.take(e)
      if (e.kind !== 'update' || !e.losses) return
      updates.push({ at: e.seconds, calls: e.counters.network_calls, backward: e.counters.backward_calls, loss: mean(e.losses) })
      change(w, { curve: updates.map((u) => ({ calls: u.calls + u.backward, loss: u.loss })) })
    },
  )
  reel.end()
  if (!result.cancelled && updates.length > 1) {
    const first = updates[0]!
    const last = updates[updates.length - 1]!
    const made = updates.length - 1
    const took = updates.slice(1).map((u, i) => u.at - updates[i]!.at).sort((a, b) => a - b)
    change(w, {
      state: 'done',
      peak: result.peak_bytes,
      calls: (last.calls - first.calls) / made,
      backward: (last.backward - first.backward) / made,
      seconds: took[Math.floor((took.length - 1) / 2)]!,
    })
  }
  return result
}

/** Gathers what events say of a rollout and shows it once a frame. */
class Reel {
  private now: Film
  private due = 0
  private readonly of = measuredOf
  private keeps: number[] // of the latest rollout that a backward pass followed

  constructor(w: Way, n: number) {
    this.now = { way: w, chosen: n, steps: n, pictures: [], kept: w.keeps(n), at: 0, phase: 'idle', hop: 0, hops: 1, update: 0, updates: 1, passes: 0 }
    const before = film.peek()
    // The same noise by another method looks the same: its states stay until they come again.
    if (before && before.chosen === n) this.now.pictures = [...before.pictures]
    this.keeps = this.now.kept
    film.value = this.now
  }

  take(e: SteerEvent): void {
    const f = this.now
    f.update = e.update
    f.updates = e.updates
    if (e.kind === 'step') {
      if (e.step === 1) f.kept = []
      f.at = e.step
      f.steps = e.steps
      f.phase = 'forward'
      f.hop = 0
      if (e.kept) f.kept = [...f.kept, e.step - 1]
      if (e.pictures) f.pictures[e.step] = e.pictures
    } else if (e.kind === 'backward') {
      if (f.phase !== 'backward') f.passes++
      if (f.kept.length > 0) this.keeps = f.kept
      f.phase = 'backward'
      f.hop = e.step
      f.hops = e.steps
    } else if (e.kind === 'update' && e.pictures) {
      f.pictures[f.steps] = e.pictures
    }
    this.due ||= requestAnimationFrame(() => this.show())
  }

  end(): void {
    this.now.phase = 'idle'
    this.now.at = this.now.steps
    this.now.kept = this.keeps
    this.show()
  }

  private show(): void {
    cancelAnimationFrame(this.due)
    this.due = 0
    if (this.of === measuredOf) film.value = { ...this.now }
  }
}

function mean(x: number[]): number {
  return x.reduce((a, b) => a + b, 0) / x.length
}
