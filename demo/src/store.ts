// Files that stay in this browser: the origin-private file system, or memory
// where there is none, as in some private windows. All tabs of a site share the
// files, and a file can be changed by one of them at a time, so they take turns
// by a lock.
/// <reference lib="webworker" />

/** Paths have "/" between their parts: models/<name>/config.json. */
export interface Store {
  /** Whether files outlive the tab. */
  keeps: boolean
  /** The file's bytes; null where there is none. */
  read(path: string): Promise<Uint8Array | null>
  /** Its bytes from one place up to another, fewer where the file ends before. */
  readRange(path: string, from: number, to: number): Promise<Uint8Array | null>
  /**
   * Puts a whole file. A tab that is closed meanwhile leaves what was there before,
   * save in browsers that cannot move a file onto another, which may lose both.
   */
  write(path: string, bytes: Uint8Array): Promise<void>
  /** The files whose path begins with a prefix, in alphabetical order. */
  list(prefix: string): Promise<{ path: string; size: number }[]>
  /** Removes every file whose path begins with a prefix. */
  remove(prefix: string): Promise<void>
}

export async function openStore(): Promise<Store> {
  try {
    const root = await navigator.storage.getDirectory()
    const store = new PrivateFiles(await root.getDirectoryHandle('sdo', { create: true }))
    await store.tidy()
    const own = `${probe}-${crypto.randomUUID()}`
    await store.write(own, new Uint8Array(1)) // some private windows have the folder and refuse files
    await store.remove(own)
    return store
  } catch {
    return new MemoryFiles()
  }
}

// Half-written files have this ending until they are whole.
const partial = '.part'
const probe = '.probe'
const lock = 'sdo-store'

/** Not in every declaration of the DOM yet. */
interface Movable {
  move?(parent: FileSystemDirectoryHandle, name: string): Promise<void>
}

class PrivateFiles implements Store {
  readonly keeps = true

  constructor(private readonly root: FileSystemDirectoryHandle) {}

  /** One change at a time, in all tabs together. */
  private change<T>(work: () => Promise<T>): Promise<T> {
    return navigator.locks.request(lock, work) as Promise<T>
  }

  /** Many tabs may look at once, but not while one changes something. */
  private look<T>(work: () => Promise<T>): Promise<T> {
    return navigator.locks.request(lock, { mode: 'shared' }, work) as Promise<T>
  }

  /** Removes what tabs left half-written when they were closed: nobody writes while this one has its turn. */
  tidy(): Promise<void> {
    return this.change(async () => {
      const clear = async (folder: FileSystemDirectoryHandle): Promise<void> => {
        for (const [name, handle] of await entries(folder)) {
          if (handle.kind === 'directory') await clear(handle as FileSystemDirectoryHandle)
          else if (name.endsWith(partial) || name.startsWith(probe)) await folder.removeEntry(name).catch(() => {}) // one still open goes next time
        }
      }
      await clear(this.root)
    })
  }

  private async folder(parts: string[], create: boolean): Promise<FileSystemDirectoryHandle> {
    let at = this.root
    for (const part of parts) at = await at.getDirectoryHandle(part, { create })
    return at
  }

  read(path: string): Promise<Uint8Array | null> {
    return this.bytes(path, (file) => file)
  }

  readRange(path: string, from: number, to: number): Promise<Uint8Array | null> {
    return this.bytes(path, (file) => file.slice(from, to))
  }

  private bytes(path: string, part: (file: File) => Blob): Promise<Uint8Array | null> {
    return this.look(async () => {
      const { parents, name } = split(path)
      try {
        const handle = await (await this.folder(parents, false)).getFileHandle(name)
        return new Uint8Array(await part(await handle.getFile()).arrayBuffer())
      } catch (error) {
        if (isMissing(error)) return null
        throw error
      }
    })
  }

  write(path: string, bytes: Uint8Array): Promise<void> {
    return this.change(async () => {
      const { parents, name } = split(path)
      const folder = await this.folder(parents, true)
      const temporary = await folder.getFileHandle(name + partial, { create: true })
      try {
        await fill(temporary, bytes)
      } catch (error) {
        await folder.removeEntry(name + partial).catch(() => {})
        if ((error as DOMException).name === 'QuotaExceededError') {
          throw new Error(`${path} does not fit into what this browser lets the page keep; remove a model or free some disk space`)
        }
        throw error
      }
      await replace(folder, temporary, name, bytes)
    })
  }

