'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { setTimeout: sleep } = require('node:timers/promises')
const { openStore } = require('./plain-stores.js')
const { count, mebibytes } = require('./report.js')
const { Child, newDir } = require('./sandbox.js')
const { isWhole } = require('./session.js')

const KILLS = 60
/** Milliseconds after which it is enough, on a machine that is slow. */
const LONGEST = 25_000
/** Milliseconds until the agent is killed, at most, when it has saved everything once. */
const LIFE = 80

const SESSIONS = new Map([['small', 2 ** 20], ['middle', 2 * 2 ** 20], ['large', 4 * 2 ** 20]])

/** @param {import('./report.js').Report} report */
async function crash(report) {
  const sizes = [...SESSIONS.values()].map(mebibytes).join(', ')
  report.act(
    '1 · Crash',
    `An agent keeps ${SESSIONS.size} conversations (${sizes}) going at once and saves each after every turn. It is ` +
      'killed with SIGKILL at a random moment, the files are looked at, it is started again, and so on. At the same ' +
      'time another does all that with fs.writeFile.',
  )

  const [found, plain] = await Promise.all([killAgain('holdfast'), killAgain('fs.writeFile')])
  const how = (/** @type {number} */ kills) => `after each of ${count(kills, 'kill')}, all ${SESSIONS.size} files`
  report.check(
    found.torn === 0 && found.kills > 0,
    'Every session file is whole',
    `${how(found.kills)} are parsed and their turns counted`,
    `${count(found.read, 'file')} read, ${found.torn} torn`,
  )
  report.check(
    found.behind === 0 && found.acknowledged > 0,
    'The last acknowledged turn is there',
    'what the agent said was saved, before it died, is looked for',
    `${count(found.acknowledged, 'turn')} acknowledged, ${found.behind === 0 ? 'none lost' : `gone from ${count(found.behind, 'file')}`}`,
  )
  report.check(
    found.mostTemps <= SESSIONS.size,
    'At most one temp file per running write',
    'after each kill they are counted, and removed',
    `${found.temps} left by ${count(found.kills, 'kill')}, at most ${found.mostTemps} at once`,
  )
  report.beside(
    'fs.writeFile',
    `the same agent, ${how(plain.kills)}`,
    `${plain.torn} of ${count(plain.read, 'file')} torn: a conversation lost each time`,
  )
}

/** @param {string} name of the store */
async function killAgain(name) {
  const store = openStore(name, newDir())
  const result = { kills: 0, read: 0, torn: 0, behind: 0, acknowledged: 0, temps: 0, mostTemps: 0 }
  /** The last turn that has to be in each file. @type {Map<string, number>} */
  const expected = new Map()

  for (const end = Date.now() + LONGEST; result.kills < KILLS && Date.now() < end; ) {
    const agent = await startAgent(name, store.dir, (id, turn) => {
      result.acknowledged++
      expected.set(id, turn)
    })
    await Promise.race([sleep(Math.random() * LIFE), agent.ended])
    await agent.kill()
    result.kills++

    for (const id of SESSIONS.keys()) {
      result.read++
      const session = await load(store, id)
      if (session === undefined) result.torn++
      if (session === undefined || session.turn < expected.get(id)) result.behind++
      // A torn one is begun anew by the next agent.
      expected.set(id, session?.turn ?? 0)
    }
    const temps = fs.readdirSync(store.dir).filter((file) => file.endsWith('.tmp'))
    result.temps += temps.length
    result.mostTemps = Math.max(result.mostTemps, temps.length)
    for (const temp of temps) fs.unlinkSync(path.join(store.dir, temp))
  }
  return result
}

/**
 * Starts an agent, and waits until it has saved each session: from then on, a file that is torn
 * has been torn by this one.
 *
 * @param {string} name of the store
 * @param {string} dir
 * @param {(id: string, turn: number) => void} onSaved
 */
async function startAgent(name, dir, onSaved) {
  /** @type {Child} */
  let agent
  const sessions = [...SESSIONS].map(([id, bytes]) => `${id}=${bytes}`)
  const unsaved = new Set(SESSIONS.keys())
  const ready = new Promise((resolve) => {
    agent = new Child('agent.js', [name, dir, ...sessions], {
      onLine([, id, turn]) {
        onSaved(id, Number(turn))
        unsaved.delete(id)
        if (unsaved.size === 0) resolve(undefined)
      },
    })
  })
  await Promise.race([ready, agent.ended])
  return agent
}

/** The session, unless it is torn or gone. */
async function load(store, id) {
  try {
    const session = await store.load(id)
    return isWhole(session) ? session : undefined
  } catch (error) {
    if (error instanceof SyntaxError || error.code === 'ENOENT') return undefined
    throw error
  }
}

module.exports = { crash }
