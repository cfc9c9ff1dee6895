// A report for bug reports: everything one would be asked for, as text.
import type { Device, KernelCheck, Measured } from '../../protocol'
import { browser } from '../../webgpu'

/** Limits that are bytes. */
export function isBytes(limit: string): boolean {
  return /Size$/.test(limit) && !/WorkgroupSize/.test(limit)
}

/** Limits are powers of two: 1073741824 → "1 GiB". */
export function binary(n: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB']
  const at = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, n)) / 10))
  return `${+(n / 1024 ** at).toPrecision(3)} ${units[at]}`
}

/** maxStorageBufferBindingSize → "max storage buffer binding size". */
export function words(limit: string): string {
  return limit.replace(/([a-z])([A-Z])/g, '$1 $2').toLowerCase()
}

export function report(version: string, d: Device | null, m: Measured | null, rows: readonly KernelCheck[], complete: boolean): string {
  const lines = [
    `sdo ${version}, in ${browser()}`,
    `agent: ${navigator.userAgent}`,
    `threads: ${navigator.hardwareConcurrency}, pixel ratio: ${devicePixelRatio}, WebGPU: ${'gpu' in navigator ? 'offered' : 'not offered'}, secure: ${isSecureContext}`,
  ]
  if (d) {
    lines.push(`device: ${d.kind}, ${d.name}${d.driver ? `, ${d.driver}` : ''}${d.software ? ', software' : ''}`)
    if (d.why) lines.push(`why: ${d.why}`)
    if (d.features.length) lines.push(`features: ${[...d.features].sort().join(', ')}`)
    for (const [name, value] of Object.entries(d.limits)) lines.push(`${name}: ${value}`)
  } else {
    lines.push('device: none is open')
  }
  if (m) {
    lines.push(
      `gemm: ${m.gemm_gflops.toFixed(2)} GFLOP/s`,
      `network call, 16 pictures: ${m.call_ms.toFixed(2)} ms, ${m.dispatches} dispatches`,
      `encoding: ${m.encode_replayed_us.toFixed(0)} us replayed, ${m.encode_plain_us.toFixed(0)} us plain`,
      `read-back: ${m.readback_ms.toFixed(3)} ms`,
    )
  }
  if (rows.length > 0) {
    const bad = rows.filter((r) => !r.ok)
    lines.push(`kernels: ${rows.length - bad.length} of ${rows.length} rows agree with float64${complete ? '' : ' (not all were checked)'}`)
    for (const r of bad) lines.push(`  ${r.name}: ${r.message || `error ${r.error.toExponential(2)}, bound ${r.bound.toExponential(2)}`}`)
  }
  return lines.join('\n') + '\n'
}
