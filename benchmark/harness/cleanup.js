'use strict'

/**
 * What must happen before the process ends, whatever ends it. The last step added runs first.
 * Steps are synchronous because nothing else runs in an exit handler.
 *
 * @type {Set<() => void>}
 */
const steps = new Set()

/**
 * @param {() => void} step
 * @returns {() => void} Runs the step now.
 */
function beforeExit(step) {
  steps.add(step)
  return () => {
    if (steps.delete(step)) step()
  }
}

function runAll() {
  for (const step of [...steps].reverse()) {
    steps.delete(step)
    try {
      step()
    } catch (error) {
      console.error('while cleaning up:', error)
      process.exitCode = 1
    }
  }
}

/** To be called once: from then on signals, too, end the process through its exit handlers. */
function runStepsAtExit() {
  process.on('exit', runAll)
  const numbers = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 }
  for (const [signal, number] of Object.entries(numbers)) process.on(signal, () => process.exit(128 + number))
  // The parent process is gone.
  process.on('disconnect', () => process.exit(1))
}

module.exports = { beforeExit, runStepsAtExit }
