'use strict'

// A handle for one JSON file, with schemas of zod, valibot and arktype.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { type } = require('arktype')
const v = require('valibot')
const { z } = require('zod')
const { failure, holdfast, newDir, root, temps } = require('./helpers.js')

const { jsonFile, listBackups } = holdfast

/** @param {import('node:test').TestContext} t @param {unknown} [content] */
function setUp(t, content) {
  const dir = newDir(t)
  const file = path.join(dir, 'state.json')
  if (content !== undefined) fs.writeFileSync(file, JSON.stringify(content))
  return { dir, file }
}

/** @param {string} file */
const contentOf = (file) => JSON.parse(fs.readFileSync(file, 'utf8'))

const counts = (/** @type {any} */ value) => typeof value?.count === 'number'

/** @type {Record<string, any>} */
const SCHEMAS = {
  zod: z.object({ count: z.number() }),
  valibot: v.object({ count: v.number() }),
  'valibot, async': v.pipeAsync(v.object({ count: v.number() }), v.checkAsync(async ({ count }) => count < 100, 'too many')),
  'zod, async': z.object({ count: z.number() }).refine(async ({ count }) => count < 100),
  arktype: type({ count: 'number' }),
  'by hand': { '~standard': { version: 1, vendor: 'test', validate: (/** @type {any} */ value) => (counts(value) ? { value } : { issues: [{ message: 'no', path: [{ key: 'count' }] }] }) } },
}

