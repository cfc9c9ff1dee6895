// A rectangle on the picture's grid, dragged or moved by keys.
import type { JSX } from 'preact'
import { useLayoutEffect, useRef, useState } from 'preact/hooks'
import { pictureOf } from '../../components'
import type { Pictures } from '../../protocol'
import { ids } from '../../testids'
import { regionWords } from './words'

export type Region = [number, number, number, number]

interface Props {
  label: string
  width: number
  height: number
  region: Region
  colour?: string // it is filled with; none hatches it
  under?: Pictures | null
  /** Rectangles of other goals, to see how they fit together. */
  others?: { region: Region; colour: string }[]
  onChange: (r: Region) => void
}

export function RegionPicker({ label, width, height, region, colour, under, others, onChange }: Props): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null)
  const box = useRef<HTMLDivElement>(null)
  const [from, setFrom] = useState<[number, number] | null>(null)
  const [keyboard, setKeyboard] = useState(false)
  useLayoutEffect(() => {
    if (!canvas.current) return
    canvas.current.width = width
    canvas.current.height = height
    if (under && under.width === width && under.height === height) canvas.current.getContext('2d')!.putImageData(pictureOf(under, 0), 0, 0)
  }, [under, width, height])

  const at = (e: PointerEvent): [number, number] => {
    const b = box.current!.getBoundingClientRect()
    const clamp = (v: number, n: number) => Math.max(0, Math.min(n - 1, Math.floor(v * n)))
    return [clamp((e.clientX - b.left) / b.width, width), clamp((e.clientY - b.top) / b.height, height)]
  }
  const between = (a: [number, number], b: [number, number]): Region => [
    Math.min(a[0], b[0]),
    Math.min(a[1], b[1]),
    Math.abs(a[0] - b[0]) + 1,
    Math.abs(a[1] - b[1]) + 1,
  ]
  const key = (e: KeyboardEvent) => {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key] ?? [0, 0]
    if (dx === 0 && dy === 0) return
    e.preventDefault()
    setKeyboard(true)
    const [x, y, w, h] = region
    const limit = (v: number, low: number, high: number) => Math.max(low, Math.min(high, v))
    if (e.shiftKey) onChange([x, y, limit(w + dx!, 1, width - x), limit(h + dy!, 1, height - y)])
    else onChange([limit(x + dx!, 0, width - w), limit(y + dy!, 0, height - h), w, h])
  }
  const place = ([x, y, w, h]: Region) => ({
    left: `${(x / width) * 100}%`,
    top: `${(y / height) * 100}%`,
    width: `${(w / width) * 100}%`,
    height: `${(h / height) * 100}%`,
  })
  return (
    <div class="editor">
      <div
        ref={box}
        class="canvas-box region"
        tabIndex={0}
        role="application"
        aria-label={`${label}: ${regionWords(region)}. Drag a rectangle, or move it with the arrow keys and size it with Shift and the arrow keys.`}
        onPointerDown={(e) => {
          e.preventDefault()
          box.current!.focus({ preventScroll: true })
          box.current!.setPointerCapture(e.pointerId)
          setKeyboard(false)
          const p = at(e)
          setFrom(p)
          onChange(between(p, p))
        }}
        onPointerMove={(e) => from && onChange(between(from, at(e)))}
        onPointerUp={() => setFrom(null)}
        onPointerCancel={() => setFrom(null)}
        onKeyDown={key}
        data-testid={ids.region}
        style={{ '--w': width, '--h': height }}
      >
        <canvas ref={canvas} width={width} height={height} />
        <i class="lines" />
        {others?.map((o, i) => (
          <i key={i} class="rect other" style={{ ...place(o.region), background: o.colour }} />
        ))}
        <i class={`rect${colour ? '' : ' hatched'}`} style={{ ...place(region), background: colour }} />
      </div>
      <p class="hidden" aria-live="polite">
        {keyboard ? regionWords(region) : ''}
      </p>
      <p class="help">Drag a rectangle: {regionWords(region)}.</p>
    </div>
  )
}
