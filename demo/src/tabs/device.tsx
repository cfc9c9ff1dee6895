import type { JSX } from 'preact'

export function DeviceTab(): JSX.Element {
  return <section class="card pad" />
}
