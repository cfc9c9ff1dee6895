// Bars to one scale: what methods cost, beside each other. Not among the page's
// first components; tabs that compare numbers import it from here.
import type { JSX } from 'preact'
import './bars.css'

export interface Bar {
  label: string
  value: number
  text: string // the value as it is read
  color?: number // 1 to 6, of the palette
  /** A mark on the same scale: what was planned. */
  mark?: number
  note?: string // in place of a bar
}

interface BarsProps {
  label: string
  bars: readonly Bar[]
  most?: number // the scale's end; the largest value without it
  compact?: boolean // a row is one line
  'data-testid'?: string
}

/** Rows of a label, a bar and its number. */
export function Bars({ label, bars, most, compact, 'data-testid': testid }: BarsProps): JSX.Element {
  const end = most ?? Math.max(1e-12, ...bars.flatMap((b) => [b.value, b.mark ?? 0]))
  const share = (v: number) => `${Math.max(0, Math.min(1, v / end)) * 100}%`
  return (
    <div class={`bars${compact ? ' compact' : ''}`} data-testid={testid}>
      <h4>{label}</h4>
      <ul>
        {bars.map((b) => (
          <li key={b.label}>
            <span class="bar-label">{b.label}</span>
            {b.note ? (
              <span class="bar-note">{b.note}</span>
            ) : (
              <>
                <span class="bar-track" aria-hidden="true">
                  <i style={{ width: share(b.value), background: `var(--c${b.color ?? 1})` }} />
                  {b.mark !== undefined && <b style={{ left: share(b.mark) }} />}
                </span>
                <span class="bar-text">{b.text}</span>
              </>
            )}
          </li>
        ))}
      </ul>
    </div>
  )
}
