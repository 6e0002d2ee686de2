'use strict'

// Reads of JSON files: the errors of updates, and one look at one file.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { spawnSync } = require('node:child_process')
const { pathToFileURL } = require('node:url')
const { NOBODY, failure, holdfast, inChild, names, newDir, whyNot } = require('./helpers.js')

const { SessionFileError, atomicWriteJson, readJsonFile, readJsonFileSync } = holdfast

/** Both forms, as functions that return a promise. */
const both = /** @type {const} */ ([
  ['readJsonFile', (/** @type {any} */ ...args) => readJsonFile(args[0], args[1])],
  ['readJsonFileSync', async (/** @type {any} */ ...args) => readJsonFileSync(args[0], args[1])],
])

for (const [name, read] of both) {
  describe(name, () => {
    const file = (/** @type {any} */ t, /** @type {string | Buffer | undefined} */ content) => {
      const made = path.join(newDir(t), 'data.json')
      if (content !== undefined) fs.writeFileSync(made, content)
      return made
    }

    test('gives the value, also of a file with a byte order mark, by a URL and through a link', async (t) => {
      const made = file(t, '\uFEFF{"a":[1,null]}')
      assert.deepEqual(await read(made), { a: [1, null] })
      assert.deepEqual(await read(pathToFileURL(made)), { a: [1, null] })
      fs.symlinkSync(made, `${made}.link`)
      assert.deepEqual(await read(`${made}.link`), { a: [1, null] })
      assert.deepEqual(names(path.dirname(made)), ['data.json', 'data.json.link'], 'no lock file is made')
    })

    test('gives a copy of the default where there is no file, and only there', async (t) => {
      const made = file(t, undefined)
      const defaultValue = { list: [] }
      const value = await read(made, { defaultValue })
      assert.deepEqual(value, defaultValue)
      assert.notEqual(value.list, defaultValue.list)
      fs.writeFileSync(made, '')
      assert.equal((await failure(() => read(made, { defaultValue }))).code, 'EEMPTYJSON')
      assert.deepEqual(names(path.dirname(made)), ['data.json'])
    })

    test('says what is wrong, where, and what can be done', async (t) => {
      for (const [content, code, line, column] of /** @type {[string | Buffer | undefined, string, number?, number?][]} */ ([
        [undefined, 'ENOENT'], ['', 'EEMPTYJSON'], [' \n', 'EEMPTYJSON'], ['{"a": 1,}', 'EBADJSON', 1, 9],
        ['{\n "a": x}', 'EBADJSON', 2, 7], [Buffer.from([0x22, 0xff, 0x22]), 'EBADJSON', 1, 2],
      ])) {
        const made = file(t, content)
        const error = await failure(() => read(made))
        assert.ok(error instanceof SessionFileError)
        assert.deepEqual([error.code, error.line, error.column, error.path, error.operation, error.committed], [code, line, column, made, 'read JSON', false])
        assert.ok(error.message.startsWith(`Failed to read JSON at ${made}: `), error.message)
        if (code === 'ENOENT') assert.match(error.hint ?? '', /defaultValue/)
      }
    })

    test('a directory, a pipe, a device, links in a circle, a link that is not to be followed', { skip: whyNot.unix() }, async (t) => {
      const made = file(t, '{}')
      const dir = path.dirname(made)
      assert.equal(spawnSync('mkfifo', [`${dir}/pipe`]).status, 0)
      fs.symlinkSync('a', `${dir}/a`)
      fs.symlinkSync('data.json', `${dir}/link`)
      for (const [at, code, options] of /** @type {[string, string, object?][]} */ ([
        [dir, 'EISDIR'], [`${dir}/pipe`, 'EINVAL'], ['/dev/null', 'EINVAL'], [`${dir}/a`, 'ELOOP'], [`${dir}/link`, 'ELOOP', { followSymlinks: false }],
      ])) {
        const error = await failure(() => read(at, options))
        assert.equal(error.code, code, at)
        if (code === 'EINVAL') assert.match(error.hint ?? '', /device|pipe/)
      }
    })

    test('a file of another user', { skip: whyNot.root() }, async (t) => {
      const made = file(t, '{}')
      fs.chmodSync(path.dirname(made), 0o755)
      fs.chmodSync(made, 0o600)
      const sync = name === 'readJsonFileSync'
      const error = await inChild(({ made, sync }, { holdfast, outcome }) => outcome(async () => (sync ? holdfast.readJsonFileSync(made) : holdfast.readJsonFile(made))), { made, sync }, { user: NOBODY })
      assert.equal(error.code, 'EACCES')
    })

    test('takes a reviver, or a parser of the user, and passes on what they throw', async (t) => {
      const made = file(t, '{"big":12345678901234567890,"when":"2020-01-01T00:00:00.000Z"}')
      const revived = await read(made, { reviver: (/** @type {string} */ key, /** @type {any} */ value) => (key === 'when' ? new Date(value) : value) })
      assert.deepEqual(revived.when, new Date('2020-01-01'))
      const parse = (/** @type {string} */ text) => ({ text })
      assert.equal((await read(made, { parse })).text.slice(0, 28), '{"big":12345678901234567890,')
      const thrown = new Error('mine')
      const thrower = () => {
        throw thrown
      }
      for (const options of [{ reviver: thrower }, { parse: thrower }]) assert.equal(await failure(() => read(made, options)), thrown)
      fs.writeFileSync(made, '{')
      for (const options of [{ reviver: thrower }, { parse: thrower }]) assert.equal((await failure(() => read(made, options))).code, 'EBADJSON')
    })

    test('refuses what is wrong by name', async (t) => {
      const made = file(t, '{}')
      for (const [options, message] of /** @type {[any, RegExp][]} */ ([
        [{ defaultVaule: 1 }, /"defaultVaule".*Did you mean "defaultValue"/], [{ reviver: 1 }, /"reviver" option must be of type function/],
        [{ parse: {} }, /"parse" option/], [{ defaultValue: () => {} }, /"defaultValue" option must be a value that has a JSON text/],
        [{ followSymlinks: 1 }, /"followSymlinks"/], ['utf8', /"options" argument/],
      ])) assert.match((await failure(() => read(made, options))).message, message)
      assert.match((await failure(() => read(5))).message, /"path" argument/)
    })
  })
}

test('a read is cancelled', async (t) => {
  const made = path.join(newDir(t), 'data.json')
  await atomicWriteJson(made, {})
  const reason = new Error('enough')
  const early = await failure(() => readJsonFile(made, { signal: AbortSignal.abort(reason) }))
  assert.deepEqual([early.name, early.code, early.cause], ['AbortError', 'ABORT_ERR', reason])
  const controller = new AbortController()
  const reading = readJsonFile(made, { signal: controller.signal })
  controller.abort(reason)
  assert.equal((await failure(() => reading)).code, 'ABORT_ERR')
})

test('beside a writer each value is one that was written, whole', async (t) => {
  const made = path.join(newDir(t), 'data.json')
  const value = (/** @type {number} */ number) => ({ number, list: Array(2000).fill(number) })
  await atomicWriteJson(made, value(0))
  let isOver = false
  const writing = (async () => {
    for (let number = 1; number < 200; number++) await atomicWriteJson(made, value(number), { durability: 'none' })
    isOver = true
  })()
  let last = 0
  while (!isOver) {
    for (const read of [await readJsonFile(made), readJsonFileSync(made)]) {
      assert.deepEqual(read, value(read.number))
      assert.ok(read.number >= last)
      last = read.number
    }
  }
  await writing
})
