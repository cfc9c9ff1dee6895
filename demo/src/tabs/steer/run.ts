// The run on the stage: the first look at what will be steered, the run itself,
// and what it left. It outlives the tab's component.
import { batch, computed, effect, signal } from '@preact/signals'
import { call, failure, start } from '../../client'
import { EdgeError, steerThere, type Resume, type Slices } from '../../edge'
import {
  cancelJob,
  catalog,
  checkpoints,
  chosenDevice,
  core,
  device,
  draft,
  edit,
  keepsCheckpoints,
  library,
  lost,
  openDevice,
  recipe,
  refreshCheckpoints,
  runJob,
  running,
  runWork,
  settled,
  tab,
  usable,
  useText,
  valid,
  type Work,
} from '../../state'
import type { Checkpoint, Counters, Failure, Pictures, Planned, Recipe, SteerEvent, SteerResult } from '../../protocol'
import { judgeLabel } from './words'

/** What the stage shows. */
export interface Stage {
  of: 'recording' | 'look' | 'run'
  /** The batch as it is now: of the run, the newest sample. */
  pictures: Pictures | null
  /** The batch before any update. */
  before: Pictures | null
}

/** Where a run is made. */
export type Place = 'device' | 'edge'

/** The story of a run, or of the one that ended last. */
export interface Story {
  recipe: Recipe
  place: Place
  slices: Slices | null // of a run on the edge
  from: number // updates made before it was resumed
  at: number[] // updates at which losses were told
  losses: number[][] // then, one per picture
  best: number[]
  stopped: boolean[]
  verdicts: boolean[] | null // what the judge says of the pictures shown
  first: boolean[] | null // ... and said of those before
  update: number
  updates: number
  step: number
  steps: number
  phase: SteerEvent['kind']
  seconds: number
  counters: Counters
  perUpdate: number // seconds, of late
  frames: Pictures[] // for the film
  warning: string // what could not be kept
  result: SteerResult | null
}

export const stage = signal<Stage>({ of: 'recording', pictures: null, before: null })
export const story = signal<Story | null>(null)
/** What went wrong and after how many updates, and what of the run can be done again. */
export interface Trouble {
  failure: Failure
  update: number
  again?: { from: number; go: () => Promise<void> }
}

export const trouble = signal<Trouble | null>(null)
// What was the matter with one device is not with the next, on whichever tab it was opened.
effect(() => {
  const kind = device.value && trouble.peek()?.failure.kind
  if (kind === 'device_lost' || kind === 'out_of_memory') trouble.value = null
})
/** What the recipe would cost; null while that is asked. */
export const planned = signal<Planned | null>(null)
/** Set where the page made the library's recipe smaller for a slow device. */
export const shrunk = signal(false)

export const steering = computed(() => running.value?.tab === 'steer' && !running.value.background)
export const looking = computed(() => running.value?.tab === 'steer' && running.value.background)
/** The checkpoint of a run that did not end, while none is running. */
export const unfinished = computed(() => (steering.value || !keepsCheckpoints.value ? null : (checkpoints.value.find((c) => c.name === 'steer') ?? null)))

/** Whether that is the run on the stage, which was ended before its end. */
export const endedHere = computed(() => unfinished.value !== null && story.value?.place === 'device' && story.value.result?.cancelled === true)

// ---- the first look -------------------------------------------------------

/** All of a recipe that its pictures before any update depend on. */
function origin(r: Recipe): string {
  return JSON.stringify([r.model, r.lora, r.seed, r.num_images, r.sampler, r.guidance_scale, r.condition, r.start])
}

/** The recipe that only samples. */
function bare(r: Recipe, pictures: number, steps: number): Recipe {
  return {
    ...r,
    num_images: Math.min(pictures, r.num_images),
    sampler: { ...r.sampler, num_inference_steps: Math.min(steps, r.sampler.num_inference_steps) },
    objective: [],
    updates: 0,
    method: { name: 'sdo' },
    variables: { latents: {} },
    tune: undefined,
    guards: { ...r.guards, early_stop: false },
  }
}

let seen = '' // origin of the pictures on the stage
/** Whether there were any pictures yet, or none could be made. */
export const painted = signal(false)
/** Seconds this device takes for one picture in one call of a model, by its latest look. */
export const pace = signal<{ model: string; seconds: number } | null>(null)

