// Measurements and kernel checks of the open device. State outlives the tab's component.
import { computed, effect, signal } from '@preact/signals'
import { failure } from '../../client'
import { chosenDevice, device, openDevice, runJob, running, told } from '../../state'
import type { KernelCheck, Measured } from '../../protocol'

export const measured = signal<Measured | null>(null)
export const kernels = signal<KernelCheck[]>([])
/** Whether every row was checked. */
export const complete = signal(false)
export const problem = signal('')
export const switching = signal(false)
export const working = computed(() => running.value?.tab === 'device')

// Numbers belong to the device they were taken on.
let of = ''
effect(() => {
  const d = device.value
  const name = d ? `${d.kind} ${d.name}` : of
  if (name === of) return
  of = name
  measured.value = null
  kernels.value = []
  complete.value = false
})

export async function measure(): Promise<void> {
  problem.value = ''
  try {
    measured.value = await runJob('device', 'Measuring', 'measure', {})
  } catch (error) {
    tell(error)
  }
}

export async function checkKernels(): Promise<void> {
  problem.value = ''
  kernels.value = []
  complete.value = false
  const rows: KernelCheck[] = []
  let due = 0
  const show = () => {
    due = 0
    kernels.value = [...rows]
  }
  try {
    const all = await runJob('device', 'Checking the kernels', 'kernels', {}, (e) => {
      rows.push(e.row)
      due ||= requestAnimationFrame(show)
    })
    kernels.value = all
    complete.value = true
  } catch (error) {
    show()
    tell(error)
  } finally {
    cancelAnimationFrame(due)
  }
}

export async function switchTo(which: 'auto' | 'webgpu' | 'cpu'): Promise<void> {
  if (switching.peek()) return
  problem.value = ''
  switching.value = true
  const before = chosenDevice.peek()
  chosenDevice.value = which
  try {
    await openDevice(which)
  } catch (error) {
    chosenDevice.value = before
    tell(error)
  } finally {
    switching.value = false
  }
}

function tell(error: unknown): void {
  const f = failure(error)
  if (!told(f)) problem.value = f.message
}
