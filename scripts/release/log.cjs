'use strict'

// A write-ahead log that one system writes and another reads. Usage: node log.cjs write|read DIR

const assert = require('node:assert')
const { createRequire } = require('node:module')
const path = require('node:path')
const { openWal } = createRequire(path.join(process.cwd(), 'any.js'))('holdfast')

const [, , what, dir] = process.argv
/** Numbers and lengths whose bytes differ in each place. */
const entries = Array.from({ length: 300 }, (_, index) => ({ id: `id-${index}`, op: /** @type {const} */ ('insert'), payload: new Uint8Array(index * 7).fill(index) }))

async function write() {
  const log = await openWal(dir, { segmentSize: 1 << 16 })
  for (let at = 0; at < entries.length; at += 30) await log.append('one', entries.slice(at, at + 30))
  await log.checkpoint('one', 5n)
  await log.close()
}

async function read() {
  const log = await openWal(dir)
  const found = []
  for await (const { id, payload, sequence } of log.replay('one')) found.push({ id, sequence, payload: Buffer.from(payload) })
  assert.ok(found.length > 200, `${found.length} entries`)
  for (const { id, sequence, payload } of found) {
    const index = Number(sequence) - 1
    assert.deepEqual([id, payload], [`id-${index}`, Buffer.from(/** @type {Uint8Array} */ (entries[index]?.payload))])
  }
  assert.equal(found.at(-1)?.sequence, 300n)
  // It goes on where the other system has stopped.
  assert.deepEqual(await log.append('one', [{ id: 'last', op: 'insert', payload: 'x' }]), [301n])
  await log.close()
}

void (what === 'write' ? write() : read())
