// Tune: train a LoRA in this tab, watch held-out pictures change, keep what was learnt.
import type { JSX } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { Button, CopyButton, Disclosure, JobBar, LineChart, Meter, Notice, NumberField, PictureGrid, save, Select, Slider, type Series } from '../components'
import { Bars } from '../components/bars'
import { bytes, count, duration, number, percent, plural, sentence, title } from '../format'
import { adapterName } from '../names'
import { catalog, edit, go, keeps, keepsCheckpoints, model, recipe, running, usable } from '../state'
import { ids } from '../testids'
import type { Look } from '../protocol'
import {
  begin, checked, choice, discard, draft, fromGoal, goOn, judged, load, loading, parameters, planned, problem, ready, remove, renamed, run, samples, sampling, scale, set, trying, trySamples, tuning, unfinished,
  type Run,
} from './tune/tuning'
import './tune.css'

export function TuneTab(): JSX.Element {
  const now = run.value
  return (
    <div class="stack tune">
      <header class="stack tight">
        <h2>Tune</h2>
        <p class="lead">
          Teach the model itself: small matrices beside its layers, a LoRA, learn on fresh noise by the gradient of one network call a batch. From then on
          every picture does what you asked for.
        </p>
      </header>
      {problem.value && (
        <Notice kind="error" title="That did not work" onClose={() => (problem.value = '')}>
          {problem.value}
        </Notice>
      )}
      <Unfinished />
      <div class="tune-columns">
        <Settings />
        {now ? <Progress now={now} /> : <Expect />}
      </div>
      <Adapters />
    </div>
  )
}

function Unfinished(): JSX.Element | null {
  const left = unfinished.value
  if (!left) return null
  return (
    <Notice
      title={`${title(left.recipe.name)} was left after update ${left.update} of ${left.recipe.updates}`}
      actions={
        <>
          <Button kind="primary" size="small" disabled={running.value !== null && !running.value.background} onClick={() => void goOn(left)} data-testid={ids.tuneResume}>
            Continue
          </Button>
          <Button size="small" onClick={() => void discard()} data-testid={ids.tuneDiscard}>
            Discard
          </Button>
        </>
      }
    >
      {ago(left.saved)}. It continues exactly where it was. A new tuning takes its place.
    </Notice>
  )
}

function ago(when: number): string {
  const minutes = Math.round((Date.now() - when) / 60_000)
  if (minutes < 2) return 'Saved a moment ago'
  if (minutes < 120) return `Saved ${minutes} minutes ago`
  return `Saved on ${new Date(when).toLocaleString('en', { dateStyle: 'medium', timeStyle: 'short' })}`
}