effect(() => {
  const r = recipe.value
  if (!r || !usable.value || tab.value !== 'steer' || running.value !== null || origin(r) === seen) return
  const mine = origin(r)
  if (!painted.peek()) {
    void look(r, mine)
    return
  }
  const timer = setTimeout(() => void look(r, mine), 150)
  return () => clearTimeout(timer)
})

// A first look of what has been edited since is not worth waiting for.
effect(() => {
  const d = draft.value
  if (d && looking.value && !running.peek()!.cancelling && origin(d) !== seen) void cancelJob()
})

async function look(r: Recipe, mine: string): Promise<void> {
  seen = mine
  const slow = device.peek()?.kind === 'cpu'
  let few: Pictures | null = null // the first pictures, made in few steps
  const emerge = (e: SteerEvent) => {
    if (e.kind === 'step' && e.pictures && seen === mine) stage.value = { of: 'look', pictures: over(forming(e.pictures, e.step / e.steps), few), before: null }
  }
  const sample = (of: Recipe) =>
    runJob(
      'steer',
      'A first look',
      'sample',
      { recipe: of },
      (e) => {
        emerge(e)
        if (e.counters.network_calls > 0) pace.value = { model: of.model, seconds: e.seconds / (e.counters.network_calls * of.num_images) }
      },
      { background: true },
    )
  const show = (pictures: Pictures) => {
    if (seen !== mine) return
    stage.value = { of: 'look', pictures, before: pictures }
    if (!painted.peek()) {
      painted.value = true
      requestAnimationFrame(() => requestAnimationFrame(() => performance.mark('first-picture')))
    }
  }
  try {
    // A few pictures in a few steps first, so that there is something to see at once.
    const quick = slow ? bare(r, 2, 5) : bare(r, 4, device.peek()?.software ? 5 : 10)
    const whole = bare(r, r.num_images, r.sampler.num_inference_steps)
    const small = quick.num_images < whole.num_images || quick.sampler.num_inference_steps < whole.sampler.num_inference_steps
    if (small && (!painted.peek() || slow)) {
      few = await sample(quick)
      show(few)
    }
    if (recipe.peek() && origin(recipe.peek()!) !== mine) return
    if (!small || !slow || whole.num_images * whole.sampler.num_inference_steps <= 64) show(await sample(whole))
  } catch (error) {
    const f = failure(error)
    if (f.kind === 'cancelled' || f.kind === 'busy') {
      if (seen === mine && stage.peek().of !== 'run') seen = '' // it gave way, and is due again
      return
    }
    seen = '' // so that it is tried again on the next device or recipe
    painted.value = true
    if (f.kind !== 'device_lost') trouble.value = { failure: f, update: 0 }
  }
}

/** States on their way from noise: the fainter, the more noise. */
function forming(p: Pictures, share: number): Pictures {
  const rgba = p.rgba.slice()
  const alpha = 255 * (0.12 + 0.88 * share ** 2)
  for (let i = 3; i < rgba.length; i += 4) rgba[i] = alpha
  return { ...p, rgba }
}

/** A batch with its first pictures replaced by those that are better. */
function over(batch: Pictures, first: Pictures | null): Pictures {
  if (!first || first.count > batch.count || first.width !== batch.width || first.height !== batch.height) return batch
  const rgba = batch.rgba.slice()
  rgba.set(first.rgba)
  return { ...batch, rgba }
}

// A slow device gets the library's first recipe in a small size.
let sized = false
effect(() => {
  if (sized || core.value.phase !== 'ready' || !device.value || !recipe.value) return
  sized = true
  if (device.value.kind !== 'cpu' || library.peek() === '') return
  shrunk.value = true
  edit(shrink)
})

const modest = { pictures: 4, steps: 8, updates: 20 }

/** Makes a recipe what a slow place runs while a person waits. */
export function shrink(r: Recipe): void {
  r.num_images = Math.min(r.num_images, modest.pictures)
  r.sampler.num_inference_steps = Math.min(r.sampler.num_inference_steps, modest.steps)
  r.updates = Math.min(r.updates, modest.updates)
}

/** Whether shrink would change a recipe. */
export function isLarge(r: Recipe): boolean {
  return r.num_images > modest.pictures || r.sampler.num_inference_steps > modest.steps || r.updates > modest.updates
}

