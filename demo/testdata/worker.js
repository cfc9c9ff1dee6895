self.kept = 41
postMessage('worker')
self.onmessage = (e) => {
  if (e.data === 'tell') console.error('told', { by: 'worker' }, 7)
  if (e.data === 'throw') throw new Error('thrown by the worker')
  if (e.data === 'fetch') fetch('missing-from-worker.bin')
}
