// The worker: starts the Go program (main.go) with the isolate's first request to
// it and hands it every one of /v1/ and /r/. All else is the page (front.mjs).
import './build/wasm_exec.js'
import module from './build/edge.wasm'
import { front } from './front.mjs'
import { weights } from './weights.mjs'

/** The Go program of this isolate, which all requests share; undefined until one needs it. */
let core

export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url)
    if (!pathname.startsWith('/v1/') && !pathname.startsWith('/r/')) {
      const response = await front(request, env)
      response.headers.set('Server-Timing', 'sdo-edge') // tells the page that its server steers, too
      return response
    }
    if (!core || core.over()) core = start(env)
    const program = core
    try {
      return await program.answer(request)
    } catch (error) {
      console.error(`sdo: ${request.method} ${pathname}: ${error.message}`)
      return program.over()
        ? refuse(env, 503, 'stopped', 'the program stopped, perhaps out of memory; it starts anew with the next request, so try again, with fewer pictures')
        : refuse(env, 400, 'bad_request', 'the address of the request cannot be read; docs/edge.md lists what there is')
    }
  },
}

/** A refusal in the form of package edge, for what does not get there. */
function refuse(env, status, code, message) {
  const headers = { 'Cache-Control': 'no-store' }
  if (status === 503) headers['Retry-After'] = '1'
  if (env.ALLOW_ORIGIN) headers['Access-Control-Allow-Origin'] = env.ALLOW_ORIGIN
  return Response.json({ error: { code, message } }, { status, headers })
}

function start(env) {
  const go = new Go()
  // Neither the promise of its end nor an exception tells everyone: both are of
  // the request that happened to run.
  let broken = false
  const resume = go._resume
  go._resume = function () {
    try {
      resume.call(go)
    } catch (error) {
      broken = true
      throw error
    }
  }
  const program = {
    over: () => broken || go.exited,
    /** Go takes the request before this returns, so that no other can come between. */
    answer(request) {
      context.request = request
      return unlessOver(program, context.binding.handleRequest(request))
    },
  }
  const context = {
    env,
    binding: {},
    weights,
    request: null,
    tooSlow,
    ignore() {},
    stream: () => stream(program),
    /** Tells Go of a promise's end, or of its being late where it may take only so many milliseconds; 0 for any. */
    settle(number, promise, milliseconds) {
      const end = milliseconds > 0 ? within(promise, milliseconds) : promise
      end.then((value) => context.settled(number, value, undefined), (reason) => context.settled(number, undefined, reason ?? null))
    },
    /** Tells Go of a request whose caller has gone. */
    watch: (request, number) => request.signal.addEventListener('abort', () => context.left(number)),
  }
  globalThis.context = context // where Go and the library look
  const instance = new WebAssembly.Instance(module, { ...go.importObject, workers: { ready() {} } })
  go.run(instance).catch(() => (broken = true))
  return program
}

/** How often a request looks whether the program is over, in milliseconds: it may only wait for what is its own. */
const lookEvery = 200

/** The promise, unless the program ends and leaves it. */
function unlessOver(program, promise) {
  return new Promise((resolve, reject) => {
    const look = setInterval(() => program.over() && reject(new Error('the Go program ended')), lookEvery)
    promise.then(resolve, reject).finally(() => clearInterval(look))
  })
}

/** The two ends of an answer, which breaks off where the program ends and leaves it. */
function stream(program) {
  const { readable, writable } = new IdentityTransformStream()
  const writer = writable.getWriter()
  const look = setInterval(() => program.over() && writer.abort(new Error('the Go program ended')), lookEvery)
  const done = () => clearInterval(look)
  writer.closed.then(done, done)
  return { readable, writer }
}

const tooSlow = new Error('too slow')

/** The promise, unless it takes longer than so many milliseconds. */
function within(promise, milliseconds) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(tooSlow), milliseconds)
    promise.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}
