'use strict'

// Two machines use one network file system: `two-machines.js a DIR` on the first, `two-machines.js b DIR` on the
// second, in step over a connection of their own. What they find is printed by the first.

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const net = require('node:net')
const path = require('node:path')
const { createInterface } = require('node:readline')
const { setTimeout: sleep } = require('node:timers/promises')
const holdfast = require('../..')

const [, , me, dir] = /** @type {[string, string, 'a' | 'b', string]} */ (/** @type {unknown} */ (process.argv))
const at = (/** @type {string} */ name) => path.join(dir, name)
const timeout = 60_000
const isNfs = fs.statfsSync(dir).type === 0x6969

/** The connection: a line of JSON at a time. */
class Other {
  /** @type {AsyncIterator<string>} */
  #lines
  #socket
  /** @type {any} */
  #outcome

  /** @param {net.Socket} socket */
  constructor(socket) {
    socket.setNoDelay()
    socket.on('error', () => {})
    this.#socket = socket
    this.#lines = createInterface({ input: socket })[Symbol.asyncIterator]()
  }

  static async connect() {
    if (me === 'a') {
      const server = net.createServer().listen(7000, '10.9.0.1')
      const [socket] = await once(server, 'connection')
      server.close()
      return new Other(socket)
    }
    for (;;) {
      const socket = net.connect(7000, '10.9.0.1')
      try {
        await once(socket, 'connect')
        return new Other(socket)
      } catch {
        await sleep(300)
      }
    }
  }

  /** @param {unknown} value */
  tell(value) {
    this.#socket.write(`${JSON.stringify(value)}\n`)
  }

  async #next() {
    const { value, done } = await this.#lines.next()
    if (done) throw new Error('the other machine has ended')
    return JSON.parse(value)
  }

  /** What the other one tells; its outcome comes early only if its part has failed. */
  async hear() {
    const value = await this.#next()
    if (!value?.isOutcome) return value
    this.#outcome = value
    throw new Error('the other machine has failed')
  }

  /** The outcome of the other one's part. @param {object} mine @returns {Promise<{ found?: unknown, error?: string }>} */
  async exchange(mine) {
    this.tell({ ...mine, isOutcome: true })
    let outcome = this.#outcome
    this.#outcome = undefined
    while (!outcome?.isOutcome) outcome = await this.#next()
    return outcome
  }

  /** Waits until both are here. @param {unknown} [value] what the other one gets */
  meet(value = null) {
    this.tell(value)
    return this.hear()
  }
}

/** @type {Other} */
let other
let failures = 0

/**
 * Both do their part; the first prints what came of it.
 *
 * @param {string} name
 * @param {{ a: () => unknown, b: () => unknown }} parts
 */
async function step(name, parts) {
  await other.meet()
  /** @type {{ found?: unknown, error?: string }} */
  let mine
  try {
    mine = { found: await parts[me]() }
  } catch (error) {
    const { code, message, hint } = /** @type {holdfast.SessionFileError} */ (error)
    mine = { error: `${code ?? ''} ${message} ${hint ?? ''}` }
  }
  const theirs = await other.exchange(mine)
  const isGood = !mine.error && !theirs.error
  if (!isGood) failures++
  if (me === 'a') console.log(`${name}: ${isGood ? 'ok' : 'FAILED'} ${JSON.stringify({ a: mine.error ?? mine.found, b: theirs.error ?? theirs.found })}`)
}

const both = (/** @type {() => unknown} */ part) => ({ a: part, b: part })
const increment = (/** @type {{ n: number }} */ data) => void data.n++

