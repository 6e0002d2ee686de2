'use strict'

const { spawn } = require('node:child_process')
const os = require('node:os')
const { acquireLock } = require('../../index.js')

/** Signals that are passed on to the command. */
const PASSED_ON = /** @type {const} */ (['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'])

/** Those that a terminal sends to the command itself. Without a terminal they come from a process, and to this one only. */
const OF_TERMINAL = /** @type {const} */ (['SIGINT', 'SIGQUIT'])

/**
 * Runs a command, and resolves with the exit code that a shell would give it.
 *
 * @param {string} file
 * @param {string[]} args
 * @returns {Promise<{ code: number, error?: NodeJS.ErrnoException }>}
 */
function runCommand(file, args) {
  return new Promise((resolve) => {
    const child = spawn(file, args, { stdio: 'inherit' })
    child.once('error', (/** @type {NodeJS.ErrnoException} */ error) => {
      // It was not started. (An error of `kill` comes after 'spawn', and says that the command has ended.)
      if (child.pid === undefined) resolve({ code: error.code === 'ENOENT' ? 127 : 126, error })
    })
    const hasTerminal = [process.stdin, process.stdout, process.stderr].some((stream) => stream.isTTY)
    for (const name of PASSED_ON) process.on(name, () => child.kill(name))
    for (const name of OF_TERMINAL) process.on(name, () => void (hasTerminal || child.kill(name)))
    child.once('close', (code, signal) => resolve({ code: signal === null ? code ?? 0 : 128 + (os.constants.signals[signal] ?? 0) }))
  })
}

/** @type {import('./options.js').Command} */
module.exports = {
  summary: 'run a command while it has the lock of a file',
  usage: '<file> [--read] [--timeout <time>] -- <command> [<argument>…]',
  details: `Waits for the lock of the file, as flock(1) does, runs the command, and releases the lock. Programs that use holdfast,
and other calls of this command, are kept out meanwhile. The file need not exist. SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 are
passed on to the command; so are SIGINT and SIGQUIT where no terminal does it. Do not kill it by SIGKILL: the lock would
be free while the command still runs.`,
  options: {
    read: { form: 'flag', short: 'r', help: 'admit other readers, and exclude writers only' },
    timeout: { form: 'duration', value: 'time', help: 'how long to wait: 500ms, 10s, 2m; 0s tries once (default: without end)' },
  },
  operands: [1, 1],
  operandName: '<file>',
  trailing: true,
  ownSignals: true,
  examples: [
    ['holdfast lock queue.json -- node worker.js', 'one worker at a time'],
    ['holdfast lock --timeout 0s nightly -- ./nightly.sh', 'or not at all'],
    ['holdfast lock --read state.json -- cp state.json copy.json', 'beside other readers'],
  ],
  exits: [['n', 'that of the command; 128 + the signal that ended it'], ['1', 'the lock was not free in time, or could not be taken'], ['2', 'wrong usage'], ['126, 127', 'the command cannot be run; there is none']],
  failure: 1,
  async run({ options, operands: [file = ''], trailing: [command = '', ...args], output }) {
    // While it waits, a signal ends this process as any other.
    const lock = await acquireLock(file, {
      kind: options.read === true ? 'read' : 'write', timeout: options.timeout ?? Infinity, warnAfter: Infinity,
    })
    const { code, error } = await runCommand(command, args).finally(() => lock.release())
    if (error !== undefined) output.failure('lock', error)
    return code
  },
}
