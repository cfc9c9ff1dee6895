// Steer: choose what pictures should become, and watch a gradient take them there.
import { effect, signal } from '@preact/signals'
import type { JSX } from 'preact'
import { Button, Disclosure, Notice, Segmented } from '../../components'
import { addressProblem, catalog, checked, core, device, draft, keeps, keepsCheckpoints, library, lost, openDevice, running, useLibrary } from '../../state'
import { sentence, title } from '../../format'
import { ids } from '../../testids'
import { Goals } from './goals'
import { GoalIcon } from './icons'
import { NoWebGPU } from './no-webgpu'
import { Progress } from './progress'
import { RecipeText } from './recipe-text'
import { discard, endedHere, goOn, halve, planned, steering, story, trouble, unfinished } from './run'
import { Settings } from './settings'
import { Share } from './share'
import { PlanLine, Stage } from './stage'
import '../../styles/steer.css'

type Panel = 'goal' | 'run' | 'share' | 'recipe'
const panel = signal<Panel>('goal')

// A run that begins shows its numbers.
let was = false
effect(() => {
  if (steering.value && !was) setTimeout(() => (panel.value = 'run')) // a task of its own, to keep each short
  was = steering.value
})

export function SteerTab(): JSX.Element {
  return (
    <div class="steer">
      <Intro />
      <Library />
      <Notices />
      <div class="bench">
        <Stage />
        <section class="card side" aria-label="Goal, run and recipe">
          <Segmented
            label="Show"
            value={panel.value}
            onChange={(p) => (panel.value = p)}
            options={[
              { value: 'goal', label: 'Goal', testid: `${ids.panel}-goal` },
              { value: 'run', label: 'Run', testid: `${ids.panel}-run` },
              { value: 'share', label: 'Share', testid: `${ids.panel}-share` },
              { value: 'recipe', label: 'Recipe', testid: `${ids.panel}-recipe` },
            ]}
          />
          {panel.value === 'goal' && <GoalPanel />}
          {panel.value === 'run' && <Progress />}
          {panel.value === 'share' && <Share />}
          {panel.value === 'recipe' && <RecipeText />}
        </section>
      </div>
    </div>
  )
}

function Intro(): JSX.Element {
  return (
    <header class="intro">
      <h1>Nudge the noise, change the picture</h1>
      <p class="lead">
        A small diffusion model makes these pictures from noise, here in this tab. Say what they should become: the gradient of one network call moves the noise there, in a few updates.
      </p>
    </header>
  )
}

/** The library, one press each. */
function Library(): JSX.Element {
  const recipes = catalog.value?.recipes.filter((r) => !r.tunes) ?? []
  return (
    <nav class="library" aria-label="Recipes to begin with">
      {recipes.length === 0 && Array.from({ length: 7 }, (_, i) => <span key={i} class="library-item waiting" />)}
      {recipes.map((r) => (
        <button
          key={r.name}
          type="button"
          class="library-item"
          aria-pressed={library.value === r.name}
          aria-disabled={steering.value}
          onClick={() => {
            if (steering.value) return
            panel.value = 'goal'
            void useLibrary(r.name)
          }}
          title={r.description}
          data-testid={`${ids.libraryRecipe}-${r.name}`}
        >
          <GoalIcon term={r.recipe.objective[0]!} />
          {title(r.name)}
        </button>
      ))}
    </nav>
  )
}

function GoalPanel(): JSX.Element {
  const refusal = planned.value?.refusal ?? ''
  const wrong = checked.value.problems.filter((p) => !/^objective\.\d/.test(p.path)) // goals show their own
  if (!draft.value) return <How />
  return (
    <fieldset class="stack plain" disabled={steering.value}>
      <legend class="hidden">What to steer towards</legend>
      <Goals />
      <Settings />
      {wrong.length > 0 ? (
        <Notice kind="warning" title="Not yet a recipe" data-testid={ids.refusal}>
          {wrong.map((p) => (
            <p key={p.path}>{sentence(p.message)}</p>
          ))}
        </Notice>
      ) : refusal ? (
        <Notice
          kind="warning"
          title="This does not fit"
          actions={
            (draft.value?.num_images ?? 1) > 1 && (
              <Button size="small" onClick={halve} data-testid={ids.halve}>
                Half the pictures
              </Button>
            )
          }
          data-testid={ids.refusal}
        >
          {refusal}
        </Notice>
      ) : (
        <PlanLine />
      )}
      <Disclosure title="How this works">
        <How />
      </Disclosure>
    </fieldset>
  )
}

