// Bringing a model: looked into first, kept only when asked. State outlives the tab's component.
import { signal } from '@preact/signals'
import { call, failure } from '../../client'
import { free } from '../../names'
import { catalog, edit, go, recipe, refreshCatalog } from '../../state'
import type { Inspected, ModelInfo, Recipe, Result } from '../../protocol'
import { setModel } from '../steer/model'
import { described, type Folder } from './folder'

/** Pictures at once that memory is counted for. */
export const pictures = 16

export interface Brought {
  folder: Folder
  bytes: number
  inspected: Inspected | null // while it is being looked into
}

export const brought = signal<Brought | null>(null)
export const name = signal('')
export const problem = signal('')
/** Bytes put away of a model that is being kept; null while none is. */
export const keeping = signal<{ done: number; of: number } | null>(null)
export const storage = signal<{ used: number; quota: number; persisted: boolean } | null>(null)

/** Reads the small files of a folder and asks the core what it is. */
export async function look(reading: Promise<Folder> | (() => Folder)): Promise<void> {
  problem.value = ''
  brought.value = null
  try {
    const folder = typeof reading === 'function' ? reading() : await reading
    const bytes = folder.files.reduce((sum, f) => sum + f.file.size, 0)
    name.value = free(folder.name, catalog.peek()?.models.map((m) => m.name) ?? [])
    brought.value = { folder, bytes, inspected: null }
    const inspected: Result<'inspect'> = await call('inspect', { name: folder.name, files: await described(folder.files), num_images: pictures })
    if (brought.peek()?.folder === folder) brought.value = { folder, bytes, inspected }
  } catch (error) {
    brought.value = null
    problem.value = failure(error).message
  }
}

export async function keep(): Promise<void> {
  const b = brought.peek()
  if (!b?.inspected?.ok || keeping.peek()) return
  problem.value = ''
  keeping.value = { done: 0, of: b.bytes }
  try {
    await navigator.storage?.persist?.().catch(() => false) // so that the browser does not clear it for room
    const added = await call('add_model', { name: name.peek(), files: b.folder.files }, (e) => (keeping.value = e))
    await refreshCatalog()
    brought.value = null
    if (added.draws) use(added.name)
    else help(added)
  } catch (error) {
    problem.value = failure(error).message
  } finally {
    keeping.value = null
    await measureStorage()
  }
}

/** Steers with a model from now on. */
export function use(model: string): void {
  edit((d) => setModel(d, model))
  go('steer')
}

/** Has a CLIPModel look at the pictures that are steered, or a decoder make them. */
export function help(m: ModelInfo): void {
  edit((d) => {
    if (m.class === 'CLIPModel') d.clip = m.name
    else d.decoder = m.name
  })
}

/** Whether the recipe uses it. */
export function inUse(r: Recipe | null, m: ModelInfo): boolean {
  return r !== null && (m.draws ? r.model : m.class === 'CLIPModel' ? r.clip : r.decoder) === m.name
}

export async function remove(model: string): Promise<void> {
  problem.value = ''
  try {
    await call('remove_model', { name: model })
    await refreshCatalog()
    edit((d) => {
      if (d.clip === model) d.clip = undefined
      if (d.decoder === model) d.decoder = undefined
    })
    const other = catalog.peek()?.models[0]
    if (other && recipe.peek()?.model === model) edit((d) => setModel(d, other.name))
  } catch (error) {
    problem.value = failure(error).message
  } finally {
    await measureStorage()
  }
}

export async function measureStorage(): Promise<void> {
  if (!navigator.storage?.estimate) return
  try {
    const [estimate, persisted] = await Promise.all([navigator.storage.estimate(), navigator.storage.persisted?.() ?? false])
    storage.value = { used: estimate.usage ?? 0, quota: estimate.quota ?? 0, persisted }
  } catch {
    storage.value = null // some private windows do not say
  }
}

export async function persist(): Promise<void> {
  const granted = await navigator.storage.persist().catch(() => false)
  await measureStorage()
  if (!granted) problem.value = 'The browser did not agree to keep files for good. It usually does once the page is bookmarked or installed.'
}