export function halve(): void {
  edit((r) => {
    r.num_images = Math.max(1, Math.floor(r.num_images / 2))
  })
}

// ---- the plan -------------------------------------------------------------

let plans = 0
effect(() => {
  const r = recipe.value
  // Not before the first pictures, which it would keep waiting.
  if (!r || !usable.value || (!painted.value && tab.value === 'steer')) return
  const mine = ++plans
  void call('plan', { recipe: r }).then(
    (p) => mine === plans && (planned.value = p),
    (error) => mine === plans && (planned.value = { ...noPlan, refusal: failure(error).message }),
  )
})
const none = { param_bytes: 0, activation_bytes: 0, state_bytes: 0, total_bytes: 0 }
const noPlan: Planned = { memory: none, steps: 0, calls: 0, backward_calls: 0, first_multiply_adds: 0, update_multiply_adds: 0, refusal: '' }

// ---- the run --------------------------------------------------------------

/** Of pictures for a film, in bytes. */
const mostFilm = 64e6

/** Starts the recipe on this device, or goes on from the checkpoint. */
export async function steer(from?: Checkpoint): Promise<void> {
  const r = await due(from?.recipe)
  if (!r) return
  const params = { recipe: r, resume: from !== undefined, previews: 100, checkpoint: keepsCheckpoints.peek() }
  await perform(begun(r, 'device', from?.update), from ? 'Steering on' : 'Steering', (onEvent) => start('steer', params, onEvent))
}

/** Where a run on the edge can go on, and its story until there. */
interface Held {
  at: Resume
  story: Story
}

/** Starts the recipe on the edge, or goes on with a run that broke off there. */
export async function steerOnEdge(held?: Held): Promise<void> {
  if (held) await present(held.story.recipe)
  const r = await due(held?.story.recipe)
  if (!r) return
  const s = held ? { ...copy(held.story), from: held.at.update } : begun(r, 'edge')
  const from = held?.at ?? null
  const listener = (event: (e: SteerEvent) => void) => ({
    event,
    slices: (slices: Slices) => {
      s.slices = slices
      told()
    },
    resumable: (at: Resume) => {
      held = { at, story: copy(s) }
    },
  })
  await perform(
    s,
    'Steering on the edge',
    (onEvent) => steerThere(r, judgeLabel(r), from, listener(onEvent)),
    () => ({ from: held?.at.update ?? 0, go: () => steerOnEdge(held) }),
  )
}

/** The recipe to run, once what is edited has been checked; null where there is none. */
async function due(again?: Recipe): Promise<Recipe | null> {
  if (looking.peek()) await cancelJob() // so that the core has time for what comes
  await settled()
  return again ?? (valid.peek() ? recipe.peek() : null)
}

/** A story at its beginning, or where a run goes on. */
function begun(r: Recipe, place: Place, from = 0): Story {
  return {
    recipe: r,
    place,
    slices: null,
    from,
    at: [],
    losses: [],
    best: [],
    stopped: [],
    verdicts: null,
    first: null,
    update: from,
    updates: r.updates,
    step: 0,
    steps: r.sampler.num_inference_steps,
    phase: 'step',
    seconds: 0,
    counters: { network_calls: 0, backward_calls: 0 },
    perUpdate: 0,
    frames: [],
    warning: '',
    result: null,
  }
}

/** A story that stays as it is while the run goes on. */
function copy(s: Story): Story {
  return { ...s, at: [...s.at], losses: [...s.losses], frames: [...s.frames] }
}

/**
 * Tells the story of a run on the stage, wherever begin has it made. again is how
 * to try what may work another time, of runs that leave no checkpoint.
 */
