// Models: those that are here, and one's own, looked into before anything is kept.
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { Button, Disclosure, Meter, Notice, TextField } from '../components'
import { Bars } from '../components/bars'
import { bytes, millions, plural, sentence } from '../format'
import { catalog, keeps, recipe, running } from '../state'
import { ids } from '../testids'
import type { Attribute, Component, Inspected, ModelInfo } from '../protocol'
import { brought, help, inUse, keep, keeping, look, measureStorage, name, persist, problem, remove, storage, use, type Brought } from './models/bring'
import { chosen, dropped } from './models/folder'
import './models.css'

export function ModelsTab(): JSX.Element {
  useEffect(() => void measureStorage(), [])
  return (
    <div class="stack models">
      <header class="stack tight">
        <h2>Models</h2>
        <p class="lead">Small diffusion models are built in. Bring your own: a diffusers folder stays in this browser and is never sent anywhere. A Stable Diffusion pipeline draws from a prompt, a CLIPModel tells how well pictures fit words, a small autoencoder decodes faster.</p>
      </header>
      {problem.value && (
        <Notice kind="error" title="That did not work" onClose={() => (problem.value = '')}>
          {problem.value}
        </Notice>
      )}
      <Bring />
      <Here />
      <Storage />
    </div>
  )
}

function Bring(): JSX.Element {
  const over = useSignal(false)
  const folder = useRef<HTMLInputElement>(null)
  const files = useRef<HTMLInputElement>(null)
  // Browsers of phones know the attribute and choose no folders.
  const folders = 'webkitdirectory' in document.createElement('input') && !matchMedia('(pointer: coarse)').matches
  useEffect(() => {
    // Not an attribute that JSX knows.
    if (folder.current) folder.current.webkitdirectory = true
  }, [])
  const take = (e: { currentTarget: HTMLInputElement }) => {
    const input = e.currentTarget
    if (!input.files || input.files.length === 0) return
    const list = input.files
    void look(() => chosen(list)).then(() => (input.value = ''))
  }
  return (
    <section class="card pad stack" aria-labelledby="models-bring">
      <h3 id="models-bring">Bring a model</h3>
      <div
        class={`drop${over.value ? ' over' : ''}`}
        onDragOver={(e) => {
          e.preventDefault()
          over.value = true
        }}
        onDragLeave={() => (over.value = false)}
        onDrop={(e) => {
          e.preventDefault()
          over.value = false
          if (e.dataTransfer) void look(dropped(e.dataTransfer.items))
        }}
      >
        <p>
          <strong>{folders ? 'Drop the model’s folder here' : 'A diffusers folder'}</strong>
          <br />
          <span class="muted small">a pipeline with model_index.json, or the config.json and safetensors of a UNet2DModel, a CLIPModel or an autoencoder</span>
        </p>
        <div class="row">
          <input ref={folder} class="hidden" type="file" multiple tabIndex={-1} aria-hidden="true" onChange={take} data-testid={ids.modelFolder} />
          <input ref={files} class="hidden" type="file" multiple accept=".json,.txt,.safetensors" tabIndex={-1} aria-hidden="true" onChange={take} data-testid={ids.modelFiles} />
          {folders && (
            <Button kind="primary" onClick={() => folder.current?.click()}>
              Choose a folder…
            </Button>
          )}
          <Button kind={folders ? 'plain' : 'primary'} onClick={() => files.current?.click()}>
            Choose its files…
          </Button>
        </div>
      </div>
      <p class="small muted">First only the small configuration files are read, to say what the model is and what it needs. Weights are read when you decide to keep it.</p>
      <Found />
    </section>
  )
}

function Found(): JSX.Element | null {
  const b = brought.value
  if (!b) return null
  const i = b.inspected
  return (
    <div class="found" data-testid={ids.modelInspected} aria-live="polite">
      {!i && <p class="muted">Looking into {plural(b.folder.files.length, 'file')}…</p>}
      {i && !i.ok && (
        <Notice kind="error" title="This one does not work here" onClose={() => (brought.value = null)}>
          {sentence(i.message)}
        </Notice>
      )}
      {i?.ok && <p class="said">{sentence(i.message)}</p>}
      {i && i.parameters > 0 && <Needs i={i} b={b} />}
      {i?.ok && <Keep />}
    </div>
  )
}

/** A name for it, and the button that keeps it. */
function Keep(): JSX.Element {
  const taken = catalog.value?.models.some((m) => m.name === name.value) ?? false
  const wrong = !/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name.value) ? 'Letters, digits, dots, dashes and underscores.' : taken ? 'There is a model of that name; choose another.' : ''
  const k = keeping.value
  return (
    <>
      <div class="keep">
        <TextField label="Keep it as" value={name.value} error={wrong || undefined} disabled={k !== null} onChange={(v) => (name.value = v)} />
        <div class="row">
          <Button kind="primary" disabled={wrong !== '' || k !== null} busy={k !== null} onClick={() => void keep()} data-testid={ids.modelKeep}>
            {k ? 'Keeping…' : 'Keep and use'}
          </Button>
          <Button disabled={k !== null} onClick={() => (brought.value = null)}>
            Not this one
          </Button>
        </div>
      </div>
      {k && <progress max={Math.max(1, k.of)} value={k.done} aria-label="Keeping the model" />}
      {!keeps.value && <p class="small muted">This window keeps nothing once it is closed; the model stays as long as the tab.</p>}
    </>
  )
}

