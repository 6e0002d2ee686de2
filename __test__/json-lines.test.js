'use strict'

// Files of JSON lines and of lines of text: what stands in them, in what order, what a crash, a full disk and
// other programs leave of it, and what is refused.

const assert = require('node:assert/strict')
const { spawn, spawnSync } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const { appendJsonLines, appendLines, openJsonLines, transaction, withLock } = require('..')
const { collector, failure, fullDisk, inChild, names, newDir, newFile } = require('./helpers.js')
const { fastDir, whyNot } = require('./system.js')

const [BEGIN, MIDDLE, END] = [' \t \t', ' \t\t ', ' \t\t\t']

/** @param {string} file */
const text = (file) => fs.readFileSync(file, 'utf8')

/** The values in a file in which each line is JSON. @param {string} file @returns {any[]} */
const values = (file) => text(file).split('\n').filter(Boolean).map((line) => JSON.parse(line))

describe('what stands in the file', () => {
  test('one line for each value, with marks of blanks where a call has several', async (t) => {
    const file = newFile(t)
    await appendJsonLines(file, [{ a: 1 }])
    await appendJsonLines(file, [[2], 'three\n', null])
    await appendJsonLines(file, [42])
    await appendJsonLines(file, [])
    assert.equal(text(file), `{"a":1}\n${BEGIN}[2]\n${MIDDLE}"three\\n"\n${END}null\n 42\n`)
    assert.deepEqual(values(file), [{ a: 1 }, [2], 'three\n', null, 42])
  })

  test('text as it is, and its newline', async (t) => {
    const file = newFile(t, 'without an end')
    await appendLines(file, 'one ')
    await appendLines(file, ['two', '', '3'], { durability: 'none' })
    assert.equal(text(file), 'without an end\none \ntwo\n\n3\n')
  })

  test('a last line without newline gets it first, comments and CR LF stay', async (t) => {
    const file = newFile(t, '{"a":1}\r\n// note\r\n{"b":2}')
    await appendJsonLines(file, [3, 4])
    assert.equal(text(file), `{"a":1}\r\n// note\r\n{"b":2}\n${BEGIN}3\n${END}4\n`)
  })

  test('what a crash has left at the end is moved, and the logger is told', async (t) => {
    const { logger, of } = collector()
    const file = newFile(t, `1\n${BEGIN}2\n{"cut`)
    await appendJsonLines(file, [3], { logger })
    assert.equal(text(file), '1\n 3\n')
    const torn = names(path.dirname(file)).filter((name) => /^file\.torn-\d+$/.test(name))
    assert.equal(torn.length, 1)
    assert.equal(text(path.join(path.dirname(file), String(torn[0]))), `${BEGIN}2\n{"cut`)
    const [entry] = of('Moved the end of a file of lines, which a crash had left')
    assert.deepEqual(entry?.fields, { path: file, torn: path.join(path.dirname(file), String(torn[0])), offset: 2, bytes: 11, operation: 'append lines' })
  })

  test('new files have the mode that is asked for, and missing directories are made', async (t) => {
    const file = path.join(newDir(t), 'a', 'b', 'log.jsonl')
    const missing = await failure(appendJsonLines(file, [1]))
    assert.equal(missing.code, 'ENOENT')
    await appendJsonLines(file, [1], { makeDirs: true, newFileMode: 0o600 })
    assert.equal(text(file), ' 1\n')
    if (!whyNot.unix()) assert.equal(fs.statSync(file).mode & 0o777, 0o600)
  })

  test('a symbolic link is followed', { skip: whyNot.unix() }, async (t) => {
    const file = newFile(t, '1\n')
    fs.symlinkSync('file', `${file}.link`)
    await appendJsonLines(`${file}.link`, [2])
    assert.equal(text(file), '1\n 2\n')
  })
})

