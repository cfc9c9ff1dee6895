export function replay(device: unknown, queue: unknown, pipelines: unknown[], bindings: unknown[], words: Uint32Array, count: number): void