function Settings(): JSX.Element {
  const r = draft.value
  const goal = recipe.value
  const tunings = (catalog.value?.recipes ?? []).filter((x) => x.tunes)
  const p = planned.value
  const busy = tuning.value
  const trained = r && parameters(r)
  const first = checked.value.problems[0]
  return (
    <section class="card pad stack tune-settings" aria-label="What to teach">
      <Select
        label="What to teach"
        value={choice.value}
        options={[...tunings.map((x) => ({ value: x.name, label: title(x.name) })), ...(goal ? [{ value: fromGoal, label: `The current goal: ${title(goal.name)}` }] : [])]}
        onChange={(v) => (choice.value = v)}
        disabled={busy}
        data-testid={ids.tuneRecipe}
      />
      {r?.description && <p class="small muted">{r.description}</p>}
      {r && r.tune && trained && (
        <>
          <div class="tune-fields">
            <NumberField label="Updates" value={r.updates} min={1} max={10000} disabled={busy} onChange={(v) => set((d) => (d.updates = v))} />
            <NumberField label="Pictures a batch" value={r.tune.batch_size} min={1} max={256} disabled={busy} onChange={(v) => set((d) => (d.tune!.batch_size = v))} />
            <NumberField
              label="Rank"
              value={trained.lora?.rank ?? 4}
              min={1}
              max={64}
              disabled={busy || !trained.lora}
              onChange={(v) =>
                set((d) => {
                  const lora = parameters(d).lora
                  if (lora) Object.assign(lora, { rank: v, alpha: v })
                })
              }
            />
            <NumberField
              label="Learning rate"
              value={trained.lr ?? r.optimizer.lr}
              min={0.000001}
              max={1}
              step="any"
              disabled={busy}
              onChange={(v) =>
                set((d) => {
                  delete parameters(d).lr
                  d.optimizer.lr = v
                })
              }
            />
          </div>
          <NumberField
            label="Keep the rest"
            value={r.tune.keep}
            min={0}
            max={1000}
            step="any"
            disabled={busy}
            help="How strongly pictures are held near what the untuned model makes of the same noise. 0 lets go."
            onChange={(v) => set((d) => (d.tune!.keep = v))}
          />
          <Disclosure title="More">
            <div class="tune-fields">
              <NumberField label="Sampler steps" value={r.sampler.num_inference_steps} min={1} max={100} disabled={busy} onChange={(v) => set((d) => (d.sampler.num_inference_steps = v))} />
              <NumberField label="Seed" value={r.seed} min={0} max={2 ** 53 - 1} disabled={busy} onChange={(v) => set((d) => (d.seed = v))} />
              <NumberField label="Held-out pictures" value={r.tune.eval_images} min={1} max={256} disabled={busy} onChange={(v) => set((d) => (d.tune!.eval_images = v))} />
              <NumberField label="Look every" value={r.tune.eval_every} min={1} max={10000} disabled={busy} onChange={(v) => set((d) => (d.tune!.eval_every = v))} />
            </div>
          </Disclosure>
        </>
      )}
      {first && (
        <p class="help error" role="alert">
          {sentence(first.message)}
        </p>
      )}
      {p?.refusal && (
        <p class="help error" role="alert">
          {sentence(p.refusal)}
        </p>
      )}
      {p && !p.refusal && (
        <p class="small muted">
          Needs {bytes(p.memory.total_bytes)}, {bytes(p.memory.activation_bytes)} of it activations: {plural(p.calls, 'network call')} an update, {count(p.backward_calls)} of them
          differentiated.
        </p>
      )}
      <Button kind="primary" size="large" disabled={!ready.value} busy={busy} onClick={() => void begin()} data-testid={ids.tuneStart}>
        {busy ? 'Tuning…' : 'Start tuning'}
      </Button>
      {checked.value.command && !first && (
        <Native label={`The same natively${checked.value.command_needs_file ? `, with the recipe saved as ${checked.value.command_needs_file}` : ''}`} command={checked.value.command} />
      )}
    </section>
  )
}

/** A command of the native program. */
function Native({ label, command, testid }: { label: string; command: string; testid?: string }): JSX.Element {
  return (
    <div class="native">
      <span class="small muted">{label}</span>
      <CopyButton text={command}>Copy</CopyButton>
      <code data-testid={testid}>{command}</code>
    </div>
  )
}

/** What to expect, before there is anything to see. */
function Expect(): JSX.Element {
  return (
    <section class="card pad stack tune-progress">
      <h3>What you will see</h3>
      <ul class="expect">
        <li>The loss of fresh pictures, update by update.</li>
        <li>Pictures from noise the training never sees, before and after, on the same noise.</li>
        <li>The share of them that the judge approves. The judge is a second network that takes no part in the training.</li>
        <li>What else has shifted: a change nobody asked for shows in the bars.</li>
      </ul>
      <p class="muted">
        {!keeps.value
          ? 'This window keeps nothing once it is closed, so stay until the end, or use one that is not private.'
          : keepsCheckpoints.value
            ? 'Close the tab at any time: a checkpoint is kept, and the tuning goes on exactly where it was.'
            : 'Another tab of this page keeps its checkpoints here, so stay until the end, or tune in that one.'}
      </p>
    </section>
  )
}

function Progress({ now }: { now: Run }): JSX.Element {
  const last = now.looks[now.looks.length - 1]
  const first = now.looks[0]?.update === 0 ? now.looks[0] : last // the look before any update, once it is known
  const x = now.losses.map((_, i) => now.first + i + 1)
  const series: Series[] = [{ label: 'loss of the batch', values: now.losses, style: 'mean', color: 1 }]
  const held = now.looks.filter((l) => l.update > now.first)
  if (held.length > 0) series.push({ label: 'held-out pictures', values: x.map((u) => held.find((l) => l.update === u)?.loss ?? null), style: 'mean', color: 2, dashed: true })
  const box = useRef<HTMLElement>(null)
  useEffect(() => {
    // On a phone it lies below the settings.
    const el = box.current
    if (tuning.value && el && el.getBoundingClientRect().top > innerHeight * 0.7) el.scrollIntoView({ behavior: 'smooth', block: 'start' })
  }, [tuning.value])
  return (
    <section class="card pad stack tune-progress" aria-label="The tuning" ref={box}>
      <div class="row between">
        <h3>{title(now.recipe.name)}</h3>
        <span class="small muted">{tuning.value ? now.says : ended(now)}</span>
      </div>
      {tuning.value && <JobBar tab="tune" />}
      {now.warning && <Notice kind="warning">{sentence(now.warning)}</Notice>}
      {x.length > 0 ? (
        <LineChart label="Loss over the updates" x={x} xLabel="updates" series={series} y={[0, null]} height={200} legend data-testid={ids.tuneLoss} />
      ) : (
        <div class="chart-place muted small">{tuning.value ? 'The first update is on its way.' : 'No update was made.'}</div>
      )}
      {first && last && <Looks first={first} last={last} label={judged(now)} />}
      {now.result && <Outcome now={now} />}
    </section>
  )
}

