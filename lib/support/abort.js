'use strict'

// Listens to an AbortSignal once for all calls that share it: Node warns of a leak when many
// listeners are added to one signal.

/** @type {WeakMap<AbortSignal, { callbacks: Set<() => void>, listener: () => void }>} */
const watched = new WeakMap()

/**
 * Calls back when the signal is aborted, if there is one. The signal must not be aborted yet.
 *
 * @param {AbortSignal | undefined} signal
 * @param {() => void} callback
 * @returns {() => void} stops listening
 */
function onAbort(signal, callback) {
  if (!signal) return () => {}
  let watch = watched.get(signal)
  if (!watch) {
    const callbacks = new Set()
    const listener = () => {
      watched.delete(signal)
      for (const each of callbacks) each()
    }
    watch = { callbacks, listener }
    watched.set(signal, watch)
    signal.addEventListener('abort', listener, { once: true })
  }
  const { callbacks, listener } = watch
  // A function of its own: the same callback may be passed twice.
  const own = () => callback()
  callbacks.add(own)
  return () => {
    callbacks.delete(own)
    if (callbacks.size === 0 && watched.get(signal)?.callbacks === callbacks) {
      watched.delete(signal)
      signal.removeEventListener('abort', listener)
    }
  }
}

module.exports = { onAbort }
