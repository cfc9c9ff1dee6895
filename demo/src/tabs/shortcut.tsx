// See the shortcut: the way a gradient takes from the picture back to the noise,
// drawn over the steps of a real rollout, and what it costs, measured.
import { useComputed } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { Button, Check, JobBar, LineChart, Notice, Segmented, Slider, type Series } from '../components'
import { Bars } from '../components/bars'
import { bytes, count, duration, number, plural, sentence } from '../format'
import { device, recipe, running, usable } from '../state'
import { ids } from '../testids'
import { Strip } from './shortcut/strip'
import type { Way } from './shortcut/methods'
import { compare, compared, comparing, film, firstLook, offered, pictures, planned, problem, shown, stepChoices, steps, toggle, trials, trialUpdates, way, type Trial } from './shortcut/trials'
import './shortcut.css'

/** Colours of the methods, the same in strip, bars and charts. */
const colours: Record<string, number> = { sdo: 1, full: 2, identity: 3, 'full-checkpoint': 4, 'stale-4': 5, jump: 6, 'draft-1': 3, 'draft-5': 5 }

export function ShortcutTab(): JSX.Element {
  const blank = useComputed(() => usable.value && running.value === null && film.value?.chosen !== steps.value)
  useEffect(() => {
    if (!blank.value) return
    const soon = setTimeout(() => void firstLook(), film.value ? 600 : 0) // a slider may move on
    return () => clearTimeout(soon)
  }, [blank.value, steps.value, recipe.value])
  return (
    <div class="stack shortcut">
      <header class="stack tight">
        <h2>See the shortcut</h2>
        <p class="lead">
          A picture is made in many steps, each a call of the network. To improve it, a gradient has to travel back to the noise it began from. Full
          back-propagation walks through every call and must keep the buffers of all. The shortcut keeps one.
        </p>
      </header>
      {problem.value && (
        <Notice kind="error" title="That did not work" onClose={() => (problem.value = '')}>
          {problem.value}
        </Notice>
      )}
      <Update />
      {trials.value.length > 0 && <Measured rows={trials.value} />}
      <Memory />
    </div>
  )
}

function Update(): JSX.Element {
  const [index, setIndex] = useState(0)
  const w = way.value
  const f = film.value
  const n = steps.value
  return (
    <section class="card pad" aria-labelledby="shortcut-update">
      <div class="shortcut-head">
        <h3 id="shortcut-update">One update of the picture</h3>
        <Slider
          label="Sampler steps"
          min={0}
          max={stepChoices.length - 1}
          value={Math.max(0, stepChoices.indexOf(n))}
          show={(i) => String(stepChoices[i] ?? n)}
          onChange={(i) => (steps.value = stepChoices[i]!)}
          disabled={comparing.value}
          data-testid={ids.shortcutSteps}
        />
      </div>
      {w && (
        <>
          <div class="scroll-x">
            <Segmented label="Method to draw" value={w.name} options={offered.value.map((o) => ({ value: o.name, label: o.name, testid: `${ids.shortcutWay}-${o.name}` }))} onChange={(name) => (shown.value = name)} />
          </div>
          <p class="way">{w.says}</p>
          <div class={`drawn c${colours[w.name] ?? 1}`}>
            <Strip way={w} steps={f?.chosen === n ? f.steps : n} film={f?.chosen === n ? f : null} index={index % pictures.value} />
          </div>
          <Legend w={w} />
          <div class="shortcut-foot">
            <p class="small muted">
              <Where />
            </p>
            <div class="row tight" role="group" aria-label="Which picture of the batch" hidden={pictures.value < 2}>
              <Button size="small" kind="quiet" label="Picture before" onClick={() => setIndex((index + pictures.value - 1) % pictures.value)}>
                ‹
              </Button>
              <span class="small muted">
                picture {(index % pictures.value) + 1} of {pictures.value}
              </span>
              <Button size="small" kind="quiet" label="Next picture" onClick={() => setIndex((index + 1) % pictures.value)}>
                ›
              </Button>
            </div>
          </div>
          <Measure />
        </>
      )}
    </section>
  )
}

