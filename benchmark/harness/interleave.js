'use strict'

const { summarize } = require('./statistics.js')

/** @typedef {import('./types.js').Candidate} Candidate */
/** @typedef {import('./types.js').RoundBudget} RoundBudget */
/** @typedef {import('./types.js').Row} Row */

/**
 * Measures in rounds: each candidate once in each (A B C, B C A, C A B…), so that a
 * disturbance of the machine affects all alike. The disk is synced before each run.
 *
 * @param {{ plan: { budget: RoundBudget }, disk: { sync: () => void } }} context
 * @param {Candidate[]} candidates
 * @param {RoundBudget} [budget]
 * @returns {Promise<Row[]>}
 */
async function interleave({ plan, disk }, candidates, budget = plan.budget) {
  /** @type {Map<Candidate, number[]>} */
  const samples = new Map(candidates.map((candidate) => [candidate, []]))
  /** @type {Map<Candidate, string>} */
  const failures = new Map()
  const end = performance.now() + budget.seconds * 1000
  for (let round = 0; round <= budget.most; round++) {
    if (round > budget.least && performance.now() > end) break
    for (const candidate of rotated(candidates, round)) {
      if (failures.has(candidate) || round > (candidate.rounds ?? Infinity)) continue
      disk.sync()
      try {
        const microseconds = await candidate.run(round)
        if (round > 0) samples.get(candidate)?.push(microseconds)
      } catch (error) {
        failures.set(candidate, messageOf(error))
      }
    }
  }
  const rows = candidates.map((candidate) => rowOf(candidate, samples.get(candidate) ?? [], failures.get(candidate)))
  for (const candidate of candidates) candidate.close?.()
  return rows
}

/**
 * @param {Candidate} candidate
 * @param {number[]} samples
 * @param {string} [failed]
 * @returns {Row}
 */
function rowOf({ name, guarantee, verify }, samples, failed) {
  const identity = guarantee ? { name, guarantee } : { name }
  if (failed) return { ...identity, failed }
  try {
    const remark = verify()
    return { ...identity, ...summarize(samples), ...(remark ? { remark } : {}) }
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
