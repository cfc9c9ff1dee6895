// Everything of a recipe beside its goals.
import type { JSX } from 'preact'
import { Button, Check, Disclosure, NumberField, Select, TextField } from '../../components'
import { title } from '../../format'
import type { Recipe } from '../../protocol'
import { catalog, draft, edit, model } from '../../state'
import { ids } from '../../testids'
import { setModel } from './model'
import { freezeWords, methodWords } from './words'

export function Settings(): JSX.Element | null {
  const r = draft.value
  const c = catalog.value
  if (!r || !c) return null
  return (
    <section class="stack" aria-label="Settings">
      <StartFields r={r} />
      <Conditions r={r} />
      <Prompts r={r} />
      <div class="three-fields">
        <NumberField label="Pictures" value={r.num_images} min={1} max={256} onChange={(n) => edit((d) => void (d.num_images = n))} data-testid={ids.pictures} />
        <NumberField label="Steps" value={r.sampler.num_inference_steps} min={1} max={1000} onChange={(n) => edit((d) => void (d.sampler.num_inference_steps = n))} data-testid={ids.steps} />
        <NumberField label="Updates" value={r.updates} min={0} max={10000} onChange={(n) => edit((d) => void (d.updates = n))} data-testid={ids.updates} />
      </div>
      <div class="seed-field">
        <NumberField
          label="Seed"
          value={r.seed}
          min={0}
          max={Number.MAX_SAFE_INTEGER}
          onChange={(n) => edit((d) => void (d.seed = n))}
          data-testid={ids.seed}
          after={
            <Button label="Another seed: other pictures" onClick={() => edit((d) => void (d.seed = 1 + Math.floor(Math.random() * 99_999)))} data-testid={ids.dice}>
              <Dice />
            </Button>
          }
        />
        <Select label="Method" value={methodKind(r.method.name)} options={methods(r, c.methods)} onChange={(m) => edit((d) => setMethod(d, m))} data-testid={ids.method} />
      </div>
      <p class="help method-words">{methodWords(r.method.name)}</p>
      <Disclosure title="More" data-testid={ids.more}>
        <More r={r} />
      </Disclosure>
    </section>
  )
}

function Dice(): JSX.Element {
  return (
    <svg viewBox="0 0 16 16" width="18" height="18" aria-hidden="true">
      <rect x="1.5" y="1.5" width="13" height="13" rx="3" fill="none" stroke="currentColor" stroke-width="1.5" />
      <g fill="currentColor">
        <circle cx="5" cy="5" r="1.3" />
        <circle cx="11" cy="5" r="1.3" />
        <circle cx="8" cy="8" r="1.3" />
        <circle cx="5" cy="11" r="1.3" />
        <circle cx="11" cy="11" r="1.3" />
      </g>
    </svg>
  )
}

interface Start {
  seed: number
  index: number
  strength: number
}

/** The portrait a run begins from instead of noise. */
function StartFields({ r }: { r: Recipe }): JSX.Element | null {
  const s = r.start as Partial<Start> | undefined
  if (s?.seed === undefined || s.index === undefined) return null
  const set = (to: Partial<Start>) =>
    edit((d) => {
      d.start = { ...(d.start as Start), ...to }
    })
  return (
    <div class="three-fields">
      <NumberField label="Begin from portrait" value={s.index} min={0} max={9999} onChange={(index) => set({ index })} data-testid={ids.startPicture} />
      <NumberField label="of seed" value={s.seed} min={0} max={Number.MAX_SAFE_INTEGER} onChange={(seed) => set({ seed })} />
      <NumberField label="taken back by" value={s.strength} min={0.01} max={1} step="any" onChange={(strength) => set({ strength })} />
    </div>
  )
}

/** What the model is asked for, beside what it is steered to. */
function Conditions({ r }: { r: Recipe }): JSX.Element | null {
  const attributes = model.value?.attributes ?? []
  if (attributes.length === 0) return null
  const asked = Object.entries(r.condition ?? {})
  const free = attributes.filter((a) => !(a.name in (r.condition ?? {})))
  const set = (name: string, value: string) =>
    edit((d) => {
      d.condition = { ...d.condition, [name]: value }
    })
  return (
    <div class="field">
      <span class="label" id="asked">
        The model is asked for
      </span>
      <div class="conditions" role="group" aria-labelledby="asked">
        {asked.length === 0 && <span class="muted small">anyone</span>}
        {asked.map(([name, value]) => (
          <span class="condition" key={name}>
            <label>
              {title(name)}
              <select value={value} onChange={(e) => set(name, e.currentTarget.value)}>
                {(attributes.find((a) => a.name === name)?.values ?? []).map((v) => (
                  <option key={v} selected={v === value}>
                    {v}
                  </option>
                ))}
              </select>
            </label>
            <button
              type="button"
              aria-label={`Do not ask for ${title(name)}`}
              onClick={() =>
                edit((d) => {
                  const { [name]: _, ...rest } = d.condition ?? {}
                  d.condition = Object.keys(rest).length > 0 ? rest : undefined
                  if (!d.condition) d.guidance_scale = 1
                })
              }
            >
              ✕
            </button>
          </span>
        ))}
        {free.length > 0 && (
          <span class="select add">
            <select
              aria-label="Ask the model for something more"
              value=""
              onChange={(e) => {
                const a = free.find((f) => f.name === e.currentTarget.value)
                e.currentTarget.value = ''
                if (a) set(a.name, a.values[0]!)
              }}
              data-testid={ids.condition}
            >
              <option value="">+ ask for…</option>
              {free.map((a) => (
                <option key={a.name} value={a.name}>
                  {title(a.name)}
                </option>
              ))}
            </select>
          </span>
        )}
      </div>
    </div>
  )
}

