'use strict'

// Snapshots of a disk in use: frozen for a moment (`fsfreeze`), its image copied, and mounted beside the
// disk, whose programs go on. Transactions in the snapshot are recovered from what is in it, and a log in
// it opens with everything that was acknowledged before.
//
// HOLDFAST_SNAPSHOTS says how many are taken of each disk (`npm run soak` takes many).

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { setTimeout: sleep } = require('node:timers/promises')
const { openWal, recoverFromCrash, transaction } = require('../index.js')
const { Program, cleanUp, newDir, run, whyNot } = require('./system.js')
const { Checker } = require('./wal-batches.js')

const SNAPSHOTS = Number(process.env.HOLDFAST_SNAPSHOTS ?? 2)
const GUARD = 120_000 + SNAPSHOTS * 20_000
const LEFT = /\.(txn|prepared|intent|conflict-.*)$/
const TOTAL = 6 * 1000

const KINDS = [
  { kind: 'ext4', bytes: 64 << 20, make: ['mkfs.ext4', '-q', '-F'], beside: [] },
  // The snapshot has the same identity, which xfs would refuse beside the original.
  { kind: 'xfs', bytes: 320 << 20, make: ['mkfs.xfs', '-q', '-f'], beside: ['nouuid'] },
]

const env = { ...process.env, PATH: `${process.env.PATH}:/sbin:/usr/sbin` }
const has = (tool) => !spawnSync(tool, ['-V'], { env, stdio: 'ignore' }).error

function whyNoSnapshots({ make: [mkfs] }) {
  if (whyNot.ext4()) return whyNot.ext4()
  if (!has(mkfs)) return `needs ${mkfs}`
  return !has('fsfreeze') && 'needs fsfreeze (util-linux)'
}

function mount(t, image, options = []) {
  const at = newDir(t)
  run('mount', ['-o', ['loop', ...options].join(','), image, at])
  return { at, undo: cleanUp(t, () => spawnSync('umount', ['-l', at], { stdio: 'ignore' })) }
}

/** A disk that can be copied at a moment. */
function newDisk(t, { make: [mkfs, ...args], bytes, beside }) {
  const dir = newDir(t)
  const image = path.join(dir, 'image')
  fs.closeSync(fs.openSync(image, 'w'))
  fs.truncateSync(image, bytes)
  run('env', [`PATH=${env.PATH}`, mkfs, ...args, image])
  const { at } = mount(t, image)
  let count = 0
  return {
    at,
    /** Runs `work` on a snapshot. `whenFrozen` is called when nothing more gets into it. */
    async snapshot(whenFrozen, work) {
      const copy = path.join(dir, `snapshot-${++count}`)
      run('fsfreeze', ['-f', at])
      try {
        whenFrozen()
        run('cp', ['--sparse=always', '--reflink=auto', image, copy])
      } finally {
        run('fsfreeze', ['-u', at])
      }
      const { at: seen, undo } = mount(t, copy, beside)
      assert.notEqual(fs.statSync(seen).dev, fs.statSync(at).dev)
      await work(seen)
      undo()
      fs.rmSync(copy)
    },
  }
}

const balances = (accounts) => accounts.map((file) => JSON.parse(fs.readFileSync(file, 'utf8')).balance)
const sum = (accounts) => balances(accounts).reduce((one, other) => one + other, 0)
const leftovers = (dirs) => dirs.flatMap((at) => fs.readdirSync(at).filter((name) => LEFT.test(name)))

for (const disk of KINDS) {
  describe(`a snapshot of ${disk.kind}`, { skip: whyNoSnapshots(disk), timeout: GUARD }, () => {
    test('has all or nothing of a transaction over two folders that was under way, and recovering it touches nothing else', async (t) => {
      const { at, snapshot } = newDisk(t, disk)
      const dirsOf = (root) => ['a', 'b'].map((name) => path.join(root, name))
      const accountsOf = (root) => Array.from({ length: 6 }, (_, i) => path.join(dirsOf(root)[i % 2], `account-${i}.json`))
      for (const dir of dirsOf(at)) fs.mkdirSync(dir)
      for (const file of accountsOf(at)) fs.writeFileSync(file, '{"balance":1000}')
      const bank = new Program(t, 'bank.js', { args: [JSON.stringify({ accounts: accountsOf(at), options: { timeout: 60_000 }, seed: 7 })] })
      await bank.next()
      let underWay = 0
      for (let number = 0; number < SNAPSHOTS; number++) {
        await sleep(((number * 0.6180339887) % 1) * 40)
        await snapshot(() => {}, async (root) => {
          const dirs = dirsOf(root)
          const found = leftovers(dirs).length > 0
          underWay += found ? 1 : 0
          // From either folder, by recovery or by the next transaction that names one of the files.
          if (number % 3 === 2) await transaction(accountsOf(root).slice(0, 2), () => {})
          for (const dir of number % 2 ? dirs : dirs.reverse()) {
            const { complete, actions } = await recoverFromCrash(dir)
            assert.ok(complete, JSON.stringify(actions))
          }
          assert.equal(sum(accountsOf(root)), TOTAL, `${balances(accountsOf(root))}`)
          assert.deepEqual(leftovers(dirs), [])
        })
      }
      bank.tell('stop')
      const { code, errors } = await bank.outcome()
      assert.equal(code, 0, errors)
      assert.equal(sum(accountsOf(at)), TOTAL)
      assert.deepEqual(leftovers(dirsOf(at)), [])
      t.diagnostic(`${underWay} of ${SNAPSHOTS} snapshots in the middle of a transaction`)
    })

    test('of an open log opens beside it, with all that was acknowledged before, and without damage', async (t) => {
      const { at, snapshot } = newDisk(t, disk)
      const log = path.join(at, 'log')
      const writer = new Program(t, 'wal.js', { args: ['produces', log, JSON.stringify({ round: 1, producers: 4, options: {} })] })
      assert.deepEqual(await writer.next(), [])
      await writer.next()
      let entries = 0
      for (let number = 0; number < SNAPSHOTS; number++) {
        await sleep(((number * 0.6180339887) % 1) * 40)
        let acknowledged = []
        await snapshot(() => (acknowledged = [...writer.lines]), async (root) => {
          const wal = await openWal(path.join(root, 'log'))
          assert.deepEqual(wal.damage.filter(({ kind }) => kind !== 'tornTail'), [])
          const checkers = { c0: new Checker(), c1: new Checker() }
          for (const [name, checker] of Object.entries(checkers)) {
            for await (const { sequence, id, payload } of wal.replay(name)) {
              checker.take({ sequence, id, payload: payload.toString() })
              entries++
            }
            checker.end()
          }
          for (const [producer, count] of acknowledged) {
            const found = checkers[`c${producer % 2}`].number(1, producer)
            assert.ok(found >= count, `batch ${count} of producer ${producer} was acknowledged, and ${found} are there`)
          }
          // It is a log of its own.
          await wal.append('c0', [{ id: 'of the snapshot', op: 'insert', payload: 'x' }])
          await wal.close()
        })
      }
      writer.kill()
      await writer.outcome()
      const wal = await openWal(log)
      for await (const { id } of wal.replay('c0')) assert.notEqual(id, 'of the snapshot')
      await wal.close()
      t.diagnostic(`${entries} entries in ${SNAPSHOTS} snapshots`)
    })
  })
}
