// Finishes a built site: leaves beside every file its gzip and brotli form
// where that is smaller, and manifest.json, which lists all files with their
// sizes and hashes.
//
//   node tools/site/compress.mjs SITE CACHE
//
// Brotli at its best takes half a minute for the module, so what was compressed
// is kept in CACHE by the hash of its content.

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rename, utimes, rm, stat, writeFile } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'
import { promisify } from 'node:util'
import { brotliCompress, constants } from 'node:zlib'

const [site, cache] = process.argv.slice(2)
if (!site || !cache) {
  console.error('usage: node tools/site/compress.mjs SITE CACHE')
  process.exit(2)
}

const manifest = 'manifest.json'

/** The gzip program packs the module 1 % tighter than Node's zlib does. */
function gzip(data) {
  return new Promise((resolve, reject) => {
    const program = spawn('gzip', ['-9', '-n', '-c'], { stdio: ['pipe', 'pipe', 'inherit'] })
    const parts = []
    program.stdout.on('data', (part) => parts.push(part))
    program.on('error', reject)
    program.on('close', (code) => (code === 0 ? resolve(Buffer.concat(parts)) : reject(new Error(`gzip ended with ${code}`))))
    program.stdin.end(data)
  })
}

const forms = [
  { name: 'gzip', suffix: '.gz', compress: gzip },
  {
    name: 'brotli',
    suffix: '.br',
    compress: (data) =>
      promisify(brotliCompress)(data, {
        params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24, [constants.BROTLI_PARAM_SIZE_HINT]: data.length },
      }),
  },
]

/** The compressed form of data, from the cache where it has been made before. */
async function compressed(form, data, hash) {
  const kept = join(cache, hash + '-9' + form.suffix)
  const found = await readFile(kept).catch(() => undefined)
  if (found) {
    const now = new Date()
    await utimes(kept, now, now)
    return found
  }
  const made = await form.compress(data)
  await writeFile(kept + '.part', made)
  await rename(kept + '.part', kept) // so that an interrupted write is never found
  return made
}

/** Drops what no build of the last month has used. */
async function tidy() {
  const month = 30 * 24 * 3600 * 1000
  for (const name of await readdir(cache)) {
    const path = join(cache, name)
    if (Date.now() - (await stat(path)).mtimeMs > month) await rm(path)
  }
}

await mkdir(cache, { recursive: true })
const entries = await readdir(site, { recursive: true, withFileTypes: true })
const paths = entries
  .filter((e) => e.isFile() && !e.name.startsWith('.'))
  .map((e) => relative(site, join(e.parentPath, e.name)).split(sep).join('/'))
  .sort()

const isForm = (path) => forms.some((form) => path.endsWith(form.suffix))
for (const path of paths.filter(isForm)) await rm(join(site, path))

const files = []
for (const path of paths) {
  if (path === manifest || isForm(path)) continue
  const data = await readFile(join(site, path))
  const sha256 = createHash('sha256').update(data).digest('hex')
  const file = { path, bytes: data.length, sha256 }
  const made = await Promise.all(forms.map((form) => compressed(form, data, sha256)))
  for (const [i, form] of forms.entries()) {
    if (made[i].length >= data.length) continue
    await writeFile(join(site, path + form.suffix), made[i])
    file[form.name] = made[i].length
  }
  files.push(file)
}
await writeFile(join(site, manifest), JSON.stringify({ files }, null, 1) + '\n')
await tidy()
