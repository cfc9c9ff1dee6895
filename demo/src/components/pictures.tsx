// Pictures: small canvases, enlarged without smoothing.
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import type { Pictures } from '../protocol'

/** Picture i of a batch. */
export function pictureOf(p: Pictures, i: number): ImageData {
  const size = p.width * p.height * 4
  return new ImageData(p.rgba.slice(i * size, (i + 1) * size), p.width, p.height)
}

function paint(canvas: HTMLCanvasElement | null, p: Pictures | null | undefined, i: number): void {
  if (!canvas || !p || i >= p.count) return
  if (canvas.width !== p.width || canvas.height !== p.height) {
    canvas.width = p.width
    canvas.height = p.height
  }
  canvas.getContext('2d')!.putImageData(pictureOf(p, i), 0, 0)
}

/** One picture of a batch, as wide as its place. */
export function Picture({ of, index = 0, label }: { of: Pictures; index?: number; label: string }): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null)
  useLayoutEffect(() => paint(canvas.current, of, index), [of, index])
  return <canvas class="px" ref={canvas} role="img" aria-label={label} style={{ aspectRatio: `${of.width} / ${of.height}` }} />
}

export interface PictureGridProps {
  label: string
  /** What is shown; null shows empty places. */
  pictures: Pictures | null
  /** With it, every picture has a slider from before to after. */
  before?: Pictures | null
  /** Where that slider stands, from 0, all before, to 1, all after. */
  split?: number
  /** Places, where there are fewer pictures yet. */
  places?: number
  columns?: number
  /** Under each picture; small ones show the first word. */
  captions?: readonly string[]
  /** true: a green dot, good; false: a hollow one; undefined: none. */
  marks?: readonly (boolean | undefined)[]
  onPick?: (index: number) => void
  'data-testid'?: string
}

/** About square, and never wider than eight. */
export function columnsFor(count: number): number {
  if (count <= 3) return count || 1
  return Math.min(8, Math.ceil(Math.sqrt(count)))
}

/** A batch of pictures. Pointing at one wipes it from before to after. */
export function PictureGrid(props: PictureGridProps): JSX.Element {
  const { label, pictures, before, split = 1, captions, marks, onPick } = props
  const count = Math.max(pictures?.count ?? 0, props.places ?? 0)
  const columns = props.columns ?? columnsFor(count)
  const root = useRef<HTMLDivElement>(null)
  const [tile, setTile] = useState(0)
  const width = pictures?.width ?? 16
  const rows = Math.max(1, Math.ceil(count / columns))

  // Whole device pixels for every picture pixel, so that all are equally large.
  useLayoutEffect(() => {
    const el = root.current
    if (!el) return
    const fit = () => {
      const gap = parseFloat(getComputedStyle(el).columnGap) || 0
      const tall = parseFloat(getComputedStyle(el).getPropertyValue('--tall')) / rows // in pixels, or not a number
      const room = Math.min((el.clientWidth - gap * (columns - 1)) / columns, Number.isNaN(tall) ? Infinity : Math.max(3 * width, tall))
      const grain = width / Math.max(1, Math.round(devicePixelRatio))
      setTile(Math.max(grain, Math.floor(room / grain) * grain))
    }
    fit()
    const observer = new ResizeObserver(fit)
    observer.observe(el)
    addEventListener('resize', fit) // the height, too
    return () => {
      observer.disconnect()
      removeEventListener('resize', fit)
    }
  }, [columns, rows, width])

  return (
    <div
      class="pictures"
      ref={root}
      role="group"
      aria-label={label}
      data-testid={props['data-testid']}
      style={{ '--columns': columns, '--tile': tile ? `${tile}px` : undefined }}
    >
      {Array.from({ length: count }, (_, i) => (
        <Tile
          key={i}
          index={i}
          label={`${label}, picture ${i + 1}`}
          pictures={pictures && i < pictures.count ? pictures : null}
          before={before && i < before.count ? before : null}
          split={split}
          caption={captions?.[i]}
          mark={marks?.[i]}
          onPick={onPick}
        />
      ))}
    </div>
  )
}

interface TileProps {
  index: number
  label: string
  pictures: Pictures | null
  before: Pictures | null
  split: number
  caption?: string
  mark?: boolean
  onPick?: (index: number) => void
}

function Tile({ index, label, pictures, before, split, caption, mark, onPick }: TileProps): JSX.Element {
  const over = useRef<HTMLCanvasElement>(null)
  const under = useRef<HTMLCanvasElement>(null)
  const own = useSignal<number | null>(null) // where the pointer or the arrow keys put the slider
  useLayoutEffect(() => paint(under.current, pictures, index), [pictures, index])
  useLayoutEffect(() => paint(over.current, before, index), [before, index, before !== null])
  useEffect(() => {
    own.value = null // the batch's slider moved
  }, [split])

  const at = own.value ?? split
  const wipes = before !== null && pictures !== null
  const move = (e: PointerEvent) => {
    if (!wipes) return
    const box = (e.currentTarget as HTMLElement).getBoundingClientRect()
    own.value = Math.max(0, Math.min(1, 1 - (e.clientX - box.left) / box.width))
  }
  const key = (e: KeyboardEvent) => {
    if (!wipes || (e.key !== 'ArrowLeft' && e.key !== 'ArrowRight')) return
    e.preventDefault()
    own.value = Math.max(0, Math.min(1, at + (e.key === 'ArrowLeft' ? 0.1 : -0.1)))
  }
  const inside = (
    <>
      <canvas class="px under" ref={under} />
      {wipes && <canvas class="px over" ref={over} style={{ clipPath: `inset(0 ${100 * at}% 0 0)` }} />}
      {wipes && at > 0.005 && at < 0.995 && <i class="wipe" style={{ left: `${100 * (1 - at)}%` }} />}
    </>
  )
  const events = {
    onPointerMove: move,
    onPointerLeave: () => (own.value = null),
    onKeyDown: key,
    onBlur: () => (own.value = null),
  }
  const state = `tile${pictures ? '' : ' empty'}`
  const said = label + (mark === undefined ? '' : mark ? ', the judge says yes' : ', the judge says no') + (caption ? `, ${caption}` : '')
  return (
    <figure>
      {onPick && pictures ? (
        <button type="button" class={state} aria-label={`${said}. Enlarge`} onClick={() => onPick(index)} {...events}>
          {inside}
        </button>
      ) : (
        <div class={state} role="img" aria-label={said} {...events}>
          {inside}
        </div>
      )}
      {(caption !== undefined || mark !== undefined) && (
        <figcaption class={mark ? 'yes' : mark === false ? 'no' : undefined}>{caption ? <Caption text={caption} /> : '\u00a0'}</figcaption>
      )}
    </figure>
  )
}

/** Small pictures show its first word only. */
function Caption({ text }: { text: string }): JSX.Element {
  const [first, ...rest] = text.split(' ')
  return (
    <>
      {first}
      {rest.length > 0 && <span class="unit"> {rest.join(' ')}</span>}
    </>
  )
}
