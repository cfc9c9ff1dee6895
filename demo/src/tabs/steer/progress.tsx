// The run in numbers: the loss over the updates, and what it costs.
import type { JSX } from 'preact'
import { useMemo } from 'preact/hooks'
import { LineChart, type Series } from '../../components'
import { bytes, count, duration, number } from '../../format'
import { running } from '../../state'
import { ids } from '../../testids'
import { planned, story } from './run'

export function Progress(): JSX.Element {
  const s = story.value
  const lines = useMemo(() => (s ? series(s.losses) : []), [s])
  const x = useMemo(() => (s ? [...s.at] : []), [s])
  if (!s) {
    return (
      <p class="muted">
        Nothing has run yet. Press <strong>Steer</strong>, and this shows the loss of every picture, network calls and time.
      </p>
    )
  }
  const r = s.result
  return (
    <div class="stack">
      <div>
        <h3>Loss over the updates</h3>
        <p class="help">Each picture faint, their mean bold. Below is better.</p>
      </div>
      {s.losses.length === 0 && <p class="chart-place muted">The first sample is on its way.</p>}
      {s.losses.length > 0 && <LineChart label="Loss over the updates" x={x} xLabel="updates" series={lines} height={230} y={[0, null]} data-testid={ids.lossChart} />}
      <div class="numbers" data-testid={ids.counters}>
        <Fact value={`${s.update}`} unit={`of ${s.updates}`} says={r?.cancelled ? 'updates, then ended by you' : r && s.update < s.updates ? 'updates were enough' : s.from > 0 ? `updates, resumed at ${s.from}` : 'updates'} />
        <Fact value={count(s.counters.network_calls)} unit={`+ ${count(s.counters.backward_calls)} back`} says="network calls" />
        <Fact value={s.perUpdate > 0 ? duration(s.perUpdate) : r && s.update > 0 ? duration(r.seconds / s.update) : '–'} unit="" says="an update" />
        <Fact value={s.seconds > 0 ? duration(s.seconds) : '–'} unit="" says={`${r ? 'in all' : running.value?.paused ? 'so far, paused' : 'so far'}${s.place === 'edge' ? ', on the edge' : ''}`} />
        {r ? (
          <>
            {r.peak_bytes > 0 ? (
              <Fact value={bytes(r.peak_bytes)} unit="" says={`kept at most; ${bytes(r.planned_bytes)} planned`} />
            ) : (
              <Fact value={bytes(r.planned_bytes)} unit="" says="of buffers planned" />
            )}
            <Fact value={number(r.drift)} unit="of 2" says="root mean square change of a picture’s values" />
          </>
        ) : (
          planned.value && s.place === 'device' && <Fact value={bytes(planned.value.memory.activation_bytes)} unit="" says="of buffers planned" />
        )}
      </div>
      {!r && s.phase !== 'update' && running.value && (
        <p class="help" aria-hidden="true">
          {s.phase === 'inversion' ? `Taking the picture back to noise: step ${s.step} of ${s.steps}` : s.phase === 'backward' ? 'Sending the gradient back' : `Sampling: call ${s.step} of ${s.steps}`}
        </p>
      )}
    </div>
  )
}

function Fact({ value, unit, says }: { value: string; unit: string; says: string }): JSX.Element {
  return (
    <div>
      <b>{value}</b> <span>{unit}</span>
      <p>{says}</p>
    </div>
  )
}

function series(losses: number[][]): Series[] {
  const n = losses[0]?.length ?? 0
  const each: Series[] = n > 1 && n <= 64 ? Array.from({ length: n }, (_, i) => ({ label: `picture ${i + 1}`, style: 'each' as const, values: losses.map((l) => l[i] ?? null) })) : []
  const mean = losses.map((l) => l.reduce((a, b) => a + b, 0) / Math.max(1, l.length))
  return [...each, { label: 'mean', style: 'mean', values: mean }]
}
