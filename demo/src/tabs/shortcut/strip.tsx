// The film strip of a rollout with the way of the gradient drawn over it and
// the buffers that wait for it drawn under it.
import type { JSX } from 'preact'
import { useLayoutEffect, useRef, useState } from 'preact/hooks'
import { Picture } from '../../components'
import { plural } from '../../format'
import { ids } from '../../testids'
import type { Way } from './methods'
import type { Film } from './trials'

interface StripProps {
  way: Way
  steps: number
  film: Film | null // of this way, or of another on the same noise
  index: number // which picture of the batch
}

/** Steps to show where there is room for so many: both ends and what is kept, and evenly between. */
function thinned(steps: number, room: number, kept: readonly number[]): number[] {
  const must = [0, steps, ...(kept.length <= 2 ? kept.flatMap((call) => [call, call + 1]) : [])]
  for (let n = Math.max(room, 3); ; n--) {
    const even = Array.from({ length: n }, (_, i) => Math.round((i * steps) / (n - 1)))
    const all = [...new Set([...must, ...even])].sort((a, b) => a - b)
    if (all.length <= Math.max(room, must.length) || n <= 2) return all
  }
}

export function Strip({ way, steps, film, index }: StripProps): JSX.Element {
  const box = useRef<HTMLDivElement>(null)
  const [width, setWidth] = useState(0)
  useLayoutEffect(() => {
    const el = box.current!
    const observer = new ResizeObserver(() => setWidth(el.clientWidth))
    observer.observe(el)
    setWidth(el.clientWidth)
    return () => observer.disconnect()
  }, [])

  const mine = film?.way === way ? film : null
  const phase = mine?.phase ?? 'idle'
  const kept = mine ? mine.kept : way.keeps(steps)
  const narrow = width < 560
  const room = Math.min(steps + 1, Math.max(4, Math.floor(width / (narrow ? 38 : 46))))
  const at = thinned(steps, room, kept)
  const gap = narrow ? 4 : 6
  const tile = Math.max(8, (width - gap * (at.length - 1)) / at.length)
  const x = (i: number): number => i * (tile + gap) + tile / 2
  const size = Math.min(tile, 88)
  const frames = at.map((step) => film?.pictures[step])
  const dimFrom = phase === 'forward' ? mine!.at : steps

  return (
    <figure class="strip" ref={box} data-testid={ids.shortcutStrip} aria-label={describe(way, steps, kept)}>
      {width > 0 && (
        <>
          <Ways way={way} at={at} kept={kept} x={x} width={width} height={narrow ? 84 : 120} phase={phase} passed={mine ? mine.hop / Math.max(1, mine.hops) : 0} passes={mine?.passes ?? 0} />
          <ol class="strip-tiles" style={{ gap: `${gap}px` }}>
            {at.map((step, i) => (
              <li key={step} class={`${step > dimFrom || (way.skips && step > 0 && step < steps) ? 'dim' : ''}${step === 0 ? ' start' : ''}${step === steps ? ' end' : ''}`}>
                <span style={{ width: `${size}px`, height: `${size}px` }}>
                  {frames[i] && index < frames[i].count ? (
                    <Picture of={frames[i]} index={index} label={step === steps ? 'the picture' : `the state after step ${step}`} />
                  ) : (
                    <i class={`px ${step === 0 ? 'noise' : 'blank'}`} role="img" aria-label={step === 0 ? 'the start noise' : `the state after step ${step}, not made yet`} />
                  )}
                </span>
                <small>{step === 0 ? 'noise' : step === steps ? 'picture' : step}</small>
              </li>
            ))}
          </ol>
          <Buffers at={at} kept={kept} x={x} width={width} tile={tile} current={phase === 'backward' && way.name === 'full-checkpoint' ? steps - mine!.hop : -1} />
        </>
      )}
    </figure>
  )
}

function describe(way: Way, steps: number, kept: readonly number[]): string {
  const calls = kept.length === 0 ? 'no call keeps' : kept.length === 1 ? `call ${kept[0]! + 1} keeps` : `${plural(kept.length, 'call')} keep`
  return `${plural(steps, 'sampler step')} from noise to picture by ${way.name}: ${calls} buffers for the way back. ${way.says}`
}

interface WaysProps {
  way: Way
  at: readonly number[]
  kept: readonly number[]
  x: (i: number) => number
  width: number
  height: number
  phase: Film['phase']
  passed: number // share of the way back
  passes: number
}

