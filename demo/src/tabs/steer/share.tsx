// Everything to take along or pass on: a link, pictures, a film, the recipe, a command.
import type { JSX } from 'preact'
import { useState } from 'preact/hooks'
import { Button, CopyButton, Notice, save } from '../../components'
import { failure } from '../../client'
import { checked, recipe, shareLink } from '../../state'
import { ids } from '../../testids'
import { film, sheet } from './export'
import { stage, steering, story } from './run'

export function Share(): JSX.Element {
  const [making, setMaking] = useState<'' | 'sheet' | 'film'>('')
  const [problem, setProblem] = useState('')
  const shown = stage.value
  const s = shown.of === 'run' ? story.value : null
  const r = s?.recipe ?? recipe.value
  const name = r?.name ?? 'sdo'
  const { command, command_needs_file: file, yaml } = checked.value
  const frames = s?.frames ?? []
  const work = (what: 'sheet' | 'film', make: () => Promise<Blob>, as: string) => {
    setMaking(what)
    setProblem('')
    make()
      .then((blob) => save(as, blob))
      .catch((error) => setProblem(failure(error).message))
      .finally(() => setMaking(''))
  }
  return (
    <div class="stack">
      <div class="stack tight">
        <h3>This recipe as a link</h3>
        <p class="help">The link holds the whole recipe. Whoever opens it steers the same pictures, on their own device.</p>
        <div>
          <CopyButton text={shareLink} data-testid={ids.copyLink}>
            Copy link
          </CopyButton>
        </div>
      </div>
      <div class="stack tight">
        <h3>Pictures</h3>
        <div class="row tight">
          <Button
            disabled={!shown.before || making !== '' || steering.value}
            busy={making === 'sheet'}
            onClick={() => work('sheet', () => sheet(name, shown.before!, s ? shown.pictures : null, s), `${name}.png`)}
            data-testid={ids.savePng}
          >
            PNG, before and after
          </Button>
          <Button disabled={frames.length < 2 || making !== '' || steering.value} busy={making === 'film'} onClick={() => work('film', () => film(frames), `${name}.gif`)} data-testid={ids.saveGif}>
            {making === 'film' ? 'Making the film…' : 'GIF of the run'}
          </Button>
        </div>
        {frames.length < 2 && <p class="help">The GIF is there after a run.</p>}
        {problem && <Notice kind="error">{problem}</Notice>}
      </div>
      <div class="stack tight">
        <h3>On your own machine</h3>
        <p class="help">The same run by the command line, on any GPU or none.</p>
        {command && (
          <>
            <pre class="command" data-testid={ids.command}>
              {command}
            </pre>
            <div class="row tight">
              <CopyButton text={command}>Copy command</CopyButton>
              {yaml && (
                <Button onClick={() => save(file ?? `${name}.yaml`, new Blob([yaml], { type: 'text/yaml' }))} data-testid={ids.saveYaml}>
                  Recipe, YAML
                </Button>
              )}
            </div>
            {file && <p class="help">The command reads {file}: save the recipe beside it.</p>}
          </>
        )}
      </div>
    </div>
  )
}
