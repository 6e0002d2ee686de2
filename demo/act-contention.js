'use strict'

const { setTimeout: sleep } = require('node:timers/promises')
const { loadOrBegin, openStore } = require('./plain-stores.js')
const { count } = require('./report.js')
const { Child, newDir } = require('./sandbox.js')
const { isWhole } = require('./session.js')

const WRITERS = 8
const ID = 'shared'
/** Milliseconds. */
const TIME = 4000
const BETWEEN_KILLS = 150
/** A lock that is freed by its age, and not by the kernel, takes longer than this. */
const MAX_PAUSE = 5000

/**
 * @param {import('./report.js').Report} report
 * @returns {Promise<import('./session-store.js').SessionStore>} where the session is, for the next act
 */
async function contention(report) {
  report.act(
    '3 · Many at once',
    `${WRITERS} processes add turns to one session file, each as fast as it can, for ${TIME / 1000} s. All the while ` +
      'writers are killed with SIGKILL, every other one of them inside an update, and new ones take their places.',
  )
  const { store, writers, killed, inUpdate, pause, session } = await work('holdfast', TIME)
  const acknowledged = sum(writers, ({ saved }) => saved)
  const differences = writers.map((writer) => compare(writer, session))
  const lost = sum(differences, (own) => own.lost)
  const extra = sum(differences, (own) => own.extra)
  report.check(
    lost === 0 && acknowledged > 0,
    'No acknowledged turn is lost',
    `what ${writers.length} processes (${killed} killed, ${inUpdate} of them inside an update) said was saved is looked for in the file`,
    `${count(acknowledged, 'turn')} acknowledged, ${lost.toLocaleString('en-US')} lost`,
  )
  const counted = session.turns.length
  report.check(
    isWhole(session) && extra <= inUpdate && counted === acknowledged + extra && differences.every((own) => own.extra <= 1),
    'The counts add up',
    'turns in the file = acknowledged + at most one for each process that was killed inside an update',
    `${counted.toLocaleString('en-US')} = ${acknowledged.toLocaleString('en-US')} + ${extra} (at most ${inUpdate})`,
  )
  report.check(
    pause < MAX_PAUSE,
    'No lock outlives its holder',
    'the longest time without an acknowledged turn',
    `${Math.round(pause)} ms`,
  )

  const plain = await work('fs.writeFile', TIME / 2)
  const said = sum(plain.writers, ({ saved }) => saved)
  const gone = sum(plain.writers, (writer) => compare(writer, plain.session).lost)
  report.beside(
    'readFile, writeFile',
    `the same processes for ${TIME / 2000} s, ${plain.killed} killed`,
    `${gone.toLocaleString('en-US')} of ${count(said, 'acknowledged turn')} lost: they write over each other, and take half a file for none`,
  )
  return store
}

/**
 * @typedef {object} Writer
 * @property {string} by its name
 * @property {number} begun how many turns it has started to add
 * @property {number} saved how many of them were acknowledged
 * @property {Child} child
 */

/** @param {string} name of the store @param {number} time */
async function work(name, time) {
  const store = openStore(name, newDir())
  /** @type {Writer[]} */
  const writers = []
  let pause = 0
  /** @type {number | undefined} */
  let last
  /** Called with the next writer that is inside an update. @type {((writer: Writer) => void) | undefined} */
  let onUpdate

  const start = () => {
    const writer = { by: `writer-${writers.length + 1}`, begun: 0, saved: 0, child: undefined }
    writer.child = new Child('writer.js', [name, store.dir, ID, writer.by], {
      onLine([word]) {
        writer[word]++
        if (word === 'begun') return onUpdate?.(writer)
        const now = performance.now()
        pause = Math.max(pause, now - (last ?? now))
        last = now
      },
    })
    writers.push(writer)
    return writer
  }

  const running = Array.from({ length: WRITERS }, start)
  while (last === undefined) await Promise.race([sleep(5), ...running.map(({ child }) => child.ended)])

  /** A process at random, or one that holds the lock. @type {(() => Promise<Writer>)[]} */
  const choose = [
    async () => running[Math.floor(Math.random() * WRITERS)],
    () =>
      new Promise((resolve) => {
        onUpdate = (writer) => {
          onUpdate = undefined
          // At once, while it is inside.
          writer.child.kill()
          resolve(writer)
        }
      }),
  ]
  const killed = []
  for (const end = Date.now() + time; Date.now() < end; ) {
    await sleep(BETWEEN_KILLS * (0.5 + Math.random()))
    const writer = await choose[killed.length % 2]()
    killed.push(writer)
    await writer.child.kill()
    running[running.indexOf(writer)] = start()
  }
  await Promise.all(running.map(({ child }) => child.stop()))
  const session = await loadOrBegin(store, ID)
  const inUpdate = killed.filter(({ begun, saved }) => begun > saved).length
  return { store, writers, killed: killed.length, inUpdate, pause, session }
}

/**
 * How the turns that a writer saw acknowledged differ from those in the file.
 *
 * @param {Writer} writer
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

module.exports = { contention }
