// How numbers are written on the page, the same everywhere.

/** 1536 → "1.5 kB"; decimal units, as browsers and file managers show them. */
export function bytes(n: number): string {
  if (n < 1000) return `${Math.round(n)} B`
  const units = ['kB', 'MB', 'GB', 'TB']
  let unit = -1
  while (n >= 999.5 && unit < units.length - 1) {
    n /= 1000
    unit++
  }
  return `${n < 10 ? n.toFixed(1) : Math.round(n)} ${units[unit]}`
}

/** Seconds → "85 ms", "2.4 s", "3 min 20 s". */
export function duration(seconds: number): string {
  if (seconds < 1) return `${Math.max(1, Math.round(seconds * 1000))} ms`
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  if (seconds < 60) return `${Math.round(seconds)} s`
  const s = Math.round(seconds)
  if (s < 3600) return s % 60 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${s / 60} min`
  const m = Math.round(s / 60)
  return `${Math.floor(m / 60)} h ${m % 60} min`
}

/** 402345 → "402,345". */
export function count(n: number): string {
  return Math.round(n).toLocaleString('en')
}

/** Parameters and operations: 402345 → "0.40 M". */
export function millions(n: number): string {
  return n < 1e6 ? `${(n / 1e6).toFixed(2)} M` : n < 1e9 ? `${(n / 1e6).toFixed(1)} M` : `${(n / 1e9).toFixed(1)} G`
}

export function percent(share: number): string {
  return `${Math.round(share * 100)} %`
}

/** A number of a chart or a table, to three digits. */
export function number(n: number): string {
  if (n === 0) return '0'
  const size = Math.abs(n)
  if (size >= 1e6 || size < 0.001) return n.toExponential(1)
  if (size >= 1000) return count(n)
  return String(+n.toPrecision(3))
}

/** plural(1, 'picture') → "1 picture"; plural(4, 'picture') → "4 pictures". */
export function plural(n: number, one: string, many = one + 's'): string {
  return `${count(n)} ${n === 1 ? one : many}`
}

/** What the core says, as a sentence among others; a file it begins with keeps its name. */
export function sentence(text: string): string {
  const first = /^[\w-]+\.[a-z]+\b/.test(text) ? text.charAt(0) : text.charAt(0).toUpperCase()
  return text && first + text.slice(1) + (/[.!?]$/.test(text) ? '' : '.')
}

/** dark-glasses → "Dark glasses". */
export function title(name: string): string {
  const words = name.replace(/[-_]+/g, ' ').trim()
  return words.charAt(0).toUpperCase() + words.slice(1)
}
