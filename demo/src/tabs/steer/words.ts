// How the page says goals, counts and methods.
import type { Recipe, Term } from '../../protocol'
import { title } from '../../format'

/** What a picture does that has this value: "wear dark glasses". One does, several do. */
export function phrase(attribute: string, value: string, one = false): string {
  const s = one ? 's' : ''
  const has = one ? 'has' : 'have'
  const yes = value !== 'no' && value !== 'none'
  switch (attribute) {
    case 'glasses':
      return yes ? `wear${s} ${value} glasses` : `wear${s} no glasses`
    case 'hat':
      return yes ? `wear${s} a hat` : `wear${s} no hat`
    case 'beard':
      return yes ? `${has} a beard` : `${has} no beard`
    case 'accessories':
      return yes ? `wear${s} accessories` : `wear${s} no accessories`
    case 'mood':
      return `look${s} ${value}`
    case 'clothing':
      return `wear${s} ${value}`
    case 'background':
      return `${one ? 'is' : 'are'} before a ${value} wall`
    case 'skin':
      return `${has} ${value} skin`
    case 'hair':
      return yes ? `${has} ${value === 'tied' ? 'tied up' : value} hair` : `${has} no hair`
    case 'hair_color':
      return yes ? `${has} ${value} hair` : `${has} hair of no colour`
    case 'class':
      return one ? `is a ${value}` : value === 'trouser' ? 'are trousers' : value.endsWith('ss') ? `are ${value}es` : `are ${value}s`
    default:
      return `${has} ${title(attribute).toLowerCase()} “${value}”`
  }
}

/** "glasses: dark", as the judge's label is written, as a phrase. */
export function labelPhrase(label: string): string {
  const [attribute = '', value = ''] = label.split(': ', 2)
  return phrase(attribute, value)
}

/** The label that the judge will have: that of the first attribute goal. */
export function judgeLabel(r: Recipe): string {
  const t = r.objective.find((o) => o.term === 'attribute')
  return t ? `${t.attribute}: ${t.value}` : ''
}

/** A goal in a few words, for its card. */
export function goalTitle(t: Term): string {
  switch (t.term) {
    case 'attribute':
      return title(phrase(t.attribute ?? '', t.value ?? '').replace(/^are /, ''))
    case 'region_color':
      return 'Colour of a region'
    case 'pixels':
      return 'A sketch'
    case 'inpaint':
      return 'A hidden part'
    case 'symmetry':
      return 'Mirror symmetry'
    case 'total_variation':
      return 'Smoothness'
    case 'clip_similarity':
      return `“${t.prompt ?? ''}”`
    case 'clip_style':
      return 'The style of a picture'
    case 'aesthetic':
      return 'A high score'
  }
}

/** ... and what it depends on, beside the title. */
export function goalDetail(t: Term): string {
  switch (t.term) {
    case 'attribute':
      return title(t.attribute ?? '').toLowerCase()
    case 'region_color':
      return regionWords(t.region ?? [0, 0, 1, 1])
    case 'pixels':
      return t.rows ? `${sketched(t)} pixels drawn` : 'from a file'
    case 'inpaint':
      return Array.isArray(t.hidden) ? `${regionWords(t.hidden)} hidden` : `${t.hidden} half hidden`
    case 'symmetry':
      return 'left like right'
    case 'total_variation':
      return 'neighbours alike'
    case 'clip_similarity':
      return 'as CLIP sees it'
    case 'clip_style':
      return 'from a file'
    case 'aesthetic':
      return 'by a linear head on CLIP'
  }
}

function sketched(t: Term): number {
  let n = 0
  for (const row of t.rows ?? []) for (const c of row) if (t.palette?.[c] !== 'free') n++
  return n
}

export function regionWords([x, y, w, h]: readonly [number, number, number, number]): string {
  return `${w} × ${h} from column ${x + 1}, row ${y + 1}`
}

/** What a method does, in one line. */
export function methodWords(name: string): string {
  const [kind, number] = name.match(/^(.*?)(?:-(\d+))?$/)!.slice(1) as [string, string | undefined]
  switch (kind) {
    case 'sdo':
      return 'The shortcut: the gradient of one kept network call stands for all of them.'
    case 'full':
      return 'Back-propagation through every call: exact, and memory grows with the steps.'
    case 'full-checkpoint':
      return 'The exact gradient with less memory: every call is made a second time on the way back.'
    case 'identity':
      return 'No network gradient at all: the picture’s gradient goes to the noise as it is.'
    case 'jump':
      return 'One call guesses the picture straight from the noise, and that guess is improved.'
    case 'stale':
      return `The shortcut, and only ${number ?? 'a few'} calls are made again in an update; the rest is remembered.`
    case 'draft':
      return `The gradient of the last ${number ?? 'few'} calls.`
    case 'draft-lv':
      return 'The gradient of the last call, averaged over several noises.'
    case 'drtune':
      return `The gradient of ${number ?? 'a few'} spread-out calls, their inputs held.`
    case 'refl':
      return 'The gradient of one late call’s guess of the picture.'
    case 'alignprop':
      return 'The gradient of a random number of last calls.'
    case 'leapalign':
      return 'The gradient of two calls joined by a leap.'
    case 'flowbp-sparse':
      return `The gradient of ${number ?? 'a few'} calls drawn evenly.`
    default:
      return ''
  }
}

export function freezeWords(name: string): string {
  return (
    {
      eps: 'The predicted noise is held constant: the usual choice.',
      v: 'The velocity is held constant: gradients near their true size.',
      x0: 'The predicted picture is held constant.',
      solver: 'The network’s own output is held constant.',
    }[name] ?? ''
  )
}
