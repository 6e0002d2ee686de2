'use strict'

const { spread } = require('./statistics.js')

/**
 * Somebody in one comparison.
 *
 * @typedef {object} Entrant
 * @property {string} name
 * @property {'none' | 'file' | 'full'} [guarantee]
 * @property {(round: number) => Promise<number>} run Round 0 is the warm-up. Gives microseconds per operation.
 * @property {() => string | void} verify Throws when what the last round left is wrong; may give a remark.
 * @property {number} [rounds] Where it is too slow for as many as the others.
 */

/**
 * @typedef {{ name: string, guarantee?: string, remark?: string, failed?: string } & Partial<import('./statistics.js').Spread>} Row
 */

/**
 * @typedef {object} Pace
 * @property {number} rounds At most.
 * @property {number} atLeast Rounds that are made even when the time is over.
 * @property {number} seconds After which no further round is begun.
 */

/**
 * Measures in rounds: each entrant once in each (A B C, B C A, C A B…), so that what
 * disturbs the machine for a while disturbs all alike, and each begins on a settled disk.
 *
 * @param {Entrant[]} entrants
 * @param {Pace} pace
 * @param {() => void} settle
 * @returns {Promise<Row[]>}
 */
async function interleave(entrants, pace, settle) {
  /** @type {Map<Entrant, number[]>} */
  const samples = new Map(entrants.map((entrant) => [entrant, []]))
  /** @type {Map<Entrant, string>} */
  const failures = new Map()
  const end = performance.now() + pace.seconds * 1000
  for (let round = 0; round <= pace.rounds; round++) {
    if (round > pace.atLeast && performance.now() > end) break
    for (const entrant of rotated(entrants, round)) {
      if (failures.has(entrant) || round > (entrant.rounds ?? Infinity)) continue
      settle()
      try {
        const microseconds = await entrant.run(round)
        if (round > 0) samples.get(entrant)?.push(microseconds)
      } catch (error) {
        failures.set(entrant, messageOf(error))
      }
    }
  }
  return entrants.map((entrant) => rowOf(entrant, samples.get(entrant) ?? [], failures.get(entrant)))
}

/**
 * @param {Entrant} entrant
 * @param {number[]} samples
 * @param {string} [failed]
 * @returns {Row}
 */
function rowOf(entrant, samples, failed) {
  const { name, guarantee } = entrant
  const identity = guarantee ? { name, guarantee } : { name }
  if (failed) return { ...identity, failed }
  try {
    const remark = entrant.verify()
    return { ...identity, ...spread(samples), ...(remark ? { remark } : {}) }
  } catch (error) {
    return { ...identity, failed: messageOf(error) }
  }
}

/** @template T @param {T[]} list @param {number} by */
function rotated(list, by) {
  const start = by % list.length
  return [...list.slice(start), ...list.slice(0, start)]
}

/** @param {unknown} error */
function messageOf(error) {
  return error instanceof Error ? error.message : String(error)
}

module.exports = { interleave }
