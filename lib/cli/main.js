'use strict'

// The command line: finds the command, reads its arguments, runs it, and turns how it ended into an exit code. A command is
// loaded when it is called, and only then the addon.

const fs = require('node:fs')
const path = require('node:path')
const { UsageError, closest, parse } = require('./options.js')
const { Output } = require('./output.js')

/**
 * @typedef {import('./options.js').Command} Command
 * @typedef {import('./options.js').Context} Context
 * @typedef {import('./output.js').Terminal} Terminal
 */

/** What a program's exit code says. 126, 127 and 128 + n are those of a command that `lock` runs. */
const FINE = 0
const NEEDS_YOU = 1
const WRONG_USAGE = 2
const COULD_NOT_LOOK = 3

/** Each command by its words. @type {Record<string, () => Command>} */
const commands = {
  lock: () => require('./lock.js'),
  locks: () => require('./locks.js'),
  write: () => require('./write.js'),
  backup: () => require('./backup.js'),
  restore: () => require('./restore.js'),
  backups: () => require('./backups.js'),
  recover: () => require('./recover.js'),
  inspect: () => require('./inspect.js'),
}

/** The signals that end a command. What it was doing is cancelled before the process dies of them. */
const ENDING = /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])

/** @param {string[]} argv @returns {{ words: string, load: () => Command, rest: string[] } | undefined} */
function find(argv) {
  for (const count of [2, 1]) {
    const words = argv.slice(0, count).join(' ')
    const load = Object.hasOwn(commands, words) ? commands[words] : undefined
    if (load !== undefined && argv.length >= count) return { words, load, rest: argv.slice(count) }
  }
  return undefined
}

/** Whether the arguments ask for help: those of a command that is to be run do not count. @param {string[]} args */
function asksForHelp(args) {
  const end = args.indexOf('--')
  return (end === -1 ? args : args.slice(0, end)).some((arg) => arg === '--help' || arg === '-h')
}

/** @param {string[]} argv @param {Terminal} output @returns {string} the text, if help is all that is asked for, or '' */
function answerWithoutCommand(argv, output) {
  const [first = '', ...more] = argv
  if (first === '--version' || first === '-V') return `${JSON.parse(fs.readFileSync(path.join(__dirname, '../../package.json'), 'utf8')).version}\n`
  const help = require('./help.js')
  if (['', 'help', '--help', '-h'].includes(first)) {
    const found = find(more)
    if (more.length === 0 || more[0] === '--help') return help.overview(commands, output)
    if (found !== undefined) return help.ofCommand(found.words, found.load(), output)
    const group = help.ofGroup(more[0] ?? '', commands, output)
    if (group !== '') return group
    throw unknown(more)
  }
  if (find(argv) === undefined && asksForHelp(more)) return help.ofGroup(first, commands, output)
  return ''
}

/** @param {string[]} argv */
function unknown(argv) {
  const [first = '', second] = argv
  const isGroup = Object.keys(commands).some((words) => words.startsWith(`${first} `))
  if (isGroup && second === undefined) return new UsageError(`'${first}' needs one more word`, first)
  const wanted = isGroup ? `${first} ${second}` : first
  const near = closest(wanted, Object.keys(commands))
  return new UsageError(`there is no command '${wanted}'${near === undefined ? '' : `. Did you mean '${near}'?`}`, isGroup ? first : '')
}

/**
 * Runs a command, and sets the exit code of the process when it is done.
 *
 * @param {string[]} argv
 */
async function main(argv) {
  // Who reads the output has seen enough (`| head`): that is no failure. Nothing that could be written is left to do.
  process.stdout.on('error', (error) => {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'EPIPE') process.exit(FINE)
    throw error
  })
  const output = new Output(process.stdout, process.stderr)
  const found = find(argv)
  try {
    if (argv.length === 0) {
      output.error(require('./help.js').overview(commands, output).trimEnd())
      process.exitCode = WRONG_USAGE
      return
    }
    const answer = answerWithoutCommand(argv, output)
    if (answer !== '') return void (await output.write(answer))
    if (found === undefined) throw unknown(argv)
    if (asksForHelp(found.rest)) return void (await output.write(require('./help.js').ofCommand(found.words, found.load(), output)))
    process.exitCode = await run(found.words, found.load(), found.rest, output)
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    const command = [error.command ?? found?.words ?? '', '--help'].filter((word) => word !== '').join(' ')
    output.error(`holdfast${found === undefined ? '' : ` ${found.words}`}: ${error.message}\nTry 'holdfast ${command}'.`)
    process.exitCode = WRONG_USAGE
  }
}

/** @param {string} words @param {Command} command @param {string[]} args @param {Terminal} output @returns {Promise<number>} */
async function run(words, command, args, output) {
  const { options, operands, trailing } = parse(command, args)
  const asJson = options.json === true && command.options.json?.form === 'output'
  const interrupted = new AbortController()
  /** @type {NodeJS.Signals | undefined} */
  let received
  /** @param {NodeJS.Signals} name */
  const interrupt = (name) => {
    // The second one does not wait.
    if (received !== undefined) die(name)
    received = name
    interrupted.abort()
  }
  if (!command.ownSignals) for (const name of ENDING) process.on(name, interrupt)
  /** @param {NodeJS.Signals} name */
  const die = (name) => {
    for (const each of ENDING) process.off(each, interrupt)
    process.kill(process.pid, name)
  }
  /** @type {Context} */
  const context = {
    options, operands, trailing, output, asJson, signal: interrupted.signal,
    json: (fields) => output.write(`${jsonText({ version: 1, command: words, ...fields })}\n`),
  }
  try {
    const code = await command.run(context)
    if (received !== undefined) die(received)
    return code
  } catch (error) {
    if (received !== undefined) {
      die(received)
      return NEEDS_YOU
    }
    if (error instanceof UsageError) throw error
    if (!isExpected(error)) throw error
    if (asJson) await context.json({ error: plain(error) })
    else output.failure(words, error)
    return isExpected(error) && error.code === 'ELOCKED' ? NEEDS_YOU : command.failure
  } finally {
    for (const name of ENDING) process.off(name, interrupt)
  }
}

/**
 * Whether an error is about files, and so the user's; anything else is a fault of ours, and shows its stack.
 *
 * @param {unknown} error
 * @returns {error is Error & { code: string }}
 */
function isExpected(error) {
  return error instanceof Error && typeof /** @type {NodeJS.ErrnoException} */ (error).code === 'string' && !(error instanceof TypeError)
}

/** @param {Error & { code: string }} error */
function plain(error) {
  return 'toJSON' in error ? error : { name: error.name, message: error.message, code: error.code }
}

/** @param {object} value */
function jsonText(value) {
  return JSON.stringify(value, (_, each) => (typeof each === 'bigint' ? String(each) : each))
}

module.exports = { COULD_NOT_LOOK, FINE, NEEDS_YOU, WRONG_USAGE, commands, main }
