// Small pixel drawings of the kinds of goals.
import type { JSX } from 'preact'
import type { Term } from '../../protocol'

export function GoalIcon({ kind, colour }: { kind: Term['term']; colour?: string }): JSX.Element {
  return (
    <svg class="goal-icon" viewBox="0 0 16 16" shape-rendering="crispEdges" aria-hidden="true">
      {drawing(kind, colour)}
    </svg>
  )
}

function drawing(kind: Term['term'], colour = '#d1112d'): JSX.Element {
  switch (kind) {
    case 'attribute':
      return <path fill="currentColor" d="M1 5h6v1h2V5h6v1h-1v4h-1v1h-3v-1H9V8H7v2H6v1H3v-1H2V6H1z" />
    case 'region_color':
      return (
        <>
          <path fill="currentColor" opacity=".35" d="M2 2h12v12H2zm1 1v10h10V3z" />
          <path fill={colour} d="M4 8h8v5H4z" />
        </>
      )
    case 'pixels':
      return <path fill="currentColor" d="M10 2h2v1h1v1h1v2h-1v1h-1v1h-1v1h-1v1H9v1H8v1H7v1H6v1H2v-4h1V9h1V8h1V7h1V6h1V5h1V4h1V3h1zM4 11v1h1v-1z" />
    case 'inpaint':
      return (
        <>
          <path fill="currentColor" d="M2 2h6v12H2z" />
          <path fill="currentColor" opacity=".4" d="M8 2h1v1H8zm2 0h1v1h-1zm2 0h1v1h-1zm-3 1h1v1H9zm2 0h1v1h-1zm2 0h1v1h-1zM8 4h1v1H8zm2 0h1v1h-1zm2 0h1v1h-1zM9 5h1v1H9zm2 0h1v1h-1zm2 0h1v1h-1zM8 6h1v1H8zm2 0h1v1h-1zm2 0h1v1h-1zM9 7h1v1H9zm2 0h1v1h-1zm2 0h1v1h-1zM8 8h1v1H8zm2 0h1v1h-1zm2 0h1v1h-1zM9 9h1v1H9zm2 0h1v1h-1zm2 0h1v1h-1zm-5 1h1v1H8zm2 0h1v1h-1zm2 0h1v1h-1zm-3 1h1v1H9zm2 0h1v1h-1zm2 0h1v1h-1zm-5 1h1v1H8zm2 0h1v1h-1zm2 0h1v1h-1zm-3 1h1v1H9zm2 0h1v1h-1zm2 0h1v1h-1z" />
        </>
      )
    case 'symmetry':
      return (
        <>
          <path fill="currentColor" d="M2 6h1V5h1V4h2v8H4v-1H3v-1H2z" />
          <path fill="currentColor" d="M14 6h-1V5h-1V4h-2v8h2v-1h1v-1h1z" />
          <path fill="currentColor" opacity=".4" d="M7.5 2h1v2h-1zm0 4h1v2h-1zm0 4h1v2h-1z" />
        </>
      )
    case 'total_variation':
      return <path fill="currentColor" d="M1 9h1V8h1V7h3v1h1v1h1v1h2V9h1V8h1V7h3v2h-2v1h-1v1h-1v1H8v-1H7v-1H6V9H4v1H3v1H1z" />
  }
}