function ended(now: Run): string {
  const r = now.result
  if (!r) return ''
  const made = `${plural(r.updates, 'update')} in ${duration(r.seconds)}`
  if (r.cancelled) return `cancelled after ${made}`
  switch (r.stopped) {
    case 'drift':
      return `${made}; stopped, pictures had drifted too far`
    case 'judge':
      return `${made}; stopped, the judge is content`
    case 'objective':
      return `${made}; stopped, the objective is met`
    default:
      return made
  }
}

function Looks({ first, last, label }: { first: Look; last: Look; label: string }): JSX.Element {
  const [split, setSplit] = useState(1)
  const same = first === last
  const shown = last.attributes
  return (
    <div class="stack" data-testid={ids.tuneLooks}>
      {last.success !== undefined && (
        <div>
          <p class="judge" data-testid={ids.tuneJudge}>
            <span class="muted">The judge sees {label && <strong>{label}</strong>} in</span> {same ? null : <>{percent(first.success ?? 0)} → </>}
            <b>{percent(last.success)}</b> <span class="muted">of {count(last.pictures.count)} held-out pictures</span>
          </p>
          <Meter label="Share that the judge approves" value={last.success} before={same ? undefined : first.success} />
        </div>
      )}
      <div class="tune-looks">
        <div class="stack tight">
          <PictureGrid
            label={`Held-out pictures, ${same ? 'before' : `after ${plural(last.update, 'update')}`}`}
            pictures={last.pictures}
            before={same ? null : first.pictures}
            split={split}
            columns={8}
          />
          {!same && <Slider label="Show" hideLabel min={0} max={1} step={0.05} value={split} onChange={setSplit} show={(v) => (v > 0.98 ? 'after' : v < 0.02 ? 'before' : 'both')} />}
        </div>
        {!same && (
          <div class="stack">
            <Bars compact label="What has shifted" most={1} bars={shown.map((a) => ({ label: shift(a, first), value: a.shift, text: number(Math.round(a.shift * 100) / 100), color: label.startsWith(`${a.name}:`) ? 1 : 6 }))} />
            <p class="small muted">
              The share of pictures that changed hands between the values of an attribute, as the judge sees them: 0 none, 1 all. Pictures moved by {number(Math.round(last.drift * 1000) / 1000)}{' '}
              on average, of a possible 2.
            </p>
          </div>
        )}
      </div>
    </div>
  )
}

/** An attribute and, where something has shifted, what it shifted to. */
function shift(a: Look['attributes'][number], first: Look): string {
  const before = first.attributes.find((b) => b.name === a.name)
  if (!before || a.shift < 0.05) return a.name
  let most = 0
  a.shares.forEach((s, i) => {
    if (s - (before.shares[i] ?? 0) > a.shares[most]! - (before.shares[most] ?? 0)) most = i
  })
  return `${a.name}, more ${a.values[most]}`
}

function Outcome({ now }: { now: Run }): JSX.Element | null {
  const r = now.result!
  if (r.file.length === 0) return null
  return (
    <div class="outcome">
      <div class="numbers">
        <div>
          <b>{count(r.trained)}</b> <span>numbers</span>
          <p>were trained, {bytes(r.file.length)} as a file</p>
        </div>
        <div>
          <b>{bytes(r.peak_bytes)}</b>
          <p>of activations at most, planned {bytes(r.planned_bytes)}</p>
        </div>
        <div>
          <b>{count(r.counters.network_calls)}</b> <span>+ {count(r.counters.backward_calls)} back</span>
          <p>network calls in all</p>
        </div>
      </div>
      <div class="row">
        <Button kind="primary" onClick={() => save(r.lora || `${now.recipe.name}.safetensors`, new Blob([r.file], { type: 'application/octet-stream' }))} data-testid={ids.tuneDownload}>
          Download the adapter
        </Button>
        {r.lora && <Button onClick={() => steerWith(r.lora)}>Use it in Steer</Button>}
      </div>
    </div>
  )
}

