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
  if (!portraits(m)) d.start = undefined
  const known = (t: Term) => t.term === 'symmetry' || t.term === 'total_variation' || (t.term === 'attribute' && m.guide.some((g) => g.name === t.attribute && g.values.includes(t.value ?? '')))
  const fits = d.objective.filter(known)
  if (fits.length === d.objective.length) return
  d.objective = fits.length > 0 ? fits : [firstGoal(m)]
  rename(d)
}

/** A goal that any model can be steered to, or one that its guide knows. */
function firstGoal(m: ModelInfo): Term {
  const g = m.guide[0]
  return g
    ? { term: 'attribute', weight: 1, attribute: g.name, value: g.values.at(-1)!, margin: 4, copies: 8, noise: 0.5, stop_below: 0 }
    : { term: 'symmetry', weight: 1, axis: 'horizontal' }
}
