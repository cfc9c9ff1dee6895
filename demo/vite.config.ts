import { defineConfig } from 'vite'

export default defineConfig({
  base: './', // any static host, any path
  build: {
    outDir: 'dist',
    assetsInlineLimit: 0, // the content security policy allows files of this site, not data: URLs
    modulePreload: { polyfill: false },
  },
  worker: { format: 'es' },
})
