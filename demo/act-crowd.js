'use strict'

const { setTimeout: sleep } = require('node:timers/promises')
const { loadOrBegin, openStore } = require('./plain-stores.js')
const { count } = require('./report.js')
const { Child, newDir } = require('./sandbox.js')
const { isWhole } = require('./session.js')

const MEMBERS = 8
const ID = 'shared'
/** Milliseconds. */
const TIME = 4000
const BETWEEN_KILLS = 150
/** Any lock that is freed by its age alone, and not by the kernel, takes longer than that. */
const LONGEST_PAUSE = 5000

/**
 * @param {import('./report.js').Report} report
 * @returns {Promise<import('./session-store.js').SessionStore>} where the session is, for the next act
 */
async function crowd(report) {
  report.act(
    '3 · Many at once',
    `${MEMBERS} processes add turns to one session file, each as fast as it can, for ${TIME / 1000} s. All the while ` +
      'members are killed with SIGKILL, every other one of them inside an update, and new ones take their places.',
  )
  const { store, members, killed, inUpdate, pause, session } = await work('holdfast', TIME)
  const acknowledged = sum(members, ({ saved }) => saved)
  const owed = members.map((member) => compare(member, session))
  const lost = sum(owed, (own) => own.lost)
  const extra = sum(owed, (own) => own.extra)
  report.check(
    lost === 0 && acknowledged > 0,
    'No acknowledged turn is lost',
    `what ${members.length} processes (${killed} killed, ${inUpdate} of them inside an update) said was saved is looked for in the file`,
    `${count(acknowledged, 'turn')} acknowledged, ${lost.toLocaleString('en-US')} lost`,
  )
  const counted = session.turns.length
  report.check(
    isWhole(session) && extra <= inUpdate && counted === acknowledged + extra && owed.every((own) => own.extra <= 1),
    'The counts add up',
    'turns in the file = acknowledged + at most one for each process that was killed inside an update',
    `${counted.toLocaleString('en-US')} = ${acknowledged.toLocaleString('en-US')} + ${extra} (at most ${inUpdate})`,
  )
  report.check(
    pause < LONGEST_PAUSE,
    'No lock outlives its holder',
    'the longest time in which nobody got a turn acknowledged',
    `${Math.round(pause)} ms`,
  )

  const plain = await work('fs.writeFile', TIME / 2)
  const said = sum(plain.members, ({ saved }) => saved)
  const gone = sum(plain.members, (member) => compare(member, plain.session).lost)
  report.beside(
    'readFile, writeFile',
    `the same processes for ${TIME / 2000} s, ${plain.killed} killed`,
    `${gone.toLocaleString('en-US')} of ${count(said, 'acknowledged turn')} lost: they write over each other, and take half a file for none`,
  )
  return store
}

/**
 * @typedef {object} Member
 * @property {string} by its name
 * @property {number} begun how many turns it has begun to add
 * @property {number} saved how many of them it was told were saved
 * @property {Child} child
 */

/** @param {string} name of the store @param {number} time */
async function work(name, time) {
  const store = openStore(name, newDir())
  /** @type {Member[]} */
  const members = []
  let pause = 0
  /** @type {number | undefined} */
  let last
  /** Gets the next member that is inside an update. @type {((member: Member) => void) | undefined} */
  let aim

  const start = () => {
    const member = { by: `member-${members.length + 1}`, begun: 0, saved: 0, child: undefined }
    member.child = new Child('member.js', [name, store.dir, ID, member.by], {
      onLine([word]) {
        member[word]++
        if (word === 'begun') return aim?.(member)
        const now = performance.now()
        pause = Math.max(pause, now - (last ?? now))
        last = now
      },
    })
    members.push(member)
    return member
  }

  const seats = Array.from({ length: MEMBERS }, start)
  while (last === undefined) await Promise.race([sleep(5), ...seats.map(({ child }) => child.ended)])

  /** Somebody at random, or somebody who holds the lock. @type {(() => Promise<Member>)[]} */
  const choose = [
    async () => seats[Math.floor(Math.random() * MEMBERS)],
    () =>
      new Promise((resolve) => {
        aim = (member) => {
          aim = undefined
          // Now, before it gets any further.
          member.child.kill()
          resolve(member)
        }
      }),
  ]
  const killed = []
  for (const end = Date.now() + time; Date.now() < end; ) {
    await sleep(BETWEEN_KILLS * (0.5 + Math.random()))
    const member = await choose[killed.length % 2]()
    killed.push(member)
    await member.child.kill()
    seats[seats.indexOf(member)] = start()
  }
  await Promise.all(seats.map(({ child }) => child.stop()))
  const session = await loadOrBegin(store, ID)
  const inUpdate = killed.filter(({ begun, saved }) => begun > saved).length
  return { store, members, killed: killed.length, inUpdate, pause, session }
}

/**
 * How what a member was told differs from what is in the file.
 *
 * @param {Member} member
 * @param {import('./session.js').Session} session
 */
function compare({ by, saved }, session) {
  const own = new Set(session.turns.filter((turn) => turn.by === by).map(({ text }) => Number(text)))
  let lost = 0
  for (let number = 1; number <= saved; number++) if (!own.delete(number)) lost++
  return { lost, extra: own.size }
}

/** @template T @param {T[]} items @param {(item: T) => number} number */
function sum(items, number) {
  return items.reduce((total, item) => total + number(item), 0)
}

module.exports = { crowd }