for (const [name, schema] of Object.entries(SCHEMAS)) {
  describe(name, () => {
    test('checks what is read', async (t) => {
      const { file } = setUp(t, { count: 1 })
      const state = jsonFile(file, { schema })
      assert.deepEqual(await state.read(), { count: 1 })
      fs.writeFileSync(file, '{"count":"one"}')
      const error = await failure(() => state.read())
      assert.equal(error.code, 'EINVALIDJSON')
      assert.equal(error.operation, 'read JSON')
      assert.equal(error.issues.length, 1)
      assert.match(error.message, /content of the file does not match the schema: .*count/)
      assert.equal((await failure(() => state.update(() => {}))).code, 'EINVALIDJSON')
      assert.deepEqual(contentOf(file), { count: 'one' })
    })

    test('checks what is written, and writes nothing that does not pass', async (t) => {
      const { dir, file } = setUp(t)
      const state = jsonFile(file, { schema, defaultValue: { count: 0 } })
      assert.deepEqual(await state.read(), { count: 0 })
      assert.equal(fs.existsSync(file), false)
      const all = await Promise.all(Array.from({ length: 10 }, () => state.update((/** @type {any} */ value) => { value.count += 1 })))
      assert.deepEqual(all.map(({ count }) => count).sort((a, b) => a - b), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
      const error = await failure(() => state.update(() => ({ count: 'eleven' })))
      assert.equal(error.code, 'EINVALIDJSON')
      assert.equal(error.operation, 'update JSON')
      assert.ok(error.issues[0].message)
      assert.deepEqual(contentOf(file), { count: 10 })
      assert.deepEqual(temps(dir), [])
    })

    test('restores the newest backup that passes', async (t) => {
      const { file } = setUp(t, {})
      fs.writeFileSync(`${file}.1000.backup`, '{"count":1}')
      fs.writeFileSync(`${file}.2000.backup`, '{"count":"two"}')
      const { skipped } = await jsonFile(file, { schema }).restoreLatest()
      assert.match(skipped[0]?.reason ?? '', /does not match the schema/)
      assert.deepEqual(contentOf(file), { count: 1 })
    })
  })
}

test('the file holds the input of a schema, and its users get the output', async (t) => {
  const { file } = setUp(t, { at: '2024-01-02T03:04:05.000Z' })
  const state = jsonFile(file, { schema: z.object({ at: z.string().transform((text) => new Date(text)) }) })
  assert.equal((await state.read()).at.getUTCFullYear(), 2024)
  // A date is a string in the file, and that is what is checked.
  const { at } = await state.update((/** @type {any} */ value) => { value.at.setUTCFullYear(2030) })
  assert.equal(at.getUTCFullYear(), 2030)
  assert.deepEqual(contentOf(file), { at: '2030-01-02T03:04:05.000Z' })
})

test('migrate brings what is stored into the form of today before it is checked, also of backups', async (t) => {
  const { file } = setUp(t, { version: 1, n: 5 })
  const schema = z.object({ version: z.literal(2), count: z.number() })
  const migrate = async (/** @type {any} */ stored) => (stored.version === 2 ? stored : { version: 2, count: stored.n })
  const state = jsonFile(file, { schema, migrate, backup: true })
  assert.deepEqual(await state.read(), { version: 2, count: 5 })
  assert.deepEqual(contentOf(file), { version: 1, n: 5 })
  await state.update((value) => { value.count += 1 })
  assert.deepEqual(contentOf(file), { version: 2, count: 6 })
  const [backup] = await listBackups(file)
  assert.deepEqual(contentOf(backup?.path ?? ''), { version: 1, n: 5 })
  assert.equal((await state.restoreLatest()).backup.path, backup?.path)
  assert.deepEqual(await state.read(), { version: 2, count: 5 })
  const thrown = new Error('cannot')
  const failing = jsonFile(file, { migrate: () => { throw thrown } })
  for (const call of [() => failing.read(), () => failing.update(() => {}), () => failing.restoreLatest()]) assert.equal(await failure(call), thrown)
})

test('makes backups before updates, and at will, and is removed', async (t) => {
  const { file } = setUp(t)
  const state = jsonFile(file, { defaultValue: { count: 0 }, backup: { keep: 2 } })
  for (let turn = 0; turn < 4; turn++) await state.update((value) => { value.count += 1 })
  assert.deepEqual((await listBackups(file)).map((backup) => contentOf(backup.path).count), [3, 2])
  assert.equal(contentOf(await state.backup()).count, 4)
  const kept = await state.remove({ backup: true })
  assert.equal(contentOf(/** @type {string} */ (kept)).count, 4)
  assert.equal(fs.existsSync(file), false)
})

test('its options are checked, and its path stays what it was', async (t) => {
  const { file } = setUp(t, {})
  assert.throws(() => jsonFile(file, /** @type {any} */ ({ shema: {} })), /Did you mean "schema"/)
  assert.throws(() => jsonFile(file, /** @type {any} */ ({ schema: {} })), { code: 'ERR_INVALID_ARG_TYPE', message: /"schema" option must be a schema that follows Standard Schema/ })
  const state = jsonFile(path.relative(process.cwd(), file))
  assert.ok(path.isAbsolute(state.path))
  await assert.rejects(() => state.update(/** @type {any} */ (5)), /"update" argument must be of type function/)
  await assert.rejects(() => state.read({ signal: AbortSignal.abort() }), { name: 'AbortError' })
  await assert.rejects(() => state.update(() => {}, { signal: AbortSignal.abort() }), { name: 'AbortError' })
  const own = holdfast.createHoldfast({ indent: 2 })
  await own.jsonFile(file).update(() => ({ a: 1 }))
  assert.equal(fs.readFileSync(file, 'utf8'), '{\n  "a": 1\n}')
})

describe('watch', () => {
  /** The values that come, and a wait for some. @param {any} iterable */
  function collector(iterable) {
    /** @type {any[]} */
    const values = []
    /** @type {any} */
    let error
    const over = (async () => {
      for await (const value of iterable) values.push(value)
    })().catch((reason) => { error = reason })
    const until = async (/** @type {() => boolean} */ is) => {
      for (const begun = Date.now(); !is(); await new Promise((resolve) => setTimeout(resolve, 5))) assert.ok(Date.now() - begun < 20_000, JSON.stringify(values))
    }
    return { values, over, until, error: () => error }
  }

  test('gives the value that is there, and those of this process, of another one, and of an editor that writes in place', async (t) => {
    const { file } = setUp(t, { count: 1 })
    const state = jsonFile(file, { schema: SCHEMAS.zod })
    const end = new AbortController()
    const { values, until, over, error } = collector(state.watch({ signal: end.signal, debounce: 5 }))
    await until(() => values.length === 1)
    await state.update((value) => { value.count = 2 })
    await until(() => values.at(-1)?.count === 2)
    const { status } = spawnSync(process.execPath, ['-e', `require(${JSON.stringify(root)}).updateJsonFileSync(${JSON.stringify(file)}, (data) => { data.count = 3 })`])
    assert.equal(status, 0)
    await until(() => values.at(-1)?.count === 3)
    // Of the same length, in the same file, half of it first.
    const descriptor = fs.openSync(file, 'r+')
    fs.ftruncateSync(descriptor)
    fs.writeSync(descriptor, '{"count":')
    await new Promise((resolve) => setTimeout(resolve, 100))
    fs.writeSync(descriptor, '4}')
    fs.closeSync(descriptor)
    await until(() => values.at(-1)?.count === 4)
    // The form is no change.
    fs.writeFileSync(file, '{ "count": 4 }\n')
    await state.update((value) => { value.count = 5 })
    await until(() => values.at(-1)?.count === 5)
    end.abort()
    await over
    assert.equal(error().name, 'AbortError')
    assert.deepEqual(values.map(({ count }) => count), [1, 2, 3, 4, 5])
  })

  test('gives the default while there is no file, nothing without one, and goes on when the file comes and goes', async (t) => {
    const { file } = setUp(t)
    const withDefault = collector(jsonFile(file, { defaultValue: { count: 0 } }).watch({ signal: AbortSignal.timeout(20_000), debounce: 5 }))
    const without = collector(jsonFile(file).watch({ signal: AbortSignal.timeout(20_000), debounce: 5 }))
    await withDefault.until(() => withDefault.values.length === 1)
    assert.deepEqual([withDefault.values, without.values], [[{ count: 0 }], []])
    await holdfast.atomicWriteJson(file, { count: 1 })
    await without.until(() => without.values.length === 1 && withDefault.values.length === 2)
    await holdfast.removeFile(file)
    await withDefault.until(() => withDefault.values.length === 3)
    await holdfast.atomicWriteJson(file, { count: 2 })
    await without.until(() => without.values.length === 2 && withDefault.values.length === 4)
    assert.deepEqual(withDefault.values.map(({ count }) => count), [0, 1, 0, 2])
    assert.deepEqual(without.values.map(({ count }) => count), [1, 2])
  })

  test('makes one of what comes at once, and has the last value in the end', async (t) => {
    const { file } = setUp(t, { count: 0 })
    const state = jsonFile(file)
    const { values, until } = collector(state.watch({ signal: AbortSignal.timeout(20_000) }))
    await until(() => values.length === 1)
    for (let count = 1; count <= 200; count++) await holdfast.atomicWriteJson(file, { count }, { durability: 'none' })
    await until(() => values.at(-1)?.count === 200)
    assert.ok(values.length < 150, `${values.length} values`)
    assert.deepEqual(values.map(({ count }) => count), [...new Set(values.map(({ count }) => count))].sort((a, b) => a - b))
  })

  test('ends with the error of a read when the file stays bad, and at once by return(), break and a signal', async (t) => {
    const { file } = setUp(t, { count: 1 })
    const state = jsonFile(file, { schema: SCHEMAS.valibot })
    const bad = collector(state.watch())
    await bad.until(() => bad.values.length === 1)
    fs.writeFileSync(file, '{"count":"one"}')
    await bad.over
    assert.equal(bad.error().code, 'EINVALIDJSON')
    fs.writeFileSync(file, '{"count":1}')
    const values = state.watch()
    assert.deepEqual((await values.next()).value, { count: 1 })
    const waiting = values.next()
    await values.return?.()
    assert.deepEqual(await waiting, { done: true, value: undefined })
    assert.deepEqual(await values.next(), { done: true, value: undefined })
    for await (const value of state.watch()) if (value) break
    await assert.rejects(state.watch({ signal: AbortSignal.abort() }).next(), { name: 'AbortError' })
    assert.throws(() => state.watch({ debounce: -1 }), { code: 'ERR_OUT_OF_RANGE' })
    assert.throws(() => state.watch(/** @type {any} */ ({ debouce: 1 })), { code: 'ERR_INVALID_ARG_VALUE' })
  })

  test('keeps no process alive when it has ended', async (t) => {
    const { file } = setUp(t, { count: 1 })
    const { status, stdout, stderr } = spawnSync(process.execPath, ['-e', `
      const { jsonFile } = require(${JSON.stringify(root)})
      ;(async () => { for await (const value of jsonFile(${JSON.stringify(file)}).watch()) { console.log(value.count); break } })()`], { encoding: 'utf8', timeout: 20_000 })
    assert.equal(status, 0, stderr)
    assert.equal(stdout, '1\n')
  })
})
