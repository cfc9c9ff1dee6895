// A run as files: a contact sheet and a film.
import type { Film } from '../../gif-worker'
import FilmWorker from '../../gif-worker?worker&inline' // a page that has loaded needs no network
import type { Pictures } from '../../protocol'
import { pictureOf } from '../../components'
import { plural, title } from '../../format'
import type { Story } from './run'

const paper = '#faf9f7'
const ink = '#262421'
const muted = '#6b665e'
const good = '#2e9e5b'
const sans = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif'

/** Before above after, as the report's sheet is. */
export async function sheet(name: string, before: Pictures, after: Pictures | null, s: Story | null): Promise<Blob> {
  const n = before.count
  const columns = Math.min(8, n)
  const rows = Math.ceil(n / columns)
  const scale = Math.max(1, Math.floor(128 / before.width))
  const w = before.width * scale
  const h = before.height * scale
  const gap = 12
  const edge = 28
  const caption = 26
  const heading = 62
  const width = Math.max(560, 2 * edge + columns * (w + gap) - gap)
  const block = heading + rows * (h + caption)
  const canvas = new OffscreenCanvas(width, edge + (after ? 2 : 1) * block + 24)
  const c = canvas.getContext('2d')!
  c.fillStyle = paper
  c.fillRect(0, 0, canvas.width, canvas.height)
  c.imageSmoothingEnabled = false
  const r = s?.result
  const label = r?.judge_label ?? ''
  const small = new OffscreenCanvas(before.width, before.height)
  const draw = (pictures: Pictures, top: number, what: string, verdicts: boolean[] | undefined, captions: string[] | null) => {
    c.fillStyle = ink
    c.font = `650 22px ${sans}`
    c.textAlign = 'left'
    c.textBaseline = 'alphabetic'
    c.fillText(`${title(name)}, ${what}`, edge, top + 34)
    if (verdicts && label) {
      c.fillStyle = muted
      c.font = `14px ${sans}`
      c.textAlign = 'right'
      c.fillText(`the judge sees ${label} in ${verdicts.filter(Boolean).length} of ${n}`, width - edge, top + 34)
      c.textAlign = 'left'
    }
    for (let i = 0; i < n; i++) {
      const x = edge + (i % columns) * (w + gap)
      const y = top + heading + Math.floor(i / columns) * (h + caption) - 12
      small.getContext('2d')!.putImageData(pictureOf(pictures, i), 0, 0)
      c.drawImage(small, x, y, w, h)
      c.font = `13px ${sans}`
      if (verdicts?.[i]) {
        c.fillStyle = good
        c.beginPath()
        c.arc(x + 5, y + h + 12, 4, 0, 7)
        c.fill()
      }
      if (captions) {
        c.fillStyle = muted
        c.fillText(captions[i] ?? '', x + (verdicts?.[i] ? 14 : 0), y + h + 17)
      }
    }
  }
  if (after) {
    draw(before, edge - 8, 'before', r?.judge_before, null)
    draw(after, edge - 8 + block, 'after', r?.judge_after, r ? r.row_updates.map((u) => plural(u, 'update')) : null)
  } else {
    draw(before, edge - 8, 'before steering', undefined, null)
  }
  return canvas.convertToBlob({ type: 'image/png' })
}

const mostFrames = 90

/** The batch over the updates, each frame as large as it looks good in a chat. */
export function film(frames: Pictures[]): Promise<Blob> {
  const every = Math.ceil(frames.length / mostFrames)
  // The last frame is always there, and the first.
  const chosen = frames.filter((_, i) => i % every === 0 || i === frames.length - 1)
  const first = chosen[0]!
  const columns = Math.min(8, Math.ceil(Math.sqrt(first.count)))
  const scale = Math.max(1, Math.floor(480 / (columns * first.width)))
  const job: Film = { frames: chosen, columns, scale, gap: scale, paper: [250, 249, 247], delay: Math.max(60, Math.min(160, 5000 / chosen.length)), hold: 1800 }
  const worker = new FilmWorker()
  return new Promise<Blob>((resolve, reject) => {
    worker.onmessage = (e: MessageEvent<Uint8Array<ArrayBuffer>>) => resolve(new Blob([e.data], { type: 'image/gif' }))
    worker.onerror = (e) => reject(new Error(e.message || 'the film could not be made'))
    worker.postMessage(job)
  }).finally(() => worker.terminate())
}