/** Which methods to measure, and the button that does. */
function Measure(): JSX.Element {
  const busy = running.value !== null && !running.value.background
  const chosen = offered.value.filter((o) => compared.value.includes(o.name))
  return (
    <div class="shortcut-measure">
      {comparing.value ? (
        <JobBar tab="shortcut" />
      ) : (
        <>
          <fieldset class="methods" disabled={busy}>
            <legend>Run for real, on the same noise</legend>
            {offered.value.map((o) => (
              <Check key={o.name} label={o.name} checked={compared.value.includes(o.name)} onChange={() => toggle(o.name)} data-testid={`${ids.shortcutMethod}-${o.name}`} />
            ))}
          </fieldset>
          <Button kind="primary" disabled={busy || chosen.length === 0 || !usable.value} onClick={() => void compare()} data-testid={ids.shortcutCompare}>
            {trials.value.length > 0 ? 'Measure again' : chosen.length > 1 ? 'Measure them' : 'Measure it'}
          </Button>
        </>
      )}
    </div>
  )
}

/** Where the run that is drawn stands. */
function Where(): JSX.Element {
  const f = film.value
  if (!f || f.pictures.length === 0) return <>The states appear here as soon as the first steps are made.</>
  switch (f.phase) {
    case 'forward':
      return (
        <>
          {f.way.name}, {f.update < f.updates ? `update ${f.update + 1}` : 'a last look'}: step {f.at} of {f.steps}
        </>
      )
    case 'backward':
      return (
        <>
          {f.way.name}, update {f.update + 1}: gradient on its way back, {plural(f.hop, 'call')} of {f.hops}
        </>
      )
    default:
      return <>{plural(f.steps, 'step')}, as {f.way.name} made them</>
  }
}

function Legend({ w }: { w: Way }): JSX.Element {
  const keeps = w.keeps(steps.value).length
  return (
    <ul class="strip-legend small" aria-label="Legend">
      {w.hops(steps.value) > 0 ? (
        <li>
          <i class="line" /> gradient, call by call
        </li>
      ) : (
        <>
          {w.name !== 'identity' && (
            <li>
              <i class="line" /> through the kept call
            </li>
          )}
          {w.straight && (
            <li>
              <i class="line dashed" /> straight to the noise, times a number of the schedule
            </li>
          )}
        </>
      )}
      {(keeps > 0 || w.name === 'sdo') && (
        <li>
          <i class="box full" /> call whose buffers wait for it
        </li>
      )}
      {keeps < steps.value && (
        <li>
          <i class="box" /> call that forgets
        </li>
      )}
    </ul>
  )
}

function Memory(): JSX.Element {
  const rows = planned.value
  const now = rows.find((r) => r.steps === steps.value)
  const full = rows.every((r) => r.full)
  const series: Series[] = [{ label: 'sdo', values: rows.map((r) => r.sdo.memory.activation_bytes), style: 'mean', color: 1 }]
  if (full) series.push({ label: 'full', values: rows.map((r) => r.full?.activation_bytes ?? null), style: 'mean', color: 2 })
  return (
    <section class="card pad stack" aria-labelledby="shortcut-memory">
      <h3 id="shortcut-memory">Memory that waits for the way back</h3>
      <p class="muted">Planned from the network's own buffers, for {plural(pictures.value, 'picture')}; nothing has to run for it. Move the slider above.</p>
      {rows.length === 0 ? (
        <p class="muted small">Planning…</p>
      ) : (
        <div class="shortcut-memory">
          <LineChart
            label="Planned bytes of activations by number of sampler steps"
            x={rows.map((r) => r.steps)}
            xLabel="sampler steps"
            series={series}
            y={[0, null]}
            height={200}
            format={(v) => (v === 0 ? '0' : bytes(v))}
            legend
            data-testid={ids.shortcutMemory}
          />
          {now && (
            <div>
              <Bars
                label={`With ${plural(now.steps, 'step')}`}
                most={Math.max(...rows.map((r) => r.full?.activation_bytes ?? r.sdo.memory.activation_bytes))}
                bars={[
                  { label: 'sdo, flat', value: now.sdo.memory.activation_bytes, text: bytes(now.sdo.memory.activation_bytes), color: 1 },
                  ...(now.full ? [{ label: 'full, rising', value: now.full.activation_bytes, text: bytes(now.full.activation_bytes), color: 2 }] : []),
                ]}
              />
              {now.full && (
                <p class="factor">
                  <b>{number(now.full.activation_bytes / now.sdo.memory.activation_bytes)} ×</b> <span class="muted">as much for full back-propagation</span>
                </p>
              )}
            </div>
          )}
        </div>
      )}
    </section>
  )
}

