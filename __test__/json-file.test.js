'use strict'

// A handle for one JSON file, with schemas of zod, valibot and arktype.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { type } = require('arktype')
const v = require('valibot')
const { z } = require('zod')
const { failure, holdfast, newDir, temps } = require('./helpers.js')

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