function steerWith(name: string): void {
  edit((d) => (d.lora = { path: name, scale: scale.peek() }))
  go('steer')
}

// ---- adapters ---------------------------------------------------------------------

function Adapters(): JSX.Element {
  const names = catalog.value?.loras ?? []
  const picked = names.includes(trying.value) ? trying.value : ''
  const input = useRef<HTMLInputElement>(null)
  const busy = running.value !== null && !running.value.background
  useEffect(() => {
    if (!picked || busy || !usable.value) return
    const soon = setTimeout(() => void trySamples(), 150)
    return () => clearTimeout(soon)
  }, [picked, scale.value, busy, usable.value])
  const shown = samples.value?.of === picked ? samples.value : null
  const command = `sdo sample --lora ${picked} --lora-scale ${scale.value}${model.value && model.value.name !== 'avatars-16-s' ? ` --model ${model.value.name}` : ''}`
  return (
    <section class="card pad stack" aria-labelledby="tune-adapters">
      <div class="row between">
        <h3 id="tune-adapters">Adapters here</h3>
        <span class="row tight">
          <input
            ref={input}
            class="hidden"
            type="file"
            accept=".safetensors"
            tabIndex={-1}
            aria-hidden="true"
            data-testid={ids.tuneLoad}
            onChange={(e) => {
              const f = e.currentTarget.files?.[0]
              if (f) void load(f)
              e.currentTarget.value = ''
            }}
          />
          <Button size="small" busy={loading.value} disabled={loading.value} onClick={() => input.current?.click()}>
            {loading.value ? 'Loading…' : 'Load a file…'}
          </Button>
        </span>
      </div>
      {renamed.value && (
        <p class="small muted" role="status">
          {renamed.value}
        </p>
      )}
      {names.length === 0 ? (
        <p class="muted">None yet. Tune one above, or load a safetensors file with kohya-ss’ or PEFT’s names.</p>
      ) : (
        <ul class="adapters" data-testid={ids.tuneAdapters}>
          {names.map((name) => (
            <li key={name} class={name === picked ? 'on' : undefined}>
              <label class="check">
                <input type="radio" name="adapter" checked={name === picked} onChange={() => (trying.value = name)} />
                <span>{adapterName(name)}</span>
              </label>
              <span class="row tight">
                <Button size="small" kind="quiet" onClick={() => steerWith(name)} data-testid={ids.tuneUse}>
                  Use in Steer
                </Button>
                <Button size="small" kind="quiet" disabled={busy} onClick={() => void remove(name)} label={`Remove ${name}`} data-testid={`${ids.tuneRemove}-${name}`}>
                  Remove
                </Button>
              </span>
            </li>
          ))}
        </ul>
      )}
      {picked && (
        <>
          <div class="tune-try">
            <div class="stack">
              <Slider label="Scale" min={0} max={1.5} step={0.1} value={scale.value} onChange={(v) => (scale.value = Math.round(v * 10) / 10)} show={(v) => v.toFixed(1)} help="How much of what it adds is merged into the model. 0 is the model as it was." data-testid={ids.tuneScale} />
              <p class="small muted" role="status">
                {sampling.value ? 'Sampling…' : busy ? 'Samples wait for the running job.' : shown ? `The same noise without it and at a scale of ${shown.scale.toFixed(1)}.` : ''}
              </p>
            </div>
            <div class="tune-pair" data-testid={ids.tuneSamples}>
              <div class="stack tight">
                <h4 class="muted">Without</h4>
                <PictureGrid label="Samples without the adapter" pictures={shown?.before ?? null} places={16} columns={4} />
              </div>
              <div class="stack tight">
                <h4 class="muted">With, at {(shown?.scale ?? scale.value).toFixed(1)}</h4>
                <PictureGrid label="Samples with the adapter" pictures={shown?.after ?? null} places={16} columns={4} />
              </div>
            </div>
          </div>
          <Native label="With the downloaded file, natively" command={command} testid={ids.tuneCommand} />
        </>
      )}
    </section>
  )
}
