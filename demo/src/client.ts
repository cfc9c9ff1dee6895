// The page's side of the protocol: typed requests, running jobs, and what
// happens when the worker stops.
import type { EventOf, Failure, Message, Method, Params, Request, Result } from './protocol'

/** What the worker tells before the Go core answers. */
export type BootEvent =
  | { kind: 'loading'; loaded: number; total: number } // bytes of the core; total 0 where the host does not say
  | { kind: 'started'; keeps: boolean } // keeps: files outlive the tab
  | { kind: 'stopped'; message: string }

/** Files the worker may fetch before the Go core asks for them. */
export interface Ahead {
  id: 0
  ahead: string[]
}

type Incoming = Message | { id: 0; event: BootEvent }

/** A failure of a request; its message is a sentence with a next step. */
export class CoreError extends Error {
  readonly kind: Failure['kind']
  constructor(failure: Failure) {
    super(failure.message)
    this.name = 'CoreError'
    this.kind = failure.kind
  }
}

/** The failure in anything that was thrown. */
export function failure(error: unknown): Failure {
  if (error instanceof CoreError) return { kind: error.kind, message: error.message }
  return { kind: 'fault', message: error instanceof Error ? error.message : String(error) }
}

/** A request that is being worked on. */
export interface Job<M extends Method = Method> {
  id: number
  result: Promise<Result<M>>
  /** Waits between two network calls. */
  pause(): Promise<void>
  resume(): Promise<void>
  /** Ends it early; a steering or a tuning then still answers, with the best it has. */
  cancel(): Promise<void>
}

interface Pending {
  resolve(value: never): void
  reject(error: CoreError): void
  onEvent?: (event: never) => void
}

export interface Listener {
  boot(event: BootEvent): void
  deviceLost(message: string): void
}

const pending = new Map<number, Pending>()
let worker: Worker | null = null
let listener: Listener | null = null
let nextId = 1

/** Starts the worker, or starts it anew after it stopped. */
export function boot(tell: Listener): void {
  listener = tell
  worker?.terminate()
  failAll('The core was started anew.')
  const w = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module', name: 'sdo' })
  worker = w
  w.onmessage = (e: MessageEvent<Incoming>) => receive(e.data)
  w.onerror = (e) => {
    e.preventDefault()
    stopped(e.message || 'its script could not be loaded')
  }
}

function stopped(why: string): void {
  worker?.terminate()
  worker = null
  const message = `The core stopped: ${why.replace(/\.$/, '')}. Restart it; recipes and checkpoints are kept.`
  failAll(message)
  listener?.boot({ kind: 'stopped', message })
}

function failAll(message: string): void {
  const failed = [...pending.values()]
  pending.clear()
  for (const p of failed) p.reject(new CoreError({ kind: 'fault', message }))
}

function receive(message: Incoming): void {
  if (message.id === 0) {
    const { event } = message as { event: BootEvent | { kind: 'device_lost'; message: string } }
    if (event.kind === 'device_lost') listener?.deviceLost(event.message)
    else if (event.kind === 'stopped') stopped(event.message)
    else listener?.boot(event)
    return
  }
  const p = pending.get(message.id)
  if (!p) return
  if ('event' in message) {
    p.onEvent?.(message.event as never)
    return
  }
  pending.delete(message.id)
  if ('error' in message) p.reject(new CoreError(message.error))
  else p.resolve(message.result as never)
}

/** Starts a request that can be paused and cancelled. */
export function start<M extends Method>(method: M, params: Params<M>, onEvent?: (event: EventOf<M>) => void): Job<M> {
  const id = nextId++
  const result = new Promise<Result<M>>((resolve, reject) => {
    if (!worker) {
      reject(new CoreError({ kind: 'fault', message: 'The core is not running. Restart it.' }))
      return
    }
    pending.set(id, { resolve, reject, onEvent } as Pending)
    worker.postMessage({ id, method, params } satisfies Request<M>)
  })
  const control = (action: 'pause' | 'resume' | 'cancel') => async () => {
    if (pending.has(id)) await start(action, { job: id }).result
  }
  return { id, result, pause: control('pause'), resume: control('resume'), cancel: control('cancel') }
}

/** Has files of the site fetched that may be wanted later. */
export function fetchAhead(paths: string[]): void {
  worker?.postMessage({ id: 0, ahead: paths } satisfies Ahead)
}

/** One request and its answer. */
export function call<M extends Method>(method: M, params: Params<M>, onEvent?: (event: EventOf<M>) => void): Promise<Result<M>> {
  return start(method, params, onEvent).result
}
