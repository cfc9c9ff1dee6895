import { render } from 'preact'
import './styles/tokens.css'
import './styles/base.css'
import './styles/components.css'
import './styles/app.css'
import { call } from './client'
import { begin } from './state'
import { App } from './app'
import './ahead'

// For the console and for tests: await sdo.call('measure', {}).
Object.assign(globalThis, { sdo: { call } })

begin() // first, so that the core loads while the page is drawn
render(<App />, document.getElementById('page')!)
