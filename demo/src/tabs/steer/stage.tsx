// The pictures, and what is said of them.
import { signal } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect, useId, useRef, useState } from 'preact/hooks'
import recording from '../../assets/dark-glasses.png'
import { Button, JobBar, Meter, Picture, PictureGrid, Segmented, Slider } from '../../components'
import { bytes, duration, number, plural, title } from '../../format'
import type { Pictures, Recipe } from '../../protocol'
import { core, device, draft, recipe, running, usable, valid } from '../../state'
import { ids } from '../../testids'
import { chosenPlace, edge, fit, notThere, place, slowerHere, there } from './place'
import { endedHere, goOn, judged, looking, planned, stage, steer, steering, steerOnEdge, story, unfinished, type Stage as Shown } from './run'
import { labelPhrase } from './words'

/** Where the slider of the whole batch stands: 0 before, 1 after. */
export const split = signal(1)

/** A run of the command line, shown until the core is there. */
const recorded = signal<{ before: Pictures; after: Pictures } | null>(null)
const recordedUpdates = [5, 4, 3, 6, 17, 4, 32, 8, 17, 6, 0, 4, 7, 6, 2, 16]

async function loadRecording(): Promise<void> {
  const image = new Image()
  image.src = recording
  await image.decode()
  const n = image.width / 16
  const half = (y: number): Pictures => {
    const canvas = new OffscreenCanvas(16, 16)
    const context = canvas.getContext('2d', { willReadFrequently: true })!
    const rgba = new Uint8ClampedArray(n * 1024)
    for (let i = 0; i < n; i++) {
      context.drawImage(image, -16 * i, -y)
      rgba.set(context.getImageData(0, 0, 16, 16).data, 1024 * i)
    }
    return { count: n, width: 16, height: 16, rgba }
  }
  recorded.value = { before: half(0), after: half(16) }
}

export function Stage(): JSX.Element {
  const shown = stage.value
  useEffect(() => {
    if (!recorded.peek()) void loadRecording().catch(() => {}) // without it the page still says what it does
  }, [])
  return (
    <section class="card stage" aria-label="Pictures">
      {shown.of === 'recording' ? <Recording /> : <Live shown={shown} />}
    </section>
  )
}

function Recording(): JSX.Element {
  const r = recorded.value
  return (
    <>
      <div class="label-column">
        <div>
          <h2>Dark glasses</h2>
          <p class="says">Put on sixteen people nobody asked to wear any. A run made earlier; yours begins in a moment.</p>
        </div>
        <Loading />
        <div class="headline">
          <p>
            <b>16 of 16</b> wear dark glasses, <span class="was">1 before</span>
          </p>
          <Meter label="Share that wears dark glasses" value={1} before={1 / 16} />
        </div>
      </div>
      <div class="sweeping shown">
        <PictureGrid
          label="A run made earlier"
          pictures={r?.after ?? null}
          before={r?.before}
          places={16}
          columns={4}
          marks={recordedUpdates.map(() => true)}
          captions={recordedUpdates.map((n) => plural(n, 'update'))}
        />
      </div>
    </>
  )
}

/** How far the core has come. */
function Loading(): JSX.Element | null {
  const c = core.value
  if (c.phase === 'stopped' || c.phase === 'ready') return null
  const known = c.phase === 'loading' && c.total > 0
  return (
    <div class="loading" data-testid={ids.coreState}>
      <small>{c.phase === 'starting' ? 'Starting the core…' : c.loaded > 0 ? `Loading the core: ${bytes(c.loaded)}${known ? ` of ${bytes(c.total)}` : ''}` : 'Loading the core…'}</small>
      <progress aria-label="Loading the core" max={known ? c.total : undefined} value={known ? c.loaded : undefined} />
    </div>
  )
}

