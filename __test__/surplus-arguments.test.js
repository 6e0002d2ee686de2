'use strict'

// More arguments than a function takes are refused: a callback that would never be called, an option in the
// wrong place.

const { test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { failure, holdfast, names, newDir } = require('./helpers.js')

/** The functions of the package with their parameters, as the contract has them. @type {[string, string[]][]} */
const declared = [...fs.readFileSync(path.join(__dirname, '..', 'index.d.ts'), 'utf8').matchAll(/^export function (\w+)(?:<[^(]*>)?\(([^]*?)\): /gm)].map(([, name = '', parameters = '']) => [
  name, [...parameters.matchAll(/(?:^|,)\s*(\w+)\??:/g)].map(([, parameter = '']) => parameter),
])

test('every function refuses one argument too many, and says what it takes', async () => {
  const known = new Map(declared)
  const functions = Object.entries(holdfast).filter(([, value]) => typeof value === 'function' && !/^class /.test(Function.prototype.toString.call(value)))
  assert.ok(functions.length >= 25)
  for (const [name, call] of functions) {
    // They refuse options in their own words: metrics.test.js.
    if (/etrics$/.test(name)) continue
    const parameters = known.get(name)
    assert.ok(parameters, name)
    const most = Math.max(...declared.filter(([other]) => other === name).map(([, each]) => each.length))
    for (const surplus of [() => {}, 5, {}]) {
      const args = [...Array(most).fill('x'), surplus]
      const error = await failure(async () => call(...args))
      assert.equal(error.code, 'ERR_INVALID_ARG_VALUE', name)
      assert.match(error.message, new RegExp(`^${name} takes .*Received .* as argument ${most + 1}`))
    }
    // An async function tells it by a rejection only.
    if (!/Sync$|^set|etrics$|Stream$|^createHoldfast$|^jsonFile$/.test(name)) assert.ok(call(...Array(most).fill('x'), 1).catch(() => {}) instanceof Promise)
  }
})

test('a callback in the place of the options is refused by name, and nothing is done', async (t) => {
  const dir = newDir(t)
  const file = path.join(dir, 'file')
  const callback = () => {}
  const calls = /** @type {((call: any) => unknown)[]} */ ([
    (h) => h.atomicWrite(file, 'x', callback), (h) => h.atomicWrite(file, 'x', {}, callback), (h) => h.atomicWriteJson(file, {}, callback),
    (h) => h.atomicWriteSync(file, 'x', callback), (h) => h.updateJsonFile(file, () => {}, callback), (h) => h.withLock(file, () => {}, callback),
    (h) => h.createBackup(file, callback), (h) => h.restoreBackup(file, file, callback), (h) => h.removeFile(file, callback),
    (h) => h.recoverFromCrash(dir, callback), (h) => h.transaction([file], () => {}, callback), (h) => h.openWal(path.join(dir, 'log'), callback),
    (h) => h.readJsonFile(file, callback), (h) => Promise.all(['a', 'b'].map(h.listBackups)),
  ])
  for (const call of calls) {
    const error = await failure(async () => call(holdfast))
    assert.match(error.code, /^ERR_INVALID_ARG_/)
    assert.match(error.message, /callback|"options" argument must be of type object|takes one argument/)
  }
  assert.deepEqual(names(dir), [])
})

test('undefined in excess is no argument', async (t) => {
  const file = path.join(newDir(t), 'file')
  await holdfast.atomicWrite(file, 'x', undefined, .../** @type {[]} */ ([undefined, undefined]))
  assert.equal(fs.readFileSync(file, 'utf8'), 'x')
})

test('so do the methods of a log, a consumer and a transaction', async (t) => {
  const dir = newDir(t)
  const wal = await holdfast.openWal(path.join(dir, 'log'))
  await wal.append('c', [{ id: 'a', op: 'insert', payload: 'x' }])
  const consumer = await wal.consumer('name', 'c')
  const reader = await holdfast.openWal(path.join(dir, 'log'), { readOnly: true })
  const callback = () => {}
  /** @type {[any, [string, ...any[]][]][]} */
  const cases = [
    [wal, [
      ['append', 'c', [], {}], ['writeBatch', [], {}], ['get', 'c', 'a'], ['entries', 'c', {}], ['replay', 'c', {}], ['follow', 'c', {}],
      ['consumer', 'n', 'c', {}], ['first', 'c'], ['flush', 'c'], ['checkpoint', 'c', 1n], ['backup', path.join(dir, 'copy')],
    ]],
    [reader, [['follow', 'c', {}], ['consumer', 'n', 'c', {}], ['first', 'c'], ['replay', 'c', {}]]],
    [consumer, [['follow', {}], ['ack', 1n]]],
  ]
  for (const [object, methods] of cases) {
    for (const [name, ...args] of methods) {
      const error = await failure(async () => object[name](...args, callback))
      assert.match(error.message, new RegExp(`^${name} takes .*Received function callback as argument ${args.length + 1}`), name)
    }
  }
  await consumer.close()
  await reader.close()
  await wal.close()
  const file = path.join(dir, 'file')
  await holdfast.transaction([file], async (/** @type {any} */ tx) => {
    for (const [name, ...args] of [['read', file, 'utf8'], ['write', file, 'x', {}], ['updateJson', file, callback, {}], ['remove', file], ['exists', file], ['rename', file, file]]) {
      assert.match((await failure(async () => tx[/** @type {string} */ (name)](...args, callback))).message, /takes .*Received function callback/)
    }
  })
  assert.equal(fs.existsSync(path.join(dir, 'copy')), false)
})
