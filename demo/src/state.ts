// What the page knows, as signals. Everything that outlives a tab's component
// is here: the device, the catalog, the recipe, the job that is running, and
// settings. Tabs read signals and call the functions below.
import { batch, computed, effect, signal, type Signal } from '@preact/signals'
import { boot as bootCore, call, CoreError, failure, start, type BootEvent } from './client'
import { pack, readAddress, tabNames, unpack, writeAddress, type TabName } from './link'
import type { Catalog, Checked, Checkpoint, Device, EventOf, Failure, Method, Params, Recipe, Result } from './protocol'

// ---- the core -------------------------------------------------------------

export type Core =
  | { phase: 'loading'; loaded: number; total: number } // total 0: not known
  | { phase: 'starting' }
  | { phase: 'ready' }
  | { phase: 'stopped'; message: string }

export const core = signal<Core>({ phase: 'loading', loaded: 0, total: 0 })
/** Whether files outlive the tab; private windows keep nothing. */
export const keeps = signal(true)
export const device = signal<Device | null>(null)
export const catalog = signal<Catalog | null>(null)
/** Work that was going on when a tab was closed or the device was lost. */
export const checkpoints = signal<Checkpoint[]>([])
/** A sentence where the device was lost and none is open; empty otherwise. */
export const lost = signal('')
/** A sentence where another device was opened than the one chosen; empty otherwise. */
export const instead = signal('')
const opening = signal(false)
/** Whether there is a device that work can be given to. */
export const usable = computed(() => core.value.phase === 'ready' && device.value !== null && lost.value === '' && !opening.value)

// Tabs of one site share the files, and one of them at a time keeps checkpoints
// there: the first, and when it is closed the next. Files in memory are the tab's own.
const turn = signal(!('locks' in navigator))
if (!turn.peek()) {
  void navigator.locks.request('sdo-checkpoints', () => {
    turn.value = true
    if (core.peek().phase === 'ready') void refreshCheckpoints().catch(() => {}) // a core that stops tells so
    return new Promise(() => {}) // for as long as the tab lives
  })
}
/** Whether this tab may keep checkpoints and go on from them. */
export const keepsCheckpoints = computed(() => turn.value || !keeps.value)

/** Starts the core, once when the page loads and again after it stopped. */
export function begin(): void {
  core.value = { phase: 'loading', loaded: 0, total: 0 }
  bootCore({ boot: onBoot, deviceLost: (message) => (lost.value = message) })
  void open()
}

function onBoot(event: BootEvent): void {
  if (event.kind === 'loading') {
    // What counts the bytes may lag behind what compiles them.
    if (core.peek().phase === 'loading') core.value = { phase: 'loading', loaded: event.loaded, total: event.total }
  } else if (event.kind === 'started') {
    keeps.value = event.keeps
    core.value = { phase: 'starting' }
  } else {
    core.value = { phase: 'stopped', message: event.message } // its jobs have failed by now, others go on
  }
}

async function open(): Promise<void> {
  try {
    const opened = openFirst()
    opened.catch(() => {}) // it is awaited below, after what may fail before
    const known = await call('catalog', {})
    performance.mark('core-ready')
    catalog.value = known
    // The recipe is there when the device is, so that a first look begins at once.
    await Promise.all([opened, recipe.peek() ? check(JSON.stringify(draft.peek()), edits) : useAddress()])
    if (core.peek().phase === 'stopped') return
    core.value = { phase: 'ready' }
  } catch (error) {
    if (core.peek().phase !== 'stopped') core.value = { phase: 'stopped', message: failure(error).message }
    return
  }
  await refreshCheckpoints().catch(() => {}) // without them there is only nothing to go on from
}

/** Opens the device that was chosen or, where it cannot be had, another. */
async function openFirst(): Promise<void> {
  const chosen = chosenDevice.peek()
  const ways = (['webgpu', 'auto', 'cpu'] as const).slice(['webgpu', 'auto', 'cpu'].indexOf(chosen))
  instead.value = ''
  for (const which of ways) {
    try {
      await openDevice(which)
      return
    } catch (error) {
      if (which === 'cpu' || core.peek().phase === 'stopped') throw error
      chosenDevice.value = 'auto'
      instead.value = failure(error).message
    }
  }
}

