'use strict'

// The power is cut under real file systems: a disk records what the kernel writes and flushes while
// holdfast works on it; then it is set back to what a power cut at some moment may have left, mounted
// again, and checked. `POWER_CUTS=2000 node --test __test__/power-cut.test.js` looks at more moments, and at more
// ways to make and mount them.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const peer = require('write-file-atomic')
const { atomicWrite, atomicWriteSync, createAtomicWriteStream, createBackup, listBackups, openWal, recoverFromCrash, transaction, updateJsonFile } = require('../index.js')
const { KINDS, RecordedDisk, VARIANTS, whyNoDisk } = require('./recorded-disk.js')
const { content, nameIn, signed, temps } = require('./system.js')

const WRITEBACK = VARIANTS['ext4, data=writeback']
const CUTS = Number(process.env.POWER_CUTS ?? 40)

/**
 * What was started and what was acknowledged, and when: of each target, one version after the other.
 */
class Ledger {
  constructor(disk) {
    this.disk = disk
    this.entries = []
  }

  async begin(name, version) {
    this.entries.push({ name, version, begun: await this.disk.moment() })
  }

  async acknowledge(name, version) {
    this.entries.push({ name, version, acknowledged: await this.disk.moment() })
  }

  /** A version whose promise says nothing about power cuts after it. */
  async write(name, version, durability, write) {
    await this.begin(name, version)
    await write()
    if (durability === 'full') await this.acknowledge(name, version)
  }

  moments() {
    return this.entries.map(({ begun, acknowledged }) => begun ?? acknowledged)
  }

  acknowledgements() {
    return this.entries.flatMap(({ acknowledged }) => acknowledged ?? [])
  }

  /** Of everything, the version that must be there at least, and the one that may be there at most. */
  boundsAt(moment) {
    const bounds = new Map(this.entries.map(({ name }) => [name, { least: 0, most: 0 }]))
    for (const { name, version, begun = Infinity, acknowledged = Infinity } of this.entries) {
      const bound = bounds.get(name)
      if (begun <= moment) bound.most = Math.max(bound.most, version)
      if (acknowledged <= moment) bound.least = Math.max(bound.least, version)
    }
    return bounds
  }
}

const body = (name, version, size = 700) => signed({ name, version }, size)

/** The version in a file that is whole; 0 when there is none. */
function versionOf(file) {
  if (!fs.existsSync(file)) return 0
  return nameIn(fs.readFileSync(file)).version
}