function How(): JSX.Element {
  return (
    <div class="stack">
      <ol class="how">
        <li>
          <strong>Sample.</strong> The model turns noise into pictures, in many small steps.
        </li>
        <li>
          <strong>Score.</strong> The goals say how far each picture is from what you want.
        </li>
        <li>
          <strong>Nudge.</strong> The gradient of that goes back through one of the steps, and the noise moves a little. Then again.
        </li>
      </ol>
      <p class="help">
        Going back through one step instead of all is the shortcut: memory that does not grow with the number of steps. <a href="#shortcut">See it at work</a>
      </p>
    </div>
  )
}

/** What a person has to know or decide first. */
function Notices(): JSX.Element {
  const u = unfinished.value
  const t = trouble.value
  const broken = lost.value !== '' || t?.failure.kind === 'device_lost' || t?.failure.kind === 'out_of_memory'
  return (
    <div class="notices">
      {addressProblem.value && (
        <Notice kind="warning" onClose={() => (addressProblem.value = '')}>
          {addressProblem.value}
        </Notice>
      )}
      <NoWebGPU />
      {broken && !running.value ? (
        <Notice
          kind="error"
          title={t?.failure.kind === 'out_of_memory' ? 'The device is out of memory' : 'The device was lost'}
          data-testid={ids.trouble}
          actions={
            <>
              {u && (
                <Button size="small" kind="primary" onClick={() => void goOn(u)} data-testid={ids.continue}>
                  Continue from update {u.update}
                </Button>
              )}
              {(draft.value?.num_images ?? 1) > 1 && (
                <Button
                  size="small"
                  onClick={() => {
                    halve()
                    void reopen('auto')
                  }}
                  data-testid={ids.halve}
                >
                  Half the pictures
                </Button>
              )}
              {!u && (
                <Button size="small" onClick={() => void reopen('auto')}>
                  Open it again
                </Button>
              )}
              {device.value?.kind !== 'cpu' && (
                <Button size="small" onClick={() => (u ? void goOn(u, 'cpu') : void reopen('cpu'))}>
                  Use the CPU
                </Button>
              )}
            </>
          }
        >
          {sentence(t?.failure.kind === 'out_of_memory' ? t.failure.message : lost.value || (t?.failure.message ?? ''))}
          {u && ' Nothing else is lost: what the run had found is kept.'}
        </Notice>
      ) : (
        <>
          {t && (
            <Notice
              kind="error"
              title="That did not work"
              actions={
                t.again && (
                  <Button size="small" kind="primary" disabled={running.value !== null && !running.value.background} onClick={() => void t.again!.go()} data-testid={ids.again}>
                    {t.again.from > 0 ? `Go on from update ${t.again.from}` : 'Try again'}
                  </Button>
                )
              }
              onClose={() => (trouble.value = null)}
              data-testid={ids.trouble}
            >
              {t.failure.message}
            </Notice>
          )}
          {u && !running.value && !endedHere.value && (
            <Notice
              title={`You were at update ${u.update} of ${u.recipe.updates} of “${title(u.recipe.name)}”`}
              data-testid={ids.unfinished}
              actions={
                <>
                  <Button size="small" kind="primary" disabled={core.value.phase !== 'ready'} onClick={() => void goOn(u)} data-testid={ids.continue}>
                    Continue
                  </Button>
                  <Button size="small" onClick={() => void discard()} data-testid={ids.discard}>
                    Discard
                  </Button>
                </>
              }
            />
          )}
        </>
      )}
      {steering.value && story.value?.warning && <Notice kind="warning">{sentence(story.value.warning)}</Notice>}
      {keeps.value && !keepsCheckpoints.value && steering.value && story.value?.place === 'device' && <Notice>Another tab of this page keeps its checkpoints here: this run ends when this tab is closed.</Notice>}
      {!keeps.value && <Notice>This window keeps nothing: models, adapters and unfinished runs are gone when the tab is closed.</Notice>}
    </div>
  )
}

async function reopen(which: 'auto' | 'cpu'): Promise<void> {
  try {
    await openDevice(which)
    trouble.value = null
  } catch (error) {
    trouble.value = { failure: { kind: 'no_adapter', message: error instanceof Error ? error.message : String(error) }, update: 0 }
  }
}