describe('order and groups', () => {
  test('calls take effect in their order, whichever function made them, and share writes', async (t) => {
    const file = newFile(t)
    const lines = await openJsonLines(file)
    await Promise.all(Array.from({ length: 200 }, (_, number) => lines.append({ number })))
    assert.deepEqual(values(file).map(({ number }) => number), Array.from({ length: 200 }, (_, number) => number))
    const { appends, groups, syncs, lines: count, bytes } = lines.stats()
    assert.equal(appends, 200)
    assert.equal(count, 200)
    assert.equal(bytes, fs.statSync(file).size)
    assert.ok(groups < 10, `${groups} writes`)
    assert.equal(syncs, groups)
    await Promise.all(Array.from({ length: 50 }, (_, number) => appendJsonLines(file, [{ number: 200 + number }])))
    assert.deepEqual(values(file).map(({ number }) => number), Array.from({ length: 250 }, (_, number) => number))
    await lines.close()
  })

  test('close waits for what was asked for, and nothing comes after it', async (t) => {
    const file = newFile(t)
    const lines = await openJsonLines(file, { durability: 'none' })
    const pending = lines.append('last')
    await lines.close()
    await pending
    assert.deepEqual(values(file), ['last'])
    assert.equal((await failure(lines.append(1))).code, 'ECLOSED')
    assert.equal((await failure(lines.flush())).code, 'ECLOSED')
    await lines.close()
  })

  test('a stream in object mode appends values, and text as loggers write it', async (t) => {
    const file = newFile(t)
    const lines = await openJsonLines(file)
    await pipeline(Readable.from([{ a: 1 }, [2], '{"text":3}\n{"more":4}\n']), lines.writable())
    assert.deepEqual(values(file), [{ a: 1 }, [2], { text: 3 }, { more: 4 }])
    await lines[Symbol.asyncDispose]()
  })

  test('syncInterval syncs later, flush at once', async (t) => {
    const lines = await openJsonLines(newFile(t), { durability: 'none', syncInterval: 60_000 })
    await lines.append(1)
    assert.equal(lines.stats().syncs, 0)
    await lines.flush()
    assert.equal(lines.stats().syncs, 1)
    await lines.append(2)
    await lines.close()
    assert.equal(lines.stats().syncs, 2)
  })

  test('an append waits for the lock of the file, and under the lock it borrows it', async (t) => {
    const file = newFile(t)
    const lines = await openJsonLines(file, { timeout: 20 })
    await withLock(file, async () => {
      await lines.append('inside')
      await appendJsonLines(file, ['too'])
    })
    const { held, release } = await inChildHolding(t, file)
    await held
    assert.equal((await failure(lines.append('outside'))).code, 'ELOCKED')
    await release()
    await appendJsonLines(file, ['after'])
    assert.deepEqual(values(file), ['inside', 'too', 'after'])
  })

  test('what has not been started can be cancelled', async (t) => {
    const file = newFile(t)
    const lines = await openJsonLines(file)
    const controller = new AbortController()
    const first = lines.append(1)
    const second = lines.append(2, { signal: controller.signal })
    controller.abort()
    assert.equal((await failure(second)).name, 'AbortError')
    await first
    assert.deepEqual(values(file), [1])
    assert.equal((await failure(appendJsonLines(file, [3], { signal: controller.signal }))).name, 'AbortError')
  })

  test('a file of a transaction is refused in its function', async (t) => {
    const file = newFile(t)
    const error = await failure(transaction([file], async () => { await appendJsonLines(file, [1]) }))
    assert.equal(error.code, 'EDEADLK')
    assert.equal(fs.existsSync(file), false)
  })
})

