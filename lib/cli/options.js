'use strict'

// What a command is, and its arguments: read, checked, and refused by name.

const { parseArgs } = require('node:util')

/**
 * `form`: what its value is; without one it takes none. `'output'` is the `--json` that asks for the answer as JSON.
 *
 * @typedef {object} Option
 * @property {'flag' | 'output' | 'text' | 'duration' | 'count' | 'mode' | 'sequence'} form
 * @property {string} help
 * @property {string} [short]
 * @property {string} [value] what its value is called
 * @property {readonly string[]} [choices]
 *
 * @typedef {object} Command
 * @property {string} summary
 * @property {string} usage what comes after its name
 * @property {string} details
 * @property {Record<string, Option>} options
 * @property {readonly [min: number, max: number]} operands how many it takes
 * @property {string} operandName what is missing if there are too few
 * @property {boolean} [trailing] whether a command follows after `--`
 * @property {boolean} [ownSignals] whether it handles the signals that end a process itself
 * @property {readonly (readonly [line: string, meaning: string])[]} examples
 * @property {readonly (readonly [code: string, meaning: string])[]} exits
 * @property {1 | 3} failure the exit code when a call fails: 3 if it was only to look
 * @property {(context: Context) => Promise<number>} run
 *
 * @typedef {object} Context
 * @property {Record<string, any>} options
 * @property {string[]} operands
 * @property {string[]} trailing
 * @property {import('./output.js').Terminal} output
 * @property {boolean} asJson
 * @property {AbortSignal} signal aborted by Ctrl-C
 * @property {(fields: object) => Promise<void>} json
 */

/** The call is wrong: the message says what about it. */
class UsageError extends Error {
  /** @param {string} message @param {string} [command] whose help is of use */
  constructor(message, command) {
    super(message)
    this.command = command
  }
}

const UNITS = /** @type {Record<string, number>} */ ({ ms: 1, s: 1000, m: 60_000, h: 3_600_000 })

/** Each form's reader: the value, or `undefined` if the text is none. @type {Record<string, { is: string, read: (text: string) => unknown }>} */
const forms = {
  text: { is: 'a text', read: (text) => (text === '' ? undefined : text) },
  duration: {
    is: 'a time such as 500ms, 10s, 2m or 1h',
    read(text) {
      const [, digits = '', unit = ''] = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text) ?? []
      return digits === '' ? undefined : Number(digits) * (UNITS[unit] ?? NaN)
    },
  },
  count: { is: 'an integer from 1 to 1000000', read: (text) => (/^\d{1,7}$/.test(text) && Number(text) >= 1 && Number(text) <= 1_000_000 ? Number(text) : undefined) },
  mode: { is: 'permission bits in octal, such as 600 or 0644', read: (text) => (/^[0-7]{3,4}$/.test(text) ? Number.parseInt(text, 8) : undefined) },
  sequence: { is: 'a sequence number, from 1', read: (text) => (/^[1-9]\d{0,18}$/.test(text) ? BigInt(text) : undefined) },
}

/** @param {Option} option */
const takesValue = (option) => option.form !== 'flag' && option.form !== 'output'

/**
 * @param {Command} command
 * @param {string[]} args
 * @returns {Pick<Context, 'options' | 'operands' | 'trailing'>}
 */
function parse(command, args) {
  const end = args.indexOf('--')
  const own = end === -1 || !command.trailing ? args : args.slice(0, end)
  const trailing = end === -1 || !command.trailing ? [] : args.slice(end + 1)
  /** @type {NonNullable<import('node:util').ParseArgsConfig['options']>} */
  const known = {}
  for (const [name, option] of Object.entries(command.options)) {
    known[name] = { type: takesValue(option) ? 'string' : 'boolean', ...(option.short === undefined ? {} : { short: option.short }) }
  }
  // Not strict: what is wrong is told in our words, the same with every version of Node.
  const { tokens } = parseArgs({ args: own, options: known, strict: false, allowPositionals: true, tokens: true })
  /** @type {Record<string, unknown>} */
  const options = {}
  /** @type {string[]} */
  const operands = []
  for (const token of tokens) {
    if (token.kind === 'positional') operands.push(token.value)
    if (token.kind !== 'option') continue
    const option = Object.hasOwn(command.options, token.name) ? command.options[token.name] : undefined
    if (option === undefined) {
      const near = closest(token.rawName, Object.keys(command.options).map((name) => `--${name}`))
      throw new UsageError(`there is no option '${token.rawName}'${near === undefined ? '' : `. Did you mean '${near}'?`}`)
    }
    if (Object.hasOwn(options, token.name)) throw new UsageError(`'${token.rawName}' is there twice`)
    options[token.name] = valueOf(token, option)
  }
  const [min, max] = command.operands
  if (operands.length < min) throw new UsageError(`${command.operandName} is missing`)
  if (operands.length > max) throw new UsageError(`'${operands[max]}' is one argument too many${command.trailing ? ". Put '--' before the command" : ''}`)
  for (const operand of operands) if (operand === '') throw new UsageError('a path is empty')
  if (command.trailing && trailing.length === 0) throw new UsageError("the command is missing: it comes after '--'")
  return { options, operands, trailing }
}

/** @param {{ rawName: string, value?: string | undefined, inlineValue?: boolean | undefined }} token @param {Option} option */
function valueOf({ rawName, value, inlineValue }, option) {
  if (!takesValue(option)) {
    if (value !== undefined) throw new UsageError(`'${rawName}' takes no value`)
    return true
  }
  const form = forms[option.form]
  if (form === undefined) throw new TypeError(`an option of the form ${option.form}`)
  const is = option.choices === undefined ? form.is : `one of ${option.choices.join(', ')}`
  // What looks like an option is one whose value was forgotten; `--name=-value` says otherwise.
  if (value === undefined || (value.startsWith('-') && !inlineValue)) throw new UsageError(`'${rawName}' needs a value: ${is}`)
  const read = form.read(value)
  if (read === undefined || (option.choices !== undefined && !option.choices.includes(value))) {
    throw new UsageError(`'${rawName}' has to be ${is}, and is '${value}'`)
  }
  return read
}

/** The one of some names that a misspelt one is nearest to, if it is near. @param {string} wanted @param {readonly string[]} names */
function closest(wanted, names) {
  const near = names.map((name) => ({ name, distance: distance(wanted, name) })).sort((a, b) => a.distance - b.distance)[0]
  return near !== undefined && near.distance <= Math.max(1, Math.floor(wanted.length / 3)) ? near.name : undefined
}

/** How many letters differ (Levenshtein). @param {string} one @param {string} other */
function distance(one, other) {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index)
  for (let i = 1; i <= one.length; i += 1) {
    const next = [i]
    for (let j = 1; j <= other.length; j += 1) {
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (one[i - 1] === other[j - 1] ? 0 : 1)))
    }
    row = next
  }
  return row[other.length] ?? 0
}

/** @type {Option} */
const JSON_OUTPUT = { form: 'output', help: 'answer with one JSON document' }

/** @type {Command['exits']} */
const LOOKING = [['0', 'fine'], ['2', 'wrong usage'], ['3', 'could not look']]

module.exports = { JSON_OUTPUT, LOOKING, UsageError, closest, parse, takesValue }
