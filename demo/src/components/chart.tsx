// Line charts by uPlot, with the numbers in a table for screen readers.
import type { JSX } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import uPlot from 'uplot'
import 'uplot/dist/uPlot.min.css'
import { number } from '../format'
import { theme } from '../state'

export interface Series {
  label: string
  values: readonly (number | null)[]
  /** mean: bold; each: thin and faint, left out of legend and table; plain: as it is. */
  style?: 'mean' | 'each' | 'plain'
  /** 1 to 6: a colour of the palette; 1 is the brand's. */
  color?: number
  dashed?: boolean
}

export interface LineChartProps {
  label: string
  x: readonly number[]
  xLabel: string
  series: readonly Series[]
  height?: number
  /** Bounds of y; null fits. */
  y?: [number | null, number | null]
  format?: (value: number) => string
  legend?: boolean
  'data-testid'?: string
}

export function LineChart(props: LineChartProps): JSX.Element {
  const { label, x, xLabel, series, height = 220, legend } = props
  const box = useRef<HTMLDivElement>(null)
  const plot = useRef<{ chart: uPlot; shape: string } | null>(null)
  const frame = useRef(0)
  const latest = useRef(props)
  latest.current = props
  const look = theme.value

  // A new chart where lines or colours change; else only new numbers, at most once a frame.
  useEffect(() => {
    const draw = () => {
      frame.current = 0
      const el = box.current
      if (!el || el.clientWidth === 0) return
      const p = latest.current
      const shape = JSON.stringify([p.series.map((s) => [s.label, s.style, s.color, s.dashed]), p.y, p.height, p.xLabel, look])
      const data = [p.x, ...p.series.map((s) => s.values)] as uPlot.AlignedData
      if (plot.current?.shape === shape) {
        plot.current.chart.setData(data)
        return
      }
      plot.current?.chart.destroy()
      plot.current = { shape, chart: new uPlot(options(el, p), data, el) }
    }
    if (!frame.current) frame.current = requestAnimationFrame(draw)
  }, [x, series, look, height])

  useEffect(() => {
    const el = box.current!
    const resize = new ResizeObserver(() => plot.current?.chart.setSize({ width: el.clientWidth, height: latest.current.height ?? 220 }))
    resize.observe(el)
    const dark = matchMedia('(prefers-color-scheme: dark)')
    const recolour = () => {
      if (!plot.current) return
      const p = latest.current
      plot.current.chart.destroy()
      plot.current.chart = new uPlot(options(el, p), [p.x, ...p.series.map((s) => s.values)] as uPlot.AlignedData, el)
    }
    dark.addEventListener('change', recolour)
    return () => {
      resize.disconnect()
      dark.removeEventListener('change', recolour)
      cancelAnimationFrame(frame.current)
      frame.current = 0
      plot.current?.chart.destroy()
      plot.current = null
    }
  }, [])

  const told = series.filter((s) => s.style !== 'each')
  const rows = thinned(x.length, 20)
  const show = props.format ?? number
  return (
    <figure class="chart" aria-label={label} data-testid={props['data-testid']}>
      {legend && (
        <figcaption class="legend">
          {told.map((s) => (
            <span key={s.label} class={`key c${s.color ?? 1}${s.dashed ? ' dashed' : ''}`}>
              {s.label}
            </span>
          ))}
        </figcaption>
      )}
      <div ref={box} aria-hidden="true" style={{ height: `${height}px` }} />
      <div class="hidden">
        <table>
          <caption>{label}</caption>
          <thead>
            <tr>
              <th scope="col">{xLabel}</th>
              {told.map((s) => (
                <th scope="col" key={s.label}>
                  {s.label}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((i) => (
              <tr key={i}>
                <th scope="row">{x[i]}</th>
                {told.map((s) => (
                  <td key={s.label}>{s.values[i] == null ? '' : show(s.values[i]!)}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </figure>
  )
}

/** At most `most` of 0..n-1, the last one among them. */
function thinned(n: number, most: number): number[] {
  const every = Math.max(1, Math.ceil(n / most))
  const rows: number[] = []
  for (let i = (n - 1) % every; i < n; i += every) if (i >= 0) rows.push(i)
  return rows
}

function options(el: HTMLElement, p: LineChartProps): uPlot.Options {
  const colour = reader(el)
  const muted = colour('--muted')
  const rule = colour('--rule')
  const font = `12px ${getComputedStyle(el).fontFamily}`
  const show = p.format ?? number
  const axis = { stroke: muted, font, labelFont: font, ticks: { show: false }, border: { show: false } }
  const faint = p.series.filter((s) => s.style === 'each').length
  return {
    width: el.clientWidth,
    height: p.height ?? 220,
    legend: { show: false },
    cursor: { show: false },
    scales: {
      x: { time: false },
      y: { range: bounds(p.y) },
    },
    axes: [
      { ...axis, grid: { show: false }, size: 26, gap: 3, label: p.xLabel, labelSize: 18, labelGap: 0, space: 56, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] },
      { ...axis, grid: { stroke: rule, width: 1 }, size: 52, space: 36, values: (_, at) => at.map((v) => (v == null ? '' : show(v))) },
    ],
    series: [
      {},
      ...p.series.map((s): uPlot.Series => {
        const each = s.style === 'each'
        const stroke = colour(`--c${s.color ?? 1}`)
        return {
          label: s.label,
          stroke,
          width: each ? 1 : s.style === 'mean' ? 2.6 : 2,
          alpha: each ? Math.max(0.12, Math.min(0.4, 6 / faint)) : 1,
          dash: s.dashed ? [6, 5] : undefined,
          points: { show: (u) => u.data[0].length === 1, size: 5, fill: stroke },
          spanGaps: true,
        }
      }),
    ],
  }
}

function bounds(y?: [number | null, number | null]): uPlot.Range.Function {
  return (_, low, high) => {
    const min = y?.[0] ?? Math.min(low ?? 0, high ?? 1)
    let max = y?.[1] ?? Math.max(low ?? 0, high ?? 1)
    if (max <= min) max = min + 1
    const air = (max - min) * 0.06
    return [y?.[0] ?? min - (min === 0 ? 0 : air), y?.[1] ?? max + air]
  }
}

/** Reads custom properties as canvases want them, light-dark() resolved. */
function reader(el: HTMLElement): (name: string) => string {
  return (name) => {
    const before = el.style.color
    el.style.color = `var(${name})`
    const value = getComputedStyle(el).color
    el.style.color = before
    return value
  }
}
