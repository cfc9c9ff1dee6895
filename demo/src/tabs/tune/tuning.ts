// A tuning: its recipe, the run, and what came of it. State outlives the tab's component.
import { batch, computed, effect, signal } from '@preact/signals'
import { call, failure } from '../../client'
import { adapterName, free, named } from '../../names'
import { catalog, checkpoints, chosenDevice, device, keepsCheckpoints, lost, openDevice, recipe, refreshCatalog, refreshCheckpoints, runJob, running, tab, told, usable } from '../../state'
import type { Checked, Checkpoint, Look, Pictures, Planned, Recipe, TuneEvent, TuneResult } from '../../protocol'

/** The choice that makes a tuning of the current steering recipe. */
export const fromGoal = 'current-goal'

/** A library recipe's name, or fromGoal. */
export const choice = signal('everyone-wears-glasses')
/** What is being set; null until the core is there. */
export const draft = signal<Recipe | null>(null)
/** The draft as the core read it, or what is wrong with it. */
export const checked = signal<Checked>({ problems: [] })
export const planned = signal<Planned | null>(null)
export const problem = signal('')

/** A run as far as it got; losses by update. */
export interface Run {
  recipe: Recipe
  first: number // the update it began after
  losses: number[]
  looks: Look[] // the first before any update
  result: TuneResult | null
  says: string // where it is now
  warning: string // what could not be kept
}
export const run = signal<Run | null>(null)

export const tuning = computed(() => running.value?.tab === 'tune' && !running.value.background)
/** A run that was cut short and can go on. */
export const unfinished = computed<Checkpoint | null>(() => (tuning.value || !keepsCheckpoints.value ? null : (checkpoints.value.find((c) => c.name === 'tune') ?? null)))

// ---- the recipe ---------------------------------------------------------------

// The recipe follows the choice, and with fromGoal the current goal; what was
// set stays when anything else changes.
let follows = ''
effect(() => {
  const known = catalog.value
  const goal = choice.value === fromGoal ? recipe.value : null
  const what = choice.value + JSON.stringify(goal)
  if (tab.value !== 'tune' || !known || what === follows) return // nothing is planned before someone looks
  follows = what
  const base = known.recipes.find((r) => r.name === choice.value && r.tunes)?.recipe
  const from = base ?? (goal && goalAsTuning(goal, known.recipes.find((r) => r.tunes)!.recipe))
  if (from) use(structuredClone(from))
})

/** The steering goal for the model itself: the same objective, on fresh noise in every update. */
function goalAsTuning(goal: Recipe, like: Recipe): Recipe {
  const r = structuredClone(like)
  r.name = `${goal.name}-for-all`
  r.description = `What ${goal.name} asks of single pictures, asked of the model itself.`
  r.model = goal.model
  r.guide = goal.guide
  r.judge = goal.judge
  r.seed = goal.seed
  r.guidance_scale = goal.guidance_scale
  r.condition = goal.condition
  r.objective = structuredClone(goal.objective)
  for (const term of r.objective) delete term.stop_below // of pictures that are left alone; here none is twice the same
  return r
}

/** Changes a setting. The core checks it soon after. */
export function set(change: (draft: Recipe) => void): void {
  const before = draft.peek()
  if (!before) return
  const after = structuredClone(before)
  change(after)
  use(after)
}

export interface Trained {
  lr?: number
  lora?: { rank: number; alpha: number; targets: string[] }
}

/** The parameters' own settings. */
export function parameters(r: Recipe): Trained {
  return (r.variables as { parameters?: Trained }).parameters ?? {}
}

let edits = 0
function use(next: Recipe): void {
  draft.value = next
  const mine = ++edits
  setTimeout(() => {
    if (mine === edits) void check(next, mine)
  }, 80)
}

async function check(next: Recipe, mine: number): Promise<void> {
  try {
    const answer = await call('check', { text: JSON.stringify(next) })
    if (mine !== edits) return
    checked.value = answer
    if (!answer.recipe || answer.problems.length > 0) {
      planned.value = null
      return
    }
    const plan = await call('plan', { recipe: answer.recipe })
    if (mine === edits) planned.value = plan
  } catch (error) {
    if (mine !== edits) return
    planned.value = null
    checked.value = { problems: [{ message: failure(error).message, line: 0, path: '' }] }
  }
}

export const ready = computed(
  () =>
    usable.value &&
    checked.value.problems.length === 0 &&
    checked.value.recipe !== undefined &&
    planned.value !== null &&
    planned.value.refusal === '' &&
    (running.value === null || running.value.background),
)

// ---- the run --------------------------------------------------------------------

export async function begin(): Promise<void> {
  const r = checked.peek().recipe
  if (r) await go(r, false, 0)
}

/** Goes on from the checkpoint, with its recipe, on a fresh device where the old one was lost. */
export async function goOn(from: Checkpoint): Promise<void> {
  try {
    // After a failure the device may be gone without having said so.
    if (!device.peek() || lost.peek() || problem.peek()) await openDevice(chosenDevice.peek())
  } catch (error) {
    problem.value = failure(error).message
    return
  }
  const name = from.recipe.name
  if (catalog.peek()?.recipes.some((r) => r.tunes && r.name === name)) {
    follows = name + JSON.stringify(null) // its own settings, not the library's
    choice.value = name
  }
  use(from.recipe)
  await go(from.recipe, true, from.update)
}

export async function discard(): Promise<void> {
  try {
    await call('discard', { name: 'tune' })
    await refreshCheckpoints()
  } catch (error) {
    problem.value = failure(error).message
  }
}

