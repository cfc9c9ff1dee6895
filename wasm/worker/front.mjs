// The static site at the edge: the built page out of the ASSETS binding,
// answered as demo/serve.go answers it anywhere else, header for header;
// demo/sitetest holds both to one table. The binding gives bytes by name and no
// more. Which files there are, their sizes, their hashes and their compressed
// forms are in the manifest.json that the build left among them.

const guards = {
  // What the page may do: run its own scripts and WebAssembly, start workers,
  // show pictures it made, and fetch from where it came from. Nothing else.
  'Content-Security-Policy':
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; " +
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self' blob: data:; " +
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'",
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cache-Control': 'no-cache',
}

const immutable = 'public, max-age=31536000, immutable' // for what never changes under its address

const mediaTypes = {
  css: 'text/css; charset=utf-8',
  gif: 'image/gif',
  html: 'text/html; charset=utf-8',
  ico: 'image/x-icon',
  jpg: 'image/jpeg',
  js: 'text/javascript; charset=utf-8',
  json: 'application/json',
  mjs: 'text/javascript; charset=utf-8',
  png: 'image/png',
  svg: 'image/svg+xml',
  txt: 'text/plain; charset=utf-8',
  wasm: 'application/wasm',
  webmanifest: 'application/manifest+json',
  webp: 'image/webp',
  woff2: 'font/woff2',
  yaml: 'application/yaml',
}

/** The compressed forms that a build leaves beside a file, by their names in the manifest; the better one first. */
const forms = [
  { coding: 'br', suffix: '.br', listed: 'brotli' },
  { coding: 'gzip', suffix: '.gz', listed: 'gzip' },
]

/** Answers a request for a file of the page. */
export async function front(request, env) {
  const { method } = request
  if (method !== 'GET' && method !== 'HEAD') {
    return say(method, 405, `This page is read only: ${method} is not allowed, use GET or HEAD.`, { ...guards, Allow: 'GET, HEAD' })
  }
  const url = new URL(request.url)
  const files = await manifest(env, url)
  if (!files) return say(method, 503, 'The page is not part of this deployment; build it with make site and deploy again.')
  const path = decode(url.pathname)
  const name = path.slice(1) || 'index.html'
  const file = files.get(name)
  if (!file) return say(method, 404, `There is no ${JSON.stringify(path)} here; the page is at the root of this address.`)

  const headers = new Headers(guards)
  const type = mediaTypes[name.slice(name.lastIndexOf('.') + 1)] ?? 'application/octet-stream'
  headers.set('Content-Type', type)
  headers.set('Vary', 'Accept-Encoding')
  if (name.startsWith('assets/') || versionOf(url.searchParams.get('v'), file.sha256)) headers.set('Cache-Control', immutable)
  // Ranges are of the file itself: a part of a compressed stream is no use.
  const asked = request.headers.get('Range')
  const form = asked ? undefined : accepted(acceptEncoding(request)).find((f) => file[f.listed])
  const tag = `"${file.sha256.slice(0, 32)}${form ? `-${form.coding}` : ''}"`
  headers.set('ETag', tag)

  const { status, ranges } = conditions(request.headers, tag) ?? (asked && ifRange(request.headers, tag) ? cut(asked, file.bytes) : { status: 200 })
  switch (status) {
    case 304:
      headers.delete('Content-Type')
      return new Response(null, { status, headers })
    case 412:
      return new Response(null, { status, headers })
    case 416:
      for (const key of ['Cache-Control', 'ETag']) headers.delete(key)
      headers.set('Content-Range', `bytes */${file.bytes}`)
      return say(method, 416, `${name} has ${file.bytes} bytes, and ${asked} is none of them.`, headers)
  }
  headers.set('Accept-Ranges', 'bytes')
  if (form) headers.set('Content-Encoding', form.coding)
  const parts = ranges && pieces(ranges, file.bytes, type, headers)
  headers.set('Content-Length', parts ? parts.length : form ? file[form.listed] : file.bytes)
  // What the binding sends is compressed already where it says so.
  const init = { status, headers, encodeBody: form ? 'manual' : 'automatic' }
  if (method === 'HEAD') return new Response(null, init)
  const open = async () => {
    const asset = await env.ASSETS.fetch(new URL(encodeURI(`/${name}${form?.suffix ?? ''}`), url))
    if (!asset.ok) throw new Error(`${name} cannot be read: the assets of this deployment answer ${asset.status}.`)
    return asset.body
  }
  try {
    const first = await open()
    return new Response(parts ? stream(parts, first, open) : first, init)
  } catch (error) {
    return say(method, 500, error.message)
  }
}

/** A refusal in a sentence. */
function say(method, status, sentence, more = guards) {
  const headers = new Headers(more)
  headers.set('Content-Type', 'text/plain; charset=utf-8')
  const text = `${sentence}\n`
  if (method !== 'HEAD') return new Response(text, { status, headers })
  headers.set('Content-Length', new TextEncoder().encode(text).length)
  return new Response(null, { status, headers })
}

let known // the manifest, read once: a deployment's files do not change

/** The files of the page by their names, the manifest among them; undefined where the page was not built. */
async function manifest(env, base) {
  if (known) return known
  const path = 'manifest.json'
  const asset = await env.ASSETS.fetch(new URL(`/${path}`, base))
  if (!asset.ok) return undefined
  const text = await asset.arrayBuffer()
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', text))
  const { files } = JSON.parse(new TextDecoder().decode(text))
  known = new Map(files.map((file) => [file.path, file]))
  known.set(path, { path, bytes: text.byteLength, sha256: [...digest].map((b) => b.toString(16).padStart(2, '0')).join('') })
  return known
}