function Live({ shown }: { shown: Shown }): JSX.Element {
  const r = recipe.value
  const s = shown.of === 'run' ? story.value : null
  const [picked, setPicked] = useState<number | null>(null)
  const next = steering.value ? s?.recipe : r // what the button will run, or what runs
  const other = s?.result && r && !sameRecipe(s.recipe, r)
  const count = s?.recipe.num_images ?? r?.num_images ?? 16
  const after = shown.pictures
  const compare = shown.of === 'run' && shown.before && after && shown.before !== after
  const done = s?.result ?? null
  const captions = s && captionsOf(s)
  return (
    <>
      <div class="label-column">
        <div>
          <h2 data-testid={ids.stageTitle}>{title(next?.name ?? '')}</h2>
          {next?.description && <p class="says">{next.description}</p>}
        </div>
        {steering.value ? (
          <JobBar tab="steer" note={s?.slices && s.slices.of > 1 ? `slice ${s.slices.at} of ${s.slices.of}` : undefined} />
        ) : (
          <div class="start">
            <Start again={done !== null && !other} />
            <Places />
          </div>
        )}
        {endedHere.value && !running.value && (
          <Button onClick={() => void goOn(unfinished.value!)} data-testid={ids.continue}>
            Go on from update {unfinished.value!.update}
          </Button>
        )}
        <Headline />
        {other && <p class="help">The pictures are of the run before. Press Steer for this one.</p>}
      </div>
      <div class="shown">
        <PictureGrid
          label={shown.of === 'look' ? 'Before steering' : done ? 'After steering' : 'While steering'}
          pictures={after}
          before={compare ? shown.before : null}
          split={split.value}
          places={count}
          marks={s?.verdicts ?? undefined}
          captions={captions ?? undefined}
          onPick={setPicked}
          data-testid={ids.stagePictures}
        />
        <div class="stage-foot">
          {compare ? (
            <div class="compare">
              <span>Before</span>
              <Slider label="From before to after" hideLabel min={0} max={1} step={0.01} value={split.value} show={() => ''} onChange={(v) => (split.value = v)} data-testid={ids.split} />
              <span>After</span>
            </div>
          ) : (
            <p class="help">{footnote(shown, count)}</p>
          )}
        </div>
      </div>
      {picked !== null && after && picked < after.count && <Enlarged index={picked} onClose={() => setPicked(null)} onMove={(i) => setPicked((i + after.count) % after.count)} />}
    </>
  )
}

function sameRecipe(a: Recipe, b: Recipe): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b)
}

function footnote(shown: Shown, count: number): string {
  if (shown.of === 'run') return steering.value ? 'The first pictures come out of noise.' : ''
  const have = shown.pictures?.count ?? 0
  if (!shown.before) return 'Coming out of noise, on your device.'
  if (looking.value || have < count) return `A first look: ${plural(have, 'picture')}, made just now on your device.`
  return 'Made just now on your device, from noise, not steered yet. Press Steer to change the noise they begin from.'
}

function captionsOf(s: NonNullable<typeof story.value>): string[] {
  const n = s.recipe.num_images
  if (s.result) return Array.from({ length: n }, (_, i) => (s.result!.drifted[i] ? 'drifted' : plural(s.result!.row_updates[i] ?? s.update, 'update')))
  return Array.from({ length: n }, (_, i) => (s.stopped[i] ? 'done' : s.losses.length > 0 ? `${number(s.losses.at(-1)![i] ?? 0)} loss` : ''))
}

function Start({ again }: { again: boolean }): JSX.Element {
  const onEdge = place.value === 'edge'
  const here = usable.value && (planned.value?.refusal ?? '') === ''
  const ready = (onEdge || here) && recipe.value !== null && valid.value
  const other = running.value !== null && !running.value.background
  return (
    <Button
      kind="primary"
      size="large"
      disabled={!ready || other || (draft.value?.updates ?? 0) === 0}
      onClick={() => (split.value = 1, void (onEdge ? steerOnEdge() : steer()))}
      data-testid={ids.start}
      title={other ? `${running.value!.label} is still running` : undefined}
    >
      {again ? 'Steer again' : 'Steer'}
    </Button>
  )
}

/** Where the button steers, where there is a choice. */
function Places(): JSX.Element | null {
  const says = useId()
  if (!edge.value) return null
  const gpu = device.value?.kind === 'webgpu' && !device.value.software
  return (
    <div class="places">
      <Segmented
        label="Where to steer"
        value={place.value}
        onChange={(p) => (chosenPlace.value = p)}
        options={[
          { value: 'device', label: gpu ? 'on my GPU' : 'on my CPU', testid: `${ids.place}-device` },
          { value: 'edge', label: 'on the edge', disabled: notThere.value !== null, testid: `${ids.place}-edge` },
        ]}
        describedBy={says}
      />
      <p class="help" id={says} aria-live="polite" data-testid={ids.placeSays}>
        {placeWords()}
      </p>
      {notThere.value?.smaller && (
        <div>
          <Button size="small" onClick={fit} data-testid={ids.placeFit}>
            Make it fit
          </Button>
        </div>
      )}
    </div>
  )
}

/** What the choice comes to. */
function placeWords(): string {
  if (notThere.value) return `Not on the edge: ${notThere.value.says}.`
  const t = there.value
  if (place.value === 'edge') {
    const time = t ? `About ${duration(t.seconds)}${t.requests > 1 ? `, in ${t.requests} slices` : ''}. ` : ''
    return `${time}Your recipe is sent there, nothing else.`
  }
  return slowerHere.value && t ? `About ${duration(slowerHere.value)}; the edge takes about ${duration(t.seconds)}.` : ''
}

