// Records and submits one compute pass from a list of numbers, so that Go
// crosses into JavaScript once a network call and not three times a dispatch
// (about a microsecond each). Whoever starts the wasm module makes this function
// global as sdoReplay before Go runs; package gpu works without it, slower.
//
// A step is six words: pipeline and bindings by their places in the two tables,
// the dynamic offset of the uniform block, and the workgroups along x, y and z.
export function replay(device, queue, pipelines, bindings, words, count) {
  const encoder = device.createCommandEncoder()
  const pass = encoder.beginComputePass()
  let last = -1
  for (let at = 0; at < count; at += 6) {
    if (words[at] !== last) {
      last = words[at]
      pass.setPipeline(pipelines[last])
    }
    pass.setBindGroup(0, bindings[words[at + 1]], words, at + 2, 1)
    pass.dispatchWorkgroups(words[at + 3], words[at + 4], words[at + 5])
  }
  pass.end()
  queue.submit([encoder.finish()])
}
