'use strict'

// A lock, update or transaction that takes long is told to the logger, once.

const { test } = require('node:test')
const assert = require('node:assert/strict')
const path = require('node:path')
const { collector, failure, holdfast, inChild, newDir } = require('./helpers.js')

const { acquireLock, atomicWriteJson, setLogger, transaction, updateJsonFile, withLock } = holdfast

/** Runs while this logger is everybody's. */
async function logged(/** @type {() => Promise<unknown>} */ run) {
  const { logger, entries } = collector()
  setLogger(logger)
  try {
    await run()
  } finally {
    setLogger(null)
  }
  return entries
}

const LONG = /held for long|takes long/

test('each is told once, with the path and the time, as long as it goes on', async (t) => {
  const file = path.join(newDir(t), 'data.json')
  const other = `${file}.other`
  await atomicWriteJson(file, {})
  await atomicWriteJson(other, {})
  /** @type {[string, string, (hold: () => Promise<void>, options: object) => Promise<unknown>][]} */
  const cases = [
    ['lock', 'Lock held for long', (hold, options) => withLock(file, hold, options)],
    ['lock', 'Lock held for long', async (hold, options) => {
      const lock = await acquireLock(file, options)
      await hold()
      await lock.release()
    }],
    ['lock', 'Lock held for long', (hold, options) => withLock(file, hold, { ...options, protocol: 'proper-lockfile' })],
    ['update JSON', 'Update takes long', (hold, options) => updateJsonFile(file, async () => hold(), options)],
    ['transaction', 'Transaction takes long', (hold, options) => transaction([file, other], hold, options)],
  ]
  for (const [operation, message, run] of cases) {
    const entries = await logged(async () => {
      // Until it is told, and for two more turns of the timers.
      const { logger, of } = collector()
      setLogger(logger)
      await run(async () => {
        while (of(message).length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
        await new Promise((resolve) => setTimeout(resolve, 40))
      }, { warnAfter: 20 })
      const told = of(message)
      assert.equal(told.length, 1, `${operation}: once`)
      assert.equal(told[0].fields.path, file)
      assert.equal(told[0].fields.operation, operation)
      assert.ok(told[0].fields.heldFor >= 19)
      setLogger(null)
    })
    assert.deepEqual(entries.filter((entry) => LONG.test(entry.message)), [])
  }
})

test('what is over in time is not told, and nothing is where it is switched off', async (t) => {
  const file = path.join(newDir(t), 'data.json')
  await atomicWriteJson(file, {})
  const entries = await logged(async () => {
    for (let i = 0; i < 20; i++) await withLock(file, () => {}, { warnAfter: 30 })
    await withLock(file, () => new Promise((resolve) => setTimeout(resolve, 60)), { warnAfter: Infinity })
    await updateJsonFile(file, () => new Promise((resolve) => setTimeout(resolve, 60)))
    assert.match((await failure(() => withLock(file, () => {}, { warnAfter: -1 }))).message, /"warnAfter" option is out of range/)
  })
  assert.deepEqual(entries.filter((entry) => LONG.test(entry.message)), [])
})

test('the logger of the call is told, and the process ends though something is held', async (t) => {
  const file = path.join(newDir(t), 'data.json')
  await atomicWriteJson(file, {})
  const { logger, of } = collector()
  await updateJsonFile(file, async () => {
    while (of('Update takes long').length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  }, { logger, warnAfter: 1 })
  // The timer does not keep it alive: a child that holds a lock for ever would hang otherwise.
  assert.equal(await inChild(async ({ file }, { holdfast }) => {
    await holdfast.acquireLock(file, { warnAfter: 2 ** 31 - 1 })
    return 'done'
  }, { file }), 'done')
})
