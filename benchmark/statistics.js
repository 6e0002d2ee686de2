'use strict'

/** @typedef {{ median: number, low: number, high: number, rounds: number }} Spread */

/**
 * Median and quartiles, by linear interpolation between neighbours.
 *
 * @param {number[]} samples
 * @returns {Spread}
 */
function spread(samples) {
  const sorted = [...samples].sort((a, b) => a - b)
  const at = (/** @type {number} */ share) => {
    const place = (sorted.length - 1) * share
    const [below, above] = [sorted[Math.floor(place)] ?? NaN, sorted[Math.ceil(place)] ?? NaN]
    return below + (above - below) * (place % 1)
  }
  return { median: at(0.5), low: at(0.25), high: at(0.75), rounds: sorted.length }
}

module.exports = { spread }
