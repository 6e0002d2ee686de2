'use strict'

// Programs that know nothing of holdfast read its logs: every segment is an Avro object container
// file, with just the entries that were appended.

const { before, describe, test } = require('node:test')
const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { setTimeout } = require('node:timers/promises')
const { openWal } = require('../index.js')
const { Program, fastDir } = require('./system.js')

/** The Python with the libraries, which `.ci/run` installs; else the system's. */
const own = path.join(__dirname, '..', 'target', 'avro', process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python')
const python = fs.existsSync(own) ? own : 'python3'
const avsc = (() => {
  try {
    return require('avsc')
  } catch {
    return undefined // Its test says so.
  }
})()
const program = path.join(__dirname, 'programs', 'read-avro.py')

/** Why a library cannot be used here; `false` when it can. */
function whyNot(library) {
  const { status, error } = spawnSync(python, [program, library], { encoding: 'utf8' })
  if (error) return `Python is missing (${python})`
  return status !== 0 && `${library} is missing (pip install ${library})`
}

function readWithPython(library, files) {
  const { status, stdout, stderr } = spawnSync(python, [program, library, ...files], { encoding: 'utf8', maxBuffer: 1 << 28 })
  assert.equal(status, 0, stderr)
  return stdout.split('\n').filter(Boolean).map((line) => JSON.parse(line)).map(({ file, ...entry }) => entry)
}

/** Numbers larger than JavaScript's own stay whole. */
const long = avsc?.types.LongType.__with({
  fromBuffer: (bytes) => bytes.readBigInt64LE(),
  toBuffer: () => assert.fail('nothing is written'),
  fromJSON: BigInt, toJSON: String, isValid: (value) => typeof value === 'bigint', compare: (a, b) => Number(a - b),
})

async function readWithAvsc(files) {
  const entries = []
  for (const file of files) {
    const decoder = avsc.createFileDecoder(file, { parseHook: (schema) => avsc.Type.forSchema(schema, { registry: { long }, wrapUnions: true }) })
    for await (const { sequence, id, op, timestamp, payload } of decoder) {
      entries.push({ sequence: String(sequence), id, op, timestamp: Number(timestamp), payload: payload.string ?? [...payload.bytes] })
    }
  }
  return entries
}

const readers = [
  { name: 'fastavro', skip: whyNot('fastavro'), read: (files) => readWithPython('fastavro', files) },
  { name: 'avro for Python', skip: whyNot('avro'), read: (files) => readWithPython('avro', files), stumblesOverSpace: true },
  { name: 'avsc', skip: !avsc && 'avsc is missing (npm install)', read: readWithAvsc },
]

/** The segments of a collection, the oldest first. */
function segments(logDir, collection) {
  const dir = path.join(logDir, collection)
  const sealed = fs.readdirSync(dir).filter((name) => /^wal_\d+\.avro$/.test(name)).sort()
  return [...sealed, 'wal_current.avro'].map((name) => path.join(dir, name))
}

async function entriesOf(wal, collection) {
  const entries = []
  for await (const { sequence, id, op, timestamp, payload } of wal.replay(collection)) {
    entries.push({ sequence: String(sequence), id, op, timestamp, payload: typeof payload === 'string' ? payload : [...payload] })
  }
  return entries
}

const text = ['', 'plain', 'häuser ☃ 𝄞', '"quoted"\n', 'x'.repeat(300)]
const entry = (i) => ({
  id: `id-${i} ${text[i % text.length]}`,
  op: ['insert', 'update', 'delete'][i % 3],
  payload: i % 2 ? text[(i * 7) % text.length] : Uint8Array.from({ length: (i * 13) % 600 }, (_, j) => i * j),
  timestamp: [0, -1, 1_700_000_000_000, 8.64e15, -8.64e15][i % 5],
})

describe('other readers of Avro', () => {
  /** @type {{ title: string, files: string[], expected: object[] }[]} */
  const cases = []

  before(async (t) => {
    // Closed, with sealed segments and reused space.
    const dir = path.join(fastDir(t), 'log')
    const wal = await openWal(dir, { segmentSize: 30_000 })
    for (let i = 0; i < 60; i++) {
      await wal.append('a', Array.from({ length: 1 + (i % 20) }, (_, j) => entry(i * 20 + j)))
      if (i === 30) await wal.checkpoint('a', 200n)
    }
    await wal.append('empty', [])
    const expected = await entriesOf(wal, 'a')
    const live = segments(dir, 'a').map((file, i) => {
      const copy = path.join(fastDir(t), `${i}.avro`)
      fs.copyFileSync(file, copy)
      return copy
    })
    await wal.close()
    const files = segments(dir, 'a')
    assert.ok(files.length > 2, `${files.length}`)
    // A segment may begin with entries that are released, and are still in it.
    const isShown = ({ sequence }) => BigInt(sequence) > 200n
    cases.push({ title: 'sealed and closed segments', files, expected, isShown })
    cases.push({ title: 'segments of a log that is open', isOpen: true, files: live, expected, isShown })

    // After a kill, where the current segment has a batch; the kill may come while the log goes on to the next segment.
    let killed, current, bytes
    let markers = 0
    for (let round = 1; markers < 3; round++) {
      assert.ok(round < 50, 'no kill left a segment that has a batch')
      killed = path.join(fastDir(t), 'log')
      const child = new Program(t, 'wal.js', { args: ['produces', killed, JSON.stringify({ round, producers: 4, options: { segmentSize: 50_000 } })] })
      for (let i = 0; i < 20; i++) await child.next()
      await setTimeout(20)
      child.kill()
      await child.outcome()
      current = path.join(killed, 'c0', 'wal_current.avro')
      if (!fs.existsSync(current)) continue
      bytes = fs.readFileSync(current)
      // After the header, after each batch, and at the end of the space that is not used yet.
      markers = 0
      const marker = bytes.subarray(-16)
      for (let at = bytes.indexOf(marker); at !== -1; at = bytes.indexOf(marker, at + 16)) markers++
    }
    // A power cut could have taken the end of the last batch, too.
    fs.truncateSync(current, bytes.lastIndexOf(bytes.subarray(-16), -17) + 11)
    const repaired = await openWal(killed)
    assert.deepEqual(repaired.damage.map(({ kind }) => kind), ['tornTail'])
    const open = path.join(fastDir(t), 'open.avro')
    fs.copyFileSync(current, open)
    const left = await entriesOf(repaired, 'c0')
    assert.ok(left.length > 0)
    const before = segments(killed, 'c0').slice(0, -1)
    cases.push({ title: 'a log that was repaired after a crash, and is open', files: [...before, open], expected: left, isShown: () => true })
    await repaired.append('c0', [entry(5)])
    const more = await entriesOf(repaired, 'c0')
    await repaired.close()
    cases.push({ title: 'the same, gone on with and closed', files: segments(killed, 'c0'), expected: more, isShown: () => true })
  })

  for (const { name, skip, read, stumblesOverSpace } of readers) {
    test(`${name} reads entry for entry what was appended`, { skip }, async (t) => {
      for (const { title, files, expected, isShown, isOpen } of cases) {
        // It does not skip a block of no entries, but reads on inside it: unused space may look like anything.
        if (isOpen && stumblesOverSpace) {
          t.diagnostic(`${title}: left out, ${name} does not skip unused space`)
          continue
        }
        const found = await read(files)
        assert.deepEqual(found.filter(isShown), expected, title)
        t.diagnostic(`${title}: ${files.length} files, ${found.length} entries`)
      }
    })
  }
})
