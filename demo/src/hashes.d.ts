// What vite.config.ts makes of the files beside the page.
declare module 'virtual:hashes' {
  /** SHA-256 by path; empty in development. */
  const hashes: Record<string, string>
  export default hashes
}
