// Audit: how far one-step gradients agree with full back-propagation, for the current goal.
import type { JSX } from 'preact'
import { Button, Disclosure, JobBar, LineChart, Notice, Segmented, type Series } from '../components'
import { duration, number, percent, plural, sentence, title } from '../format'
import { go, recipe, running, usable } from '../state'
import { ids } from '../testids'
import type { AuditResult, AuditRow } from '../protocol'
import { auditing, auditPictures, batches, begin, curves, of, problem, result, rule, stale, variables, type Curve } from './audit/auditing'
import './audit.css'

export function AuditTab(): JSX.Element {
  const r = recipe.value
  const busy = running.value !== null && !running.value.background
  const done = result.value
  return (
    <div class="stack audit">
      <header class="stack tight">
        <h2>Audit</h2>
        <p class="lead">
          A shortcut is only worth its speed if it points the right way. Here your goal’s gradient by one call is held against full back-propagation, the true one.
        </p>
      </header>
      {problem.value && (
        <Notice kind="error" title="That did not work" onClose={() => (problem.value = '')}>
          {problem.value}
        </Notice>
      )}
      <section class="card pad stack">
        <div class="audit-ask">
          <div>
            <h3>{r ? title(r.name) : 'The current goal'}</h3>
            <p class="muted small">
              {r ? `${plural(r.sampler.num_inference_steps, 'step')}, ${plural(auditPictures, 'fresh picture')} a batch. Full back-propagation really runs. ` : ''}
              <button type="button" class="link" onClick={() => go('steer')}>
                Change the goal
              </button>
            </p>
          </div>
          <div class="row">
            <Segmented
              label="Batches of fresh pictures"
              value={String(batches.value)}
              options={[1, 2, 4].map((n) => ({ value: String(n), label: plural(n, 'batch', 'batches'), testid: `${ids.auditBatches}-${n}` }))}
              onChange={(v) => (batches.value = Number(v))}
            />
            {!auditing.value && (
              <Button kind="primary" disabled={busy || !r || !usable.value} onClick={() => void begin()} data-testid={ids.auditStart}>
                {done ? 'Audit again' : 'Audit'}
              </Button>
            )}
          </div>
        </div>
        {auditing.value && <JobBar tab="audit" unit="pass" pausable={false} />}
      </section>
      {done ? <Findings done={done} /> : <Expect />}
    </div>
  )
}

function Expect(): JSX.Element {
  return (
    <section class="card pad stack">
      <h3>How to read it</h3>
      <p>
        The cosine between two gradients says how far they agree: 1 is the same direction, 0 has nothing in common, below 0 a small step makes the picture worse. It
        is taken at every state of the rollout, because one step is exact when only one is left and has the furthest to leap from the noise.
      </p>
    </section>
  )
}

function Findings({ done }: { done: AuditResult }): JSX.Element {
  const audited = of.value!
  if (done.rows.length === 0)
    return (
      <Notice kind="warning" title="There is no gradient to compare">
        {done.cancelled ? 'The audit was cancelled before the first comparison.' : 'All pictures satisfy the goal from the start. Try another seed or more batches.'}
      </Notice>
    )
  return (
    <>
      {stale.value && <Notice>This is of {title(audited.name)} as it was. The goal has changed since; audit again to see the new one.</Notice>}
      {done.cancelled && <Notice>Cancelled; what was measured until then is below.</Notice>}
      {done.advice.length > 0 && (
        <section class="card pad stack" aria-labelledby="audit-advice" data-testid={ids.auditAdvice}>
          <h3 id="audit-advice">What the numbers speak for</h3>
          {done.advice.map((line) => (
            <p key={line} class="advice">
              {sentence(line)}
            </p>
          ))}
        </section>
      )}
      {variables(done.rows).map((v) => (
        <Variable key={v} name={v} rows={done.rows.filter((r) => r.variable === v)} done={done} />
      ))}
    </>
  )
}

const titles: Record<string, string> = {
  latents: 'At every state, from the noise to the picture',
  noises: 'At the fresh noise of every step',
  condition: 'The condition, by the call that is kept',
  parameters: 'The parameters, by the call that is kept',
}

