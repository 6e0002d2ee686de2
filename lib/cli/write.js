'use strict'

const fs = require('node:fs')
const { createAtomicWriteStream, createBackup, withLock } = require('../../index.js')
const { UsageError } = require('./options.js')

/**
 * Writes what comes to a stream, and returns without having ended it.
 *
 * @param {AsyncIterable<Buffer>} input
 * @param {import('node:stream').Writable} stream
 * @param {Promise<never>} failed
 */
async function pour(input, stream, failed) {
  for await (const chunk of input) {
    if (!stream.write(chunk)) await Promise.race([new Promise((resolve) => stream.once('drain', resolve)), failed])
  }
}

/** @type {import('./options.js').Command} */
module.exports = {
  summary: 'replace a file by what comes from standard input',
  usage: '<file> [--json] [--mode <bits>] [--backup] [--lock] [--create-only] [--durability <level>]',
  details: `Reads standard input to its end, and then replaces the file by it in one step: until then the file is as it was, so it may
be read by the very pipeline that writes it. When the command succeeds the new content is on the disk. When it fails, is
interrupted or killed the file is as it was. An empty input makes an empty file; --json refuses it.`,
  options: {
    json: { form: 'flag', help: 'write only what is one JSON text in UTF-8' },
    mode: { form: 'mode', value: 'bits', help: 'permission bits of the file, in octal (default: those that it has)' },
    backup: { form: 'flag', help: 'make a backup of the present file before it is replaced' },
    lock: { form: 'flag', help: 'hold the lock of the file while it is replaced' },
    'create-only': { form: 'flag', help: 'make the file only if there is none' },
    durability: { form: 'text', value: 'level', choices: ['none', 'file', 'full'], help: 'what survives a power cut: none, file or full (default: full)' },
  },
  operands: [1, 1],
  operandName: '<file>',
  examples: [
    ['sort words | holdfast write words', 'the pipeline reads the file that it replaces'],
    ['jq .user state.json | holdfast write --json --backup user.json', 'nothing is written if jq fails half-way'],
    ['gen-key | holdfast write --mode 600 --create-only key', 'never replaces a key'],
  ],
  exits: [['0', 'the file has the new content'], ['1', 'it is as it was, and the message says why'], ['2', 'wrong usage']],
  failure: 1,
  async run({ options, operands: [file = ''], output, signal }) {
    if (options.backup && options['create-only']) throw new UsageError("'--backup' and '--create-only' exclude each other: there is no file to make a backup of")
    if (process.stdin.isTTY) output.error('Reads standard input. Ctrl-D ends it, Ctrl-C leaves the file as it is.')
    const stream = createAtomicWriteStream(file, {
      validate: options.json ? 'json' : undefined, mode: options.mode, createOnly: options['create-only'], durability: options.durability, signal,
    })
    /** @type {Promise<never>} */
    const failed = new Promise((_, reject) => stream.once('error', reject))
    const closed = new Promise((resolve) => stream.once('close', resolve))
    // It may fail before anything waits for it.
    failed.catch(() => {})
    const finish = async () => {
      const backup = options.backup ? await backupOf(file, signal) : undefined
      try {
        const finished = new Promise((resolve) => stream.once('finish', resolve))
        stream.end()
        await Promise.race([finished, failed])
      } catch (error) {
        if (backup !== undefined && !(/** @type {any} */ (error).committed)) fs.unlinkSync(backup)
        throw error
      }
    }
    try {
      await Promise.race([pour(process.stdin, stream, failed), failed])
      await (options.lock ? withLock(file, finish, { signal }) : finish())
    } catch (error) {
      // The stream removes its temp file before it says that it is closed.
      if (!stream.destroyed) stream.destroy()
      await closed
      throw error
    } finally {
      // What is still to come is not wanted, and would keep the process alive.
      process.stdin.destroy()
    }
    return 0
  },
}

/** A backup of a file, if there is one. @param {string} file @param {AbortSignal} signal */
async function backupOf(file, signal) {
  try {
    return await createBackup(file, { signal })
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ENOENT' && !fs.existsSync(file)) return undefined
    throw error
  }
}
