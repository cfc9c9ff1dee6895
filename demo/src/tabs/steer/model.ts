// The model of a recipe, and what of the recipe depends on it.
import type { ModelInfo, Recipe, Term } from '../../protocol'
import { catalog } from '../../state'
import { rename } from './naming'

/** Whether its pictures are those of the training generator, which some goals and starts take one of. */
export function portraits(m: ModelInfo): boolean {
  return m.channels === 3 && m.width === 16 && m.height === 16
}

/** Another model knows other words: what it does not know is dropped. */
export function setModel(d: Recipe, name: string): void {
  const m = catalog.value?.models.find((x) => x.name === name)
  d.model = name
  d.guide = undefined
  d.judge = undefined
  d.lora = undefined
  if (!m) return
  d.condition = undefined
  d.guidance_scale = 1
  d.height = d.width = undefined
  if (m.text) {
    d.prompt ??= ''
    d.num_images = Math.min(d.num_images, 1) // which is much already
    d.clip ??= clips()[0]
  } else {
    d.prompt = d.negative_prompt = d.decoder = undefined
  }
  if (!portraits(m)) d.start = undefined
  const known = (t: Term) => t.term === 'symmetry' || (t.term === 'clip_similarity' && d.clip !== undefined && m.channels === 3) || t.term === 'total_variation' || (t.term === 'attribute' && m.guide.some((g) => g.name === t.attribute && g.values.includes(t.value ?? '')))
  const fits = d.objective.filter(known)
  if (fits.length === d.objective.length) return
  d.objective = fits.length > 0 ? fits : [m.text && d.clip !== undefined ? inWords() : firstGoal(m)]
  rename(d)
}

/** The kept folders that see pictures and words. */
export function clips(): string[] {
  return (catalog.value?.models ?? []).filter((m) => m.class === 'CLIPModel').map((m) => m.name)
}

/** A goal in words, as it begins. */
export function inWords(): Term {
  return { term: 'clip_similarity', weight: 1, prompt: 'a photo of a red fox in the snow', cutouts: 4, noise: 0.1 }
}

/** A goal that any model can be steered to, or one that its guide knows. */
function firstGoal(m: ModelInfo): Term {
  const g = m.guide[0]
  return g
    ? { term: 'attribute', weight: 1, attribute: g.name, value: g.values.at(-1)!, margin: 4, copies: 8, noise: 0.5, stop_below: 0 }
    : { term: 'symmetry', weight: 1, axis: 'horizontal' }
}
