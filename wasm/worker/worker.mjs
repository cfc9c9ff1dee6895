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
    if (!pathname.startsWith('/v1/') && !pathname.startsWith('/r/')) return front(request, env)
    core ??= start(env)
    try {
      return await core.answer(request)
    } catch (error) {
      console.error(`sdo: ${request.method} ${pathname}: ${error.message}`)
      const message = 'the program stopped, perhaps out of memory; it starts anew with the next request, so try again, with fewer pictures'
      return Response.json({ error: { code: 'stopped', message } }, { status: 503, headers: { 'Cache-Control': 'no-store', 'Retry-After': '1' } })
    }
  },
}

function start(env) {
  const context = { env, binding: {}, weights, request: null, within }
  globalThis.context = context // where Go and the library look
  const go = new Go()
  const instance = new WebAssembly.Instance(module, { ...go.importObject, workers: { ready() {} } })
  const program = {
    over: false,
    /** Go takes the request before this returns, so that no other can come between. */
    answer(request) {
      context.request = request
      return unlessOver(program, context.binding.handleRequest(request))
    },
  }
  const end = () => {
    program.over = true
    if (core === program) core = undefined
  }
  go.run(instance).then(end, end)
  return program
}

/**
 * The promise, unless the program ends and leaves it. A request may only wait for
 * what is its own, so each looks for itself.
 */
function unlessOver(program, promise) {
  return new Promise((resolve, reject) => {
    const look = setInterval(() => program.over && reject(new Error('the Go program ended')), 200)
    promise.then(resolve, reject).finally(() => clearInterval(look))
  })
}

/** The promise, unless it takes longer than so many milliseconds. */
function within(promise, milliseconds) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('too slow')), milliseconds)
    promise.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}
