#!/usr/bin/env node
'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { readArguments } = require('./harness/arguments.js')
const { runStepsAtExit } = require('./harness/cleanup.js')
const { drawChart } = require('./harness/chart.js')
const { disks, Unavailable } = require('./harness/disks.js')
const { goalsOf } = require('./harness/goals.js')
const { addonBuild, describeMachine } = require('./harness/machine.js')
const { enterNamespace, leaveNamespace } = require('./harness/mount-namespace.js')
const { planFor } = require('./harness/plan.js')
const { goalsText, tableText } = require('./harness/report.js')
const { WorkerPool } = require('./harness/worker-pool.js')
const { names, select } = require('./suite.js')

const RESULTS = path.join(__dirname, 'results', 'latest.json')
const CHART = path.join(__dirname, 'chart.svg')

/** @param {import('./harness/arguments.js').Arguments} wanted */
async function main({ quick, only, diskNames, json = RESULTS }) {
  const start = performance.now()
  const { measurements, probes } = select(only)
  /** @type {import('./harness/types.js').Tables} */
  const tables = {}
  /** @type {Record<string, string>} */
  const notes = {}
  /** @type {string[]} */
  const skipped = []
  const skip = (/** @type {string} */ what) => {
    skipped.push(what)
    console.log(`\nskipped: ${what}`)
  }
  const machine = describeMachine()
  const build = addonBuild()
  console.log(`${machine.processors}, ${machine.system}, Node ${machine.node}, load ${machine.load?.toFixed(2)}`)
  if (quick) console.log('Quick: fewer rounds, fewer increments. For a look, not for quoting.')

  for (const name of measurements.length === 0 ? [] : Object.keys(disks)) {
    if (diskNames.length > 0 && !diskNames.includes(name)) continue
    const disk = await open(name, skip)
    if (!disk) continue
    notes[name] = disk.note
    console.log(`\n${disk.title}: ${disk.note}`)
    const workers = new WorkerPool()
    const context = { disk, plan: planFor(name, quick), workers, skip }
    for (const { measure } of measurements) {
      tables[name] = [...(tables[name] ?? []), ...show(await measure(context), disk.title)]
    }
    workers.stop()
    disk.close()
  }
  for (const { measure } of probes) tables.once = [...(tables.once ?? []), ...show(await measure({ quick }), '')]

  const goals = goalsOf(tables)
  console.log(goalsText(goals))
  const rebuilt = addonBuild() !== build
  if (rebuilt) skip('the chart: holdfast was rebuilt during the run, so the figures are of two builds')
  const complete = !quick && !rebuilt && only.length === 0 && Object.keys(disks).every((name) => tables[name])
  const results = { made: new Date().toISOString(), quick, complete, machine, notes, skipped, tables, goals }
  fs.mkdirSync(path.dirname(json), { recursive: true })
  fs.writeFileSync(json, `${JSON.stringify(results, null, 2)}\n`)
  console.log(`\n${json}`)
  if (complete) {
    fs.writeFileSync(CHART, drawChart(results))
    console.log(CHART)
  } else {
    console.log('The chart is drawn by complete runs only.')
  }
  console.log(`${Math.round((performance.now() - start) / 1000)} s`)
  const wrong = Object.values(tables).flat().some(({ rows }) => rows.some(({ failed }) => failed))
  if (wrong) process.exitCode = 1
}

/**
 * @param {string} name
 * @param {(what: string) => void} skip
 */
async function open(name, skip) {
  try {
    return await disks[name]?.()
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error
    skip(`${name}: ${error.message}`)
    return undefined
  }
}

/**
 * @param {import('./harness/types.js').Table[]} tables
 * @param {string} diskTitle
 */
function show(tables, diskTitle) {
  for (const table of tables) console.log(tableText(table, diskTitle))
  return tables
}

const wanted = readArguments(process.argv.slice(2), { names, disks: Object.keys(disks) })
if ('usage' in wanted) {
  console[wanted.wrong ? 'error' : 'log'](wanted.usage)
  process.exitCode = wanted.wrong ? 2 : 0
} else if (!enterNamespace()) {
  runStepsAtExit()
  main(wanted).finally(leaveNamespace)
}