async function go(r: Recipe, resume: boolean, first: number): Promise<void> {
  problem.value = ''
  const before = run.peek()
  const same = resume && before !== null && JSON.stringify(before.recipe) === JSON.stringify(r)
  const now: Run = {
    recipe: r,
    first: same ? before.first : first,
    losses: same ? before.losses.slice(0, first - before.first) : [],
    looks: same ? before.looks.filter((l) => l.update <= first) : [],
    result: null,
    says: '',
    warning: '',
  }
  let due = 0
  const show = () => {
    due = 0
    run.value = { ...now, losses: [...now.losses], looks: [...now.looks] }
  }
  show()
  try {
    now.result = await runJob('tune', 'Tuning', 'tune', { recipe: r, resume, name: r.name, checkpoint: keepsCheckpoints.peek() }, (e: TuneEvent) => {
      take(now, e)
      due ||= requestAnimationFrame(show)
    })
    for (const look of [now.result.before, now.result.after]) keep(now.looks, look)
    now.warning = now.result.warning ?? now.warning
    if (now.result.lora) trying.value = now.result.lora
  } catch (error) {
    const f = failure(error)
    if (!told(f)) problem.value = f.message
  } finally {
    cancelAnimationFrame(due)
    show()
    await Promise.all([refreshCatalog(), refreshCheckpoints()]).catch((error: unknown) => (problem.value ||= failure(error).message))
  }
}

function take(now: Run, e: TuneEvent): void {
  if (e.kind === 'update' && e.loss !== undefined) now.losses[e.update - 1 - now.first] = e.loss
  if (e.look) keep(now.looks, e.look)
  if (e.warning) now.warning = e.warning
  now.says =
    e.kind === 'look'
      ? 'looking at held-out pictures'
      : e.kind === 'backward'
        ? `update ${e.update + 1}: gradient of one call`
        : e.kind === 'step'
          ? `update ${e.update + 1}: sampling fresh pictures`
          : now.says
}

/** One look an update; a later one of the same update replaces it. */
function keep(looks: Look[], look: Look): void {
  const at = looks.findIndex((l) => l.update >= look.update)
  if (at < 0) looks.push(look)
  else looks.splice(at, looks[at]!.update === look.update ? 1 : 0, look)
}

/** What the judge is asked, by the recipe; the result's own words once they are there. */
export function judged(now: Run): string {
  if (now.result) return now.result.judge_label
  const term = now.recipe.objective.find((t) => t.term === 'attribute')
  return term ? `${term.attribute}: ${term.value}` : ''
}

// ---- adapters -------------------------------------------------------------------

/** The adapter that is looked at; empty for none. */
export const trying = signal('')
export const scale = signal(1)
/** The same noise without and with the adapter. */
export const samples = signal<{ of: string; scale: number; before: Pictures; after: Pictures } | null>(null)
export const sampling = signal(false)

const tryPictures = 16
let wanted = ''
let plain: { of: string; pictures: Pictures } | null = null

/** Samples with an adapter at a scale; a newer wish replaces one that still waits. */
export async function trySamples(): Promise<void> {
  const name = trying.peek()
  const now = catalog.peek()
  if (!name || !now || !usable.peek() || (running.peek() && !running.peek()!.background)) return
  const at = scale.peek()
  const base = (run.peek()?.result?.lora === name ? run.peek()!.recipe : null) ?? recipe.peek()
  if (!base) return
  const what = `${name} ${at} ${base.model}`
  if (what === wanted) return
  wanted = what
  sampling.value = true
  try {
    const without: Recipe = { ...base, num_images: tryPictures, lora: undefined }
    const key = JSON.stringify(without)
    if (plain?.of !== key) plain = { of: key, pictures: await runJob('tune', 'Sampling', 'sample', { recipe: without }, undefined, { background: true }) }
    if (wanted !== what) return
    const after = await runJob('tune', 'Sampling', 'sample', { recipe: { ...without, lora: { path: name, scale: at } } }, undefined, { background: true })
    if (wanted === what) samples.value = { of: name, scale: at, before: plain.pictures, after }
  } catch (error) {
    const f = failure(error)
    if (wanted === what && !told(f)) problem.value = f.message
    if (wanted === what) wanted = ''
  } finally {
    if (wanted === what || wanted === '') sampling.value = false
  }
}

/** Whether a file is being read; the core may have to end a call first. */
export const loading = signal(false)
/** Under which name a file was kept whose own was taken; empty otherwise. */
export const renamed = signal('')

export async function load(file: File): Promise<void> {
  problem.value = ''
  renamed.value = ''
  loading.value = true
  const own = named(adapterName(file.name), 'my-adapter')
  const name = free(own, catalog.peek()?.loras.map(adapterName) ?? [])
  try {
    const added = await call('add_lora', { name, file })
    await refreshCatalog()
    trying.value = added.name
    if (name !== own) renamed.value = `There is an adapter named ${own} already, so this one is kept as ${name}.`
  } catch (error) {
    problem.value = failure(error).message
  } finally {
    loading.value = false
  }
}

export async function remove(name: string): Promise<void> {
  problem.value = ''
  renamed.value = ''
  try {
    await call('remove_lora', { name })
    await refreshCatalog()
    wanted = '' // the next adapter of that name is another
    batch(() => {
      if (trying.peek() === name) trying.value = ''
      if (samples.peek()?.of === name) samples.value = null
    })
  } catch (error) {
    problem.value = failure(error).message
  }
}
