import type { JSX } from 'preact'

export function ModelsTab(): JSX.Element {
  return <section class="card pad" />
}
