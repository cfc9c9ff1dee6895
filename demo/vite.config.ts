import { defineConfig, type Plugin } from 'vite'

export default defineConfig({
  base: './', // any static host, any path
  build: {
    outDir: 'dist',
    assetsInlineLimit: 0, // the content security policy allows files of this site, not data: URLs
    modulePreload: { polyfill: false },
  },
  plugins: [hashes()], // in development; a build asks the worker's own
  worker: { format: 'es', plugins: () => [hashes()] },
})

/**
 * The module virtual:hashes, SHA-256 of what the worker loads by name. A host or
 * a cache that still has an older core or older weights is not asked for those,
 * and what comes all the same is not used.
 */
function hashes(): Plugin {
  const name = 'virtual:hashes'
  let folder = ''
  return {
    name: 'hashes',
    configResolved(config) {
      folder = config.command === 'build' ? config.publicDir : '' // in development files change as they like
    },
    resolveId: (id) => (id === name ? `\0${name}` : undefined),
    async load(id) {
      if (id !== `\0${name}`) return
      const found: Record<string, string> = {}
      const walk = async (at: string): Promise<void> => {
        for (const entry of await this.fs.readdir(`${folder}/${at}`, { withFileTypes: true })) {
          const path = at + entry.name
          if (entry.isDirectory()) await walk(`${path}/`)
          else if (/\.(wasm|js|safetensors)$/.test(path)) found[path] = await sha256(await this.fs.readFile(`${folder}/${path}`))
        }
      }
      if (folder) await walk('')
      return `export default ${JSON.stringify(found)}`
    },
  }
}

async function sha256(bytes: Uint8Array): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>))
  return [...digest].map((b) => b.toString(16).padStart(2, '0')).join('')
}
