'use strict'

/** @typedef {{ median: number, low: number, high: number, rounds: number }} Summary */

/**
 * Median and quartiles, by linear interpolation between neighbours.
 *
 * @param {number[]} samples
 * @returns {Summary}
 */
function summarize(samples) {
  const sorted = [...samples].sort((a, b) => a - b)
  const at = (/** @type {number} */ quantile) => {
    const position = (sorted.length - 1) * quantile
    const [below, above] = [sorted[Math.floor(position)] ?? NaN, sorted[Math.ceil(position)] ?? NaN]
    return below + (above - below) * (position % 1)
  }
  return { median: at(0.5), low: at(0.25), high: at(0.75), rounds: sorted.length }
}

module.exports = { summarize }
