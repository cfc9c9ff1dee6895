// The address of what is on the screen: #<tab>, #<tab>?recipe=<library name>
// or #<tab>?r=<recipe>, the recipe as JSON, deflated, in base64url.

export const tabNames = ['steer', 'shortcut', 'tune', 'audit', 'models', 'device'] as const
export type TabName = (typeof tabNames)[number]

export interface Address {
  tab: TabName
  library?: string // name of a library recipe
  packed?: string // a recipe of its own, as unpack reads it
}

export function readAddress(hash: string): Address {
  const [name = '', query = ''] = hash.replace(/^#/, '').split('?', 2)
  const tab = tabNames.find((t) => t === name) ?? 'steer'
  const params = new URLSearchParams(query)
  return { tab, library: params.get('recipe') ?? undefined, packed: params.get('r') ?? undefined }
}

export function writeAddress(a: Address): string {
  const query = a.packed ? `?r=${a.packed}` : a.library ? `?recipe=${encodeURIComponent(a.library)}` : ''
  return `#${a.tab}${query}`
}

/** Text of a recipe for an address. It begins with "." where it could not be deflated. */
export async function pack(text: string): Promise<string> {
  const plain = new TextEncoder().encode(text)
  if (!('CompressionStream' in globalThis)) return '.' + base64url(plain)
  return base64url(await through(plain, new CompressionStream('deflate-raw')))
}

/** The text that pack was given; throws on anything else. */
export async function unpack(packed: string): Promise<string> {
  const bytes = fromBase64url(packed.replace(/^\./, ''))
  const plain = packed.startsWith('.') ? bytes : await through(bytes, new DecompressionStream('deflate-raw'))
  return new TextDecoder('utf-8', { fatal: true }).decode(plain)
}

const longest = 1 << 18 // a recipe has at most 256 KiB

async function through(bytes: Uint8Array<ArrayBuffer>, stream: CompressionStream | DecompressionStream): Promise<Uint8Array<ArrayBuffer>> {
  const reader = new Blob([bytes]).stream().pipeThrough(stream).getReader()
  const parts: Uint8Array<ArrayBuffer>[] = []
  let length = 0
  for (;;) {
    const { done, value } = await reader.read()
    if (done) break
    length += value.length
    if (length > longest) throw new Error('the recipe in the address is longer than 256 KiB')
    parts.push(value)
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer())
}

function base64url(bytes: Uint8Array): string {
  let binary = ''
  for (const b of bytes) binary += String.fromCharCode(b)
  return btoa(binary).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '')
}

function fromBase64url(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text.replace(/-/g, '+').replace(/_/g, '/'))
  return Uint8Array.from(binary, (c) => c.charCodeAt(0))
}