/** Opens a device; after one was lost, a fresh one. Where that fails, the one before stays. */
export async function openDevice(which: 'auto' | 'webgpu' | 'cpu'): Promise<Device> {
  opening.value = true // nothing new begins meanwhile
  try {
    await giveWay()
    const opened = await call('open', { device: which })
    batch(() => {
      device.value = opened
      lost.value = ''
    })
    return opened
  } finally {
    opening.value = false
  }
}

/** Reads the catalog again, after models or adapters came or went. */
export async function refreshCatalog(): Promise<void> {
  catalog.value = await call('catalog', {})
}

export async function refreshCheckpoints(): Promise<void> {
  checkpoints.value = keepsCheckpoints.peek() ? await call('checkpoints', {}) : []
}

// ---- the recipe -----------------------------------------------------------

/** The current steering recipe: complete and valid, as the core read it. Null until the core is there. */
export const recipe = signal<Recipe | null>(null)
/** What is being edited; the recipe follows as soon as it is valid. */
export const draft = signal<Recipe | null>(null)
/** YAML and command of the recipe, and what is wrong with the draft. */
export const checked = signal<Checked>({ problems: [] })
/** The name of the library recipe that the recipe still equals; empty once it was changed. */
export const library = signal('')
export const valid = computed(() => checked.value.problems.length === 0)

let edits = 0
let asked: Promise<unknown> = Promise.resolve() // the newest check
let soon = 0 // timer of one that is about to be asked for

/** Changes the draft. The core checks it soon after. */
export function edit(change: (draft: Recipe) => void): void {
  const before = draft.peek()
  if (!before) return
  const after = structuredClone(before)
  change(after)
  draft.value = after
  library.value = ''
  ++edits
  clearTimeout(soon)
  soon = window.setTimeout(checkDraft, 80)
}

function checkDraft(): void {
  clearTimeout(soon)
  soon = 0
  void check(JSON.stringify(draft.peek()), edits)
}

/** Waits until the recipe is what was edited last, or has problems. */
export async function settled(): Promise<void> {
  if (soon) checkDraft()
  await asked
}

/** Replaces the recipe by a text, YAML or JSON. Resolves to what the core says of it. */
export function useText(text: string): Promise<Checked> {
  return check(text, ++edits, '')
}

/** Replaces the recipe by one of the library. */
export async function useLibrary(name: string): Promise<void> {
  const found = catalog.peek()?.recipes.find((r) => r.name === name)
  if (!found) return
  batch(() => {
    recipe.value = found.recipe
    draft.value = found.recipe
    library.value = name
  })
  await check(found.yaml, ++edits, name)
}

async function check(text: string, mine: number, name = library.peek()): Promise<Checked> {
  // What could not be checked is in doubt; once the core has stopped, everything is, and the page says so.
  const question = call('check', { text }).catch((error: unknown): Checked => ({ problems: [{ message: failure(error).message, line: 0, path: '' }] }))
  asked = question
  const answer = await question
  if (core.peek().phase === 'stopped') return answer
  if (mine !== edits) return answer
  batch(() => {
    if (answer.recipe && answer.problems.length === 0) {
      checked.value = answer
      recipe.value = answer.recipe
      draft.value = answer.recipe
      library.value = name
    } else {
      checked.value = { ...checked.peek(), problems: answer.problems }
    }
  })
  return answer
}

/** The model the draft names, or null where there is none of that name. */
export const model = computed(() => catalog.value?.models.find((m) => m.name === draft.value?.model) ?? null)

// ---- jobs: one at a time ----------------------------------------------------

export interface Running {
  tab: TabName
  label: string // "Steering", "Tuning"
  done: number
  of: number
  seconds: number // as they are counted where it runs
  /** Where it stood when it was first heard of: a run that goes on begins in its middle. */
  from: { done: number; seconds: number } | null
  pausable: boolean
  paused: boolean
  cancelling: boolean
  /** Gives way to any other job: a first look. */
  background: boolean
}

