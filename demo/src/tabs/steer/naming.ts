// What a recipe is called whose goals are no longer the library's.
import type { Recipe } from '../../protocol'
import { catalog } from '../../state'

/** Names a recipe of other goals than the library's after them, unless a person named it. */
export function rename(d: Recipe): void {
  const given = catalog.value?.recipes.some((r) => r.name === d.name) || d.name.startsWith('my-')
  if (!given) return
  const words = d.objective.map((t) => {
    switch (t.term) {
      case 'attribute':
        return t.value === 'yes' ? t.attribute : `${t.value}-${t.attribute}`
      case 'region_color':
        return 'colours'
      case 'pixels':
        return 'sketch'
      case 'inpaint':
        return 'half'
      case 'symmetry':
        return 'symmetric'
      case 'total_variation':
        return 'smooth'
      case 'clip_similarity':
        return 'words'
      case 'clip_style':
        return 'style'
      case 'aesthetic':
        return 'liked'
    }
  })
  d.name = ['my', ...new Set(words)].slice(0, 4).join('-')
  d.description = ''
}
