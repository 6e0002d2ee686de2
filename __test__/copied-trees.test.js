'use strict'

// Transactions in a tree that is a copy, or has been moved: what is there is completed or taken back from
// what is in this tree, the tree that it was copied from stays as it is, and what cannot be done is said.

const assert = require('node:assert/strict')
const { execFileSync, spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { atomicWrite, recoverFromCrash, transaction } = require('../index.js')
const { failure } = require('./helpers.js')
const { cleanUp, newDir, run, tmpfs, whyNot } = require('./system.js')

const GUARD = 120_000
const LEFT = /\.(txn|prepared|intent)$/

/** Everything in a tree but the lock files: path and content. */
function tree(root) {
  const found = {}
  for (const name of fs.readdirSync(root, { recursive: true }).sort()) {
    const file = path.join(root, String(name))
    if (fs.statSync(file).isFile() && !file.endsWith('.lock')) found[String(name)] = fs.readFileSync(file, 'utf8')
  }
  return found
}

const leftovers = (root) => Object.keys(tree(root)).filter((name) => LEFT.test(name))

const FILES = ['a/x.json', 'b/y.json']
const texts = (root) => FILES.map((file) => fs.readFileSync(path.join(root, file), 'utf8')).join(' ')

/**
 * A tree with two folders, in which a transaction over both has died at the rename of this number: the
 * first one decides, the second one is of a file.
 */
function unfinished(t, number) {
  const root = newDir(t)
  const live = path.join(root, 'live')
  for (const file of FILES) {
    fs.mkdirSync(path.join(live, path.dirname(file)), { recursive: true })
    fs.writeFileSync(path.join(live, file), '"old"')
  }
  const changes = FILES.map((file) => [path.join(live, file), '"new"'])
  const { signal, stderr } = spawnSync('strace', [
    '-f', '-qq', '-o', '/dev/null', '-e', 'trace=rename,renameat,renameat2',
    '-e', `inject=rename,renameat,renameat2:signal=SIGKILL:when=${number}`,
    process.execPath, path.join(__dirname, 'programs', 'transact.js'), JSON.stringify({ changes, options: {} }),
  ], { encoding: 'utf8', timeout: GUARD })
  assert.equal(signal, 'SIGKILL', stderr)
  assert.notDeepEqual(leftovers(live), [])
  const copied = path.join(root, 'copy')
  return { root, live, copied, copy: () => execFileSync('cp', ['-a', live, copied]) }
}

describe('an unfinished transaction', { skip: whyNot.strace(), timeout: GUARD }, () => {
  for (const number of [1, 2, 3]) {
    for (const first of ['the copy', 'the original']) {
      test(`that died at rename ${number} is settled in a copy and in the original, ${first} first`, async (t) => {
        const { live, copied, copy } = unfinished(t, number)
        copy()
        const order = first === 'the copy' ? [copied, live] : [live, copied]
        for (const [index, root] of order.entries()) {
          const other = tree(order[1 - index])
          const { complete, actions } = await recoverFromCrash(root, { recursive: true })
          assert.ok(complete, JSON.stringify(actions))
          assert.ok(['"old" "old"', '"new" "new"'].includes(texts(root)), texts(root))
          assert.ok(number === 1 || texts(root) === '"new" "new"', 'it was decided')
          assert.deepEqual(leftovers(root), [])
          assert.deepEqual(tree(order[1 - index]), other, 'the other tree is as it was')
        }
        assert.equal(texts(copied), texts(live))
      })
    }
  }

  test('is settled where the whole tree has been moved to', async (t) => {
    const { live, root } = unfinished(t, 3)
    const moved = path.join(root, 'by', 'another', 'name')
    fs.mkdirSync(path.dirname(moved), { recursive: true })
    fs.renameSync(live, moved)
    assert.ok((await recoverFromCrash(path.join(moved, 'b'))).complete)
    assert.equal(texts(moved), '"new" "new"')
    assert.deepEqual(leftovers(moved), [])
  })

  test('is settled in a copy by the next transaction there', async (t) => {
    const { live, copied, copy } = unfinished(t, 3)
    copy()
    const before = tree(live)
    await transaction([path.join(copied, 'b/y.json')], async (tx) => assert.equal(await tx.read(path.join(copied, 'b/y.json'), 'utf8'), '"new"'))
    assert.equal(texts(copied), '"new" "new"')
    assert.deepEqual(tree(live), before)
  })

  test('of which one folder was copied is left, and said to be, with what to do', async (t) => {
    for (const part of ['a', 'b']) {
      const { root, live } = unfinished(t, 2)
      const before = tree(live)
      // Alone, and beside the folder that it is a copy of.
      for (const to of ['elsewhere', 'live/beside']) {
        const at = path.join(root, to)
        fs.cpSync(path.join(live, part), at, { recursive: true })
        const content = tree(at)
        const file = path.join(at, part === 'a' ? 'x.json' : 'y.json')
        const warned = []
        const { complete, actions } = await recoverFromCrash(at, { logger: { debug() {}, warn: (fields, message) => warned.push([message, fields.path]), error() {} } })
        assert.equal(complete, false)
        const [said] = actions
        assert.deepEqual(warned, [['Unfinished transaction: something is left to do', said?.path]])
        assert.deepEqual([actions.length, said?.action, path.dirname(said?.path ?? '')], [1, 'left', at])
        assert.match(said?.reason ?? '', /bring .* there|bring its own there/)
        assert.ok(fs.existsSync(said?.path ?? ''), 'the record is named')
        const error = await failure(transaction([file], () => {}))
        assert.equal(error.code, 'EUNSETTLED')
        assert.match(error.hint, /remove the record/)
        assert.deepEqual(tree(at), content, 'nothing has changed')
        // Removing the record settles it.
        fs.unlinkSync(said?.path ?? '')
        assert.ok((await recoverFromCrash(at)).complete)
        await transaction([file], () => {})
        assert.deepEqual(leftovers(at), [])
        fs.rmSync(at, { recursive: true })
      }
      assert.deepEqual(tree(live), before, 'the original is as it was')
      assert.ok((await recoverFromCrash(live, { recursive: true })).complete)
      assert.equal(texts(live), '"new" "new"')
    }
  })

  test('a dry run says that it is not complete', async (t) => {
    const { root, live } = unfinished(t, 2)
    const at = path.join(root, 'elsewhere')
    fs.cpSync(path.join(live, 'b'), at, { recursive: true })
    assert.equal((await recoverFromCrash(at, { dryRun: true })).complete, false)
    assert.equal((await recoverFromCrash(live, { dryRun: true, recursive: true })).complete, true)
  })

  test('in a copy of a copy, and of a tree that a copy lies in, is settled everywhere by one recovery', async (t) => {
    const { live, copied, copy, root } = unfinished(t, 3)
    copy()
    execFileSync('cp', ['-a', copied, path.join(live, 'backup')])
    execFileSync('cp', ['-a', live, path.join(root, 'again')])
    assert.ok((await recoverFromCrash(root, { recursive: true })).complete)
    for (const at of [live, copied, path.join(live, 'backup'), path.join(root, 'again'), path.join(root, 'again', 'backup')]) {
      assert.equal(texts(at), '"new" "new"', at)
      assert.deepEqual(leftovers(at), [], at)
    }
  })
})

describe('an unfinished transaction on two mounts', { skip: whyNot.strace() || whyNot.mount(), timeout: GUARD }, () => {
  function twoMounts(t) {
    const [one, other] = [tmpfs(t, 'size=4m'), tmpfs(t, 'size=4m')]
    const [a, b] = [path.join(one, 'deep', 'a'), path.join(other, 'b')]
    for (const dir of [a, b]) fs.mkdirSync(dir, { recursive: true })
    const files = [path.join(a, 'x'), path.join(b, 'y')]
    for (const file of files) fs.writeFileSync(file, 'old')
    const { signal, stderr } = spawnSync('strace', [
      '-f', '-qq', '-o', '/dev/null', '-e', 'trace=rename,renameat,renameat2', '-e', 'inject=rename,renameat,renameat2:signal=SIGKILL:when=3',
      process.execPath, path.join(__dirname, 'programs', 'transact.js'), JSON.stringify({ changes: files.map((file) => [file, 'new']), options: {} }),
    ], { encoding: 'utf8', timeout: GUARD })
    assert.equal(signal, 'SIGKILL', stderr)
    return { one, other, a, b, files }
  }

  test('is completed where both are', async (t) => {
    const { b, files } = twoMounts(t)
    assert.ok((await recoverFromCrash(b)).complete)
    assert.deepEqual(files.map((file) => fs.readFileSync(file, 'utf8')), ['new', 'new'])
  })

  test('in a copy of one of them is left, and the other is not touched', async (t) => {
    const { one, other, a, b, files } = twoMounts(t)
    for (const dir of [a, b]) {
      const copied = newDir(t)
      execFileSync('cp', ['-a', `${dir}/.`, copied])
      const before = [tree(one), tree(other), tree(copied)]
      const { complete, actions } = await recoverFromCrash(copied)
      assert.equal(complete, false, JSON.stringify(actions))
      assert.deepEqual([tree(one), tree(other), tree(copied)], before)
    }
    assert.ok((await recoverFromCrash(a)).complete)
    assert.deepEqual(files.map((file) => fs.readFileSync(file, 'utf8')), ['new', 'new'])
  })

  test('is waited for while one is not mounted, whatever lies below', async (t) => {
    const { one, a, b, files } = twoMounts(t)
    const away = newDir(t)
    run('mount', ['--make-private', one])
    run('mount', ['--bind', one, away])
    run('umount', [one])
    cleanUp(t, () => spawnSync('umount', ['-l', away]))
    // As it was before anything happened there: an empty folder, and one that looks like it.
    for (const text of [null, 'old']) {
      fs.mkdirSync(a, { recursive: true })
      if (text !== null) fs.writeFileSync(path.join(a, 'x'), text)
      assert.equal((await recoverFromCrash(b)).complete, false)
      assert.ok(leftovers(b).length > 0)
    }
    fs.rmSync(path.join(one, 'deep'), { recursive: true })
    run('mount', ['--bind', away, one])
    cleanUp(t, () => spawnSync('umount', ['-l', one]))
    assert.ok((await recoverFromCrash(b)).complete)
    assert.deepEqual(files.map((file) => fs.readFileSync(file, 'utf8')), ['new', 'new'])
  })
})

test('a write in a copy is as everywhere', { skip: whyNot.strace(), timeout: GUARD }, async (t) => {
  const { live, copied, copy } = unfinished(t, 2)
  copy()
  const before = tree(live)
  await atomicWrite(path.join(copied, 'b/y.json'), '"theirs"')
  const { actions, complete } = await recoverFromCrash(copied, { recursive: true })
  assert.ok(complete)
  assert.deepEqual(actions.map(({ action }) => action).sort(), ['completed', 'conflict'])
  assert.equal(fs.readFileSync(path.join(copied, 'b/y.json'), 'utf8'), '"theirs"')
  assert.deepEqual(tree(live), before)
})
