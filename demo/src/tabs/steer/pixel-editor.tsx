// Drawing on the model's own pixels, by pointer or by keyboard.
import type { JSX } from 'preact'
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { Button, Check, pictureOf, Segmented } from '../../components'
import type { Pictures } from '../../protocol'
import { ids } from '../../testids'
import { dot, emptySketch, fill, line, mostColours, type Sketch } from './sketch'

type Tool = 'pencil' | 'eraser' | 'fill' | 'pick'

interface Props {
  sketch: Sketch
  onChange: (s: Sketch) => void
  /** A picture to draw over, shown faintly where the sketch is free. */
  under?: Pictures | null
}

const colours = ['#3b2317', '#e8b98f', '#20232b', '#c8403a', '#2e9e5b', '#6fb7e9', '#f2c14e', '#ffffff']

export function PixelEditor({ sketch, onChange, under }: Props): JSX.Element {
  const { width, height } = sketch
  const [tool, setTool] = useState<Tool>('pencil')
  const [colour, setColour] = useState(sketch.cells.find((c) => c !== null) ?? colours[0]!)
  const [own, setOwn] = useState('#4f46e5') // of the colour field
  const [mirrored, setMirrored] = useState(false)
  const [trace, setTrace] = useState(true)
  const [cursor, setCursor] = useState(Math.floor(height / 2) * width + Math.floor(width / 2))
  const [keyboard, setKeyboard] = useState(false)
  const past = useRef<Sketch[]>([])
  const future = useRef<Sketch[]>([])
  const drawing = useRef<{ last: number } | null>(null)
  const now = useRef(sketch)
  now.current = sketch
  const canvas = useRef<HTMLCanvasElement>(null)

  useLayoutEffect(() => {
    if (canvas.current) paint(canvas.current, sketch, trace ? under : null)
  }, [sketch, under, trace])
  useEffect(() => {
    past.current = []
    future.current = []
  }, [width, height])

  const change = (s: Sketch) => {
    if (s === now.current) return
    now.current = s
    onChange(s)
  }
  const remember = () => {
    past.current = [...past.current.slice(-99), now.current]
    future.current = []
  }
  const undo = () => {
    const s = past.current.pop()
    if (!s) return
    future.current.push(now.current)
    change(s)
  }
  const redo = () => {
    const s = future.current.pop()
    if (!s) return
    past.current.push(now.current)
    change(s)
  }
  const full = new Set(sketch.cells).size > mostColours
  const use = (at: number) => {
    if (tool === 'pick') {
      const c = now.current.cells[at]
      if (c) {
        setColour(c)
        setTool('pencil')
      } else setTool('eraser')
      return
    }
    const ink = tool === 'eraser' || full ? null : colour
    change(tool === 'fill' ? fill(now.current, at, ink) : dot(now.current, at, ink, mirrored))
  }
  const at = (e: PointerEvent): number => {
    const box = canvas.current!.getBoundingClientRect()
    const x = Math.max(0, Math.min(width - 1, Math.floor(((e.clientX - box.left) / box.width) * width)))
    const y = Math.max(0, Math.min(height - 1, Math.floor(((e.clientY - box.top) / box.height) * height)))
    return y * width + x
  }
  const down = (e: PointerEvent) => {
    e.preventDefault()
    ;(e.currentTarget as HTMLElement).focus({ preventScroll: true })
    ;(e.currentTarget as HTMLElement).setPointerCapture(e.pointerId)
    setKeyboard(false)
    if (tool !== 'pick') remember()
    const i = at(e)
    setCursor(i)
    use(i)
    drawing.current = tool === 'pencil' || tool === 'eraser' ? { last: i } : null
  }
  const move = (e: PointerEvent) => {
    if (!drawing.current) return
    const i = at(e)
    if (i === drawing.current.last) return
    for (const p of line(drawing.current.last, i, width)) use(p)
    drawing.current.last = i
    setCursor(i)
  }
  const key = (e: KeyboardEvent) => {
    if (e.altKey) return
    const command = e.ctrlKey || e.metaKey
    if (command && e.key.toLowerCase() === 'z') {
      e.preventDefault()
      if (e.shiftKey) redo()
      else undo()
      return
    }
    if (command) return
    const x = cursor % width
    const step = { ArrowLeft: x > 0 ? -1 : 0, ArrowRight: x < width - 1 ? 1 : 0, ArrowUp: cursor >= width ? -width : 0, ArrowDown: cursor < width * (height - 1) ? width : 0 }[e.key]
    if (step !== undefined) {
      e.preventDefault()
      setKeyboard(true)
      const next = cursor + step
      if (e.shiftKey && tool !== 'fill' && tool !== 'pick') {
        remember()
        use(cursor)
        use(next)
      }
      setCursor(next)
      return
    }
    if (e.key === ' ' || e.key === 'Enter') {
      e.preventDefault()
      setKeyboard(true)
      remember()
      use(cursor)
      return
    }
    const letter = { p: 'pencil', e: 'eraser', f: 'fill', i: 'pick' }[e.key.toLowerCase()] as Tool | undefined
    if (letter) setTool(letter)
    else if (e.key.toLowerCase() === 'm') setMirrored(!mirrored)
  }
  const swatches = [...new Set([...sketch.cells.filter((c): c is string => c !== null), ...colours])].slice(0, 16)
  const cell = sketch.cells[cursor]

  return (
    <div class="editor">
      <div class="row tight">
        <Segmented
          label="Tool"
          value={tool}
          onChange={setTool}
          options={[
            { value: 'pencil', label: 'Pencil', testid: ids.toolPencil },
            { value: 'eraser', label: 'Eraser', testid: ids.toolEraser },
            { value: 'fill', label: 'Fill', testid: ids.toolFill },
            { value: 'pick', label: 'Pick' },
          ]}
        />
      </div>
      <div
        class="canvas-box"
        tabIndex={0}
        role="application"
        aria-label={`Drawing, ${width} by ${height}. Arrow keys move, Space paints, Shift with an arrow draws; P pencil, E eraser, F fill, I pick, M mirror, Control Z undoes.`}
        onPointerDown={down}
        onPointerMove={move}
        onPointerUp={() => (drawing.current = null)}
        onPointerCancel={() => (drawing.current = null)}
        onKeyDown={key}
        data-testid={ids.sketch}
        style={{ '--w': width, '--h': height }}
      >
        <canvas ref={canvas} width={width} height={height} />
        <i class="lines" />
        {mirrored && <i class="axis" />}
        <i class={`cursor${keyboard ? ' on' : ''}`} style={{ left: `${((cursor % width) / width) * 100}%`, top: `${(Math.floor(cursor / width) / height) * 100}%` }} />
      </div>
      <p class="hidden" aria-live="polite">
        {keyboard ? `Column ${(cursor % width) + 1}, row ${Math.floor(cursor / width) + 1}, ${cell ?? 'free'}` : ''}
      </p>
      <div class="swatches" role="group" aria-label="Colours">
        {swatches.map((c) => (
          <button
            key={c}
            type="button"
            class="swatch"
            style={{ background: c }}
            aria-label={`Colour ${c}`}
            aria-pressed={c === colour && tool !== 'eraser'}
            onClick={() => {
              setColour(c)
              if (tool === 'eraser' || tool === 'pick') setTool('pencil')
            }}
          />
        ))}
        <input
          type="color"
          aria-label="A colour of your own"
          value={own}
          onInput={(e) => {
            setOwn(e.currentTarget.value)
            setColour(e.currentTarget.value)
            if (tool === 'eraser' || tool === 'pick') setTool('pencil')
          }}
        />
      </div>
      {full && <p class="help error">A drawing has at most {mostColours} colours; erase one first.</p>}
      <div class="row tight">
        <Button size="small" onClick={undo} disabled={past.current.length === 0} data-testid={ids.sketchUndo}>
          Undo
        </Button>
        <Button size="small" onClick={redo} disabled={future.current.length === 0}>
          Redo
        </Button>
        <Button
          size="small"
          onClick={() => {
            remember()
            change(emptySketch(width, height))
          }}
          data-testid={ids.sketchClear}
        >
          Clear
        </Button>
        <Check label="Mirror" checked={mirrored} onChange={setMirrored} />
        {under && <Check label="Trace picture 1" checked={trace} onChange={setTrace} />}
      </div>
      <p class="help">Chequered pixels are free: the model may put there what it likes.</p>
    </div>
  )
}

function paint(canvas: HTMLCanvasElement, s: Sketch, under: Pictures | null | undefined): void {
  const image = new ImageData(s.width, s.height)
  const below = under && under.width === s.width && under.height === s.height ? pictureOf(under, 0).data : null
  s.cells.forEach((c, i) => {
    if (c !== null) {
      image.data.set([parseInt(c.slice(1, 3), 16), parseInt(c.slice(3, 5), 16), parseInt(c.slice(5, 7), 16), 255], 4 * i)
    } else if (below) {
      image.data.set(below.subarray(4 * i, 4 * i + 3), 4 * i)
      image.data[4 * i + 3] = 90
    }
  })
  canvas.width = s.width
  canvas.height = s.height
  canvas.getContext('2d')!.putImageData(image, 0, 0)
}
