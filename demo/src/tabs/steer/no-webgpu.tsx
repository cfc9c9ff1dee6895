// What to do where the browser has no WebGPU.
import { signal } from '@preact/signals'
import type { JSX } from 'preact'
import { Button, Notice } from '../../components'
import { catalog, chosenDevice, device, recipe, useLibrary } from '../../state'
import { ids } from '../../testids'
import { howTo } from '../../webgpu'
import { shrunk, steering } from './run'

const dismissed = signal(false)

export function NoWebGPU(): JSX.Element | null {
  const d = device.value
  if (!d || d.kind !== 'cpu' || chosenDevice.value === 'cpu' || dismissed.value) return null
  return (
    <Notice
      kind="warning"
      title="This browser offers no WebGPU, so everything runs on the CPU"
      onClose={() => (dismissed.value = true)}
      data-testid={ids.noWebgpu}
      actions={
        shrunk.value &&
        !steering.value && (
          <Button
            size="small"
            onClick={() => {
              shrunk.value = false
              const whole = catalog.value?.recipes.find((r) => r.name === recipe.value?.name)
              if (whole) void useLibrary(whole.name)
            }}
          >
            Full size all the same
          </Button>
        )
      }
    >
      It works the same, only slower{shrunk.value ? `, so the recipe begins small: ${recipe.value?.num_images} pictures, ${recipe.value?.sampler.num_inference_steps} steps` : ''}. {howTo()}
    </Notice>
  )
}
