// The goal builder: what the pictures should become, as a list of goals with
// weights. A library recipe fills it; everything can be changed.
import type { JSX } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { Button, NumberField, Picture, Select, Segmented, Slider, TextField } from '../../components'
import { call, failure } from '../../client'
import { number, title } from '../../format'
import type { ModelInfo, Pictures, Term } from '../../protocol'
import { checked, draft, edit, library, model } from '../../state'
import { ids } from '../../testids'
import { GoalIcon } from './icons'
import { clips, inWords, portraits } from './model'
import { rename } from './naming'
import { PixelEditor } from './pixel-editor'
import { RegionPicker, type Region } from './region-picker'
import { stage } from './run'
import { emptySketch, readSketch, writeSketch } from './sketch'
import { goalDetail, goalTitle } from './words'

type Kind = Term['term']

const kinds: { kind: Kind; title: string; says: string }[] = [
  { kind: 'attribute', title: 'Something they should have', says: 'Glasses, a mood, a hat: seen by a small classifier, the guide.' },
  { kind: 'region_color', title: 'Colour of a region', says: 'A rectangle and its mean colour. No classifier at all.' },
  { kind: 'pixels', title: 'A sketch', says: 'Draw some pixels; the model imagines the rest.' },
  { kind: 'inpaint', title: 'A hidden part', says: 'Keep one half of a portrait and restore the other.' },
  { kind: 'symmetry', title: 'Mirror symmetry', says: 'The left half like the right.' },
  { kind: 'total_variation', title: 'Smoothness', says: 'Neighbouring pixels alike.' },
  { kind: 'clip_similarity', title: 'Words', says: 'What the pictures should show, as CLIP sees it.' },
]

/** A goal of this kind as it begins. */
function newTerm(kind: Kind, m: ModelInfo | null): Term {
  const w = m?.width ?? 16
  const h = m?.height ?? 16
  switch (kind) {
    case 'attribute': {
      const a = m?.guide.find((g) => g.name === 'glasses') ?? m?.guide[0]
      return { term: kind, weight: 1, attribute: a?.name ?? '', value: a?.values.at(-1) ?? '', margin: 4, copies: 8, noise: 0.5, stop_below: 0 }
    }
    case 'region_color':
      return { term: kind, weight: 5, region: [Math.round(w / 4), h - Math.max(1, Math.round(h / 8)), Math.round(w / 2), Math.max(1, Math.round(h / 8))], color: '#d1112d', stop_below: 0.03 }
    case 'pixels':
      return { term: kind, weight: 10, ...writeSketch(emptySketch(w, h)) }
    case 'inpaint':
      return { term: kind, weight: 20, source: { seed: 7, index: 3 }, hidden: 'right' }
    case 'symmetry':
      return { term: kind, weight: 0.5, axis: 'horizontal' }
    case 'clip_similarity':
      return inWords()
    default:
      return { term: 'total_variation', weight: 0.02 }
  }
}

export function Goals(): JSX.Element | null {
  const r = draft.value
  const [open, setOpen] = useState(0)
  const [adding, setAdding] = useState(false)
  const from = library.value
  useEffect(() => {
    if (!from) return
    setOpen(-1)
    setAdding(false)
  }, [from])
  if (!r) return null
  const terms = r.objective
  const add = (kind: Kind) => {
    setAdding(false)
    setOpen(terms.length)
    edit((d) => {
      d.objective.push(newTerm(kind, model.value))
      if (kind === 'clip_similarity') d.clip ??= clips()[0]
      rename(d)
    })
  }
  return (
    <section class="stack tight" aria-label="Goals">
      {terms.map((t, i) => (
        <Goal
          key={i}
          index={i}
          term={t}
          open={open === i}
          alone={terms.length === 1}
          onToggle={() => setOpen(open === i ? -1 : i)}
          onRemove={() => {
            setOpen(-1)
            edit((d) => {
              d.objective.splice(i, 1)
              rename(d)
            })
          }}
        />
      ))}
      {adding ? (
        <div class="kinds" role="group" aria-label="Kinds of goals">
          {kinds.map((k) => {
            const without = k.kind === 'attribute' && model.value?.guide.length === 0
            const fixed = k.kind === 'inpaint' && model.value !== null && !portraits(model.value)
            const blind = k.kind === 'clip_similarity' && r.clip === undefined && clips().length === 0
            return (
              <button key={k.kind} type="button" disabled={without || fixed || blind} onClick={() => add(k.kind)} data-testid={`${ids.goalKind}-${k.kind}`}>
                <GoalIcon term={{ term: k.kind }} />
                <span>
                  <strong>{k.title}</strong>
                  <small>{without ? 'This model has no guide to see it with.' : blind ? 'Bring a CLIPModel on the Models page to see it with.' : fixed ? 'Portraits have 16 × 16 coloured pixels; this model makes other pictures.' : k.says}</small>
                </span>
              </button>
            )
          })}
          <Button kind="quiet" size="small" onClick={() => setAdding(false)}>
            Never mind
          </Button>
        </div>
      ) : (
        <div>
          <Button size="small" onClick={() => setAdding(true)} data-testid={ids.addGoal}>
            + Add a goal
          </Button>
        </div>
      )}
    </section>
  )
}