function Measured({ rows }: { rows: readonly Trial[] }): JSX.Element {
  const done = rows.filter((t) => t.state === 'done')
  const bar = (value: (t: Trial) => number, text: (t: Trial) => string, mark?: (t: Trial) => number) =>
    rows.map((t) => ({
      label: t.way.name,
      value: value(t),
      text: text(t),
      color: colours[t.way.name] ?? 1,
      mark: mark && t.state === 'done' ? mark(t) : undefined,
      note: t.why ? sentence(t.why) : t.state === 'done' ? undefined : t.state === 'running' ? 'running…' : 'waits for its turn',
    }))
  const last = (t: Trial) => t.curve[t.curve.length - 1]?.loss ?? 0
  return (
    <section class="card pad stack" aria-labelledby="shortcut-measured" data-testid={ids.shortcutResults}>
      <div class="stack tight">
        <h3 id="shortcut-measured">Measured, side by side</h3>
        <p class="muted">
          On {device.value?.name ?? 'this device'}: the current goal{recipe.value ? `, ${recipe.value.name}` : ''}, {plural(pictures.value, 'picture')}, {plural(rows[0]!.steps, 'step')},{' '}
          {plural(trialUpdates, 'update')} by every method.
        </p>
      </div>
      {done.length > 1 && <Verdict rows={done} />}
      <div class="bar-groups">
        <Bars label="Activations, measured" bars={bar((t) => t.peak, (t) => bytes(t.peak), (t) => t.plan!.memory.activation_bytes)} data-testid={ids.shortcutBytes} />
        <Bars label="Network calls of an update" bars={bar((t) => t.calls + t.backward, (t) => `${count(t.calls)} + ${count(t.backward)} back`)} />
        <Bars label="Time of an update" bars={bar((t) => t.seconds, (t) => duration(t.seconds))} />
        <Bars label={`Loss after ${plural(trialUpdates, 'update')}`} bars={bar(last, (t) => number(last(t)))} />
      </div>
      <p class="small muted">
        The thin mark is what was planned before anything was allocated.
        {device.value?.software ? ' This is a software adapter: times are good for ratios only.' : ''}
      </p>
      {done.length > 0 && (
        <>
          <h4>Loss for what it costs</h4>
          <Curves rows={rows} />
        </>
      )}
    </section>
  )
}

/** What the numbers say, in a sentence. */
function Verdict({ rows }: { rows: readonly Trial[] }): JSX.Element | null {
  const sdo = rows.find((t) => t.way.name === 'sdo')
  const full = rows.find((t) => t.way.name === 'full')
  if (!sdo || !full) return null
  return (
    <p class="verdict" role="status">
      At {plural(sdo.steps, 'step')} full back-propagation kept <b>{number(full.peak / sdo.peak)} ×</b> the activations and took{' '}
      <b>{number(full.seconds / sdo.seconds)} ×</b> the time of an update.
    </p>
  )
}

function Curves({ rows }: { rows: readonly Trial[] }): JSX.Element {
  const drawn = rows.filter((t) => t.curve.length > 0)
  const x = [...new Set(drawn.flatMap((t) => t.curve.map((p) => p.calls)))].sort((a, b) => a - b)
  const series: Series[] = drawn.map((t) => {
    const at = new Map(t.curve.map((p) => [p.calls, p.loss]))
    return { label: t.way.name, values: x.map((calls) => at.get(calls) ?? null), style: 'mean', color: colours[t.way.name] ?? 1 }
  })
  return <LineChart label="Mean loss against network calls so far" x={x} xLabel="network calls, forward and backward" series={series} y={[0, null]} legend data-testid={ids.shortcutCurves} />
}
