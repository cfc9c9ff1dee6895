// The worker: loads the Go core and carries messages between it and the page.
/// <reference lib="webworker" />
import hashes from 'virtual:hashes'
import type { Ahead, BootEvent } from './client'
import type { Failure, Message, Params, Request } from './protocol'
import { replay } from '../../gpu/replay.js'
import { adapterName, checkName } from './names'
import { openStore, type Store } from './store'

declare const self: DedicatedWorkerGlobalScope

/** What the Go core finds as globalThis.sdoHost. */
interface Host {
  /** A Message as JSON; {"$buffer": k} in it stands for buffers[k]. */
  post(json: string, buffers: Uint8Array[]): void
  /** A file of this site. */
  fetch(path: string): Promise<Uint8Array>
  /** Settles once what had arrived before has been heard. */
  yield(): Promise<void>
  store: Store
}

/** What the Go core leaves as globalThis.sdoCall: takes a Request as JSON. */
type Call = (json: string) => void

interface Go {
  importObject: WebAssembly.Imports
  run(instance: WebAssembly.Instance): Promise<void>
}

const site = new URL(/* @vite-ignore */ '../', self.location.href) // this script is in assets/

const waiting: Request[] = []
let deliver: Call | null = null

self.onmessage = (e: MessageEvent<Request | Ahead>) => {
  if ('ahead' in e.data) void fetchAhead(e.data.ahead)
  else if (deliver) void hand(e.data, deliver)
  else waiting.push(e.data)
}

// What nobody awaits would fail unheard, and the page wait for ever.
self.onunhandledrejection = (e) => tell({ kind: 'stopped', message: e.reason instanceof Error ? e.reason.message : String(e.reason) })

void boot()

async function boot(): Promise<void> {
  try {
    const core = loadCore()
    core.catch(() => {}) // it is awaited below
    const opened = openStore()
    await loadGlue()
    const go = new (globalThis as unknown as { Go: new () => Go }).Go()
    const [module, store] = await Promise.all([core, opened])
    const instance = await WebAssembly.instantiate(module, go.importObject)
    theStore = store
    tell({ kind: 'started', keeps: store.keeps })
    const host: Host = { post, fetch: fetchFile, yield: nextTask, store }
    Object.assign(globalThis, { sdoHost: host, sdoReplay: replay })
    Object.defineProperty(globalThis, 'sdoCall', { configurable: true, set: begin })
    await go.run(instance)
    tell({ kind: 'stopped', message: 'the Go core ended, and the console says why' })
  } catch (error) {
    tell({ kind: 'stopped', message: error instanceof Error ? error.message : String(error) })
  }
}

/** The Go core is ready for requests. */
function begin(call: Call): void {
  deliver = call
  for (const request of waiting.splice(0)) void hand(request, call)
}

let theStore: Store

/** The core, compiled while it comes; nothing of it runs before all of it has been checked. */
function loadCore(): Promise<WebAssembly.Module> {
  return genuine('sdo.wasm', async (response, check) => {
    const copy = response.clone()
    const compiled = compile(response)
    compiled.catch(() => {}) // of other bytes the check says more
    await check(await receive(copy))
    return compiled
  })
}

/** Reads an answer to its end, and tells how much has come. */
async function receive(response: Response): Promise<Uint8Array<ArrayBuffer>> {
  // Of a compressed answer the length says nothing about what is read here.
  const total = response.headers.has('content-encoding') ? 0 : Number(response.headers.get('content-length') ?? 0)
  const reader = response.body!.getReader()
  const chunks: Uint8Array[] = []
  let loaded = 0
  let told = 0
  for (;;) {
    const { done, value } = await reader.read()
    if (done) break
    chunks.push(value)
    loaded += value.length
    if (loaded - told < 1 << 18) continue
    told = loaded
    tell({ kind: 'loading', loaded, total })
  }
  const all = new Uint8Array(loaded)
  let at = 0
  for (const chunk of chunks) {
    all.set(chunk, at)
    at += chunk.length
  }
  return all
}

async function compile(response: Response): Promise<WebAssembly.Module> {
  const streams = response.headers.get('content-type')?.startsWith('application/wasm') && 'compileStreaming' in WebAssembly
  return streams ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer())
}

/** Defines Go. Nobody can check an import, so this one is of what was just checked and lies in the browser's cache. */
async function loadGlue(): Promise<void> {
  await read('wasm_exec.js')
  await import(/* @vite-ignore */ address('wasm_exec.js').href)
}

const channel = new MessageChannel()
const turns: (() => void)[] = []
channel.port1.onmessage = () => turns.shift()?.()

/** A task of its own: a promise alone would not let messages in, and timers wait 4 ms. */
function nextTask(): Promise<void> {
  return new Promise((resolve) => {
    turns.push(resolve)
    channel.port2.postMessage(null)
  })
}

/** Weights that are here or on their way before the core asked for them; null where that failed. */
const early = new Map<string, Promise<Uint8Array | null>>()
/** What the core has, which keeps what it gets. */
const taken = new Set<string>()

// What nearly every visit needs, fetched while the core is compiled.
for (const name of ['diffusion_pytorch_model.fp16', 'attribute_embedder']) void fetchEarly(`models/avatars-16-s/${name}.safetensors`)

function fetchEarly(path: string, priority?: RequestPriority): Promise<unknown> {
  if (taken.has(path)) return Promise.resolve()
  const there = early.get(path) ?? read(path, priority).catch(() => null)
  early.set(path, there)
  return there
}

/** One after the other, after anything else. */
async function fetchAhead(paths: string[]): Promise<void> {
  for (const path of paths) await fetchEarly(path, 'low')
}

