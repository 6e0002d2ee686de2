'use strict'

/** Steps of an iteration: one after another, in the order in which they were asked for. */
class Turns {
  /** @type {Promise<unknown>} */
  #last = Promise.resolve()
  /** How many steps wait or are being made. */
  waiting = 0

  /**
   * @template T
   * @param {() => Promise<T>} step
   * @returns {Promise<T>}
   */
  async take(step) {
    const before = this.#last
    let done = () => {}
    this.#last = new Promise((resolve) => {
      done = () => resolve(undefined)
    })
    this.waiting++
    try {
      await before
      return await step()
    } finally {
      this.waiting--
      done()
    }
  }
}

module.exports = { Turns }