async function main() {
  other = await Other.connect()
  await step('updates, 8 and 8', both(async () => {
    for (let i = 0; i < 8; i++) await holdfast.updateJsonFile(at('updates.json'), increment, { defaultValue: { n: 0 }, timeout })
  }))
  await step('none of them is lost', both(() => assert.deepEqual(JSON.parse(fs.readFileSync(at('updates.json'), 'utf8')), { n: 16 })))
  await step('locks exclude each other, 6 and 6', both(async () => {
    for (let i = 0; i < 6; i++) {
      await holdfast.withLock(at('section'), async () => {
        fs.writeFileSync(at('inside'), me, { flag: 'wx' })
        await sleep(25)
        fs.unlinkSync(at('inside'))
      }, { timeout })
    }
  }))
  await step('the holder is seen', {
    a: async () => {
      const lock = await holdfast.acquireLock(at('held'))
      await other.meet()
      await other.meet()
      await lock.release()
    },
    b: async () => {
      await other.meet()
      const { locked } = await holdfast.isLocked(at('held'))
      const taken = await holdfast.tryAcquireLock(at('held'))
      await other.meet()
      assert.deepEqual([locked, taken], [true, null])
    },
  })
  await step('a lock that is released comes over (ms)', {
    a: async () => {
      for (let i = 0; i < 5; i++) {
        const lock = await holdfast.acquireLock(at('over'), { timeout })
        await other.meet()
        await sleep(300)
        await lock.release()
        other.tell('released')
        await other.hear()
      }
    },
    b: async () => {
      const took = []
      for (let i = 0; i < 5; i++) {
        await other.meet()
        const waits = holdfast.acquireLock(at('over'), { timeout })
        assert.equal(await other.hear(), 'released')
        const begun = Date.now()
        await (await waits).release()
        took.push(Date.now() - begun)
        other.tell('had it')
      }
      return took
    },
  })
  await step('the lock of a killed process comes over (ms)', {
    a: async () => {
      const program = `require(${JSON.stringify(path.join(__dirname, '..', '..'))}).acquireLock(${JSON.stringify(at('killed'))}).then(() => console.log('held')); setInterval(() => {}, 1000)`
      const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
      await once(child.stdout, 'data')
      await other.meet()
      await sleep(500)
      child.kill('SIGKILL')
      await once(child, 'exit')
      await other.meet()
    },
    b: async () => {
      await other.meet()
      const waits = holdfast.acquireLock(at('killed'), { timeout })
      await other.meet()
      const begun = Date.now()
      await (await waits).release()
      return Date.now() - begun
    },
  })
  // A client may remember for a moment to which file a name led; under a lock it looks anew. One of CIFS goes on
  // with the file that it has read until the server takes it back, so there it is only told.
  await step('what one has written the other reads, at the latest after (ms)', {
    a: async () => {
      for (let i = 0; i < 6; i++) {
        await holdfast.atomicWrite(at('written'), `content ${i}`)
        await other.meet()
        await other.meet()
      }
    },
    b: async () => {
      let latest = 0
      for (let i = 0; i < 6; i++) {
        await other.meet()
        const begun = Date.now()
        while (fs.readFileSync(at('written'), 'utf8') !== `content ${i}` && Date.now() - begun < 5000) await sleep(10)
        latest = Math.max(latest, Date.now() - begun)
        const content = fs.readFileSync(at('written'), 'utf8')
        await other.meet()
        if (isNfs) assert.equal(content, `content ${i}`)
      }
      return latest
    },
  })
  await step('transactions on two files, 3 and 3', both(async () => {
    for (let i = 0; i < 3; i++) {
      await holdfast.transaction([at('one.json'), at('two.json')], async (tx) => {
        for (const name of ['one.json', 'two.json']) await tx.updateJson(at(name), increment, { defaultValue: { n: 0 } })
      }, { timeout })
    }
  }))
  await step('all of them are there', both(() => {
    for (const name of ['one.json', 'two.json']) assert.deepEqual(JSON.parse(fs.readFileSync(at(name), 'utf8')), { n: 6 })
  }))
  await step('a log has one writer, and the other one reads it', {
    a: async () => {
      const log = await holdfast.openWal(at('log'))
      await log.append('entries', [{ id: 'first', op: 'insert', payload: 'x' }])
      await other.meet()
      await other.meet()
      await log.close()
    },
    b: async () => {
      await other.meet()
      const refused = await holdfast.openWal(at('log'), { timeout: 1000 }).then(() => 'opened', ({ code }) => code)
      const reader = await holdfast.openWal(at('log'), { readOnly: true })
      const ids = []
      for await (const { id } of reader.replay('entries')) ids.push(id)
      await reader.close()
      await other.meet()
      assert.deepEqual([refused, ids], ['ELOCKED', ['first']])
    },
  })
  await step('nothing is left', both(() => {
    assert.deepEqual(fs.readdirSync(dir).filter((name) => /\.(tmp|claim|prepared|intent)$|^\.nfs/.test(name)), [])
  }))
  await other.meet()
  process.exit(failures ? 1 : 0)
}

void main()
