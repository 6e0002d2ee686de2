'use strict'

// `holdfast lock` and `holdfast locks`.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { answer, ended, run, start } = require('./cli.js')
const { holdfast, newDir, whyNot } = require('./helpers.js')

const noPeople = whyNot.people()

/** Resolves when a child has said something. @param {import('node:child_process').ChildProcessWithoutNullStreams} child */
const hasSaid = (child) => new Promise((resolve) => child.stdout.once('data', resolve))

/** Resolves when a condition holds. @param {() => boolean | Promise<boolean>} condition */
async function until(condition) {
  for (let i = 0; !(await condition()); i += 1) {
    assert.ok(i < 1000, 'it never holds')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

describe('lock', () => {
  test('has the exit code of the command, and passes its input and output on', async (t) => {
    const cwd = newDir(t)
    const { code, stdout, stderr } = await run(['lock', 'f', '--', 'sh', '-c', 'cat; echo wrong >&2; exit 7'], { cwd, input: 'text' })
    assert.deepEqual({ code, stdout, stderr }, { code: 7, stdout: 'text', stderr: 'wrong\n' })
    assert.deepEqual(fs.readdirSync(cwd), [], 'nothing is left')
  })

  test('passes arguments on as they are, options and dashes included', async (t) => {
    const { stdout } = await run(['lock', 'f', '--', process.execPath, '-p', 'process.argv.slice(1).join("|")', '--', 'a b', '--read', '--help', '--'], { cwd: newDir(t) })
    assert.equal(stdout, 'a b|--read|--help|--\n')
  })

  test('has the exit codes of a shell for a command that was killed, cannot be run, or does not exist', async (t) => {
    const cwd = newDir(t)
    fs.writeFileSync(path.join(cwd, 'text'), 'x')
    const codes = []
    for (const command of [['sh', '-c', 'kill -KILL $$'], ['./text'], ['./none']]) codes.push((await run(['lock', 'f', '--', ...command], { cwd })).code)
    assert.deepEqual(codes, [137, 126, 127])
    assert.deepEqual(fs.readdirSync(cwd), ['text'])
  })

  test('scripts and programs exclude each other, and no update is lost', async (t) => {
    const cwd = newDir(t)
    const file = path.join(cwd, 'count')
    fs.writeFileSync(file, '0')
    const increment = 'n=$(cat count); sleep 0.02; echo $((n + 1)) > count'
    const scripts = Array.from({ length: 6 }, () => run(['lock', 'count', '--', 'sh', '-c', increment], { cwd }))
    for (let i = 0; i < 20; i += 1) {
      await holdfast.withLock(file, async () => {
        const count = Number(fs.readFileSync(file, 'utf8'))
        await new Promise((resolve) => setTimeout(resolve, 5))
        fs.writeFileSync(file, String(count + 1))
      }, { timeout: Infinity })
    }
    for (const { code, stderr } of await Promise.all(scripts)) assert.equal(code, 0, stderr)
    assert.equal(Number(fs.readFileSync(file, 'utf8')), 26)
  })

  test('ends with 1, and says who has the lock, if it is not free in time', async (t) => {
    const cwd = newDir(t)
    const lock = await holdfast.acquireLock(path.join(cwd, 'f'))
    const { code, stdout, stderr } = await run(['lock', '--timeout', '50ms', 'f', '--', 'echo', 'ran'], { cwd })
    await lock.release()
    assert.deepEqual({ code, stdout }, { code: 1, stdout: '' })
    assert.match(stderr, new RegExp(`ELOCKED.*process ${process.pid}`))
  })

  test('with --read admits other readers, and no writer', async (t) => {
    const cwd = newDir(t)
    const lock = await holdfast.acquireLock(path.join(cwd, 'f'), { kind: 'read' })
    assert.equal((await run(['lock', '--read', '--timeout', '0s', 'f', '--', 'true'], { cwd })).code, 0)
    assert.equal((await run(['lock', '--timeout', '0s', 'f', '--', 'true'], { cwd })).code, 1)
    await lock.release()
  })

  for (const [signal, number] of /** @type {const} */ ([['SIGTERM', 15], ['SIGINT', 2], ['SIGHUP', 1], ['SIGQUIT', 3], ['SIGUSR1', 10], ['SIGUSR2', 12]])) {
    test(`passes ${signal} on to the command, and has the lock until that ends`, async (t) => {
      const cwd = newDir(t)
      // No shell: that cannot trap what was ignored when it started, as SIGINT is in the background.
      const trap = `process.once('${signal}', () => setTimeout(() => { console.log('got'); process.exit(${number + 20}) }, 200)); console.log('ready'); setTimeout(() => {}, 30000)`
      const child = start(['lock', 'f', '--', process.execPath, '-e', trap], { cwd })
      const end = ended(child)
      await hasSaid(child)
      child.kill(signal)
      assert.equal((await holdfast.isLocked(path.join(cwd, 'f'))).locked, true)
      assert.deepEqual(await end, { code: number + 20, signal: null, stdout: 'ready\ngot\n', stderr: '' })
      assert.equal((await holdfast.isLocked(path.join(cwd, 'f'))).locked, false)
    })
  }

  test('while it waits, SIGTERM ends it, and the command is not run', async (t) => {
    const cwd = newDir(t)
    const lock = await holdfast.acquireLock(path.join(cwd, 'f'))
    const child = start(['lock', 'f', '--', 'touch', 'ran'], { cwd })
    const end = ended(child)
    await new Promise((resolve) => setTimeout(resolve, 500))
    child.kill('SIGTERM')
    assert.equal((await end).signal, 'SIGTERM')
    await lock.release()
    assert.equal(fs.existsSync(path.join(cwd, 'ran')), false)
  })

  test('the lock is free when it is killed by SIGKILL', async (t) => {
    const cwd = newDir(t)
    const child = start(['lock', 'f', '--', 'sh', '-c', 'echo $$; exec sleep 30'], { cwd })
    const end = ended(child)
    const pid = Number(await hasSaid(child))
    child.kill('SIGKILL')
    await until(async () => !(await holdfast.isLocked(path.join(cwd, 'f'))).locked)
    process.kill(pid, 'SIGKILL')
    await end
  })

  test('another user may lock what he may read, and is told what he may not do', { skip: noPeople }, async (t) => {
    const cwd = newDir(t)
    fs.chmodSync(cwd, 0o755)
    fs.writeFileSync(path.join(cwd, 'f'), 'x', { mode: 0o644 })
    const person = { uid: 65534 }
    assert.equal((await run(['lock', '--read', 'f', '--', 'cat', 'f'], { cwd, person })).stdout, 'x')
    const { code, stderr } = await run(['lock', 'f', '--', 'echo', 'ran'], { cwd, person })
    assert.equal(code, 1)
    assert.match(stderr, /EACCES/)
  })
})

describe('locks', () => {
  test('says that a lock is free, and changes nothing', async (t) => {
    const cwd = newDir(t)
    const { code, stdout } = await run(['locks', 'f'], { cwd })
    assert.deepEqual({ code, stdout }, { code: 0, stdout: 'free\n' })
    assert.deepEqual(await answer(['locks', 'f', '--json'], { cwd }), { version: 1, command: 'locks', path: 'f', state: 'free' })
    assert.deepEqual(fs.readdirSync(cwd), [])
  })

  test('says who has it, and since when', async (t) => {
    const cwd = newDir(t)
    const lock = await holdfast.acquireLock(path.join(cwd, 'f'))
    await until(async () => (await holdfast.isLocked(path.join(cwd, 'f'))).holder !== undefined)
    const { holder, ...rest } = await answer(['locks', '--json', 'f'], { cwd })
    const { stdout } = await run(['locks', 'f'], { cwd })
    await lock.release()
    assert.deepEqual(rest, { version: 1, command: 'locks', path: 'f', state: 'write' })
    assert.equal(holder.pid, process.pid)
    assert.ok(Math.abs(Date.parse(holder.since) - Date.now()) < 60_000)
    assert.match(stdout, new RegExp(`^HELD BY .*\n\\S+ +${process.pid} `))
  })

  test('says that readers have it', async (t) => {
    const cwd = newDir(t)
    const lock = await holdfast.acquireLock(path.join(cwd, 'f'), { kind: 'read' })
    assert.deepEqual(await answer(['locks', '--json', 'f'], { cwd }), { version: 1, command: 'locks', path: 'f', state: 'read' })
    assert.equal((await run(['locks', 'f'], { cwd })).stdout, 'held by readers\n')
    await lock.release()
  })

  test('ends with 3 where it cannot look', async (t) => {
    const cwd = newDir(t)
    const { code, stdout, stderr } = await run(['locks', 'none/f'], { cwd })
    assert.deepEqual({ code, stdout }, { code: 3, stdout: '' })
    assert.match(stderr, /ENOENT/)
    assert.equal((await answer(['locks', 'none/f', '--json'], { cwd })).error.code, 'ENOENT')
  })
})