/** Arcs from the picture back: over everything at once, or from step to step. */
function Ways({ way, at, kept, x, width, height, phase, passed, passes }: WaysProps): JSX.Element {
  const last = at.length - 1
  const steps = at[last]!
  const foot = height - 3
  const dot = height - 13 // kept calls sit between two tiles, a little above them
  const hops = way.hops(steps)
  const ready = phase === 'idle' || phase === 'backward'
  // A pass may be told all at once; its hops then light up one after the other all the same.
  const arcs: { d: string; dashed?: boolean; to: [number, number]; vivid: boolean; key: string; delay?: number }[] = []
  const calls = kept.slice(0, hops > 0 ? 0 : 4).flatMap((call) => {
    const i = at.indexOf(call)
    return i >= 0 && at[i + 1] === call + 1 ? [(x(i) + x(i + 1)) / 2] : []
  })
  if (hops > 0) {
    for (let i = last; i > 0 && steps - at[i]! < hops; i--) {
      const from = x(i)
      const to = x(i - 1)
      const lift = Math.min(height * 0.75, 14 + (from - to) * 0.9)
      const d = `M${from - 3} ${foot} C${from - 3} ${foot - lift} ${to + 3} ${foot - lift} ${to + 3} ${foot - 5}`
      arcs.push({ d, to: [to + 3, foot], vivid: phase === 'idle' || (phase === 'backward' && steps - at[i]! < passed * hops), key: `hop${i}`, delay: phase === 'backward' ? (last - i) * 20 : 0 })
    }
  } else {
    const from = x(last)
    const leap = (to: number, end: number, top: number): string => {
      const control = foot - (foot - top) / 0.75
      return `M${from} ${foot} C${from} ${control} ${to} ${control} ${to} ${end - 5}`
    }
    if (way.straight) arcs.push({ d: leap(x(0) - 4, foot, 8), dashed: true, to: [x(0) - 4, foot], vivid: ready, key: 'straight' })
    calls.forEach((to, i) => arcs.push({ d: leap(to, dot - 4, 22), to: [to, dot - 4], vivid: ready, key: `call${i}` }))
  }
  return (
    <svg class={`strip-ways ${phase} ${hops > 0 ? 'chain' : 'leap'}`} width={width} height={height} viewBox={`0 0 ${width} ${height}`} aria-hidden="true">
      {arcs.map((a) => (
        <g key={a.key} class={a.vivid ? 'vivid' : undefined} style={a.delay ? { transitionDelay: `${a.delay}ms` } : undefined}>
          <path class={a.dashed ? 'dashed' : undefined} d={a.d} />
          <path class="head" d={`M${a.to[0]} ${a.to[1]} l-4 -8 h8 z`} />
        </g>
      ))}
      {calls.map((cx) => (
        <circle key={cx} class="call" cx={cx} cy={dot + 1} r="4.5" />
      ))}
      {way.straight &&
        calls.slice(0, 1).map((cx) => (
          <g key={cx} class={ready ? 'vivid' : undefined}>
            <path d={`M${cx - 5} ${dot + 1} L${x(0) + 12} ${dot + 1}`} />
            <path class="head" d={`M${x(0) + 5} ${dot + 1} l8 -4 v8 z`} />
          </g>
        ))}
      {phase === 'backward' &&
        hops === 0 &&
        arcs.map((a) => <circle key={`${a.key}-${passes}`} class="runner" r="5" style={{ offsetPath: `path("${a.d}")` }} />)}
    </svg>
  )
}

interface BuffersProps {
  at: readonly number[]
  kept: readonly number[]
  x: (i: number) => number
  width: number
  tile: number
  current: number // the one call whose buffers are made again now; -1 for none
}

/** One bar a network call, full where its buffers are kept. */
function Buffers({ at, kept, x, width, tile, current }: BuffersProps): JSX.Element {
  const bar = Math.max(6, tile * 0.62)
  return (
    <svg class="strip-buffers" width={width} height="14" viewBox={`0 0 ${width} 14`} aria-hidden="true">
      {at.slice(1).map((step, i) => {
        const middle = (x(i) + x(i + 1)) / 2
        const left = at[i]!
        const skipped = step - left > 1
        const full = Array.from({ length: step - left }, (_, k) => left + k).some((call) => kept.includes(call) || call === current)
        return <rect key={step} class={`${full ? 'full' : ''}${skipped ? ' several' : ''}`} x={middle - bar / 2} y="2" width={bar} height="9" rx="3" />
      })}
    </svg>
  )
}
