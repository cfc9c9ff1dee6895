// Methods as the comparison shows them: which there are for a recipe, and the
// way each gradient takes from the sample back to what changes.
import type { Recipe } from '../../protocol'

export interface Way {
  name: string
  /** One sentence of what the gradient does. */
  says: string
  /** Steps it passes one by one, counted from the sample: all of them for full back-propagation. */
  hops: (steps: number) => number
  /** A scalar carries it past the network, straight to the noise. */
  straight: boolean
  /** It makes no sample: what lies between noise and picture is left out. */
  skips?: boolean
  /** Calls that keep their buffers, as far as that is known before a run; counted from 0. */
  keeps: (steps: number) => number[]
}

const none = (): number[] => []
const first = (): number[] => [0]
const all = (steps: number): number[] => Array.from({ length: steps }, (_, i) => i)
const last = (k: number) => (steps: number): number[] => all(steps).slice(Math.max(0, steps - k))

/** Ways for what belongs to one picture: its noise, mostly. */
const own: Way[] = [
  {
    name: 'sdo',
    says: 'Samples all steps, keeps the buffers of one network call, and sends the gradient of the picture straight to it.',
    hops: () => 0,
    straight: true,
    keeps: first,
  },
  {
    name: 'full',
    says: 'Keeps the buffers of every network call and walks back through all of them, last to first.',
    hops: (n) => n,
    straight: false,
    keeps: all,
  },
  {
    name: 'full-checkpoint',
    says: 'Walks back through every network call and makes each again on the way, to hold the buffers of one at a time.',
    hops: (n) => n,
    straight: false,
    keeps: none,
  },
  {
    name: 'identity',
    says: 'Copies the gradient of the picture to the noise, past the network. The baseline that keeps every claim honest.',
    hops: () => 0,
    straight: true,
    keeps: none,
  },
  {
    name: 'stale-4',
    says: 'As sdo, but an update makes only a few of the calls again and carries the others on.',
    hops: () => 0,
    straight: true,
    keeps: first,
  },
  {
    name: 'jump',
    says: "Judges the first call's guess of the finished picture instead of a sample.",
    hops: () => 0,
    straight: true,
    skips: true,
    keeps: first,
  },
]

/** Ways for what every call sees: the condition. */
const shared: Way[] = [
  { ...own[0]!, says: 'Samples all steps, keeps the buffers of one network call that it draws, and sends the gradient of the picture straight to it.', straight: false, keeps: none },
  own[1]!,
  own[2]!,
  {
    name: 'draft-1',
    says: 'Keeps the last network call and goes back through it alone.',
    hops: () => 1,
    straight: false,
    keeps: last(1),
  },
  {
    name: 'draft-5',
    says: 'Keeps the last five network calls and walks back through them.',
    hops: (n) => Math.min(5, n),
    straight: false,
    keeps: last(5),
  },
]

/** The methods that a recipe's variables allow, sdo first. */
export function ways(recipe: Recipe, steps: number): Way[] {
  const vary = Array.isArray(recipe.variables) ? (recipe.variables as string[]) : Object.keys(recipe.variables)
  if (vary.includes('condition') || vary.includes('parameters')) return shared.filter((w) => w.name !== 'draft-5' || steps > 5)
  const onlyLatents = vary.every((v) => v === 'latents' || v === 'noises')
  return own.filter((w) => (w.name === 'stale-4' ? onlyLatents && steps > 5 : w.name !== 'jump' || !vary.includes('noises')))
}

/** The recipe by another method, steps and pictures: what a trial runs. */
export function trialRecipe(recipe: Recipe, method: string, steps: number, pictures: number, updates: number): Recipe {
  const r = structuredClone(recipe)
  // The recipe's own method keeps its settings; another one takes its own.
  if (method !== r.method.name) r.method = { name: method }
  r.sampler.num_inference_steps = steps
  r.num_images = pictures
  r.updates = updates
  r.guards.early_stop = false // every method makes every update
  return r
}
