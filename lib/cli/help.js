'use strict'

// What `--help` says, from what each command says of itself.

const { takesValue } = require('./options.js')

/**
 * @typedef {import('./options.js').Command} Command
 * @typedef {import('./output.js').Terminal} Terminal
 */

/** Two columns, the second one without a limit. @param {readonly (readonly [string, string])[]} rows */
function columns(rows) {
  const width = Math.max(...rows.map(([left]) => left.length))
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}\n`).join('')
}

/** @param {string} title @param {Terminal} output @param {readonly (readonly [string, string])[]} rows */
function section(title, output, rows) {
  return rows.length === 0 ? '' : `\n${output.style('bold', `${title}:`)}\n${columns(rows)}`
}

/** @param {Record<string, () => Command>} commands @param {Terminal} output */
function overview(commands, output) {
  return [
    'Usage: holdfast <command> [options]\n',
    section('Commands', output, Object.entries(commands).map(([words, load]) => [words, load().summary])),
    section('Exit codes', output, [['0', 'fine'], ['1', 'something needs you'], ['2', 'wrong usage'], ['3', 'could not look']]),
    "\n'holdfast <command> --help' has the options of a command, and examples.\n",
  ].join('')
}

/** The commands that share their first word, or '' if there are none. @param {string} group @param {Record<string, () => Command>} commands @param {Terminal} output */
function ofGroup(group, commands, output) {
  const inside = Object.entries(commands).filter(([words]) => words.startsWith(`${group} `))
  if (inside.length === 0) return ''
  return `Usage: holdfast ${group} <command> [options]\n${section('Commands', output, inside.map(([words, load]) => [words, load().summary]))}`
}

/** @param {string} words @param {Command} command @param {Terminal} output */
function ofCommand(words, command, output) {
  const options = Object.entries(command.options).map(([name, option]) => /** @type {const} */ ([
    `${option.short === undefined ? '    ' : `-${option.short}, `}--${name}${takesValue(option) ? ` <${option.value ?? option.form}>` : ''}`,
    option.help,
  ]))
  return [
    `Usage: holdfast ${words} ${command.usage}\n\n${command.details}\n`,
    section('Options', output, [...options, ['-h, --help', 'this text']]),
    section('Examples', output, command.examples),
    section('Exit codes', output, command.exits),
  ].join('')
}

module.exports = { ofCommand, ofGroup, overview }
