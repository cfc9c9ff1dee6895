import type { JSX } from 'preact'

export function SteerTab(): JSX.Element {
  return <section class="card pad" />
}
