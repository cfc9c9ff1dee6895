// The page's frame: name, device, tabs.
import type { JSX } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { begin, core, device, go, instead, lost, running, tab, tabNames, theme, type TabName } from './state'
import { Button, Notice } from './components'
import { sentence } from './format'
import { DeviceLost } from './lost'
import { ids } from './testids'
import { SteerTab } from './tabs/steer'
import { edge } from './tabs/steer/place'
import { ShortcutTab } from './tabs/shortcut'
import { TuneTab } from './tabs/tune'
import { AuditTab } from './tabs/audit'
import { ModelsTab } from './tabs/models'
import { DeviceTab } from './tabs/device'

const tabs: Record<TabName, { title: string; content: () => JSX.Element }> = {
  steer: { title: 'Steer', content: SteerTab },
  shortcut: { title: 'See the shortcut', content: ShortcutTab },
  tune: { title: 'Tune', content: TuneTab },
  audit: { title: 'Audit', content: AuditTab },
  models: { title: 'Models', content: ModelsTab },
  device: { title: 'Device', content: DeviceTab },
}

export function App(): JSX.Element {
  const Content = tabs[tab.value].content
  return (
    <>
      <a class="skip" href="#content" onClick={(e) => (e.preventDefault(), document.getElementById('content')?.focus())}>
        Skip to content
      </a>
      <header class="top">
        <div class="bar">
          <a class="brand" href="#steer" aria-label="sdo, to the first tab">
            <svg viewBox="0 0 16 16" shape-rendering="crispEdges" aria-hidden="true">
              <rect width="16" height="16" rx="3" />
              <path d="M2 6h5v1h2V6h5v1h-1v3H9V8H7v2H3V7H2z" />
            </svg>
            sdo
          </a>
          <TabBar />
          <DeviceChip />
          <ThemeButton />
        </div>
      </header>
      <main id="content" tabIndex={-1}>
        <div class="notices">
          <CoreStopped />
          <Instead />
          <DeviceLost />
        </div>
        <div role="tabpanel" id={`panel-${tab.value}`} aria-labelledby={`tab-${tab.value}`} key={tab.value}>
          {tab.value !== 'steer' && <h1 class="hidden">{tabs[tab.value].title}</h1>}
          <Content />
        </div>
      </main>
      <footer class="bottom">
        <p>
          {edge.value ? 'Everything runs on this device, unless you choose the edge: then the recipe is sent to this site.' : 'Everything runs on this device; nothing is sent anywhere.'} Avatars learnt from DiceBear’s Pixel Art set (CC0 1.0), clothes from Fashion-MNIST (Zalando SE, MIT licence). The method is{' '}
          <a href="https://arxiv.org/abs/2505.07477">Shortcut Diffusion Optimization</a>.
        </p>
      </footer>
    </>
  )
}

/** Tabs as the ARIA pattern has them: one stop for Tab, arrows move, the address follows. */
function TabBar(): JSX.Element {
  const list = useRef<HTMLDivElement>(null)
  const key = (e: KeyboardEvent) => {
    const at = tabNames.indexOf(tab.value)
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabNames.length - 1 }[e.key]
    if (to === undefined) return
    e.preventDefault()
    const name = tabNames[(to + tabNames.length) % tabNames.length]!
    go(name)
    list.current?.querySelector<HTMLElement>(`#tab-${name}`)?.focus()
  }
  const selected = tab.value
  useEffect(() => list.current?.querySelector(`#tab-${selected}`)?.scrollIntoView({ block: 'nearest', inline: 'nearest' }), [selected])
  const busy = running.value
  return (
    <div class="tabs" role="tablist" aria-label="Parts of this page" ref={list} onKeyDown={key}>
      {tabNames.map((name) => {
        const here = tab.value === name
        const works = busy !== null && !busy.background && busy.tab === name
        return (
          <button
            key={name}
            type="button"
            role="tab"
            id={`tab-${name}`}
            aria-selected={here}
            aria-controls={here ? `panel-${name}` : undefined}
            tabIndex={here ? 0 : -1}
            onClick={() => go(name)}
            data-testid={`${ids.tab}-${name}`}
          >
            {tabs[name].title}
            {works && <span class={`dot${busy.paused ? '' : ' beats'}`} title={busy.label} aria-label={`${busy.label}, ${busy.paused ? 'paused' : 'running'}`} />}
          </button>
        )
      })}
    </div>
  )
}

function DeviceChip(): JSX.Element {
  const d = device.value
  const c = core.value
  const text = lost.value
    ? 'device lost'
    : d !== null
      ? d.kind === 'cpu'
        ? 'CPU, no WebGPU'
        : d.name + (d.software ? ' · software' : '')
      : c.phase === 'stopped'
        ? 'stopped'
        : 'loading'
  const kind = d === null || lost.value ? '' : d.kind === 'webgpu' && !d.software ? ' good' : ' slow'
  return (
    <button type="button" class={`chip device${kind}`} onClick={() => go('device')} title={d ? `${d.name}${d.driver ? `, ${d.driver}` : ''}` : 'The device'} data-testid={ids.deviceChip}>
      <span class="chip-text">{text}</span>
    </button>
  )
}

function ThemeButton(): JSX.Element {
  const next = { auto: 'light', light: 'dark', dark: 'auto' } as const
  const sign = { auto: '◐', light: '☀', dark: '☾' } as const
  return (
    <Button kind="quiet" label={`Colours: ${theme.value}. Change to ${next[theme.value]}`} onClick={() => (theme.value = next[theme.value])} data-testid={ids.theme}>
      <span aria-hidden="true">{sign[theme.value]}</span>
    </Button>
  )
}

/** Says why it is another device than the one chosen. */
function Instead(): JSX.Element | null {
  if (instead.value === '') return null
  return (
    <Notice kind="warning" title="This is not the device that was chosen" onClose={() => (instead.value = '')} data-testid={ids.instead}>
      {sentence(instead.value)}
    </Notice>
  )
}

function CoreStopped(): JSX.Element | null {
  const c = core.value
  if (c.phase !== 'stopped') return null
  return (
    <Notice
      kind="error"
      title="The core is not running"
      actions={
        <Button kind="primary" onClick={begin}>
          Restart it
        </Button>
      }
      data-testid={ids.coreState}
    >
      {c.message}
    </Notice>
  )
}