async function fetchFile(path: string): Promise<Uint8Array> {
  const there = early.get(path)
  early.delete(path)
  taken.add(path)
  // One that failed is fetched again, and then says why.
  return (await there) ?? (await read(path))
}

function read(path: string, priority?: RequestPriority): Promise<Uint8Array> {
  return genuine(
    path,
    async (response, check) => {
      const bytes = new Uint8Array(await response.arrayBuffer())
      await check(bytes)
      return bytes
    },
    priority,
  )
}

/** What came is not what this page was built with. */
class Altered extends Error {}

type Check = (bytes: Uint8Array<ArrayBuffer>) => Promise<void>

/**
 * Fetches a file and makes use of it, which hands all of its bytes to check. Where
 * they are others than this page was built with, the browser may have kept them
 * from before, and they are fetched once more past its cache.
 */
async function genuine<T>(path: string, use: (response: Response, check: Check) => Promise<T>, priority?: RequestPriority): Promise<T> {
  const once = async (cache?: RequestCache): Promise<T> => use(await get(path, { priority, cache }), (bytes) => check(path, bytes))
  try {
    return await once()
  } catch (error) {
    if (error instanceof Altered) return once('reload')
    throw error
  }
}

async function check(path: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  const want = hashes[path]
  if (!want || !self.isSecureContext) return // without https the browser has checked it, see get
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
  const got = [...digest].map((b) => b.toString(16).padStart(2, '0')).join('')
  if (got === want) return
  throw new Altered(
    `${path} is not used, because it is not the file this page was built with: its SHA-256 is ${version(got)}…, expected ${version(want)}…; ` +
      'reload the page, and if that does not help upload the whole site again, or clear what a proxy before it has kept',
  )
}

/** The beginning of a hash, long enough to mean one file. Servers take it for one. */
function version(hash: string): string {
  return hash.slice(0, 10)
}

function address(path: string): URL {
  const url = new URL(path, site)
  const hash = hashes[path]
  if (hash) url.searchParams.set('v', version(hash))
  return url
}

async function get(path: string, init: RequestInit): Promise<Response> {
  const hash = hashes[path]
  // A browser that checks by itself withholds a file until all of it is there, but
  // where there is no https a page cannot do it.
  const integrity = hash && !self.isSecureContext ? subresource(hash) : undefined
  let response: Response
  try {
    response = await fetch(address(path), { ...init, integrity })
  } catch {
    throw new Error(
      `${path} could not be loaded: the network or the server did not answer${integrity ? ', or with another file than this page was built with' : ''}; check the connection and reload the page`,
    )
  }
  if (!response.ok) throw new Error(`${path} could not be loaded: the server said ${response.status}; it belongs beside this page, so build or upload the site again`)
  return response
}

/** A hash as browsers take it. */
function subresource(hash: string): string {
  return `sha256-${btoa(String.fromCharCode(...hash.match(/../g)!.map((byte) => parseInt(byte, 16))))}`
}

function tell(event: BootEvent): void {
  self.postMessage({ id: 0, event })
}

function post(json: string, buffers: Uint8Array[]): void {
  const own = buffers.map((b) => (b.byteLength === b.buffer.byteLength ? b : b.slice()) as Uint8Array<ArrayBuffer>)
  const message = JSON.parse(json, (key, value: unknown) => {
    const k = (value as { $buffer?: number } | null)?.$buffer
    if (typeof k !== 'number') return value
    return key === 'rgba' ? new Uint8ClampedArray(own[k]!.buffer) : own[k]
  }) as Message
  self.postMessage(message, own.map((b) => b.buffer))
}

/** Passes a request on; files go into the store first, and the core gets their sizes. */
async function hand(request: Request, call: Call): Promise<void> {
  try {
    const params =
      request.method === 'add_model'
        ? await storeModel(request.id, request.params as Params<'add_model'>)
        : request.method === 'add_lora'
          ? await storeLora(request.params as Params<'add_lora'>)
          : request.params
    call(JSON.stringify({ ...request, params }))
  } catch (error) {
    const failure: Failure = { kind: 'input', message: error instanceof Error ? error.message : String(error) }
    self.postMessage({ id: request.id, error: failure } satisfies Message)
  }
}

async function storeModel(id: number, { name, files }: Params<'add_model'>): Promise<unknown> {
  const folder = `models/${checkName(name)}`
  const there = await theStore.list(`${folder}/`)
  if (there.some((f) => configuration(f.path.slice(folder.length + 1)))) throw new Error(`a model named ${name} is already kept here; remove it first, or choose another name`)
  if (there.length > 0) await theStore.remove(`${folder}/`) // of one that was interrupted
  try {
    const of = files.reduce((sum, f) => sum + f.file.size, 0)
    let done = 0
    // The configuration last: without one a folder is no model, and is not listed.
    for (const f of [...files.filter((f) => !configuration(f.path)), ...files.filter((f) => configuration(f.path))]) {
      await theStore.write(`${folder}/${f.path}`, await contents(f.file))
      done += f.file.size
      self.postMessage({ id, event: { done, of } } satisfies Message)
    }
  } catch (error) {
    await theStore.remove(`${folder}/`)
    throw error
  }
  return { name, files: files.map((f) => ({ path: f.path, size: f.file.size })) }
}

function configuration(path: string): boolean {
  return path === 'config.json' || path === 'unet/config.json'
}

/** The core looks into it and then puts it among the adapters. */
async function storeLora({ name, file }: Params<'add_lora'>): Promise<unknown> {
  const own = checkName(adapterName(name))
  await theStore.write(`incoming/${own}.safetensors`, await contents(file))
  return { name: own }
}

async function contents(file: File): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return new Uint8Array(await file.arrayBuffer())
  } catch {
    throw new Error(`${file.name} could not be read; it may have been moved or be too large for this browser`)
  }
}