// Changes of these leave the goal what it is.
const minor = new Set(['weight', 'stop_below', 'margin', 'copies', 'noise', 'cutouts'])

interface GoalProps {
  index: number
  term: Term
  open: boolean
  alone: boolean
  onToggle: () => void
  onRemove: () => void
}

function Goal({ index, term, open, alone, onToggle, onRemove }: GoalProps): JSX.Element {
  const problem = checked.value.problems.find((p) => p.path.startsWith(`objective.${index}.`))
  const change = (to: Partial<Term>) =>
    edit((d) => {
      Object.assign(d.objective[index]!, to)
      if (Object.keys(to).some((k) => !minor.has(k))) rename(d)
    })
  return (
    <div class={`goal${open ? ' open' : ''}${problem ? ' wrong' : ''}`} data-testid={`${ids.goal}-${index}`}>
      <div class="goal-head">
        <button type="button" class="goal-title" aria-expanded={open} onClick={onToggle}>
          <GoalIcon term={term} />
          <span>
            <strong>{goalTitle(term)}</strong>
            <small>
              {goalDetail(term)}
              {(term.weight ?? 1) !== 1 && ` · weight ${number(term.weight ?? 1)}`}
            </small>
          </span>
        </button>
        {!alone && (
          <Button kind="quiet" size="small" label={`Remove the goal “${goalTitle(term)}”`} onClick={onRemove} data-testid={`${ids.removeGoal}-${index}`}>
            ✕
          </Button>
        )}
      </div>
      {problem && <p class="help error">{problem.message}</p>}
      {open && (
        <div class="goal-body">
          <TermFields term={term} index={index} change={change} />
          <div class="pair-fields">
            <NumberField label="Weight" value={term.weight ?? 1} step="any" onChange={(weight) => change({ weight })} />
            <NumberField
              label="Enough below"
              value={term.stop_below}
              min={0}
              step="any"
              placeholder="never"
              onChange={(stop_below) => change({ stop_below })}
              onEmpty={() => change({ stop_below: undefined })}
            />
          </div>
        </div>
      )}
    </div>
  )
}

interface FieldsProps {
  term: Term
  index: number
  change: (to: Partial<Term>) => void
}

function TermFields({ term, index, change }: FieldsProps): JSX.Element {
  switch (term.term) {
    case 'attribute':
      return <AttributeFields term={term} index={index} change={change} />
    case 'region_color':
      return <RegionFields term={term} index={index} change={change} />
    case 'pixels':
      return <SketchFields term={term} index={index} change={change} />
    case 'inpaint':
      return <HiddenFields term={term} index={index} change={change} />
    case 'clip_similarity':
      return <WordsFields term={term} index={index} change={change} />
    case 'clip_style':
      return <p class="help">The picture whose style is wanted is a file, which a page cannot read.</p>
    case 'aesthetic':
      return <p class="help">A linear head scores what CLIP sees, up to {term.target ?? 10}.</p>
    case 'symmetry':
      return <p class="help">The picture is compared with its mirror image.</p>
    case 'total_variation':
      return <p class="help">The differences of neighbouring pixels are added up. A little of it, beside another goal, takes out speckles.</p>
  }
}

function AttributeFields({ term, change }: FieldsProps): JSX.Element {
  const vocabulary = model.value?.guide ?? []
  const here = vocabulary.find((a) => a.name === term.attribute)
  return (
    <>
      <div class="pair-fields">
        <Select
          label="They should have"
          value={term.attribute ?? ''}
          options={vocabulary.map((a) => ({ value: a.name, label: title(a.name) }))}
          onChange={(attribute) => {
            const values = vocabulary.find((a) => a.name === attribute)?.values ?? []
            change({ attribute, value: values.at(-1) ?? '' })
          }}
          data-testid={ids.attribute}
        />
        <Select label="namely" value={term.value ?? ''} options={(here?.values ?? []).map((v) => ({ value: v, label: title(v) }))} onChange={(value) => change({ value })} data-testid={ids.value} />
      </div>
      <Slider label="How sure the guide must be" min={0} max={8} step={0.5} value={term.margin ?? 2} show={(v) => `${v} log-odds`} onChange={(margin) => change({ margin })} />
      <div class="pair-fields">
        <NumberField label="Noisy copies" value={term.copies ?? 8} min={1} max={64} onChange={(copies) => change({ copies })} />
        <NumberField label="Noise on them" value={term.noise ?? 0.5} min={0} max={4} step="any" onChange={(noise) => change({ noise })} />
      </div>
    </>
  )
}

