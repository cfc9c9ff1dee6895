// A folder as browsers hand it over: dropped, chosen, or, where neither a phone
// nor its browser knows folders, as the files of one.
import { named } from '../../names'

/** A file and where it lies in its folder, with slashes. */
export interface FolderFile {
  path: string
  file: File
}

export interface Folder {
  name: string
  files: FolderFile[]
}

/** More files than any model folder has: somebody dropped the wrong one. */
const MOST_FILES = 500
/** Configurations are a few kilobytes; a larger JSON file is none. */
const MOST_TEXT = 256 * 1024

/** What was dropped. Must be called while the drop event is handled. */
export async function dropped(items: DataTransferItemList): Promise<Folder> {
  const entries: FileSystemEntry[] = []
  for (const item of items) {
    const entry = item.webkitGetAsEntry()
    if (entry) entries.push(entry)
  }
  const files: FolderFile[] = []
  for (const entry of entries) await walk(entry, '', files)
  return folder(files)
}

/** What a file input holds: a folder's files, or files chosen one by one. */
export function chosen(list: FileList): Folder {
  const files: FolderFile[] = []
  for (const file of list) add(files, { path: file.webkitRelativePath || file.name, file })
  return folder(files)
}

/** The files as `inspect` takes them: sizes of all, text of the small JSON. */
export async function described(files: FolderFile[]): Promise<{ path: string; size: number; text?: string }[]> {
  return Promise.all(
    files.map(async ({ path, file }) =>
      path.endsWith('.json') && file.size <= MOST_TEXT ? { path, size: file.size, text: await file.text() } : { path, size: file.size },
    ),
  )
}

async function walk(entry: FileSystemEntry, above: string, files: FolderFile[]): Promise<void> {
  const path = above + entry.name
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject))
    add(files, { path, file })
    return
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader()
  for (;;) {
    // A reader gives a hundred entries at a time and then none.
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject))
    if (some.length === 0) return
    for (const child of some) await walk(child, path + '/', files)
  }
}

function add(files: FolderFile[], file: FolderFile): void {
  if (file.path.split('/').some((part) => part.startsWith('.'))) return // .git, .DS_Store
  if (files.length >= MOST_FILES) throw new Error(`This folder holds more than ${MOST_FILES} files. Choose the model's own folder, the one with config.json.`)
  files.push(file)
}

function folder(files: FolderFile[]): Folder {
  if (files.length === 0) throw new Error('Nothing there to read. Drop or choose the folder of a model, the one with model_index.json or config.json.')
  const top = files[0]!.path.split('/')[0]!
  const shared = files.every((f) => f.path.startsWith(top + '/'))
  return {
    name: shared ? named(top, 'my-model') : 'my-model',
    files: shared ? files.map((f) => ({ path: f.path.slice(top.length + 1), file: f.file })) : files,
  }
}