function Headline(): JSX.Element | null {
  const j = judged.value
  const s = story.value
  if (stage.value.of !== 'run' || !s) return null
  if (j) {
    const words = labelPhrase(j.label)
    return (
      <div class="headline" data-testid={ids.judged}>
        <p>
          <b>
            {j.now} of {j.of}
          </b>{' '}
          {words}
          {j.before !== null && <span class="was">, {j.before} before</span>}
        </p>
        <Meter label={`Share that ${words}`} value={j.now / j.of} before={j.before === null ? undefined : j.before / j.of} />
        <small class="muted">Counted by a judge that takes no part in steering.</small>
      </div>
    )
  }
  if (s.losses.length === 0) return null
  const mean = (x: number[]) => x.reduce((a, b) => a + b, 0) / Math.max(1, x.length)
  const first = s.at[0] === 0 ? mean(s.losses[0]!) : null // of a run that went on it comes with the result
  const best = s.best.length > 0 ? mean(s.best) : mean(s.losses.at(-1)!)
  return (
    <div class="headline" data-testid={ids.judged}>
      <p>
        Mean loss <b>{number(best)}</b>
        {first !== null && <span class="was">{number(first)} before</span>}
      </p>
      {first !== null && <Meter label="Share of the first loss that is gone" value={first > 0 ? 1 - best / first : 0} />}
    </div>
  )
}

/** One picture, before and after, large. */
function Enlarged({ index, onClose, onMove }: { index: number; onClose: () => void; onMove: (index: number) => void }): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    const d = dialog.current!
    d.showModal()
    return () => d.close()
  }, [])
  const { pictures, before, of } = stage.value
  const s = of === 'run' ? story.value : null
  const r = s?.result
  const key = (e: KeyboardEvent) => {
    if (e.key === 'ArrowRight') onMove(index + 1)
    if (e.key === 'ArrowLeft') onMove(index - 1)
  }
  return (
    <dialog ref={dialog} class="enlarged" aria-label={`Picture ${index + 1}`} onClose={onClose} onKeyDown={key} onClick={(e) => e.target === dialog.current && onClose()} data-testid={ids.enlarged}>
      <div class="enlarged-in">
        <header>
          <h3>Picture {index + 1}</h3>
          <div class="row tight">
            <Button kind="quiet" label="Picture before" onClick={() => onMove(index - 1)}>
              ←
            </Button>
            <Button kind="quiet" label="Next picture" onClick={() => onMove(index + 1)}>
              →
            </Button>
            <Button kind="quiet" label="Close" onClick={onClose}>
              ✕
            </Button>
          </div>
        </header>
        <div class="enlarged-pair">
          {s && before && (
            <figure>
              <Picture of={before} index={index} label="Before" />
              <figcaption>Before</figcaption>
            </figure>
          )}
          {pictures && (
            <figure>
              <Picture of={pictures} index={index} label={s ? 'After' : 'Not steered yet'} />
              <figcaption>{s ? (r ? 'After' : `Now, update ${s.update}`) : 'Not steered yet'}</figcaption>
            </figure>
          )}
        </div>
        {s && (
          <dl>
            {r && (
              <>
                <dt>Updates needed</dt>
                <dd>{r.row_updates[index]}</dd>
              </>
            )}
            {s.losses.length > 0 && (
              <>
                <dt>Loss</dt>
                <dd>
                  {s.at[0] === 0 && <>{number(s.losses[0]![index] ?? 0)} → </>}
                  {number(s.best[index] ?? s.losses.at(-1)![index] ?? 0)}
                </dd>
              </>
            )}
            {s.verdicts && (
              <>
                <dt>The judge</dt>
                <dd>
                  {s.first ? `${s.first[index] ? 'yes' : 'no'} → ` : ''}
                  {s.verdicts[index] ? 'yes' : 'no'}
                </dd>
              </>
            )}
            {r?.drifted[index] && (
              <>
                <dt>Left alone</dt>
                <dd>it had changed too much</dd>
              </>
            )}
          </dl>
        )}
      </div>
    </dialog>
  )
}

/** What the run will need, before it begins. */
export function PlanLine(): JSX.Element | null {
  const p = planned.value
  const r = recipe.value
  if (!p || !r) return null
  if (p.refusal) return null
  const share = p.full ? p.memory.activation_bytes / p.full.activation_bytes : 1
  return (
    <p class="plan" data-testid={ids.plan}>
      <strong>{bytes(p.memory.total_bytes)}</strong> of memory, <strong>{p.calls}</strong> network calls and <strong>{p.backward_calls}</strong> backward an update.
      {p.full && share < 0.95 && (
        <>
          {' '}
          Full back-propagation would keep <strong>{bytes(p.full.activation_bytes)}</strong> instead of {bytes(p.memory.activation_bytes)}.
        </>
      )}
    </p>
  )
}

