'use strict'

// SIGKILL, at each system call of a write and at any moment: the target is whole, what has been
// acknowledged is there, and at most one temp file for each running write is left, in a state
// that recovery recognises.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { setTimeout } = require('node:timers/promises')
const { atomicWrite } = require('../index.js')
const { Program, TEMP, content, fastDir, hasSeen, nameIn, ordinaryDisk, sequenceOf, strace, temps, whyNot } = require('./system.js')

const KILLED = { code: null, signal: 'SIGKILL' }

/** What a kill may leave beside the targets. */
function checkTemps(dir, { most, targets, mode }) {
  const left = temps(dir)
  const others = fs.readdirSync(dir).filter((name) => !targets.includes(name) && !left.includes(name))
  assert.deepEqual(others, [], 'nothing but the targets and temp files')
  assert.ok(left.length <= most, `${left.length} temp files of ${most} writes: ${left}`)
  for (const name of left) {
    assert.ok(targets.includes(TEMP.exec(name)[1]), `${name} names its target`)
    const file = path.join(dir, name)
    const granted = fs.statSync(file).mode & 0o077
    assert.equal(granted & ~mode, 0, `${name} grants others ${granted.toString(8)}, of ${mode.toString(8)}`)
    if (!whyNot.flock()) assert.equal(spawnSync('flock', ['-n', file, 'true']).status, 0, `${name} is still locked`)
  }
  return left
}

describe('SIGKILL at a system call', { skip: whyNot.strace(), concurrency: 2 }, () => {
  const KiB = 1024
  for (const { title, durability, size, mode, umask = 0o022, final = mode, disk = fastDir } of [
    { title: 'over a private file', durability: 'none', size: 4 * KiB, mode: 0o640 },
    { title: 'over a private file', durability: 'full', size: 4 * KiB, mode: 0o640 },
    { title: 'over a private file on a disk', durability: 'full', size: 4 * KiB, mode: 0o640, disk: ordinaryDisk },
    { title: 'of a new file under a strict umask', durability: 'full', size: 4 * KiB, umask: 0o077, final: 0o600 },
    // Referenced, not copied, and given to the system in several calls.
    { title: 'over a public file, in pieces', durability: 'full', size: 40 * KiB * KiB, mode: 0o666 },
  ]) {
    test(`a write ${title} (${size} bytes, '${durability}')`, async (t) => {
      const dir = disk(t)
      const target = path.join(dir, 'target')
      const old = mode === undefined ? undefined : content('old', 700)
      const fresh = content(1, size)
      const read = () => (fs.existsSync(target) ? fs.readFileSync(target) : undefined)

      /** Starts a child, traces it, and has it write. */
      async function write(injections) {
        fs.rmSync(target, { force: true })
        if (old) {
          fs.writeFileSync(target, old)
          fs.chmodSync(target, mode)
          if (process.getuid() === 0) fs.chownSync(target, 7, 7)
        }
        const program = new Program(t, 'writer.js', { args: [fastDir(t)], under: ['sh', '-c', `umask ${umask.toString(8)} && exec "$@"`, 'sh'] })
        const { io } = await program.ask({ do: 'threads' })
        const trace = await strace(t, io, injections)
        program.tell({ do: 'write', path: target, seed: 1, size, options: { durability } })
        return { program, trace }
      }

      let lines
      for (let tries = 0; tries < 3 && !hasSeen(lines ?? [], dir); tries++) {
        const { program, trace } = await write([])
        assert.deepEqual(await program.next(), { done: true })
        lines = await trace.done()
        program.child.stdin.end()
        assert.equal((await program.outcome()).code, 0)
      }
      const { calls, renamed } = sequenceOf(lines, dir, durability)
      assert.equal(fs.statSync(target).mode & 0o777, final)

      let leftovers = 0
      for (const [index, { name, number, line }] of calls.entries()) {
        let code, signal, log
        for (let tries = 0; tries < 3 && !hasSeen(log ?? [], dir); tries++) {
          const { program, trace } = await write([`${name}:signal=SIGKILL:when=${number}`])
          // If it lives and answers, it is asked to end.
          program.child.stdin.end()
          ;({ code, signal } = await program.outcome())
          log = await trace.done()
        }
        const at = `at ${line}\n${log.at(-1)}`
        assert.deepEqual({ code, signal }, KILLED, at)

        const found = read()
        const isNew = found?.equals(fresh) ?? false
        assert.ok(isNew || (old ? found.equals(old) : found === undefined), `${found?.length} bytes, neither old nor new, ${at}`)
        if (index !== renamed) assert.equal(isNew, index > renamed, at)
        if (isNew) assert.equal(fs.statSync(target).mode & 0o777, final, at)
        const left = checkTemps(dir, { most: 1, targets: ['target'], mode: final })
        leftovers += left.length

        // What is left hinders no later write.
        await atomicWrite(target, 'next', { durability: 'none' })
        assert.equal(fs.readFileSync(target, 'utf8'), 'next')
        assert.deepEqual(temps(dir), left)
        for (const temp of left) fs.unlinkSync(path.join(dir, temp))
      }
      t.diagnostic(`${calls.length} kills, ${leftovers} temp files left: ${calls.map(({ name }) => name).join(' ')}`)
    })
  }
})

describe('SIGKILL at any moment', { skip: whyNot.unix(), concurrency: 2 }, () => {
  for (const { kills, writers, durability, way, disk } of [
    { kills: 40, writers: 1, durability: 'none', way: 'async', disk: fastDir },
    { kills: 30, writers: 1, durability: 'full', way: 'async', disk: ordinaryDisk },
    { kills: 30, writers: 1, durability: 'file', way: 'sync', disk: fastDir },
    { kills: 20, writers: 20, durability: 'full', way: 'async', disk: fastDir },
  ]) {
    test(`${kills} times, with ${writers} ${way} writer${writers > 1 ? 's' : ''}: every file is whole and at least as new as was acknowledged ('${durability}')`, async (t) => {
      const dir = disk(t)
      const targets = Array.from({ length: writers }, (_, file) => `target-${file}`)
      const found = new Map()
      let leftovers = 0
      let acknowledgements = 0
      for (let round = 1; round <= kills; round++) {
        const program = new Program(t, 'loop.js', { args: [JSON.stringify({ dir, round, writers, durability, way })] })
        await program.next()
        // Spread over the first writes, which differ in size and so in where the time goes.
        await setTimeout(((round * 0.6180339887) % 1) * 40)
        program.kill()
        const { code, signal, lines, errors } = await program.outcome()
        assert.deepEqual({ code, signal }, KILLED, errors)

        const acknowledged = new Map(lines)
        acknowledgements += lines.length
        for (const [file, target] of targets.entries()) {
          if (!fs.existsSync(path.join(dir, target))) {
            assert.ok(!acknowledged.has(file) && !found.has(file), `${target} is gone`)
            continue
          }
          const name = nameIn(fs.readFileSync(path.join(dir, target)))
          const [foundRound, number] = name.split(' ').map(Number)
          if (foundRound === round) assert.ok(number >= (acknowledged.get(file) ?? 1), `${target} has ${number}, and ${acknowledged.get(file)} was acknowledged`)
          else assert.ok(!acknowledged.has(file) && name === found.get(file), `${target} has gone back to ${name}`)
          found.set(file, name)
        }
        for (const temp of checkTemps(dir, { most: writers, targets, mode: 0o644 })) {
          leftovers++
          fs.unlinkSync(path.join(dir, temp))
        }
      }
      t.diagnostic(`${acknowledgements} writes acknowledged, ${leftovers} temp files left`)
    })
  }
})