/** The job that is running, in whichever tab; JobBar shows it. */
export const running = signal<Running | null>(null)

/** Something that is worked on, by the core or elsewhere: a Job is one. */
export interface Work<R> {
  result: Promise<R>
  /** Ends it early; a steering or a tuning then still answers, with the best it has. */
  cancel(): Promise<void>
  pause?(): Promise<void>
  resume?(): Promise<void>
}

let work: Work<unknown> | null = null

interface JobOptions<E> {
  onEvent?: (event: E) => void
  background?: boolean
  /** Reads done and of from an event. */
  progress?: (event: E) => { done: number; of: number }
}

/** Has the core do a job of a tab, as runWork does. */
export function runJob<M extends Method>(
  tab: TabName,
  label: string,
  method: M,
  params: Params<M>,
  onEvent?: (event: EventOf<M>) => void,
  options: Omit<JobOptions<EventOf<M>>, 'onEvent'> = {},
): Promise<Result<M>> {
  return runWork(tab, label, (tell: (event: EventOf<M>) => void) => start(method, params, tell), { ...options, onEvent })
}

/**
 * Runs the work of a tab that begin starts. There is one at a time: a second is
 * refused with a sentence, except that work in the background gives way.
 */
export async function runWork<R, E>(tab: TabName, label: string, begin: (tell: (event: E) => void) => Work<R>, options: JobOptions<E> = {}): Promise<R> {
  const busy = running.peek()
  if (busy && !busy.background) throw new CoreError({ kind: 'busy', message: `${busy.label} is still running. Cancel it or wait for it to end.` })
  await giveWay()
  const progress = options.progress ?? defaultProgress
  const mine = begin((event) => {
    const now = running.peek()
    const at = progress(event)
    const seconds = (event as { seconds?: number }).seconds ?? 0
    if (now && work === mine && (now.done !== at.done || now.of !== at.of || seconds - now.seconds > 0.2)) {
      running.value = { ...now, ...at, seconds, from: now.from ?? { done: at.done, seconds } }
    }
    options.onEvent?.(event)
  })
  work = mine
  running.value = {
    tab,
    label,
    done: 0,
    of: 0,
    seconds: 0,
    from: null,
    pausable: mine.pause !== undefined,
    paused: false,
    cancelling: false,
    background: options.background ?? false,
  }
  try {
    return await mine.result
  } catch (error) {
    if (failure(error).kind === 'device_lost') lost.value = failure(error).message
    throw error
  } finally {
    if (work === mine) {
      work = null
      running.value = null
    }
  }
}

/** Ends work in the background and waits until it has ended. */
async function giveWay(): Promise<void> {
  const before = work
  if (!before || !running.peek()?.background) return
  await before.cancel().catch(() => {}) // it has ended already
  await before.result.catch(() => {})
}

/** Whether a failure needs no further word: somebody cancelled, or the page's notice of a lost device says it. */
export function told(f: Failure): boolean {
  return f.kind === 'cancelled' || f.kind === 'device_lost'
}

function defaultProgress(event: unknown): { done: number; of: number } {
  const e = event as Partial<{ update: number; updates: number; step: number; steps: number; done: number; of: number }>
  if (e.of !== undefined) return { done: e.done ?? 0, of: e.of }
  if (e.updates) return { done: e.update ?? 0, of: e.updates }
  return { done: e.step ?? 0, of: e.steps ?? 0 }
}

export function pauseJob(): Promise<void> {
  return control('pause', { paused: true })
}

export function resumeJob(): Promise<void> {
  return control('resume', { paused: false })
}

export function cancelJob(): Promise<void> {
  return control('cancel', { cancelling: true })
}

async function control(action: 'pause' | 'resume' | 'cancel', shown: Partial<Running>): Promise<void> {
  if (!running.peek()) return
  running.value = { ...running.peek()!, ...shown }
  await work?.[action]?.().catch(() => {}) // where the core stops, the job itself fails and says so
}

// ---- tabs and the address ---------------------------------------------------

export const tab = signal<TabName>(readAddress(location.hash).tab)

/** What of an address could not be used, for a notice; empty otherwise. */
export const addressProblem = signal('')