async function perform(s: Story, label: string, begin: (onEvent: (e: SteerEvent) => void) => Work<SteerResult>, again?: () => Trouble['again']): Promise<void> {
  const known = stage.peek()
  const same = known.of !== 'recording' && seen === origin(s.recipe) && known.before?.count === s.recipe.num_images
  const before = s.frames[0] ?? (same ? known.before : null)
  batch(() => {
    trouble.value = null
    story.value = s
    stage.value = { of: 'run', pictures: s.frames.at(-1) ?? before, before }
  })
  seen = origin(s.recipe)
  current = s
  let since = 0 // seconds at the update before
  const onEvent = (e: SteerEvent) => {
    s.phase = e.kind
    s.step = e.step
    s.steps = e.steps || s.steps
    s.seconds = e.seconds
    s.counters = e.counters
    if (e.warning) s.warning = e.warning
    if (e.kind === 'update') {
      s.update = e.update
      s.updates = e.updates
      if (e.losses) {
        s.at.push(e.update)
        s.losses.push(e.losses)
      }
      if (e.best) s.best = e.best
      if (e.stopped) s.stopped = e.stopped
      if (e.verdicts) {
        s.verdicts = e.verdicts
        if (e.update === 0) s.first = e.verdicts
      }
      if (since > 0) s.perUpdate = s.perUpdate ? 0.7 * s.perUpdate + 0.3 * (e.seconds - since) : e.seconds - since
      since = e.seconds
    }
    if (e.pictures && e.kind === 'update') {
      if ((s.frames.length + 1) * e.pictures.rgba.length > mostFilm) s.frames = s.frames.filter((_, i) => i % 2 === 0)
      s.frames.push(e.pictures)
      stage.value = { of: 'run', pictures: e.pictures, before: e.update === 0 ? e.pictures : stage.peek().before }
    } else if (e.pictures && !stage.peek().before) {
      // Where the first sample is known already, its steps show nothing new.
      stage.value = { of: 'run', pictures: e.kind === 'step' ? forming(e.pictures, e.step / e.steps) : e.pictures, before: null }
    }
    told()
  }
  try {
    const result = await runWork('steer', label, begin, { onEvent })
    s.result = result
    s.verdicts = result.judge_after ?? null
    s.first = result.judge_before ?? null
    s.update = result.updates
    s.seconds = result.seconds
    s.counters = result.counters
    s.stopped = result.stopped
    s.best = result.best_loss
    if (result.losses.length > 0) {
      s.losses = result.losses
      s.at = result.losses.map((_, i) => i)
    }
    s.frames.push(result.after)
    stage.value = { of: 'run', pictures: result.after, before: result.before }
  } catch (error) {
    const f = failure(error)
    if (f.kind !== 'cancelled') trouble.value = { failure: f, update: s.update, again: error instanceof EdgeError && error.again ? again?.() : undefined }
  } finally {
    flush()
    if (core.peek().phase === 'ready') await refreshCheckpoints().catch(() => {})
  }
}

let current: Story | null = null // as events change it; the signal has copies
let showing = 0
/** Shows the story at most some six times a second: a run of a small model tells hundreds of things. */
function told(): void {
  showing ||= window.setTimeout(flush, 160)
}

function flush(): void {
  clearTimeout(showing)
  showing = 0
  if (current) story.value = { ...current }
}

/** Goes on from the checkpoint, on a fresh device where the old one was lost. */
export async function goOn(c: Checkpoint, which = chosenDevice.peek()): Promise<void> {
  try {
    // After a failure the device may be gone without having said so.
    if (!device.peek() || lost.peek() || trouble.peek() || which !== chosenDevice.peek()) await openDevice(which)
    trouble.value = null
    await present(c.recipe)
    await steer(c)
  } catch (error) {
    trouble.value = { failure: failure(error), update: c.update }
  }
}

/** Makes the recipe of an earlier run the current one. */
async function present(r: Recipe): Promise<void> {
  await useText(JSON.stringify(r))
  library.value = matching(r)
}

/** The library's recipe that is the same, by name; empty where there is none. */
function matching(r: Recipe): string {
  const text = JSON.stringify(r)
  return catalog.peek()?.recipes.find((l) => JSON.stringify(l.recipe) === text)?.name ?? ''
}

export async function discard(): Promise<void> {
  try {
    await call('discard', { name: 'steer' })
    await refreshCheckpoints()
  } catch (error) {
    trouble.value = { failure: failure(error), update: 0 }
  }
}

/** Yes of how many, now and before any update; null without a judge. */
export const judged = computed(() => {
  const s = story.value
  if (!s || stage.value.of !== 'run') return null
  const label = s.result?.judge_label ?? judgeLabel(s.recipe)
  if (!label || !s.verdicts) return null
  const yes = (v: boolean[] | null) => v?.filter(Boolean).length ?? 0
  return { label, of: s.verdicts.length, now: yes(s.verdicts), before: s.first ? yes(s.first) : null }
})
