// What to do where the browser has no WebGPU.
import { signal } from '@preact/signals'
import type { JSX } from 'preact'
import { Button, Notice } from '../../components'
import { catalog, chosenDevice, device, recipe, useLibrary } from '../../state'
import { ids } from '../../testids'
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

/** How to get WebGPU in this browser. */
function howTo(): string {
  const agent = navigator.userAgent
  if (!isSecureContext) return 'WebGPU needs a secure address: open this page by https:// or from localhost.'
  const linux = /Linux/.test(agent) && !/Android/.test(agent)
  if (/Firefox\//.test(agent)) return linux ? 'In Firefox on Linux, open about:config and set dom.webgpu.enabled to true, or take Chrome.' : 'Update Firefox to 141 or newer, which has WebGPU on Windows, and 145 or newer on Apple silicon.'
  if (/iPhone|iPad/.test(agent)) return 'WebGPU comes with iOS and iPadOS 26; an update brings it.'
  if (/Safari\//.test(agent) && !/Chrom(e|ium)\//.test(agent)) return 'WebGPU comes with Safari 26; an update brings it.'
  if (/Android/.test(agent)) return 'WebGPU needs Android 12 and Chrome 121 or newer.'
  if (linux) return 'In Chrome on Linux, open chrome://flags/#enable-unsafe-webgpu, switch it on with Vulkan, and restart; chrome://gpu says what the driver lacks.'
  return 'Update Chrome or Edge, and see chrome://gpu: hardware acceleration may be switched off in the settings.'
}
