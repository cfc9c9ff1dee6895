// Device: what computes here, how fast it is, and whether its kernels are right.
import type { JSX } from 'preact'
import { Button, CopyButton, Disclosure, JobBar, Notice, Segmented } from '../components'
import { Bars } from '../components/bars'
import { count, number, plural, sentence } from '../format'
import { catalog, chosenDevice, core, device, running, usable } from '../state'
import { ids } from '../testids'
import type { Device, KernelCheck, Measured } from '../protocol'
import { advice, browser, remote, secure } from '../webgpu'
import { checkKernels, complete, kernels, measure, measured, problem, switching, switchTo, working } from './device/checks'
import { binary, isBytes, report, words } from './device/report'
import './device.css'

export function DeviceTab(): JSX.Element {
  const d = device.value
  return (
    <div class="stack device-tab">
      <header class="stack tight">
        <h2>Device</h2>
        <p class="lead">What computes on this page. The same kernels run natively and here; below you can see that they agree, and how fast they are.</p>
      </header>
      {problem.value && (
        <Notice kind="error" title="That did not work" onClose={() => (problem.value = '')}>
          {problem.value}
        </Notice>
      )}
      <section class="card pad stack" aria-labelledby="device-open" data-testid={ids.deviceFacts}>
        <div class="device-head">
          <div>
            <p class="small muted" id="device-open">
              {d ? (d.kind === 'webgpu' ? 'WebGPU adapter' : 'Without WebGPU, on the CPU') : core.value.phase === 'stopped' ? 'The core is not running' : 'Opening a device…'}
            </p>
            <p class="device-name">{d ? d.name : '…'}</p>
            {d?.driver && <p class="muted">{d.driver}</p>}
          </div>
          <Segmented
            label="Which device to use"
            value={chosenDevice.value}
            options={[
              { value: 'auto', label: 'Automatic', testid: `${ids.deviceKind}-auto` },
              { value: 'webgpu', label: 'WebGPU', testid: `${ids.deviceKind}-webgpu` },
              { value: 'cpu', label: 'CPU', testid: `${ids.deviceKind}-cpu` },
            ]}
            onChange={(v) => void switchTo(v)}
          />
        </div>
        {switching.value && (
          <p class="small muted" role="status">
            Opening it…
          </p>
        )}
        {d?.software && <Notice kind="warning">This adapter is software: a CPU that acts as a GPU. Times are good for ratios only.</Notice>}
        {d?.why && <Notice kind="warning">{sentence(d.why)}</Notice>}
      </section>
      {d?.kind === 'cpu' && <Help />}
      <Speed m={measured.value} d={d} />
      <Kernels rows={kernels.value} />
      {d && d.kind === 'webgpu' && <Limits d={d} />}
      <Report />
    </div>
  )
}

function Help(): JSX.Element {
  const [first, ...others] = advice()
  const steps = (lines: readonly string[]) => (
    <ul>
      {lines.map((line) => (
        <li key={line}>{line}</li>
      ))}
    </ul>
  )
  return (
    <section class="card pad stack" aria-labelledby="device-help">
      <h3 id="device-help">How to get WebGPU</h3>
      <p class="muted">You use {browser()}. Everything works on the CPU too, only slower.</p>
      <div class="help-steps">
        <h4>{first!.browsers.join(', ')}</h4>
        {steps([...first!.steps.map((s) => s.text), secure, remote])}
      </div>
      <Disclosure title="Other browsers">
        {others.map((a) => (
          <div key={a.browsers[0]} class="help-steps">
            <h4>{a.browsers.join(', ')}</h4>
            {steps(a.steps.map((s) => s.text))}
          </div>
        ))}
      </Disclosure>
    </section>
  )
}

function idle(): boolean {
  return usable.value && (running.value === null || running.value.background)
}

function Speed({ m, d }: { m: Measured | null; d: Device | null }): JSX.Element {
  const mine = working.value && running.value?.label === 'Measuring'
  return (
    <section class="card pad stack" aria-labelledby="device-speed">
      <div class="row between">
        <div>
          <h3 id="device-speed">Speed</h3>
          <p class="small muted">A large matrix product, one call of the embedded network, and what it costs to hand that call over.</p>
        </div>
        <Button kind={m ? 'plain' : 'primary'} disabled={!idle()} busy={mine} onClick={() => void measure()} data-testid={ids.deviceMeasure}>
          {mine ? 'Measuring…' : m ? 'Measure again' : 'Measure'}
        </Button>
      </div>
      {m && (
        <div class="stack" data-testid={ids.deviceMeasured}>
          <div class="numbers">
            <div>
              <b>{number(m.gemm_gflops)}</b> <span>GFLOP/s</span>
              <p>in a matrix product</p>
            </div>
            <div>
              <b>{number(m.call_ms)}</b> <span>ms</span>
              <p>a network call of 16 pictures{m.dispatches > 0 ? `, ${plural(m.dispatches, 'dispatch', 'dispatches')}` : ''}</p>
            </div>
            <div>
              <b>{number(m.readback_ms)}</b> <span>ms</span>
              <p>to read numbers back</p>
            </div>
          </div>
          {m.encode_plain_us > 0 && (
            <Bars
              label="CPU time to encode that network call"
              bars={[
                { label: 'one call into JavaScript, which replays a list', value: m.encode_replayed_us, text: `${number(m.encode_replayed_us / 1000)} ms`, color: 1 },
                { label: 'one JavaScript call a command', value: m.encode_plain_us, text: `${number(m.encode_plain_us / 1000)} ms`, color: 2 },
              ]}
            />
          )}
          {d?.software && <p class="small muted">On a software adapter these times are good for ratios only.</p>}
        </div>
      )}
    </section>
  )
}