/** A path without its percent signs; as it is where they mean nothing. */
function decode(path) {
  try {
    return decodeURIComponent(path)
  } catch {
    return path
  }
}

/** Whether v is the beginning of a hash, and long enough to mean no other file. */
function versionOf(v, hash) {
  return v !== null && v.length >= 10 && hash.startsWith(v)
}

/** What the browser takes. Cloudflare puts its own header in place of the browser's, and that one here. */
function acceptEncoding(request) {
  return request.cf?.clientAcceptEncoding ?? request.headers.get('Accept-Encoding') ?? ''
}

/** The forms that a browser takes: ours in our order but for those it weighs less or refuses. */
function accepted(header) {
  const weights = new Map()
  for (const coding of header.split(',')) {
    const [name, parameter = ''] = coding.split(';')
    const q = /^\s*q\s*=(.*)$/i.exec(parameter)
    weights.set(name.trim().toLowerCase(), q ? Number(q[1]) || 0 : 1)
  }
  const weigh = ({ coding }) => weights.get(coding) ?? weights.get('*') ?? 0
  return forms.filter((form) => weigh(form) > 0).sort((a, b) => weigh(b) - weigh(a))
}

/** The status that preconditions give; undefined where they are met. */
function conditions(headers, tag) {
  const match = headers.get('If-Match')
  if (match !== null && !lists(match, tag, false)) return { status: 412 }
  const noneMatch = headers.get('If-None-Match')
  if (noneMatch !== null && lists(noneMatch, tag, true)) return { status: 304 }
  return undefined
}

/** Whether a list of tags has this one. Those that say they are weak count only where that is enough. */
function lists(header, tag, weakly) {
  if (header.trim() === '*') return true
  const tags = header.match(/(W\/)?"[^"]*"/g) ?? []
  return tags.includes(tag) || (weakly && tags.includes(`W/${tag}`))
}

/** Whether a range is wanted of what is here now. Times mean nothing here. */
function ifRange(headers, tag) {
  const condition = headers.get('If-Range')
  return condition === null || condition.trim() === tag
}

/** The ranges that a header asks for of so many bytes, as [from, to), and the status they give. */
function cut(header, size) {
  if (!header.startsWith('bytes=')) return { status: 416 }
  const ranges = []
  let beyond = false
  for (const range of header.slice('bytes='.length).split(',')) {
    if (range.trim() === '') continue
    const found = /^\s*(\d*)\s*-\s*(\d*)\s*$/.exec(range)
    if (!found || (found[1] === '' && found[2] === '')) return { status: 416 }
    const from = found[1] === '' ? Math.max(0, size - Number(found[2])) : Number(found[1])
    const to = found[1] === '' || found[2] === '' ? size : Math.min(size, Number(found[2]) + 1)
    if (found[1] !== '' && found[2] !== '' && Number(found[1]) > Number(found[2])) return { status: 416 }
    if (from >= size) beyond = true
    else ranges.push([from, to])
  }
  if (ranges.length === 0) return { status: beyond && size > 0 ? 416 : 200 }
  // Whoever asks for more than there is, or for crumbs, gets the whole.
  if (ranges.length > mostRanges || ranges.reduce((sum, [from, to]) => sum + to - from, 0) > size) return { status: 200 }
  return { status: 206, ranges }
}

/** Every range reads the file anew up to its end, so that there may not be many. */
const mostRanges = 16

/** What an answer of ranges is made of: texts, and ranges of the file. Sets its headers too. */
function pieces(ranges, size, type, headers) {
  const content = ([from, to]) => `bytes ${from}-${to - 1}/${size}`
  if (ranges.length === 1) {
    headers.set('Content-Range', content(ranges[0]))
    return { list: ranges, length: ranges[0][1] - ranges[0][0] }
  }
  const boundary = crypto.randomUUID().replaceAll('-', '')
  headers.set('Content-Type', `multipart/byteranges; boundary=${boundary}`)
  const encode = (text) => new TextEncoder().encode(text)
  const list = ranges.flatMap((range, i) => [
    encode(`${i > 0 ? '\r\n' : ''}--${boundary}\r\nContent-Range: ${content(range)}\r\nContent-Type: ${type}\r\n\r\n`),
    range,
  ])
  list.push(encode(`\r\n--${boundary}--\r\n`))
  return { list, length: list.reduce((sum, piece) => sum + (piece instanceof Uint8Array ? piece.length : piece[1] - piece[0]), 0) }
}

/** Sends pieces one after the other; every range reads a stream of the file, the first one first. */
function stream({ list, length }, first, open) {
  const { readable, writable } = new FixedLengthStream(length)
  const writer = writable.getWriter()
  const send = async () => {
    let next = first
    for (const piece of list) {
      if (piece instanceof Uint8Array) {
        await writer.write(piece)
        continue
      }
      await copy(next ?? (await open()), piece, writer)
      next = null
    }
    await writer.close()
  }
  send().catch((error) => writer.abort(error).catch(() => {})) // a browser that has gone wants no more
  return readable
}

/** Writes a range of a stream. The binding knows no ranges, so that what is before is read and dropped. */
async function copy(body, [from, to], writer) {
  const reader = body.getReader({ mode: 'byob' })
  try {
    for (let at = 0; at < to; ) {
      const { done, value } = await reader.read(new Uint8Array(chunk))
      if (done) throw new Error(`a file ends at byte ${at}, before byte ${to}`)
      const part = value.subarray(Math.max(0, from - at), Math.max(0, to - at))
      if (part.length > 0) await writer.write(part)
      at += value.length
    }
  } finally {
    await reader.cancel()
  }
}

const chunk = 1 << 18
