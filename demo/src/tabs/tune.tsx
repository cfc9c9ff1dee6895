import type { JSX } from 'preact'

export function TuneTab(): JSX.Element {
  return <section class="card pad" />
}