/** The kinds of work on the disk, which run side by side. `found` returns the versions that are there afterwards. */
const STORIES = {
  'one file, again and again': {
    async run(at, ledger) {
      for (let version = 1; version <= 6; version++) {
        await ledger.write('file', version, 'full', () => atomicWrite(at('file'), body('file', version, 500 * version)))
      }
    },
    found: (at) => ({ file: versionOf(at('file')) }),
  },
  'a file that is only synced itself': {
    async run(at, ledger) {
      for (let version = 1; version <= 6; version++) {
        await ledger.write('synced', version, 'file', () => atomicWrite(at('synced'), body('synced', version, 9000), { durability: 'file' }))
      }
    },
    found: (at) => ({ synced: versionOf(at('synced')) }),
  },
  'many files that are not synced, beside others that are': {
    async run(at, ledger) {
      for (let version = 1; version <= 4; version++) {
        await Promise.all(Array.from({ length: 12 }, (_, number) => {
          const name = `ordered-${number}`
          return ledger.write(name, version, 'file', () => atomicWrite(at(name), body(name, version, 700 * version * number), { durability: 'file' }))
        }))
      }
    },
    found: (at) => Object.fromEntries(Array.from({ length: 12 }, (_, number) => [`ordered-${number}`, versionOf(at(`ordered-${number}`))])),
  },
  'many files at once': {
    async run(at, ledger) {
      for (let version = 1; version <= 2; version++) {
        await Promise.all(Array.from({ length: 24 }, (_, number) =>
          ledger.write(`many-${number}`, version, 'full', () => atomicWrite(at(`many-${number}`), body(number, version)))))
      }
    },
    found: (at) => Object.fromEntries(Array.from({ length: 24 }, (_, number) => [`many-${number}`, versionOf(at(`many-${number}`))])),
  },
  'a large file': {
    async run(at, ledger) {
      for (let version = 1; version <= 2; version++) {
        await ledger.write('large', version, 'full', () => atomicWrite(at('large'), body('large', version, 1_500_000)))
      }
    },
    found: (at) => ({ large: versionOf(at('large')) }),
  },
  'without a promise to wait for': {
    async run(at, ledger) {
      for (let version = 1; version <= 3; version++) {
        await ledger.write('at once', version, 'full', () => atomicWriteSync(at('at once'), body('at once', version)))
      }
    },
    found: (at) => ({ 'at once': versionOf(at('at once')) }),
  },
  'a new file in new directories': {
    async run(at, ledger) {
      for (let number = 1; number <= 3; number++) {
        const name = path.join(`new-${number}`, 'deeper', 'file')
        await ledger.write(name, 1, 'full', () => atomicWrite(at(name), body(name, 1), { makeDirs: true }))
      }
    },
    found: (at) => Object.fromEntries([1, 2, 3].map((number) => {
      const name = path.join(`new-${number}`, 'deeper', 'file')
      return [name, versionOf(at(name))]
    })),
  },
  'a stream': {
    async run(at, ledger) {
      for (let version = 1; version <= 3; version++) {
        const bytes = body('stream', version, 100_000)
        const parts = Array.from({ length: 10 }, (_, number) => bytes.subarray(Math.ceil(bytes.length / 10) * number, Math.ceil(bytes.length / 10) * (number + 1)))
        await ledger.write('stream', version, 'full', () => pipeline(Readable.from(parts), createAtomicWriteStream(at('stream'))))
      }
    },
    found: (at) => ({ stream: versionOf(at('stream')) }),
  },
  'updates of a JSON file': {
    async run(at, ledger) {
      await atomicWrite(at('counter.json'), '{"count":0}')
      const count = async () => {
        await ledger.begin('counter', ++begun)
        const { count } = await updateJsonFile(at('counter.json'), (data) => {
          data.count++
        })
        await ledger.acknowledge('counter', count)
      }
      let begun = 0
      for (let round = 0; round < 3; round++) await Promise.all([count(), count(), count()])
    },
    found: (at) => ({ counter: fs.existsSync(at('counter.json')) ? JSON.parse(fs.readFileSync(at('counter.json'), 'utf8')).count : 0 }),
  },
  backups: {
    async run(at, ledger) {
      for (let version = 1; version <= 4; version++) {
        await atomicWrite(at('saved'), body('saved', version, 30_000), { durability: 'file' })
        await ledger.write('backup', version, 'full', () => createBackup(at('saved'), { keep: 2 }))
      }
    },
    async found(at) {
      const backups = await listBackups(at('saved'))
      return { backup: Math.max(0, ...backups.map(({ path }) => versionOf(path))) }
    },
  },
  'several files as one': {
    names: ['one', 'two', 'three'],
    async run(at, ledger) {
      for (let version = 1; version <= 3; version++) {
        for (const name of this.names) await ledger.begin(name, version)
        await transaction(this.names.map(at), async (tx) => {
          for (const name of this.names) await tx.write(at(name), body(name, version))
        })
        for (const name of this.names) await ledger.acknowledge(name, version)
      }
    },
    found(at, recovered) {
      const versions = this.names.map((name) => versionOf(at(name)))
      if (recovered) assert.equal(new Set(versions).size, 1, `part of a transaction: ${versions}`)
      return Object.fromEntries(this.names.map((name, index) => [name, versions[index]]))
    },
  },
  'a write-ahead log': {
    async run(at, ledger) {
      // Small segments, so that new ones are started meanwhile.
      const wal = await openWal(at('log'), { segmentSize: 8192 })
      for (let version = 1; version <= 12; version += 3) {
        await Promise.all([0, 1, 2].map((ahead) => ledger.write('log', version + ahead, 'full', () =>
          wal.append('entries', [0, 1, 2, 3].map((part) => ({ id: `${version + ahead}.${part}`, op: 'insert', payload: content(version + ahead, 300) }))))))
      }
      await wal.close()
    },
    async found(at, recovered) {
      if (!recovered || !fs.existsSync(at('log'))) return {}
      const wal = await openWal(at('log'))
      const ids = []
      for await (const { id } of wal.replay('entries')) ids.push(id)
      await wal.close()
      const batches = ids.length / 4
      const expected = Array.from({ length: Math.ceil(batches) }, (_, batch) => [0, 1, 2, 3].map((part) => `${batch + 1}.${part}`)).flat()
      assert.deepEqual(ids, expected, 'whole batches, in order, and none is missing')
      return { log: batches }
    },
  },
}

