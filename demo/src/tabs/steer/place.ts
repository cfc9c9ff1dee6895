// Where the recipe is steered: on this device, or on the edge where there is one.
import { computed, effect, signal } from '@preact/signals'
import { findEdge, type Edge } from '../../edge'
import { bytes, duration } from '../../format'
import type { Recipe } from '../../protocol'
import { catalog, device, edit, kept, oneOf, recipe } from '../../state'
import { isLarge, pace, painted, planned, shrink, type Place } from './run'

/** The edge behind this page; null for none. */
export const edge = signal<Edge | null>(null)

let asked = false
effect(() => {
  if (asked || !painted.value) return // not before the first pictures, which it would keep waiting
  asked = true
  void findEdge().then((found) => (edge.value = found))
})

/** What was chosen, for as long as the tab is open. */
export const chosenPlace = kept<Place>('place', 'device', oneOf('device', 'edge'), 'sessionStorage')

/** Why the recipe cannot run on the edge, and whether a smaller one could; null where it can. */
export const notThere = computed(() => (edge.value && recipe.value ? why(edge.value, recipe.value) : null))

/** Where a run would be made. */
export const place = computed<Place>(() => (edge.value && chosenPlace.value === 'edge' && !notThere.value ? 'edge' : 'device'))

/** Seconds the edge would compute, and in how many requests; null while that is not known. */
export const there = computed(() => {
  const p = planned.value
  const r = recipe.value
  if (!edge.value || !p || !r || p.first_multiply_adds === 0) return null
  const { cpu_seconds: most, multiply_adds_per_second: rate } = edge.value.budget
  const begin = p.first_multiply_adds / rate // of every request: what it goes on from is sampled again
  const each = p.update_multiply_adds / rate
  const requests = begin + r.updates * each <= most ? 1 : Math.ceil(r.updates / Math.max(0, Math.floor((most - begin) / each)))
  return {
    requests,
    seconds: Math.min(requests, r.updates) * begin + r.updates * each,
    bytes: p.memory.activation_bytes + p.memory.state_bytes, // the networks' own are held in other ways there
  }
})

/** Seconds the CPU of this device would take, where that is longer than on the edge; else null. */
export const slowerHere = computed(() => {
  const p = planned.value
  const r = recipe.value
  if (!p || !r || !there.value || device.value?.kind !== 'cpu' || pace.value?.model !== r.model) return null
  // The rollout before the first score is known in calls and in multiply-adds.
  const rollout = pace.value.seconds * p.calls * r.num_images
  const seconds = rollout * (1 + (r.updates * p.update_multiply_adds) / p.first_multiply_adds)
  return seconds > there.value.seconds ? seconds : null
})

/** Makes the recipe one that the edge has room and time for. */
export function fit(): void {
  chosenPlace.value = 'edge'
  edit(shrink)
}

function why(e: Edge, r: Recipe): { says: string; smaller: boolean } | null {
  const never = (says: string) => ({ says, smaller: false })
  if (catalog.value?.models.find((m) => m.name === r.model)?.yours) return never('this model is only in this browser')
  if (r.lora && !/^loras\/[^/]+\.safetensors$/.test(r.lora.path)) return never('this adapter is only in this browser')
  if (r.lora && !e.loras) return never('there are no adapters')
  if ('parameters' in r.variables) return never('the model itself is not trained there')
  const needs = there.value
  const large = (says: string) => ({ says, smaller: isLarge(r) })
  if (!needs) return null
  if (needs.bytes > e.budget.bytes) return large(`the run needs about ${bytes(needs.bytes)}, and there are ${bytes(e.budget.bytes)}`)
  if (needs.requests === Infinity) return large(`one update takes longer than the ${duration(e.budget.cpu_seconds)} of a request`)
  if (needs.requests > 1 && !e.slices) return large(`the run takes about ${duration(needs.seconds)}, and a request ${duration(e.budget.cpu_seconds)} at most`)
  return null
}
