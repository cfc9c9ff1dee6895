import type { JSX } from 'preact'

export function AuditTab(): JSX.Element {
  return <section class="card pad" />
}