describe('what is refused', () => {
  test('values that JSON does not have, and nothing of the call is there', async (t) => {
    const file = newFile(t)
    for (const value of [undefined, () => {}, Symbol('x')]) {
      await assert.rejects(appendJsonLines(file, [1, value]), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE', message: /^The value at 1 must be a value that JSON has/ })
    }
    await assert.rejects(appendJsonLines(file, [1n]), TypeError)
    assert.equal(fs.existsSync(file), false)
  })

  test('arguments and options, by name', async (t) => {
    const file = newFile(t)
    const any = /** @type {any} */ (undefined)
    await assert.rejects(appendJsonLines(file, /** @type {any} */ ({})), /The "values" argument must be an instance of Array/)
    await assert.rejects(appendJsonLines(/** @type {any} */ (1), []), { code: 'ERR_INVALID_ARG_TYPE' })
    await assert.rejects(appendJsonLines(file, [1], /** @type {any} */ ({ durable: true })), /"durable"/)
    await assert.rejects(appendLines(file, any), /The "lines" argument must be of type string or an array of strings/)
    for (const bad of ['a\nb', 'a\0']) await assert.rejects(appendLines(file, [bad]), { name: 'TypeError', message: /must not have line breaks or NULs/ })
    await assert.rejects(openJsonLines(file, { syncInterval: 10 }), /"syncInterval" option is for "durability: 'none'"/)
    await assert.rejects(openJsonLines(file, { durability: 'none', syncInterval: 0 }), { name: 'RangeError' })
    await assert.rejects(openJsonLines(file, { validate: /** @type {any} */ ('json') }), { code: 'ERR_INVALID_ARG_TYPE' })
    assert.deepEqual(names(path.dirname(file)), [])
  })

  test('what a schema throws', async (t) => {
    const file = newFile(t)
    const lines = await openJsonLines(file, {
      validate: (value) => {
        if (typeof value !== 'number') throw new RangeError('no number')
        return value + 1
      },
    })
    await lines.append([1, 2])
    await assert.rejects(lines.append([3, /** @type {any} */ ('x')]), { name: 'RangeError', message: 'no number' })
    assert.deepEqual(values(file), [2, 3])
  })

  test('a directory, and another kind of file', async (t) => {
    const error = await failure(appendJsonLines(newDir(t), [1]))
    assert.equal(error.code, 'EISDIR')
    assert.equal(error.committed, false)
    assert.equal(error.operation, 'append lines')
  })
})

describe('a disk that is full', () => {
  test('at every byte: an append is there as a whole, or nothing of it is', { skip: whyNot.prlimit() }, async (t) => {
    const file = path.join(fastDir(t), 'log.jsonl')
    const outcomes = await inChild(async ({ file }, { holdfast, fs }) => {
      const { spawnSync } = require('node:child_process')
      process.on('SIGXFSZ', () => {})
      const old = '{"before":1}\n'
      const values = [{ text: 'ä'.repeat(30) }, [1, 2, 3], 12345]
      fs.writeFileSync(file, '')
      await holdfast.appendJsonLines(file, values)
      const fresh = fs.readFileSync(file)
      const found = []
      for (let limit = old.length; limit <= old.length + fresh.length + 1; limit++) {
        spawnSync('prlimit', ['--pid', String(process.pid), '--fsize=unlimited:unlimited'])
        fs.writeFileSync(file, old)
        spawnSync('prlimit', ['--pid', String(process.pid), `--fsize=${limit}:unlimited`])
        const error = await holdfast.appendJsonLines(file, values).then(() => undefined, (/** @type {any} */ error) => error)
        const now = fs.readFileSync(file)
        const isWhole = now.equals(Buffer.concat([Buffer.from(old), fresh]))
        found.push({ code: error?.code, committed: error?.committed, isWhole, isOld: now.equals(Buffer.from(old)) })
      }
      return found
    }, { file })
    const whole = outcomes.filter((/** @type {any} */ { isWhole }) => isWhole)
    assert.equal(whole.length, 2)
    for (const outcome of outcomes) {
      if (outcome.isWhole) assert.equal(outcome.code, undefined)
      else assert.deepEqual(outcome, { code: 'EFBIG', committed: false, isWhole: false, isOld: true })
    }
  })

  test('refuses what does not fit, takes what does, and goes on when there is room', { skip: whyNot.mount() }, async (t) => {
    const { dir, filler } = fullDisk(t)
    const file = path.join(dir, 'log.jsonl')
    fs.truncateSync(filler, fs.statSync(filler).size - 8192)
    await appendJsonLines(file, ['first'])
    // The lock file may have taken a block.
    const before = text(file)
    const [large, small] = await Promise.allSettled([appendJsonLines(file, ['x'.repeat(20_000)]), appendJsonLines(file, ['small'])])
    assert.equal(/** @type {any} */ (large).reason?.code, 'ENOSPC')
    assert.equal(small?.status, 'fulfilled')
    assert.equal(text(file), `${before}"small"\n`)
    fs.unlinkSync(filler)
    await appendJsonLines(file, ['x'.repeat(20_000)])
    assert.equal(values(file).length, 3)
  })
})

test('eight processes with two threads each, of which some are killed: no line is lost, torn or among others', { timeout: 120_000 }, async (t) => {
  const file = path.join(newDir(t), 'log.jsonl')
  /** @type {Map<string, number>} */
  const acknowledged = new Map()
  /** @type {{ child: import('node:child_process').ChildProcess, over: Promise<unknown> }[]} */
  const running = []
  let [started, kills] = [0, 0]
  const start = () => {
    const id = started++
    const durability = id % 2 === 0 ? 'none' : 'full'
    const args = JSON.stringify({ file, id, threads: 2, options: { durability, timeout: 60_000 } })
    const child = spawn(process.execPath, [path.join(__dirname, 'programs', 'lines-writer.js'), args], { stdio: ['pipe', 'pipe', 'inherit'] })
    let rest = ''
    child.stdout?.setEncoding('utf8').on('data', (data) => {
      const said = (rest + data).split('\n')
      rest = said.pop() ?? ''
      for (const line of said) {
        const [thread, number] = line.split(' ')
        acknowledged.set(`${id}:${thread}`, Number(number))
      }
    })
    running.push({ child, over: once(child, 'close') })
  }
  t.after(() => running.forEach(({ child }) => child.kill('SIGKILL')))
  while (started < 8) start()
  const since = Date.now()
  while (kills < 24 && Date.now() - since < 40_000) {
    await new Promise((resolve) => setTimeout(resolve, 150))
    if (acknowledged.size < 4) continue
    const [victim] = running.splice((kills * 5) % running.length, 1)
    victim?.child.kill('SIGKILL')
    await victim?.over
    kills++
    start()
  }
  for (const { child } of running) child.stdin?.write('stop')
  await Promise.all(running.map(({ over }) => over))
  // The last one may have been killed in mid-append: this repairs.
  await appendJsonLines(file, ['end'])

  assert.ok(kills >= 3, `${kills} kills`)
  const all = values(file)
  assert.equal(all.pop(), 'end')
  /** @type {Map<string, number>} */
  const seen = new Map()
  for (let at = 0; at < all.length;) {
    const { id, thread, number, count } = all[at]
    const key = `${id}:${thread}`
    assert.equal(number, (seen.get(key) ?? -1) + 1, `${key} is in order`)
    for (let index = 0; index < count; index++, at++) {
      const { id: itsId, thread: itsThread, number: itsNumber, index: itsIndex, pad } = all[at]
      assert.deepEqual([itsId, itsThread, itsNumber, itsIndex, pad.length], [id, thread, number, index, (number * 37 + index * 911) % 3000], 'an append is whole')
    }
    seen.set(key, number)
  }
  for (const [key, number] of acknowledged) {
    const last = seen.get(key) ?? -1
    assert.ok(last === number || last === number + 1, `${key}: ${number} acknowledged, ${last} there`)
  }
})

test('tail -f and jq read a file that grows', { skip: whyNot.linux() }, async (t) => {
  const file = newFile(t, '')
  const tail = spawn('tail', ['-n', '+1', '-f', file])
  t.after(() => tail.kill())
  let shown = ''
  tail.stdout.setEncoding('utf8').on('data', (data) => (shown += data))
  const lines = await openJsonLines(file, { durability: 'none' })
  for (let number = 0; number < 100; number++) await lines.append([{ number }, [number], number])
  const whole = text(file)
  const since = Date.now()
  while (shown.length < whole.length && Date.now() - since < 20_000) await new Promise((resolve) => setTimeout(resolve, 20))
  assert.equal(shown, whole)
  const { stdout, error } = spawnSync('jq', ['-c', '.', file], { encoding: 'utf8' })
  if (error) return
  assert.deepEqual(stdout.trim().split('\n'), Array.from({ length: 100 }, (_, number) => [`{"number":${number}}`, `[${number}]`, `${number}`]).flat())
})

test('other programs that append whole lines are not disturbed', { skip: whyNot.unix(), timeout: 60_000 }, async (t) => {
  const file = newFile(t, '')
  const other = spawn('sh', ['-c', 'i=0; while [ $i -lt 400 ]; do echo "{\\"other\\":$i}" >> "$1"; i=$((i+1)); done', 'sh', file])
  const over = once(other, 'close')
  let [number, isOver] = [0, false]
  void over.then(() => (isOver = true))
  while (!isOver) {
    await appendJsonLines(file, [{ number }, { also: number }], { durability: 'none' })
    number++
  }
  const all = values(file)
  assert.deepEqual(all.flatMap(({ other }) => other ?? []), Array.from({ length: 400 }, (_, index) => index))
  assert.deepEqual(all.flatMap(({ number }) => number ?? []), Array.from({ length: number }, (_, index) => index))
  assert.equal(all.length, 400 + 2 * number)
})

/** A child that holds the lock of a file until it is told to release it. @param {import('node:test').TestContext} t @param {string} file */
async function inChildHolding(t, file) {
  const program = `require(${JSON.stringify(path.join(__dirname, '..'))}).withLock(${JSON.stringify(file)}, async () => { console.log('held'); await require('node:events').once(process.stdin, 'data'); process.stdin.destroy() })`
  const child = spawn(process.execPath, ['-e', program], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  const over = once(child, 'close')
  const held = once(/** @type {import('node:stream').Readable} */ (child.stdout), 'data')
  return { held, release: async () => { child.stdin?.write('x'); await over } }
}
