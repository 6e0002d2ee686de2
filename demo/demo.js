'use strict'

// `npm run demo`: an agent that keeps its sessions in JSON files, and what becomes of them.

const os = require('node:os')
const sandbox = require('./sandbox.js')

/** Longer than it ever takes, in milliseconds. */
const HANGS = 180_000

async function main() {
  sandbox.watch()
  setTimeout(() => {
    console.error('The demo hangs.')
    process.exit(1)
  }, HANGS).unref()

  const begun = Date.now()
  const report = new Report()
  console.log(`An agent keeps its sessions in JSON files. What becomes of them? (Files are in ${os.tmpdir()}.)`)
  await perform(report, 'Act 1 is played to its end', () => crash(report))
  await perform(report, 'Act 2 is played to its end', () => fullDisk(report))
  const store = await perform(report, 'Act 3 is played to its end', () => contention(report))
  if (store) await perform(report, 'Act 4 is played to its end', () => backups(report, store))
  await perform(report, 'Act 5 is played to its end', () => log(report))
  report.table()
  console.log()
  report.note(
    'What this cannot show is a power cut: a killed process loses nothing that the kernel already has, synced or not. ' +
      'For that, the tests in tests/ run the same engine on a simulated disk and look at everything that a disk may ' +
      'keep or lose, at every point of a write; and __test__/power-cut.test.js cuts the power under real file systems (npm test).',
  )
  const held = report.verdict()
  console.log(`  (${((Date.now() - begun) / 1000).toFixed(0)} s)`)
  process.exitCode = held ? 0 : 1
}

/**
 * An error that no act expects is a claim that did not hold, and the others go on.
 *
 * @template T
 * @param {import('./report.js').Report} report
 * @param {string} claim
 * @param {() => Promise<T>} act
 */
async function perform(report, claim, act) {
  try {
    return await act()
  } catch (error) {
    report.check(false, claim, 'it failed', error.message)
    return undefined
  }
}

try {
  require('holdfast')
} catch (error) {
  console.error(`holdfast cannot be loaded; \`npm run build\` makes it.\n${error.message}`)
  process.exit(1)
}

const { backups } = require('./act-backup.js')
const { crash } = require('./act-crash.js')
const { contention } = require('./act-contention.js')
const { fullDisk } = require('./act-full-disk.js')
const { log } = require('./act-log.js')
const { Report } = require('./report.js')

main().catch((error) => {
  console.error(`\nThe demo failed: ${error.stack}`)
  process.exit(1)
})
