'use strict'

const { INCREMENT_REFERENCE, LOG_REFERENCE, REFERENCE } = require('../peers/implementations.js')
const { isMet } = require('./goals.js')

const GUARANTEES = /** @type {const} */ ({
  none: 'nothing synced',
  file: 'file synced',
  full: 'file and directory synced',
})

/**
 * @param {import('./types.js').Table} table
 * @param {string} diskTitle
 * @returns {string}
 */
function tableText({ title, unit, rows }, diskTitle) {
  const lines = [['', unit, 'quartiles', 'rounds', '']]
  let group = ''
  for (const row of rows) {
    if (row.guarantee && row.guarantee !== group) {
      group = row.guarantee
      lines.push([`  ${GUARANTEES[/** @type {keyof typeof GUARANTEES} */ (group)]}`, '', '', '', ''])
    }
    lines.push([`${row.guarantee ? '    ' : '  '}${row.name}`, ...cellsOf(row, rows)])
  }
  return `\n${diskTitle}${diskTitle && ': '}${title}\n${columns(lines)}`
}

/**
 * @param {import('./types.js').Row} row
 * @param {import('./types.js').Row[]} rows
 */
function cellsOf(row, rows) {
  if (row.failed) return ['', '', '', `WRONG: ${row.failed}`]
  const { median = NaN, low = NaN, high = NaN, rounds = 0 } = row
  const reference = referenceOf(row, rows)
  const ratio = reference?.median ? `${number(reference.median / median)} × ${reference.name}` : ''
  return [number(median), `${number(low)} – ${number(high)}`, String(rounds), [ratio, row.remark].filter(Boolean).join('; ')]
}

/**
 * The row to compare with: the reference peer of the same or, for `'full'`, the nearest guarantee.
 *
 * @param {import('./types.js').Row} row
 * @param {import('./types.js').Row[]} rows
 */
function referenceOf({ name, guarantee }, rows) {
  // The tables of logs have a reference of their own.
  const logs = rows.find((row) => row.name === LOG_REFERENCE)
  if (logs) return name === logs.name ? undefined : logs
  const wanted = guarantee ? REFERENCE[/** @type {keyof typeof REFERENCE} */ (guarantee)] : INCREMENT_REFERENCE
  return name === wanted ? undefined : rows.find((row) => row.name === wanted)
}

/** @param {import('./goals.js').Goal[]} goals */
function goalsText(goals) {
  const lines = [['', 'disk', 'goal', 'measured', '']]
  for (const goal of goals) {
    const met = isMet(goal)
    const sign = goal.sense === 'at least' ? '≥' : '≤'
    lines.push([
      `  ${goal.title}`,
      goal.disk,
      `${sign} ${goal.goal}`,
      goal.measured === undefined ? '–' : number(goal.measured),
      met === undefined ? 'not measured' : met ? 'met' : 'MISSED',
    ])
  }
  return `\nGoals\n${columns(lines)}`
}

/** With three significant digits. @param {number} value */
function number(value) {
  if (Number.isNaN(value)) return '–'
  const size = Math.abs(value)
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2)
}

/** The first column and the last to the left, those between to the right. @param {string[][]} lines */
function columns(lines) {
  const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)))
  return lines
    .map((line) => line.map((cell, column) => pad(cell, widths[column] ?? 0, column === 0 || column === line.length - 1)).join('  '))
    .map((line) => line.trimEnd())
    .join('\n')
}

/** @param {string} cell @param {number} width @param {boolean} left */
function pad(cell, width, left) {
  return left ? cell.padEnd(width) : cell.padStart(width)
}

module.exports = { tableText, goalsText, number }