/** Sizes, and the memory it takes to use. */
function Needs({ i, b }: { i: Inspected; b: Brought }): JSX.Element {
  return (
    <>
      <div class="numbers">
        <div>
          <b>{millions(i.parameters)}</b>
          <p>parameters</p>
        </div>
        {i.width > 0 && (
          <div>
            <b>
              {i.width} × {i.height}
            </b>
            <p>pictures of {plural(i.channels, 'channel')}</p>
          </div>
        )}
        <div>
          <b>{bytes(b.bytes)}</b>
          <p>in {plural(b.folder.files.length, 'file')}</p>
        </div>
      </div>
      <Components of={i.components ?? []} />
      {i.steer.total_bytes > 0 && (
        <Bars
          label={`Memory for ${plural(i.num_images, 'picture')} at once`}
          bars={[
            { label: 'to sample', value: i.sample.total_bytes, text: bytes(i.sample.total_bytes), color: 5 },
            { label: 'to steer, by one call', value: i.steer.total_bytes, text: bytes(i.steer.total_bytes), color: 1 },
          ]}
        />
      )}
    </>
  )
}

/** The networks of a pipeline. */
function Components({ of }: { of: readonly Component[] }): JSX.Element | null {
  if (of.length < 2) return null
  return (
    <ul class="parts">
      {of.map((c) => (
        <li key={c.name}>
          <b>{c.name}</b> <span class="muted">{c.class}</span>
          <span class="muted">
            {millions(c.parameters)} · {bytes(c.bytes)}
          </span>
        </li>
      ))}
    </ul>
  )
}

function Here(): JSX.Element {
  const models = catalog.value?.models ?? []
  const yours = models.filter((m) => m.yours)
  const rows = [...yours, ...models.filter((m) => !m.yours)]
  return (
    <section class="stack tight" aria-labelledby="models-here">
      <h3 id="models-here">Here now</h3>
      {rows.length === 0 ? (
        <p class="muted">They are listed as soon as the core is there.</p>
      ) : (
        <ul class="model-list" data-testid={ids.modelList}>
          {rows.map((m) => (
            <Model key={m.name} m={m} />
          ))}
        </ul>
      )}
    </section>
  )
}

function Model({ m }: { m: ModelInfo }): JSX.Element {
  const current = inUse(recipe.value, m)
  const asked = useSignal(false)
  const busy = running.value !== null && !running.value.background
  return (
    <li class="card pad model">
      <div class="row between model-head">
        <h4>
          {m.name} <span class="chip">{m.yours ? 'yours' : 'built in'}</span> {current && <span class="chip now">in use</span>}
        </h4>
        <span class="row tight">
          {!current && (
            <Button size="small" disabled={busy} onClick={() => (m.draws ? use(m.name) : help(m))} data-testid={`${ids.modelUse}-${m.name}`}>
              {m.draws ? 'Use in Steer' : m.class === 'CLIPModel' ? 'Look with it' : 'Decode with it'}
            </Button>
          )}
          {m.yours && !asked.value && (
            <Button size="small" kind="quiet" disabled={busy} onClick={() => (asked.value = true)} data-testid={`${ids.modelRemove}-${m.name}`}>
              Remove
            </Button>
          )}
        </span>
      </div>
      {asked.value && (
        <Notice
          kind="warning"
          title={`Remove ${m.name} from this browser?`}
          actions={
            <>
              <Button size="small" kind="danger" onClick={() => void remove(m.name)} data-testid={`${ids.modelRemove}-${m.name}-yes`}>
                Remove it
              </Button>
              <Button size="small" onClick={() => (asked.value = false)}>
                Keep it
              </Button>
            </>
          }
        >
          Its folder on your disk stays as it is.
        </Notice>
      )}
      <p class="facts muted">
        {millions(m.parameters)} parameters · {m.width > 0 && `${m.width} × ${m.height}, ${m.channels === 3 ? 'colour' : m.channels === 1 ? 'grey' : plural(m.channels, 'channel')} · `}
        {bytes(m.bytes)}
      </p>
      <Components of={m.components} />
      <Attributes label="Can be told" of={m.attributes} />
      <Attributes label="Can be asked for" of={m.guide} />
      {m.text && <p class="small muted">Draws what a prompt says. Goals in words need a CLIPModel beside it.</p>}
      {!m.draws && <p class="small muted">{m.class === 'CLIPModel' ? 'Sees how well pictures fit words: it makes goals in words possible.' : 'Makes pictures of a pipeline’s latents, and gradients through them.'}</p>}
      {m.draws && !m.text && m.guide.length === 0 && m.attributes.length === 0 && <p class="small muted">No classifier of its own: goals of colours, pixels and symmetry work, attributes do not.</p>}
    </li>
  )
}

function Attributes({ label, of }: { label: string; of: readonly Attribute[] }): JSX.Element | null {
  if (of.length === 0) return null
  return (
    <Disclosure
      title={
        <span>
          {label}: <span class="muted plain">{of.map((a) => a.name).join(', ')}</span>
        </span>
      }
    >
      <dl>
        {of.map((a) => (
          <div key={a.name} class="attribute">
            <dt>{a.name}</dt>
            <dd>{a.values.join(', ')}</dd>
          </div>
        ))}
      </dl>
    </Disclosure>
  )
}

function Storage(): JSX.Element | null {
  const s = storage.value
  if (!s || s.quota === 0) return null
  return (
    <section class="card pad stack tight" aria-labelledby="models-storage">
      <h3 id="models-storage">Room in this browser</h3>
      <Meter label="Storage in use" value={s.used / s.quota} />
      <div class="row between">
        <p class="small muted">
          {bytes(s.used)} of about {bytes(s.quota)} in use. {s.persisted ? 'The browser has promised to keep it.' : 'The browser may clear it when the disk is full.'}
        </p>
        {!s.persisted && keeps.value && (
          <Button size="small" onClick={() => void persist()}>
            Ask to keep it
          </Button>
        )}
      </div>
    </section>
  )
}
