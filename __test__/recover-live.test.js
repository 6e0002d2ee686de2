'use strict'

// Recovery beside processes that write, update, back up, restore and commit in the same directory, while
// these are killed and restarted: nothing live is removed, and nothing orphaned stays.

const { test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { setTimeout } = require('node:timers/promises')
const { atomicWrite, recoverFromCrash } = require('../index.js')
const { Program, fastDir, temps, whyNot } = require('./system.js')

const PROCESSES = 8
const SECONDS = 20

test(`recovery for ${SECONDS} s beside ${PROCESSES} processes that are killed at any moment`, { skip: whyNot.unix() }, async (t) => {
  const dir = fastDir(t)
  const file = (name) => path.join(dir, name)
  await atomicWrite(file('counter.json'), '{"count":0}')
  await atomicWrite(file('shared.json'), '{"value":0}')
  for (const name of ['pair-a.json', 'pair-b.json']) await atomicWrite(file(name), '{"count":0}')

  const starts = Array.from({ length: PROCESSES }, () => 0)
  const owns = Array.from({ length: PROCESSES }, () => 0)
  let [counted, committed, kills, removed, promoted] = [0, 0, 0, 0, 0]
  const start = (number) => {
    const first = ++starts[number] * 1_000_000
    return new Program(t, 'mixed-operations.js', { args: [JSON.stringify({ dir, number, first })] })
  }
  /** Counts the output of a program. */
  const listen = (number, lines) => {
    for (const { own, counted: one, committed: two, error } of lines.splice(0)) {
      assert.equal(error, undefined)
      if (own) owns[number] = own
      if (one) counted += one
      if (two) committed += two
    }
  }
  const kill = async (number) => {
    programs[number].kill()
    const { lines, signal } = await programs[number].outcome()
    assert.equal(signal, 'SIGKILL')
    kills++
    listen(number, lines)
  }

  const programs = owns.map((_, number) => start(number))
  await Promise.all(programs.map((program) => program.next().then((line) => program.lines.unshift(line))))
  const end = Date.now() + SECONDS * 1000
  for (let round = 0; Date.now() < end; round++) {
    await setTimeout(100)
    const number = (round * 5) % PROCESSES
    await kill(number)
    programs[number] = start(number)
    programs.forEach((program, number) => listen(number, program.lines))
    for (const options of [{ minAge: 0 }, { minAge: 0, promote: true, legacy: true, recursive: true }]) {
      const { actions, complete } = await recoverFromCrash(dir, options)
      assert.ok(complete, JSON.stringify(actions))
      removed += actions.filter(({ action }) => action === 'removed').length
      promoted += actions.filter(({ action }) => action === 'promoted').length
    }
    await recoverFromCrash(file('counter.json'), { minAge: 0, timeout: 60_000 })
  }
  await Promise.all(programs.map((_, number) => kill(number)))

  // A backup that was being copied may be promoted; a process that died left it.
  await recoverFromCrash(dir, { minAge: 0, promote: true })
  assert.deepEqual(temps(dir), [], 'nothing orphaned stays')
  const names = fs.readdirSync(dir).filter((name) => !name.endsWith('.lock'))
  const known = /^(counter|shared|pair-[ab]|own-\d|copy-\d)\.json$|^shared\.json\.\d+\.backup$/
  assert.deepEqual(names.filter((name) => !known.test(name)), [])
  for (const name of names) JSON.parse(fs.readFileSync(file(name), 'utf8'))
  owns.forEach((own, number) => {
    if (own === 0) return
    const { value, filler } = JSON.parse(fs.readFileSync(file(`own-${number}.json`), 'utf8'))
    assert.ok(value >= own, `own-${number}.json has ${value}, and ${own} was acknowledged`)
    assert.equal(filler.length, (value * 7919) % 20_000)
  })
  // An update may have been made and its process killed before it could report it.
  const { count } = JSON.parse(fs.readFileSync(file('counter.json'), 'utf8'))
  assert.ok(count >= counted && count <= counted + kills, `${count} of ${counted} updates that were acknowledged`)
  // Both files of a pair change, or none.
  const [first, second] = ['pair-a.json', 'pair-b.json'].map((name) => JSON.parse(fs.readFileSync(file(name), 'utf8')).count)
  assert.equal(first, second)
  assert.ok(first >= committed && first <= committed + kills, `${first} of ${committed} transactions that were acknowledged`)
  t.diagnostic(`${kills} kills, ${removed} orphans removed and ${promoted} promoted by this process alone, ${counted} updates acknowledged, ${count} made, ${committed} transactions, ${first}`)
  assert.ok(kills > 10 && counted > 0)
})