/** Runs several kinds of work side by side on a fresh disk, and records it. */
async function recorded(t, kind, stories) {
  const disk = await RecordedDisk.make(t, kind)
  disk.mount()
  const at = (name) => path.join(disk.at, 'files', name)
  fs.mkdirSync(path.join(disk.at, 'files'))
  await disk.unmount()
  disk.mount()
  await disk.record()
  const ledger = new Ledger(disk)
  await Promise.all(stories.map((story) => story.run(at, ledger)))
  await disk.unmount()
  return { disk, ledger, at }
}

/** The versions found must be at least the acknowledged ones, and none that was never written. */
function judge(found, bounds, where) {
  for (const [name, version] of Object.entries(found)) {
    const { least, most } = bounds.get(name) ?? { least: 0, most: 0 }
    assert.ok(version >= least, `${name}: version ${least} was acknowledged, ${version} is there, ${where}`)
    assert.ok(version <= most, `${name}: version ${most} was begun, ${version} is there, ${where}`)
  }
}

/** Cuts the power and looks at what is left, before recovery and after it. */
async function look({ disk, ledger, at }, stories, moment, unflushed) {
  await disk.cut(moment, unflushed)
  disk.mount()
  try {
    const where = `after a cut at ${moment}, what was not flushed: ${unflushed}`
    const bounds = ledger.boundsAt(moment)
    for (const recover of [false, true]) {
      if (recover) await recoverFromCrash(at('.'), { minAge: 0, recursive: true })
      for (const story of stories) judge(await story.found(at, recover), bounds, where)
    }
    assert.deepEqual(temps(at('.')), [], where)
  } finally {
    await disk.unmount()
  }
}

/** So many of them, spread evenly. */
const spread = (all, count) => (all.length <= count ? all : Array.from({ length: count }, (_, index) => all[Math.floor((index * all.length) / count)]))

for (const [name, kind] of Object.entries(process.env.POWER_CUTS ? { ...KINDS, ...VARIANTS } : KINDS)) {
  describe(`a power cut under ${name}`, { skip: whyNoDisk(kind) }, () => {
    test('right after an acknowledgement, when only what was flushed survives, what was acknowledged is there', async (t) => {
      const stories = Object.values(STORIES)
      const run = await recorded(t, kind, stories)
      const moments = spread(run.ledger.acknowledgements(), CUTS / 2)
      for (const moment of moments) await look(run, stories, moment, 'lost')
      t.diagnostic(`${moments.length} of ${run.ledger.acknowledgements().length} acknowledgements`)
    })

    test('at any moment, whatever survives, leaves every file whole and everything that was acknowledged', async (t) => {
      const stories = Object.values(STORIES)
      const run = await recorded(t, kind, stories)
      const last = Math.max(...run.ledger.moments())
      for (let number = 0; number < CUTS / 2; number++) {
        const moment = Math.floor(last * ((number * 0.6180339887) % 1))
        await look(run, stories, moment, number % 4 === 0 ? 'kept' : number)
      }
      t.diagnostic(`${Math.ceil(CUTS / 2)} of ${last} moments`)
    })
  })
}

