'use strict'

/**
 * The orders in which operations are started, the same for every implementation.
 *
 * @type {Record<string, (perform: (item: any) => Promise<unknown>, items: unknown[], limit: number) => Promise<unknown>>}
 */
const schedules = {
  /** Each operation is awaited before the next starts. */
  async oneByOne(perform, items) {
    for (const item of items) await perform(item)
  },

  /** All start in one turn of the event loop. */
  atOnce(perform, items) {
    return Promise.all(items.map(perform))
  },

  /** `limit` are pending at every moment but the last. */
  pending(perform, items, limit) {
    let next = 0
    const chain = async () => {
      while (next < items.length) await perform(items[next++])
    }
    return Promise.all(Array.from({ length: limit }, chain))
  },
}

module.exports = { schedules }