function WordsFields({ term, change }: FieldsProps): JSX.Element {
  return (
    <>
      <TextField label="The pictures should show" value={term.prompt ?? ''} onChange={(prompt) => change({ prompt })} data-testid={ids.goalPrompt} />
      <div class="pair-fields">
        <NumberField label="Cutouts" value={term.cutouts ?? 1} min={1} max={64} onChange={(cutouts) => change({ cutouts })} />
        <NumberField label="Noise on them" value={term.noise ?? 0} min={0} max={4} step="any" onChange={(noise) => change({ noise })} />
      </div>
    </>
  )
}

function underlay(): Pictures | null {
  return stage.value.of === 'recording' ? null : stage.value.before
}

function RegionFields({ term, index, change }: FieldsProps): JSX.Element {
  const m = model.value
  const others = (draft.value?.objective ?? []).flatMap((t, i) => (i !== index && t.term === 'region_color' && t.region ? [{ region: t.region, colour: t.color ?? '#888888' }] : []))
  return (
    <>
      <RegionPicker
        label="Region"
        width={m?.width ?? 16}
        height={m?.height ?? 16}
        region={(term.region ?? [0, 0, 4, 4]) as Region}
        colour={term.color}
        under={underlay()}
        others={others}
        onChange={(region) => change({ region })}
      />
      <ColourField label="should be" value={term.color ?? '#d1112d'} onChange={(color) => change({ color })} />
    </>
  )
}

function ColourField({ label, value, onChange }: { label: string; value: string; onChange: (colour: string) => void }): JSX.Element {
  return (
    <label class="colour-field">
      <span>{label}</span>
      <input type="color" value={value} onInput={(e) => onChange(e.currentTarget.value)} data-testid={ids.regionColour} />
      <code>{value}</code>
    </label>
  )
}

function SketchFields({ term, change }: FieldsProps): JSX.Element {
  const m = model.value
  if (!term.rows) return <p class="help">This sketch is a file, which a page cannot read. Draw one instead: remove this goal and add “A sketch”.</p>
  const s = readSketch(term, m?.width ?? 16, m?.height ?? 16)
  return <PixelEditor sketch={s} under={underlay()} onChange={(next) => change(writeSketch(next, term.palette))} />
}

const sides = ['left', 'right', 'top', 'bottom'] as const

function HiddenFields({ term, change }: FieldsProps): JSX.Element {
  const seed = term.source?.seed ?? 7
  const index = term.source?.index ?? 0
  const [shown, setShown] = useState<Pictures | null>(null)
  const [wrong, setWrong] = useState('')
  useEffect(() => {
    let mine = true
    call('source', { seed, index }).then(
      (p) => mine && (setShown(p), setWrong('')),
      (error) => mine && setWrong(failure(error).message),
    )
    return () => {
      mine = false
    }
  }, [seed, index])
  const hidden = term.hidden ?? 'right'
  const custom = Array.isArray(hidden)
  const w = shown?.width ?? 16
  const h = shown?.height ?? 16
  const half: Region = custom ? hidden : ({ left: [0, 0, w / 2, h], right: [w / 2, 0, w / 2, h], top: [0, 0, w, h / 2], bottom: [0, h / 2, w, h / 2] } as const)[hidden].map(Number) as Region
  return (
    <>
      <div class="pair-fields">
        <NumberField label="Portrait number" value={index} min={0} max={9999} onChange={(i) => change({ source: { seed, index: i } })} />
        <NumberField label="of seed" value={seed} min={0} max={Number.MAX_SAFE_INTEGER} onChange={(s) => change({ source: { seed: s, index } })} />
      </div>
      {wrong && <p class="help error">{wrong}</p>}
      <Segmented label="Hidden part" value={custom ? 'own' : hidden} options={[...sides.map((s) => ({ value: s as string, label: title(s) })), { value: 'own', label: 'Rectangle' }]} onChange={(v) => change({ hidden: v === 'own' ? half : (v as (typeof sides)[number]) })} />
      {custom ? (
        <RegionPicker label="Hidden" width={w} height={h} region={hidden} under={shown} onChange={(region) => change({ hidden: region })} />
      ) : (
        <div class="source-picture">
          {shown && <Picture of={shown} label={`Portrait ${index} of seed ${seed}, its ${hidden} half hidden`} />}
          <i class={`cover ${hidden}`} />
        </div>
      )}
    </>
  )
}
