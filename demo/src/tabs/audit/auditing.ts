// An audit and its rows, sorted for a chart and a table. State outlives the tab's component.
import { computed, effect, signal } from '@preact/signals'
import { failure } from '../../client'
import { recipe, runJob, running, told } from '../../state'
import type { AuditResult, AuditRow, Recipe } from '../../protocol'

/** Pictures in a batch: enough for a mean, few enough for full back-propagation. */
export const auditPictures = 8

export const batches = signal(1)
export const result = signal<AuditResult | null>(null)
/** The recipe that was audited. */
export const of = signal<Recipe | null>(null)
export const problem = signal('')
export const auditing = computed(() => running.value?.tab === 'audit')
/** Whether what is shown belongs to another recipe than the current one. */
export const stale = computed(() => of.value !== null && JSON.stringify(of.value) !== JSON.stringify(recipe.value))

export async function begin(): Promise<void> {
  const r = recipe.peek()
  if (!r) return
  problem.value = ''
  const n = batches.peek()
  let passes = 0
  try {
    const answer = await runJob('audit', 'Auditing', 'audit', { recipe: { ...structuredClone(r), num_images: auditPictures }, batches: n }, undefined, {
      // A step is a call, a backward event two; full back-propagation goes back by each.
      progress: (e) => {
        if (e.kind === 'step') passes++
        else if (e.kind === 'backward') passes += 2
        const of = 3 * e.steps * n
        return { done: Math.min(passes, of), of }
      },
    })
    result.value = answer
    of.value = r
  } catch (error) {
    const f = failure(error)
    if (!told(f)) problem.value = f.message
  }
}

// An audit of another recipe stays to be compared with, until the next one.
effect(() => {
  if (recipe.value) problem.value = ''
})

/** The mean and the lowest cosine of one gradient over the states or calls. */
export interface Curve {
  rule: string // sdo, identity, or the calls kept
  freezes: string[] // that give the same
  mean: Map<number, number>
  low: Map<number, number>
}

/** How close curves of one rule must be everywhere to be drawn as one: less than a line's width. */
const sameCosine = 0.005

export function variables(rows: readonly AuditRow[]): string[] {
  return [...new Set(rows.map((r) => r.variable))]
}

/** What a row keeps: the active calls, or the method where that is another than sdo. */
export function rule(row: AuditRow): string {
  return row.variable === 'latents' || row.active === '' ? row.method : row.active
}

export function curves(rows: readonly AuditRow[]): Curve[] {
  const all: Curve[] = []
  for (const row of rows) {
    if (row.step < 0) continue
    let c = all.find((c) => c.rule === rule(row) && c.freezes[0] === row.freeze)
    if (!c) all.push((c = { rule: rule(row), freezes: [row.freeze], mean: new Map(), low: new Map() }))
    c.mean.set(row.step, row.cosine)
    c.low.set(row.step, row.cosine_min)
  }
  const distinct: Curve[] = []
  for (const c of all) {
    const twin = distinct.find((d) => d.rule === c.rule && [...c.mean].every(([step, v]) => Math.abs((d.mean.get(step) ?? Infinity) - v) <= sameCosine))
    if (twin) twin.freezes.push(...c.freezes)
    else distinct.push(c)
  }
  return distinct
}
