// An index of vectors behind a write-ahead log.
//
// The story: a service kept 5 000 vectors in memory, told its clients that they were stored, and
// had written none of them to disk. After a restart they were gone, and no search ever found
// them. Here a vector is acknowledged when its batch is on the disk; it can be found at once, and
// after a crash.
//
//   node examples/vector-index.mjs
//
// starts a process that inserts 5 000 vectors, kills it with SIGKILL, opens the index again, and
// looks for every one of them.

import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import readline from 'node:readline'
import { fileURLToPath } from 'node:url'
import { openWal } from 'holdfast'

const VECTORS = 5000
const DIMENSIONS = 16
const BATCH = 100
const COLLECTION = 'vectors'

/** Vectors that can be searched, and that are still there after a crash. */
export class VectorIndex {
  #wal
  /** @type {Map<string, Float32Array>} */
  #vectors = new Map()

  /** @param {string} dir */
  static async open(dir) {
    const wal = await openWal(dir)
    const index = new VectorIndex(wal)
    // What was acknowledged before is in the log.
    for await (const { id, op, payload } of wal.replay(COLLECTION)) index.#apply(id, op, payload)
    return index
  }

  /** @param {import('holdfast').Wal} wal */
  constructor(wal) {
    this.#wal = wal
  }

  get size() {
    return this.#vectors.size
  }

  /**
   * All of them or none. They are on the disk when the promise resolves, and can be found.
   *
   * @param {{ id: string, vector: Float32Array }[]} vectors
   */
  async insert(vectors) {
    const entries = vectors.map(({ id, vector }) => ({
      id,
      op: /** @type {const} */ ('insert'),
      payload: new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength),
    }))
    // The log first: a search must not find what could be lost.
    await this.#wal.append(COLLECTION, entries)
    for (const { id, op, payload } of entries) this.#apply(id, op, payload)
  }

  /** @param {string} id @param {string} op @param {Uint8Array | string} payload */
  #apply(id, op, payload) {
    if (op === 'delete') this.#vectors.delete(id)
    else this.#vectors.set(id, new Float32Array(Uint8Array.from(/** @type {Uint8Array} */ (payload)).buffer))
  }

  /**
   * The nearest vectors, the nearest first.
   *
   * @param {Float32Array} query
   * @param {number} count
   */
  search(query, count) {
    /** @type {{ id: string, distance: number }[]} */
    const best = []
    for (const [id, vector] of this.#vectors) {
      const limit = best.length < count ? Infinity : best[count - 1].distance
      let distance = 0
      for (let i = 0; i < vector.length && distance < limit; i++) distance += (vector[i] - query[i]) ** 2
      if (distance >= limit) continue
      const place = best.findIndex((other) => distance < other.distance)
      best.splice(place < 0 ? best.length : place, 0, { id, distance })
      best.length = Math.min(best.length, count)
    }
    return best
  }

  close() {
    return this.#wal.close()
  }
}

/** The vector with this number: the same every time, and no two alike. @param {number} number */
function vectorOf(number) {
  let state = number * 2 + 1
  return Float32Array.from({ length: DIMENSIONS }, () => (state = (state * 48271) % 0x7fffffff) / 0x7fffffff)
}

/** Inserts all vectors, says of each batch when it is acknowledged, and goes on. @param {string} dir */
async function insertAll(dir) {
  const index = await VectorIndex.open(dir)
  for (let first = 0; ; first += BATCH) {
    const vectors = Array.from({ length: BATCH }, (_, i) => ({ id: `vector-${first + i}`, vector: vectorOf(first + i) }))
    await index.insert(vectors)
    console.log(first + BATCH)
  }
}

/**
 * The story, from its beginning to its end.
 *
 * @param {string} dir a directory for the index
 * @returns {Promise<{ acknowledged: number, there: number, found: number }>}
 */
export async function tellStory(dir) {
  // A process that inserts, and is killed in the middle of its work, once 5 000 are acknowledged.
  const service = spawn(process.execPath, [fileURLToPath(import.meta.url), 'insert', dir], { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = new Promise((resolve) => service.once('close', (code, signal) => resolve(signal ?? code)))
  let acknowledged = 0
  for await (const line of readline.createInterface({ input: service.stdout })) {
    acknowledged = Number(line)
    if (acknowledged >= VECTORS) service.kill('SIGKILL')
  }
  const how = await ended
  if (how !== 'SIGKILL') throw new Error(`The service has ended by itself: ${how}`)

  // The restart.
  const index = await VectorIndex.open(dir)
  let found = 0
  for (let number = 0; number < acknowledged; number++) {
    const [nearest] = index.search(vectorOf(number), 1)
    if (nearest?.id === `vector-${number}` && nearest.distance === 0) found++
  }
  const there = index.size
  await index.close()
  return { acknowledged, there, found }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , command, given] = process.argv
  if (command === 'insert') await insertAll(given)
  else {
    const dir = await mkdtemp(path.join(os.tmpdir(), 'holdfast-vectors-'))
    const { acknowledged, there, found } = await tellStory(path.join(dir, 'index.wal'))
    console.log(`${acknowledged} vectors were acknowledged before the process was killed.`)
    console.log(`${there} are in the index after the restart; a search finds ${found} of ${acknowledged}.`)
    await rm(dir, { recursive: true })
    if (found !== acknowledged) process.exitCode = 1
  }
}
