// What to do after the device was lost, on every tab; Steer has its own, which
// goes on with its run.
import { signal } from '@preact/signals'
import type { JSX } from 'preact'
import { failure } from './client'
import { Button, Notice } from './components'
import { sentence } from './format'
import { chosenDevice, device, edit, lost, openDevice, recipe, running, tab } from './state'
import { draft as tuning, set as setTuning } from './tabs/tune/tuning'
import { ids } from './testids'

/** Why it could not be opened again; empty otherwise. */
const problem = signal('')

export function DeviceLost(): JSX.Element | null {
  if (lost.value === '' || running.value || tab.value === 'steer') return null
  const smaller = tab.value === 'tune' ? halfBatch() : halfPictures()
  return (
    <Notice
      kind="error"
      title="The device was lost"
      data-testid={ids.lost}
      actions={
        <>
          <Button size="small" kind="primary" onClick={() => void reopen(chosenDevice.peek())} data-testid={ids.reopen}>
            Open it again
          </Button>
          {smaller && (
            <Button
              size="small"
              onClick={() => {
                smaller.make()
                void reopen(chosenDevice.peek())
              }}
            >
              {smaller.label}
            </Button>
          )}
          {device.value?.kind !== 'cpu' && (
            <Button size="small" onClick={() => void reopen('cpu')}>
              Use the CPU
            </Button>
          )}
        </>
      }
    >
      {sentence(lost.value)}
      {problem.value && ` ${sentence(problem.value)}`}
    </Notice>
  )
}

async function reopen(which: 'auto' | 'webgpu' | 'cpu'): Promise<void> {
  problem.value = ''
  try {
    await openDevice(which)
  } catch (error) {
    problem.value = failure(error).message
  }
}

interface Smaller {
  label: string
  make: () => void
}

function halfBatch(): Smaller | null {
  const n = tuning.value?.tune?.batch_size ?? 1
  return n < 2 ? null : { label: 'Half the batch', make: () => setTuning((d) => (d.tune!.batch_size = Math.floor(n / 2))) }
}

function halfPictures(): Smaller | null {
  const n = recipe.value?.num_images ?? 1
  return n < 2 ? null : { label: 'Half the pictures', make: () => edit((d) => (d.num_images = Math.floor(n / 2))) }
}
