// Names of what is kept: models and adapters.

/** A name recipes can use, from any name a folder or a file may have. */
export function named(text: string, otherwise: string): string {
  return text.toLowerCase().replace(/[^a-z0-9.]+/g, '-').replace(/^[-.]+|[-.]+$/g, '').slice(0, 60) || otherwise
}

/** What an adapter is called, whose file ends in .safetensors. */
export function adapterName(file: string): string {
  return file.replace(/\.safetensors$/i, '')
}

/** The name, or with a number where it is taken. */
export function free(wanted: string, taken: readonly string[]): string {
  let name = wanted
  for (let n = 2; taken.includes(name); n++) name = `${wanted}-${n}`
  return name
}

/** A name as it is; an error where it cannot be that of a file. */
export function checkName(name: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(name)) throw new Error(`the name ${JSON.stringify(name)} is not usable; take letters, digits, dots, dashes and underscores`)
  return name
}