/** What a model that draws from text is told. */
function Prompts({ r }: { r: Recipe }): JSX.Element | null {
  if (!model.value?.text) return null
  const guided = r.guidance_scale !== 1
  return (
    <>
      <TextField label="Prompt" value={r.prompt ?? ''} onChange={(prompt) => edit((d) => void (d.prompt = prompt))} data-testid={ids.prompt} />
      {guided && <TextField label="Negative prompt" value={r.negative_prompt ?? ''} onChange={(words) => edit((d) => void (d.negative_prompt = words || undefined))} data-testid={ids.negativePrompt} />}
    </>
  )
}

/** Whether the model is told something that guidance can weigh. */
function told(r: Recipe): boolean {
  return Object.keys(r.condition ?? {}).length > 0 || Boolean(r.prompt)
}

// Methods that have no gradient for what belongs to a picture, its noise.
const shared = ['draft-K', 'draft-lv', 'drtune-K', 'refl', 'alignprop', 'leapalign', 'flowbp-sparse-K']

function varies(r: Recipe): string[] {
  return Array.isArray(r.variables) ? (r.variables as string[]) : Object.keys(r.variables)
}

function methods(r: Recipe, all: string[]): { value: string; label: string }[] {
  const own = varies(r).some((v) => v !== 'condition' && v !== 'parameters')
  return all.filter((m) => !own || !shared.includes(m)).map((m) => ({ value: m, label: m }))
}

/** The pattern a method's name belongs to: stale-4 to stale-r. */
function methodKind(name: string): string {
  const m = name.match(/^(.*)-\d+$/)
  if (!m) return name
  return catalog.value?.methods.find((p) => p.replace(/-[A-Za-z]$/, '') === m[1] && p !== m[1]) ?? name
}

function setMethod(d: Recipe, pattern: string): void {
  const steps = d.sampler.num_inference_steps
  const numbered = pattern.match(/^(.*)-[A-Za-z]$/)
  const name = numbered && pattern !== 'draft-lv' ? `${numbered[1]}-${Math.max(1, Math.min(4, steps - 1))}` : pattern
  d.method = name === 'sdo' ? { name, freeze: 'eps', active: 'first' } : { name }
}

function More({ r }: { r: Recipe }): JSX.Element {
  const c = catalog.value!
  const numbered = r.method.name.match(/^(.*)-(\d+)$/)
  return (
    <>
      {numbered && (
        <NumberField label={numbered[1] === 'stale' ? 'Calls made again' : 'Calls'} value={Number(numbered[2])} min={1} max={r.sampler.num_inference_steps} onChange={(n) => edit((d) => void (d.method = { name: `${numbered[1]}-${n}` }))} />
      )}
      {r.method.name === 'sdo' && (
        <Select label="Held constant" value={r.method.freeze ?? 'eps'} options={c.freezes} help={freezeWords(r.method.freeze ?? 'eps')} onChange={(freeze) => edit((d) => void (d.method.freeze = freeze))} data-testid={ids.freeze} />
      )}
      <div class="pair-fields">
        <NumberField label="Learning rate" value={r.optimizer.lr} min={0.000001} step="any" onChange={(lr) => edit((d) => void (d.optimizer.lr = lr))} data-testid={ids.learningRate} />
        <Select label="Optimizer" value={r.optimizer.name} options={['adam', 'adamw', 'sgd']} onChange={(name) => edit((d) => void (d.optimizer.name = name))} />
      </div>
      <div class="pair-fields">
        <Select label="Sampler" value={r.sampler.name} options={c.samplers} onChange={(name) => edit((d) => void (d.sampler.name = name))} data-testid={ids.sampler} />
        <Select label="Spacing of steps" value={r.sampler.timestep_spacing} options={c.spacings} onChange={(s) => edit((d) => void (d.sampler.timestep_spacing = s))} />
      </div>
      <NumberField
        label="Guidance"
        value={r.guidance_scale}
        min={0.01}
        max={100}
        step="any"
        disabled={!told(r)}
        help={!told(r) ? 'Only where the model is asked for something.' : 'How strongly the model keeps to what it is asked for; 1 asks the network once a step.'}
        onChange={(g) =>
          edit((d) => {
            d.guidance_scale = g
            if (g === 1) d.negative_prompt = undefined
          })
        }
        data-testid={ids.guidance}
      />
      <NumberField label="Drift limit" value={r.guards.drift_limit} min={0} max={2} step="any" help="A picture that moved further than this is left alone; 0 allows any change." onChange={(v) => edit((d) => void (d.guards.drift_limit = v))} />
      <Check label="Leave pictures alone once they are good enough" checked={r.guards.early_stop !== false} onChange={(on) => edit((d) => void (d.guards.early_stop = on))} />
      <Select
        label="Model"
        value={r.model}
        options={c.models.filter((m) => m.draws).map((m) => m.name)}
        help={model.value && !model.value.text && model.value.guide.length === 0 ? 'This model has no guide: steer it by colours, sketches, symmetry or smoothness.' : undefined}
        onChange={(name) => edit((d) => setModel(d, name))}
        data-testid={ids.model}
      />
      {c.loras.length > 0 && (
        <div class="pair-fields">
          <Select
            label="Adapter"
            value={r.lora?.path ?? ''}
            options={[{ value: '', label: 'none' }, ...c.loras.map((l) => ({ value: l, label: l }))]}
            onChange={(path) => edit((d) => void (d.lora = path ? { path, scale: d.lora?.scale ?? 1 } : undefined))}
            data-testid={ids.lora}
          />
          {r.lora && <NumberField label="Its scale" value={r.lora.scale} min={-4} max={4} step="any" onChange={(scale) => edit((d) => void (d.lora!.scale = scale))} />}
        </div>
      )}
    </>
  )
}
