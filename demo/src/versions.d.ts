// What vite.config.ts makes of the files beside the page.
declare module 'virtual:versions' {
  /** Hashes by path; empty in development. */
  const versions: Record<string, string>
  export default versions
}
