'use strict'

// Many writes at once, in one process and in several: each promise reports the true outcome, and
// nothing accumulates.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { Filler, Program, fastDir, nameIn, newDir, temps, tmpfs, whyNot } = require('./system.js')

describe('many writes at once', () => {
  test('ten thousand to a hundred paths, many of which fail, all settle with the true outcome and leave nothing behind', async (t) => {
    let full = null
    if (whyNot.mount()) {
      t.diagnostic(`without a full disk: ${whyNot.mount()}`)
    } else {
      full = tmpfs(t, 'size=1m')
      new Filler(full).leave(90)
    }
    const args = [JSON.stringify({ dir: fastDir(t), full, rounds: 3, writes: 10_000 })]
    const program = new Program(t, 'many-writes.js', { args, nodeArgs: ['--expose-gc'] })
    const { code, signal, errors, lines } = await program.outcome()
    assert.deepEqual({ code, signal }, { code: 0, signal: null }, errors)
    const { wrong, counts, threads, descriptors, memory } = lines[0]
    t.diagnostic(`the last 10 000: ${JSON.stringify(counts)}; at most ${threads} threads; ${descriptors} descriptors; ${memory} MiB`)
    assert.deepEqual(wrong, [])
    for (const code of ['resolved', 'ENOENT', 'EISDIR', 'ENOTDIR', 'ABORT_ERR', ...(full ? ['ENOSPC'] : [])]) {
      assert.ok(counts[code] > 0, `${code} has come up`)
    }
    assert.ok(threads <= 64)
    assert.equal(new Set(descriptors).size <= 1, true, `descriptors: ${descriptors}`)
    // One round alone hands over 100 MiB: what is kept of them would show.
    assert.ok(memory.at(-1) - memory[0] < 64, `MiB after each round: ${memory}`)
  })

  test('four processes that write the same files leave whole ones', async (t) => {
    const dir = newDir(t)
    const [files, writes, names] = [5, 40, ['a', 'b', 'c', 'd']]
    const programs = names.map((name) => new Program(t, 'concurrent-writer.js', { args: [JSON.stringify({ dir, files, writes, name })] }))
    for (const program of programs) assert.equal(await program.next(), 'ready')
    for (const program of programs) program.tell('begin')

    // Concurrent readers see whole files too.
    let reads = 0
    const ended = Promise.all(programs.map((program) => program.outcome()))
    let isOver = false
    ended.finally(() => (isOver = true)).catch(() => {})
    while (!isOver) {
      for (const name of fs.readdirSync(dir)) {
        if (!name.startsWith('target-')) continue
        nameIn(await fs.promises.readFile(path.join(dir, name)))
        reads++
      }
      await new Promise(setImmediate)
    }
    for (const { code, signal, errors } of await ended) assert.deepEqual({ code, signal }, { code: 0, signal: null }, errors)
    assert.ok(reads > 0)

    for (let file = 0; file < files; file++) {
      const [, number] = nameIn(fs.readFileSync(path.join(dir, `target-${file}`))).split(' ')
      assert.equal(Number(number), writes - 1, 'the last write of one of them')
    }
    assert.deepEqual(temps(dir), [])
  })
})