async function useAddress(): Promise<void> {
  const a = readAddress(location.hash)
  const first = catalog.peek()?.recipes.find((r) => !r.tunes && r.name === 'dark-glasses') ?? catalog.peek()?.recipes[0]
  addressProblem.value = ''
  if (a.packed) {
    try {
      const answer = await useText(await unpack(a.packed))
      if (answer.problems.length === 0) return
      addressProblem.value = `The recipe in the address is not valid: ${answer.problems[0]!.message}`
    } catch {
      addressProblem.value = 'The recipe in the address is damaged; the link may have been cut off. This is the first recipe of the library instead.'
    }
  } else if (a.library) {
    if (catalog.peek()?.recipes.some((r) => r.name === a.library && !r.tunes)) return useLibrary(a.library)
    addressProblem.value = `There is no library recipe named ${a.library}. This is the first one instead.`
  }
  if (first) await useLibrary(first.name)
}

let packedNow = '' // of the recipe in the address

/** The address of the current tab and recipe, whole. */
export async function shareLink(): Promise<string> {
  const r = recipe.peek()
  const packed = r && !library.peek() ? await pack(JSON.stringify(r)) : undefined
  const hash = writeAddress({ tab: tab.peek(), library: library.peek() || undefined, packed })
  return new URL(hash, location.href).href
}

/** Tabs that show the current recipe carry it in their address. */
const withRecipe: TabName[] = ['steer', 'shortcut', 'audit']

let writes = 0

async function writeHash(name: TabName): Promise<void> {
  const mine = ++writes
  const r = recipe.peek()
  const packed = r && !library.peek() ? await pack(JSON.stringify(r)) : ''
  if (mine !== writes) return
  packedNow = packed
  const shown = withRecipe.includes(name) && r
  const hash = writeAddress(shown ? { tab: name, library: library.peek() || undefined, packed: packed || undefined } : { tab: name })
  if (location.hash !== hash) history.replaceState(null, '', hash)
}

effect(() => {
  const name = tab.value
  void library.value
  // Not before the address was read.
  if (recipe.value) void writeHash(name).catch(() => {}) // where nothing packs a recipe, the address stays
})

/** Moves to a tab, with an entry in the history. */
export function go(name: TabName): void {
  if (tab.peek() === name) return
  history.pushState(null, '', writeAddress({ tab: name }))
  tab.value = name
}

addEventListener('popstate', onAddress)
addEventListener('hashchange', onAddress)

function onAddress(): void {
  const a = readAddress(location.hash)
  tab.value = a.tab
  const other = a.packed ? a.packed !== packedNow : a.library !== undefined && a.library !== library.peek()
  if (catalog.peek() && other) void useAddress()
}

// ---- settings -----------------------------------------------------------------

/** A signal that is kept in this browser under a key, or in this tab while it is open. */
export function kept<T>(key: string, initial: T, allowed: (v: unknown) => v is T, where: 'localStorage' | 'sessionStorage' = 'localStorage'): Signal<T> {
  let first = initial
  try {
    const v: unknown = JSON.parse(self[where].getItem(`sdo.${key}`) ?? 'null')
    if (allowed(v)) first = v
  } catch {
    // A private window may have no storage; the setting then lives as long as the tab.
  }
  const s = signal(first)
  let written = first
  effect(() => {
    if (s.value === written) return
    written = s.value
    try {
      self[where].setItem(`sdo.${key}`, JSON.stringify(s.value))
    } catch {
      // As above.
    }
  })
  return s
}

export const oneOf =
  <T extends string>(...words: T[]) =>
  (v: unknown): v is T =>
    words.includes(v as T)

export const theme = kept<'auto' | 'light' | 'dark'>('theme', 'auto', oneOf('auto', 'light', 'dark'))
/** Which device to open when the page loads. */
export const chosenDevice = kept<'auto' | 'webgpu' | 'cpu'>('device', 'auto', oneOf('auto', 'webgpu', 'cpu'))

effect(() => {
  if (theme.value === 'auto') delete document.documentElement.dataset.theme
  else document.documentElement.dataset.theme = theme.value
})

export { tabNames, type TabName, type Failure }
