'use strict'

// Waiting for a lock where the kernel wakes up no process, or a process may not start a thread.

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { holdfast, newDir, readableByAll } = require('./helpers.js')
const { GUARD, LIMITS } = require('./programs/lock-peer.js')

/** A user of whom there are no other processes. */
const ALONE = { uid: 54_321, gid: 54_321 }

const whyNot = process.platform !== 'linux' ? 'Linux only' : process.getuid?.() !== 0 ? 'only root can be another user' : undefined

describe('a process that may not start another thread', { ...LIMITS, skip: whyNot }, () => {
  test('waits for a lock on those that it has, gives up in time, and holds up no other', async (t) => {
    const dir = newDir(t)
    fs.chmodSync(dir, 0o777)
    const file = path.join(dir, 'file')
    const source = `
      const { spawnSync } = require('node:child_process')
      const holdfast = require(${JSON.stringify(readableByAll())})
      const file = ${JSON.stringify(file)}
      const took = async (lock) => { await (await lock).release(); return 'has it' }
      ;(async () => {
        await holdfast.withLock(file + '-other', () => {})
        const limited = spawnSync('prlimit', ['--pid', String(process.pid), '--nproc=1:1'], { encoding: 'utf8' })
        if (limited.status !== 0) throw new Error(limited.stderr)
        console.log('ready')
        process.stdin.once('data', async () => {
          const kinds = ['write', 'read', 'write']
          const given = await Promise.all(kinds.map((kind) => took(holdfast.acquireLock(file, { kind, timeout: 300 })).catch((error) => error.code)))
          console.log('gave up', given.join())
          const waiting = kinds.map((kind) => took(holdfast.acquireLock(file, { kind })))
          // There are threads for other work meanwhile.
          await holdfast.atomicWrite(file + '-written', 'x')
          console.log('waits')
          console.log('got', (await Promise.all(waiting)).join())
          process.exit(0)
        })
      })().catch((error) => { console.log('failed', error); process.exit(1) })`
    fs.writeFileSync(file, '')
    fs.chmodSync(file, 0o666)
    const lock = await holdfast.acquireLock(file)
    const child = spawn(process.execPath, ['-e', source], { ...ALONE, stdio: ['pipe', 'pipe', 'inherit'], timeout: GUARD, killSignal: 'SIGKILL' })
    t.after(() => void child.kill('SIGKILL'))
    let said = ''
    child.stdout.on('data', (text) => (said += text))
    const until = async (/** @type {string} */ word) => {
      while (!said.includes(word)) await Promise.race([once(child.stdout, 'data'), once(child, 'exit').then(() => assert.fail(said))])
    }
    await until('ready')
    child.stdin.write('go\n')
    await until('waits')
    assert.match(said, /gave up ELOCKED,ELOCKED,ELOCKED/)
    const names = fs.readdirSync(`/proc/${child.pid}/task`).map((id) => fs.readFileSync(`/proc/${child.pid}/task/${id}/comm`, 'utf8').trim())
    assert.ok(!names.includes('holdfast-lock'), `${names}`)
    await new Promise((resolve) => setTimeout(resolve, 200))
    assert.doesNotMatch(said, /got/)
    await lock.release()
    const begun = Date.now()
    await until('got has it,has it,has it')
    assert.ok(Date.now() - begun < GUARD / 10)
    await holdfast.withLock(file, () => {}, { timeout: GUARD })
  })
})
