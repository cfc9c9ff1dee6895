// Makes a GIF of a run beside the page, so that the page never waits.
/// <reference lib="webworker" />
import { applyPalette, GIFEncoder, quantize } from 'gifenc'
import type { Pictures } from './protocol'

declare const self: DedicatedWorkerGlobalScope

export interface Film {
  frames: Pictures[]
  columns: number
  scale: number // of every pixel
  gap: number // between pictures
  paper: [number, number, number]
  delay: number // milliseconds a frame is shown
  hold: number // ... and the last one
}

self.onmessage = (e: MessageEvent<Film>) => {
  const bytes = encode(e.data)
  self.postMessage(bytes, [bytes.buffer])
}

function encode({ frames, columns, scale, gap, paper, delay, hold }: Film): Uint8Array<ArrayBuffer> {
  const first = frames[0]!
  const { width: w, height: h, count } = first
  const across = Math.min(columns, count)
  const down = Math.ceil(count / across)
  const width = across * w * scale + (across + 1) * gap
  const height = down * h * scale + (down + 1) * gap

  // One palette for all frames, of the small pictures: what is enlarged has no other colours.
  const sample = new Uint8ClampedArray(4 + frames.length * first.rgba.length)
  sample.set([...paper, 255])
  frames.forEach((f, i) => sample.set(f.rgba, 4 + i * first.rgba.length))
  const palette = quantize(sample, 255)
  palette.push(paper)
  const ground = palette.length - 1

  const gif = GIFEncoder()
  frames.forEach((f, n) => {
    const small = applyPalette(f.rgba, palette)
    const large = new Uint8Array(width * height).fill(ground)
    for (let i = 0; i < count; i++) {
      const left = gap + (i % across) * (w * scale + gap)
      const top = gap + Math.floor(i / across) * (h * scale + gap)
      for (let y = 0; y < h * scale; y++) {
        const from = (i * h + Math.floor(y / scale)) * w
        const to = (top + y) * width + left
        for (let x = 0; x < w; x++) large.fill(small[from + x]!, to + x * scale, to + (x + 1) * scale)
      }
    }
    gif.writeFrame(large, width, height, { palette: n === 0 ? palette : undefined, delay: n === frames.length - 1 ? hold : delay, repeat: 0 })
  })
  gif.finish()
  return gif.bytes()
}