  list(prefix: string): Promise<{ path: string; size: number }[]> {
    return this.look(async () => {
      const found: { path: string; size: number }[] = []
      const walk = async (folder: FileSystemDirectoryHandle, at: string): Promise<void> => {
        for (const [name, handle] of await entries(folder)) {
          const path = at + name
          if (handle.kind === 'directory') {
            const inside = `${path}/`
            if (inside.startsWith(prefix) || prefix.startsWith(inside)) await walk(handle as FileSystemDirectoryHandle, inside)
          } else if (path.startsWith(prefix) && !name.endsWith(partial)) {
            found.push({ path, size: (await (handle as FileSystemFileHandle).getFile()).size })
          }
        }
      }
      await walk(this.root, '')
      return found.sort((a, b) => (a.path < b.path ? -1 : 1))
    })
  }

  remove(prefix: string): Promise<void> {
    return this.change(async () => {
      const clear = async (folder: FileSystemDirectoryHandle, at: string): Promise<void> => {
        for (const [name, handle] of await entries(folder)) {
          const path = at + name
          const inside = `${path}/`
          if (handle.kind === 'directory' && !inside.startsWith(prefix)) {
            if (prefix.startsWith(inside)) await clear(handle as FileSystemDirectoryHandle, inside)
          } else if (inside.startsWith(prefix)) {
            await folder.removeEntry(name, { recursive: true })
          }
        }
      }
      await clear(this.root, '')
    })
  }
}

/** What a folder holds, all at once, so that it may change meanwhile. */
async function entries(folder: FileSystemDirectoryHandle): Promise<[string, FileSystemHandle][]> {
  const all: [string, FileSystemHandle][] = []
  for await (const entry of folder.entries()) all.push(entry)
  return all
}

async function fill(handle: FileSystemFileHandle, bytes: Uint8Array): Promise<void> {
  const access = await handle.createSyncAccessHandle()
  try {
    access.truncate(0)
    const written = access.write(bytes as Uint8Array<ArrayBuffer>, { at: 0 })
    if (written < bytes.length) throw new DOMException('the disk is full', 'QuotaExceededError')
    access.flush()
  } finally {
    access.close()
  }
}

/** Puts a whole temporary file in the place of another. */
async function replace(folder: FileSystemDirectoryHandle, temporary: FileSystemFileHandle, name: string, bytes: Uint8Array): Promise<void> {
  const movable = temporary as FileSystemFileHandle & Movable
  if (movable.move) {
    try {
      return await movable.move(folder, name)
    } catch {
      // Some browsers do not move onto a file that is there.
      await folder.removeEntry(name).catch(() => {})
      return await movable.move(folder, name)
    }
  }
  await fill(await folder.getFileHandle(name, { create: true }), bytes)
  await folder.removeEntry(temporary.name)
}

class MemoryFiles implements Store {
  readonly keeps = false
  private readonly files = new Map<string, Uint8Array>()

  async read(path: string): Promise<Uint8Array | null> {
    return this.files.get(path)?.slice() ?? null
  }

  async readRange(path: string, from: number, to: number): Promise<Uint8Array | null> {
    return this.files.get(path)?.slice(from, to) ?? null
  }

  async write(path: string, bytes: Uint8Array): Promise<void> {
    split(path)
    this.files.set(path, bytes.slice())
  }

  async list(prefix: string): Promise<{ path: string; size: number }[]> {
    return [...this.files]
      .filter(([path]) => path.startsWith(prefix))
      .map(([path, bytes]) => ({ path, size: bytes.length }))
      .sort((a, b) => (a.path < b.path ? -1 : 1))
  }

  async remove(prefix: string): Promise<void> {
    for (const path of [...this.files.keys()]) if (path.startsWith(prefix)) this.files.delete(path)
  }
}

function split(path: string): { parents: string[]; name: string } {
  const parents = path.split('/')
  const name = parents.pop()!
  if ([...parents, name].some((p) => p === '' || p === '.' || p === '..') || name.endsWith(partial)) {
    throw new Error(`${JSON.stringify(path)} is no path of a kept file; it has parts between slashes, none of them empty, "." or ".."`)
  }
  return { parents, name }
}

function isMissing(error: unknown): boolean {
  return error instanceof DOMException && (error.name === 'NotFoundError' || error.name === 'TypeMismatchError')
}