function Variable({ name, rows, done }: { name: string; rows: readonly AuditRow[]; done: AuditResult }): JSX.Element {
  const drawn = curves(rows)
  const steps = [...new Set(rows.map((r) => r.step).filter((s) => s >= 0))].sort((a, b) => a - b)
  const unit = name === 'parameters' ? 'batch' : 'picture'
  const units = Math.max(...rows.map((r) => r.units))
  const left = Math.max(...rows.map((r) => r.left_out))
  const several = units > 1
  const frozen = drawn[0]?.freezes.filter((f) => f !== '') ?? []
  const alike = drawn.every((c) => c.freezes.join() === drawn[0]!.freezes.join())
  const series: Series[] = drawn.flatMap((c, i): Series[] => {
    const color = colour(c, i)
    const named = alike ? c.rule : label(c)
    const mean: Series = { label: named, values: steps.map((s) => c.mean.get(s) ?? null), style: 'mean', color }
    return several ? [mean, { label: `${named}, lowest`, values: steps.map((s) => c.low.get(s) ?? null), style: 'plain', color, dashed: true }] : [mean]
  })
  const lowest = Math.min(...rows.map((r) => (r.step >= 0 ? r.cosine_min : r.cosine)))
  return (
    <section class="card pad stack" aria-labelledby={`audit-${name}`}>
      <div class="row between">
        <h3 id={`audit-${name}`}>{titles[name] ?? title(name)}</h3>
        <span class="small muted facts">
          {plural(units, unit, unit === 'batch' ? 'batches' : 'pictures')}
          {left > 0 ? `, ${left} left out as already satisfied` : ''} · {duration(done.seconds)}
        </span>
      </div>
      {steps.length > 0 && (
        <LineChart
          label={`Cosine to full back-propagation, ${titles[name] ?? name}`}
          x={steps}
          xLabel={name === 'latents' ? 'steps taken from the noise' : 'call that is kept'}
          series={series}
          y={[Math.min(0, Math.floor(lowest * 5) / 5), 1]}
          height={260}
          format={(v) => String(Math.round(v * 100) / 100)}
          legend
          data-testid={ids.auditChart}
        />
      )}
      <p class="small muted">
        1 is the direction of full back-propagation, 0 has nothing in common with it, below 0 a small step makes things worse.{' '}
        {name === 'latents'
          ? 'Left is the start noise, which steering changes; right, one step before the picture, where one call is exact.'
          : 'Each point keeps one call alone; rules that draw calls are in the table.'}
        {several ? ` Dashed is the ${unit} that agrees least.` : ''}
        {alike && frozen.length > 1 ? ` Freezing ${frozen.join(' or ')} gives the same direction and another length.` : ''}
      </p>
      <Disclosure title="All numbers" data-testid={ids.auditTable}>
        <Table rows={rows} unit={unit} name={name} />
      </Disclosure>
    </section>
  )
}

const known: Record<string, number> = { sdo: 1, identity: 3, importance: 1, first: 5, last: 4, all: 2, uniform: 6 }

function colour(c: Curve, i: number): number {
  return known[c.rule] ?? (i % 6) + 1
}

function label(c: Curve): string {
  const frozen = c.freezes.filter((f) => f !== '')
  return frozen.length > 0 ? `${c.rule}, ${frozen.join(' or ')} frozen` : c.rule
}

function Table({ rows, unit, name }: { rows: readonly AuditRow[]; unit: string; name: string }): JSX.Element {
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label="Table of all comparisons">
      <table>
        <thead>
          <tr>
            <th scope="col">{name === 'latents' ? 'State' : 'Call'}</th>
            <th scope="col">Gradient</th>
            <th scope="col">Frozen</th>
            <th scope="col">Cosine</th>
            <th scope="col">Lowest</th>
            <th scope="col" title="Length over the true gradient's">
              Length
            </th>
            <th scope="col" title={`Share of ${unit === 'batch' ? 'batches' : 'pictures'} that a small step would make worse`}>
              Wrong way
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map((r) => (
            <tr key={`${r.step} ${r.method} ${r.active} ${r.freeze}`}>
              <td>{r.step >= 0 ? (r.step === 0 && name === 'latents' ? '0, noise' : r.step) : 'rule'}</td>
              <td>{rule(r)}</td>
              <td>{r.freeze || '–'}</td>
              <td>{r.cosine.toFixed(3)}</td>
              <td>{r.cosine_min.toFixed(3)}</td>
              <td>{number(r.relative_norm)}</td>
              <td>{percent(r.negative_share)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}
