// Once the page has nothing to do, weights that nobody has asked for yet are
// fetched, so that it needs no network afterwards.
import { effect } from '@preact/signals'
import { fetchAhead } from './client'
import { catalog, core, running, usable } from './state'

let asked = false

effect(() => {
  if (core.value.phase !== 'ready') asked = false // a core that starts anew has none
  const weights = catalog.value?.weights
  if (asked || !weights || !usable.value || running.value !== null || savesData()) return
  const ask = () => {
    asked = true
    fetchAhead(weights.map((name) => `models/${name}`))
  }
  const timer = setTimeout(() => ('requestIdleCallback' in window ? requestIdleCallback(ask) : ask()), 1000)
  return () => clearTimeout(timer)
})

/** Whether the person asked the browser to load no more than what is needed. */
function savesData(): boolean {
  return (navigator as { connection?: { saveData?: boolean } }).connection?.saveData ?? false
}