// ext4 gives the blocks of a replaced file away at once in this mode. A power cut would bring the old name
// back with the bytes of another file, if the replaced one was not kept open.
describe('a power cut under ext4, data=writeback, while many files are rewritten at once', { skip: whyNoDisk(WRITEBACK) }, () => {
  /** Small files are put one behind the other; larger ones soon get what has just been freed. */
  const FILLER = 'x'.repeat(20_000)
  const numbers = (count) => Array.from({ length: count }, (_, number) => number)
  /** So many files, each rewritten again and again, all at the same time. */
  const rewritten = (way, count, durability, write) => {
    const names = numbers(count).map((number) => `${way}-${number}`)
    return {
      async run(at, ledger) {
        // None waits for the others: what one has replaced is free while another one is being written.
        await Promise.all(names.map(async (name) => {
          for (let version = 1; version <= 10; version++) {
            await ledger.write(name, version, durability, () => write(at(name), { name, version, filler: FILLER }))
          }
        }))
      },
      found: (at) => Object.fromEntries(names.map((name) => {
        if (!fs.existsSync(at(name))) return [name, 0]
        const { name: found, version, filler } = JSON.parse(fs.readFileSync(at(name), 'utf8'))
        assert.deepEqual([found, filler], [name, FILLER], 'the bytes are those of another file')
        return [name, version]
      })),
    }
  }
  const ways = {
    written: [rewritten('full', 24, 'full', (file, value) => atomicWrite(file, JSON.stringify(value)))],
    streamed: [rewritten('streamed', 24, 'full', (file, value) => pipeline(Readable.from([JSON.stringify(value)]), createAtomicWriteStream(file)))],
    'written in each way': [
      rewritten('file', 6, 'file', (file, value) => atomicWrite(file, JSON.stringify(value), { durability: 'file' })),
      rewritten('streamed', 6, 'full', (file, value) => pipeline(Readable.from([JSON.stringify(value)]), createAtomicWriteStream(file))),
      rewritten('updated', 6, 'full', (file, value) => updateJsonFile(file, () => value, { defaultValue: {} })),
      rewritten('committed', 6, 'full', (file, value) => transaction([file], (tx) => tx.write(file, JSON.stringify(value)))),
      STORIES['several files as one'],
      STORIES.backups,
    ],
  }
  const moment = (run, number) => Math.floor(Math.max(...run.ledger.moments()) * ((number * 0.6180339887) % 1))
  for (const [way, stories] of Object.entries(ways)) {
    test(`leaves every file whole and what was acknowledged: ${way}`, async (t) => {
      const run = await recorded(t, WRITEBACK, stories)
      for (let number = 0; number < CUTS; number++) await look(run, stories, moment(run, number), number)
      t.diagnostic(`${CUTS} moments`)
    })
  }

  // Without this, everything above would pass on a disk that does not use freed blocks again.
  test('tears files that are replaced by the textbook sequence alone', async (t) => {
    const textbook = async (file, value) => {
      await fs.promises.writeFile(`${file}.new`, JSON.stringify(value), { flush: true })
      await fs.promises.rename(`${file}.new`, file)
      const dir = await fs.promises.open(path.dirname(file))
      await dir.sync()
      await dir.close()
    }
    const story = rewritten('textbook', 24, 'full', textbook)
    const run = await recorded(t, WRITEBACK, [story])
    let torn = 0
    let moments = 0
    // Some recordings have few such moments.
    while (moments < CUTS || (torn === 0 && moments < 20 * CUTS)) {
      await run.disk.cut(moment(run, moments), moments)
      moments++
      run.disk.mount()
      try {
        story.found(run.at)
      } catch {
        torn++
      } finally {
        await run.disk.unmount()
      }
    }
    assert.ok(torn > 0)
    t.diagnostic(`torn at ${torn} of ${moments} moments`)
  })
})

// Without this, everything above would pass on a disk that loses nothing.
describe('what does not wait for the disk', { skip: whyNoDisk(KINDS.ext4) }, () => {
  const ways = {
    "durability 'none'": (file, bytes) => atomicWrite(file, bytes, { durability: 'none' }),
    'write-file-atomic': (file, bytes) => peer(file, bytes),
  }
  for (const [way, write] of Object.entries(ways)) {
    test(`is lost by a power cut right after it was acknowledged: ${way}`, async (t) => {
      const story = {
        async run(at, ledger) {
          for (let version = 1; version <= 6; version++) {
            await ledger.write('file', version, 'full', () => write(at('file'), body('file', version)))
          }
        },
      }
      const run = await recorded(t, KINDS.ext4, [story])
      let lost = 0
      for (const moment of run.ledger.acknowledgements()) {
        await run.disk.cut(moment, 'lost')
        run.disk.mount()
        const { least } = run.ledger.boundsAt(moment).get('file')
        if (versionOf(run.at('file')) < least) lost++
        await run.disk.unmount()
      }
      assert.ok(lost > 0)
      t.diagnostic(`${lost} of 6 acknowledged writes were lost`)
    })
  }
})
