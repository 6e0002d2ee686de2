#!/usr/bin/env node
'use strict'

/**
 * The chart of the README, drawn from the results of a complete run:
 * `node benchmark/harness/chart.js [results.json [chart.svg]]`
 */

const fs = require('node:fs')
const path = require('node:path')

/** @typedef {{ made: string, machine: ReturnType<typeof import('./machine.js').describeMachine>, tables: import('./types.js').Tables }} Results */
/** @typedef {import('./types.js').Row} Row */

const COLUMNS = /** @type {const} */ ([
  { disk: 'tmpfs', title: 'tmpfs', remark: 'processor time alone' },
  { disk: 'ext4', title: 'ext4', remark: 'on a loop device' },
  { disk: 'flush5ms', title: 'ext4, slow flush', remark: 'each flush of the disk takes 5 ms' },
])

const SECTIONS = /** @type {const} */ ([
  { key: 'one-by-one 1 KiB', title: 'One by one' },
  { key: 'at-once 1 KiB', title: '500 files at once' },
  { key: 'one-path', title: '300 writes to one file' },
])

/** By what an acknowledged write is worth after a power cut. */
const GROUPS = /** @type {const} */ ([
  { guarantee: 'nothing synced', names: ['holdfast none', 'write-file-atomic, no fsync', 'steno'] },
  { guarantee: 'file synced', names: ['holdfast file', 'write-file-atomic', 'atomically', 'fast-write-atomic'] },
  { guarantee: 'file and directory synced', names: ['holdfast full'] },
])

const MARGIN = 24
const LABELS = 186
const PANEL = 232
const GUTTER = 18
const BAR = 11
const LINE = 18
const GROUP_GAP = 7
/** The width that a panel keeps free beside its longest bar, for the figure. */
const FIGURE = 58
const WIDTH = MARGIN * 2 + LABELS + COLUMNS.length * PANEL + (COLUMNS.length - 1) * GUTTER

const STYLE = `
  .back { fill: #ffffff; stroke: #d8dee4 }
  text { font: 12px system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif; fill: #424a53 }
  .title { font-size: 16px; font-weight: 600; fill: #1f2328 }
  .head { font-size: 13px; font-weight: 600; fill: #1f2328 }
  .soft { font-size: 11px; fill: #59636e }
  .own { font-weight: 600; fill: #0a6b4f }
  .bar { fill: #b6bfc9 }
  .bar.own { fill: #12946c }
  .axis { stroke: #8c959f }
  .rule { stroke: #d8dee4 }
  .spread { stroke: #1f2328; stroke-opacity: .55 }
  @media (prefers-color-scheme: dark) {
    .back { fill: #0d1117; stroke: #30363d }
    text { fill: #c9d1d9 }
    .title, .head { fill: #f0f6fc }
    .soft { fill: #9198a1 }
    .own { fill: #4cc99c }
    .bar { fill: #57606a }
    .bar.own { fill: #2fb187 }
    .axis { stroke: #6e7681 }
    .rule { stroke: #30363d }
    .spread { stroke: #f0f6fc; stroke-opacity: .6 }
  }`

/**
 * @param {Results} results
 * @returns {string} An SVG document.
 */
function drawChart(results) {
  /** @type {string[]} */
  const parts = []
  let y = MARGIN + 14
  parts.push(text(MARGIN, y, 'Time per atomic write of 1 KiB', 'title'))
  parts.push(text(WIDTH - MARGIN, y, 'shorter is better; every panel has its own scale, from 0', 'soft', 'end'))
  y += 34
  for (const [index, { title, remark }] of COLUMNS.entries()) {
    parts.push(text(panelLeft(index), y, title, 'head'), text(panelLeft(index), y + 15, remark, 'soft'))
  }
  y += 26
  for (const section of SECTIONS) {
    const { drawn, height } = drawSection(results, section, y)
    parts.push(drawn)
    y += height
  }
  for (const line of methodOf(results)) {
    y += 16
    parts.push(text(MARGIN, y, line, 'soft'))
  }
  const height = y + MARGIN - 6
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="Time per atomic write: holdfast beside other packages">`,
    `<style>${STYLE}\n</style>`,
    `<rect class="back" x=".5" y=".5" width="${WIDTH - 1}" height="${height - 1}" rx="8"/>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n')
}

/**
 * @param {Results} results
 * @param {typeof SECTIONS[number]} section
 * @param {number} top
 */
