'use strict'

// In a directory where names are alike that differ in case, or where permission bits are not kept: nothing waits for
// itself, and no file is open to more users than was asked for. `case-and-mode.js DIR`; the exit code says whether it is so.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const holdfast = require('../..')

const dir = process.argv[2] ?? '.'
const at = (/** @type {string} */ name) => path.join(dir, name)
const timeout = 30_000
/** @param {Promise<unknown>} call */
const outcome = (call) => call.then(() => 'done', ({ code }) => code)

async function main() {
  fs.writeFileSync(at('Probe'), '')
  const isAlike = fs.existsSync(at('probe'))
  fs.writeFileSync(at('Note.json'), '{"n":0}')
  const nested = await outcome(holdfast.withLock(at('Note.json'), () => holdfast.withLock(at('note.json'), () => {}, { timeout }), { timeout }))
  const update = await outcome(holdfast.withLock(at('Note.json'), () => holdfast.updateJsonFile(at('note.json'), (data) => void (data.n += 1), { timeout, defaultValue: { n: 0 } }), { timeout }))
  const pair = await outcome(holdfast.transaction([at('Note.json'), at('note.json')], (tx) => tx.write(at('note.json'), '{"n":2}'), { timeout }))
  const content = fs.readFileSync(at(isAlike ? 'Note.json' : 'note.json'), 'utf8')
  console.log(JSON.stringify({ isAlike, nested, update, pair, content }))
  for (const [which, found] of Object.entries({ nested, update, pair })) {
    assert.ok(found === 'done' || (isAlike && found === 'EDEADLK'), `${which}: ${found}`)
  }
  assert.equal(content, pair === 'done' ? '{"n":2}' : update === 'done' ? '{"n":1}' : '{"n":0}')

  const written = await outcome(holdfast.atomicWrite(at('secret'), 'x', { mode: 0o600 }))
  const mode = fs.existsSync(at('secret')) ? fs.statSync(at('secret')).mode & 0o777 : undefined
  console.log(JSON.stringify({ written, mode: mode?.toString(8) }))
  if (written === 'done') assert.equal(mode, 0o600)
  else assert.deepEqual([written, mode], ['ENOTSUP', undefined])
}

main().then(() => process.exit(), (error) => {
  console.log(String(error))
  process.exit(1)
})