function Kernels({ rows }: { rows: readonly KernelCheck[] }): JSX.Element {
  const mine = working.value && running.value?.label === 'Checking the kernels'
  const bad = rows.filter((r) => !r.ok)
  const sorted = [...bad, ...rows.filter((r) => r.ok)]
  return (
    <section class="card pad stack" aria-labelledby="device-kernels">
      <div class="row between">
        <div>
          <h3 id="device-kernels">Right or wrong</h3>
          <p class="small muted">Every operation with the shapes that break kernels, forward and backward, against float64 on the CPU.</p>
        </div>
        {!mine && (
          <Button kind={rows.length ? 'plain' : 'primary'} disabled={!idle()} onClick={() => void checkKernels()} data-testid={ids.deviceKernels}>
            {rows.length ? 'Check again' : 'Check the kernels'}
          </Button>
        )}
      </div>
      {mine && <JobBar tab="device" unit="row" pausable={false} />}
      {rows.length > 0 && (
        <>
          <p class={`kernel-summary ${bad.length ? 'bad' : 'good'}`} role="status" data-testid={ids.deviceSummary}>
            <span aria-hidden="true">{bad.length ? '✕' : '✓'}</span> {count(rows.length - bad.length)} of {count(rows.length)} rows agree with float64
            {complete.value ? '' : ' so far'}
          </p>
          <div class="scroll kernel-rows" tabIndex={0} role="group" aria-label="Rows, failures first">
            <table data-testid={ids.deviceRows}>
              <thead>
                <tr>
                  <th scope="col">Operation and shape</th>
                  <th scope="col">Error</th>
                  <th scope="col">Bound</th>
                  <th scope="col" class="share" title="By powers of ten: an empty bar is a hundred-millionth of the bound, a full one all of it">
                    Of the bound
                  </th>
                </tr>
              </thead>
              <tbody>
                {sorted.map((r) => (
                  <tr key={r.name} class={r.ok ? undefined : 'bad'}>
                    <td>
                      {r.name}
                      {!r.ok && <strong> · {r.message || 'disagrees'}</strong>}
                    </td>
                    <td>{r.error.toExponential(1)}</td>
                    <td>{r.bound.toExponential(0)}</td>
                    <td class="share">
                      <i style={{ width: `${share(r)}%` }} />
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </>
      )}
    </section>
  )
}

/** How much of its bound an error uses, in percent; errors span many powers of ten, so by their logarithm. */
function share(r: KernelCheck): number {
  if (r.error <= 0 || r.bound <= 0) return 0
  return Math.max(0, Math.min(100, 100 + 12.5 * Math.log10(r.error / r.bound)))
}

function Limits({ d }: { d: Device }): JSX.Element {
  const limits = Object.entries(d.limits)
  return (
    <section class="card pad stack" aria-labelledby="device-limits">
      <h3 id="device-limits">What the adapter offers</h3>
      <dl data-testid={ids.deviceLimits} class="limits">
        {limits.map(([name, value]) => (
          <div key={name}>
            <dt title={name}>{words(name)}</dt>
            <dd>{isBytes(name) ? binary(value) : count(value)}</dd>
          </div>
        ))}
      </dl>
      <div>
        <h4>Features</h4>
        {d.features.length > 0 ? (
          <ul class="features">
            {[...d.features].sort().map((f) => (
              <li key={f} class="chip">
                {f}
              </li>
            ))}
          </ul>
        ) : (
          <p class="small muted">None beyond the standard’s core.</p>
        )}
      </div>
    </section>
  )
}

function Report(): JSX.Element {
  const text = report(catalog.value?.version ?? '', device.value, measured.value, kernels.value, complete.value)
  return (
    <section class="card pad stack" aria-labelledby="device-report">
      <div class="row between">
        <div>
          <h3 id="device-report">For a bug report</h3>
          <p class="small muted">Browser, adapter, limits and what was measured. It is only copied, never sent.</p>
        </div>
        <CopyButton text={text}>Copy the report</CopyButton>
      </div>
      <Disclosure title="Read it first">
        <pre tabIndex={0} data-testid={ids.deviceReport}>
          {text}
        </pre>
      </Disclosure>
    </section>
  )
}