function drawSection({ tables }, { key, title }, top) {
  /** @type {string[]} */
  const parts = [`<line class="rule" x1="${MARGIN}" x2="${WIDTH - MARGIN}" y1="${top}" y2="${top}"/>`]
  parts.push(text(MARGIN, top + 21, title, 'head'))
  const first = top + 30
  let y = first
  for (const { guarantee, names } of GROUPS) {
    parts.push(text(MARGIN, y + BAR, guarantee, 'soft'))
    y += LINE
    for (const name of names) {
      parts.push(text(MARGIN + 12, y + BAR - 1, name, isOwn(name) ? 'own' : ''))
      y += LINE
    }
    y += GROUP_GAP
  }
  const bottom = y - GROUP_GAP
  for (const [index, { disk }] of COLUMNS.entries()) {
    const rows = tables[disk]?.find((table) => table.key === key)?.rows ?? []
    parts.push(drawPanel(rows, panelLeft(index), first, bottom))
  }
  return { drawn: parts.join('\n'), height: bottom - top + 12 }
}

/**
 * @param {Row[]} rows
 * @param {number} left
 * @param {number} top
 * @param {number} bottom
 */
function drawPanel(rows, left, top, bottom) {
  const rowOf = (/** @type {string} */ name) => rows.find((row) => row.name === name && row.median !== undefined)
  const shown = GROUPS.flatMap(({ names }) => names.flatMap((name) => rowOf(name) ?? []))
  const scale = (PANEL - FIGURE) / Math.max(...shown.map(({ high = 0 }) => high))
  const parts = [`<line class="axis" x1="${left}" x2="${left}" y1="${top + LINE - 4}" y2="${bottom}"/>`]
  let y = top
  for (const { names } of GROUPS) {
    y += LINE
    for (const name of names) {
      const row = rowOf(name)
      parts.push(row ? drawBar(row, left, y, scale) : text(left + 6, y + BAR - 1, 'not measured', 'soft'))
      y += LINE
    }
    y += GROUP_GAP
  }
  return parts.join('\n')
}

/**
 * @param {Row} row
 * @param {number} left
 * @param {number} top
 * @param {number} scale
 */
function drawBar({ name, median = 0, low = 0, high = 0 }, left, top, scale) {
  const own = isOwn(name) ? ' own' : ''
  const width = Math.max(median * scale, 1)
  const [from, to] = [low * scale, high * scale]
  const hasSpread = to - from > 1.5
  const middle = top + BAR / 2
  const parts = [`<rect class="bar${own}" x="${left}" y="${top}" width="${round(width)}" height="${BAR}"/>`]
  if (hasSpread) {
    parts.push(`<line class="spread" x1="${round(left + from)}" x2="${round(left + to)}" y1="${middle}" y2="${middle}"/>`)
  }
  parts.push(text(round(left + Math.max(width, hasSpread ? to : 0) + 5), top + BAR - 1, duration(median), own.trim()))
  return parts.join('')
}

/** @param {Results} results */
function methodOf({ made, machine, tables }) {
  const rounds = Object.values(tables).flat()
    .filter(({ key }) => SECTIONS.some((section) => section.key === key))
    .flatMap(({ rows }) => rows.flatMap((row) => row.rounds ?? []))
  const versions = Object.entries(machine.peers)
    .filter(([peer]) => GROUPS.some(({ names }) => names.some((name) => name.startsWith(peer))))
    .map(([peer, version]) => `${peer} ${version}`)
  return [
    `Bars: medians of ${Math.min(...rounds)} to ${Math.max(...rounds)} interleaved rounds, order rotated; lines: quartiles. Each package in a warm process of its own, existing files replaced, contents verified.`,
    `${machine.processors}, ${machine.system}, Node ${machine.node}, ${versions.join(', ')}. ${made.slice(0, 10)}.`,
  ]
}

/** @param {number} index */
function panelLeft(index) {
  return MARGIN + LABELS + index * (PANEL + GUTTER)
}

/** @param {string} name */
function isOwn(name) {
  return name.startsWith('holdfast')
}

/** @param {number} microseconds */
function duration(microseconds) {
  if (microseconds < 999.5) return `${microseconds.toFixed(microseconds < 99.5 ? 1 : 0)} µs`
  return `${(microseconds / 1000).toFixed(microseconds < 99500 ? 1 : 0)} ms`
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 10) / 10
}

/**
 * @param {number} x
 * @param {number} y
 * @param {string} content
 * @param {string} [kind]
 * @param {'end'} [anchor]
 */
function text(x, y, content, kind, anchor) {
  const escaped = content.replace(/&/g, '&amp;').replace(/</g, '&lt;')
  return `<text x="${x}" y="${y}"${kind ? ` class="${kind}"` : ''}${anchor ? ` text-anchor="${anchor}"` : ''}>${escaped}</text>`
}

if (require.main === module) {
  const [, , from = path.join(__dirname, '..', 'results', 'latest.json'), to = path.join(__dirname, '..', 'chart.svg')] = process.argv
  fs.writeFileSync(to, drawChart(JSON.parse(fs.readFileSync(from, 'utf8'))))
}

module.exports = { drawChart }
