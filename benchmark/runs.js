'use strict'

/** @typedef {{ path: string, data: Buffer }} Item */

/**
 * The ways of doing the work, the same for everybody.
 *
 * @type {Record<string, (write: (path: string, data: Buffer) => Promise<unknown>, work: Item[], limit: number) => Promise<unknown>>}
 */
const runs = {
  /** Each write is awaited before the next begins. */
  async oneByOne(write, work) {
    for (const { path, data } of work) await write(path, data)
  },

  /** All are begun in one turn of the event loop. */
  atOnce(write, work) {
    return Promise.all(work.map(({ path, data }) => write(path, data)))
  },

  /** `limit` are pending at every moment but the last. */
  pending(write, work, limit) {
    let next = 0
    const lane = async () => {
      for (let item = work[next++]; item; item = work[next++]) await write(item.path, item.data)
    }
    return Promise.all(Array.from({ length: limit }, lane))
  },
}

module.exports = { runs }
