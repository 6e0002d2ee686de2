'use strict'

// `holdfast inspect`.

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { answer, run } = require('./cli.js')
const { newDir, root, whyNot } = require('./helpers.js')

const program = `
  const holdfast = require(${JSON.stringify(root)})
  const fs = require('node:fs')
  void (async () => {
    await holdfast.acquireLock('locked')
    const stream = holdfast.createAtomicWriteStream('written')
    await new Promise((resolve) => stream.write('half', resolve))
    fs.writeFileSync('kept', 'text')
    await holdfast.createBackup('kept')
    const log = await holdfast.openWal('log')
    await log.append('one', [{ id: 'id', op: 'insert', payload: 'payload' }])
    console.log('ready')
    setTimeout(() => {}, 60_000)
  })()`

/** A folder in which a process is at work, and the process. @param {import('node:test').TestContext} t */
async function atWork(t) {
  const cwd = newDir(t)
  const child = spawn(process.execPath, ['-e', program], { cwd, stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  await new Promise((resolve) => child.stdout.once('data', resolve))
  const kill = async () => {
    const gone = new Promise((resolve) => child.once('close', resolve))
    child.kill('SIGKILL')
    await gone
  }
  const listing = () => fs.readdirSync(cwd).sort().map((name) => `${name} ${fs.statSync(path.join(cwd, name)).ino}`)
  return { cwd, pid: child.pid, kill, listing }
}

describe('inspect', () => {
  test('tells what is alive, who has the locks, and what a SIGKILL has left, and changes nothing', async (t) => {
    const { cwd, pid, kill, listing } = await atWork(t)
    const before = listing()
    const alive = await answer(['inspect', '--json'], { cwd })
    assert.deepEqual(Object.keys(alive), ['version', 'command', 'path', 'temps', 'transactions', 'others', 'backups', 'locks', 'logs'])
    assert.deepEqual(alive.temps.items.map((/** @type {any} */ { state }) => state), ['alive'])
    const holders = alive.locks.items.map((/** @type {any} */ { path: file, state, holder }) => [file, state, holder.pid])
    assert.deepEqual(holders.sort(), [['locked', 'write', pid], ['log', 'write', pid]])
    assert.equal(alive.backups.total, 1)
    assert.equal(alive.backups.items[0].size, 4)
    const [{ path: log, collections, error }] = alive.logs.items
    assert.deepEqual([log, collections[0].name, collections[0].last, error], ['log', 'one', '1', undefined])
    assert.equal((await run(['inspect'], { cwd })).code, 0)
    assert.deepEqual(listing(), before)

    await kill()
    const { code, stdout } = await run(['inspect'], { cwd })
    assert.equal(code, 1)
    assert.match(stdout, /^Temp files: 1\n.*\n\.written\.[0-9a-f]{16}\.tmp +orphan /)
    assert.doesNotMatch(stdout, /^Locks/m)
    assert.deepEqual(listing(), before)
  })

  test('tells that a log is damaged', async (t) => {
    const { cwd, kill } = await atWork(t)
    await kill()
    fs.writeFileSync(path.join(cwd, 'log', 'one', 'wal_current.avro'), Buffer.alloc(4096, 7))
    const { code, stdout } = await run(['inspect'], { cwd })
    assert.equal(code, 1)
    assert.match(stdout, /\nlog .*EWALDAMAGED/)
  })

  test('says that there is nothing, or that it cannot look', async (t) => {
    const cwd = newDir(t)
    assert.deepEqual(await run(['inspect'], { cwd }), { code: 0, signal: null, stdout: '.: nothing of holdfast\n', stderr: '' })
    for (const [where, code] of [['none', 'ENOENT'], ['file', 'ENOTDIR']]) {
      fs.writeFileSync(path.join(cwd, 'file'), '')
      const { error } = await answer(['inspect', '--json', `${where}`], { cwd })
      assert.equal(error.code, code)
      assert.equal((await run(['inspect', `${where}`], { cwd })).code, 3)
    }
  })

  test('another user may look', { skip: whyNot.people() }, async (t) => {
    const { cwd, listing } = await atWork(t)
    const before = listing()
    const { temps, locks } = await answer(['inspect', '--json'], { cwd, person: { uid: 65534 } })
    assert.equal(temps.total, 1)
    assert.equal(locks.total, 2)
    assert.deepEqual(listing(), before)
  })

  test('needs little memory for 100 000 files, and counts what it does not list', async (t) => {
    const cwd = newDir(t, fs.existsSync('/dev/shm') ? '/dev/shm' : undefined)
    for (let i = 0; i < 100_000; i += 1) fs.closeSync(fs.openSync(path.join(cwd, i % 2 ? `${i}.json` : `f.${i}.backup`), 'w'))
    const report = path.join(newDir(t), 'report.js')
    fs.writeFileSync(report, "process.on('exit', () => process.stderr.write(String(process.resourceUsage().maxRSS)))")
    const { stdout, stderr } = await run(['inspect', '--json', '--limit', '3'], { cwd, env: { NODE_OPTIONS: `--require ${report}` } })
    const { backups } = JSON.parse(stdout)
    assert.deepEqual([backups.total, backups.items.length], [50_000, 3])
    assert.ok(Number(stderr) < 300_000, `it took ${stderr} KiB`)
  })
})
