'use strict'

/**
 * A conversation with an agent, as it is kept in a JSON file.
 *
 * @typedef {{ n: number, by: string, text: string }} Turn
 * @typedef {{ id: string, turn: number, turns: Turn[] }} Session `turn` is the number of the
 *   last one: the beginning of the file has to agree with its end
 */

const SENTENCE = 'The agent reads a file, thinks about it, and writes down what it has found. '

/**
 * @param {string} id
 * @param {number} [bytes] how much has been said already, about
 * @returns {Session}
 */
function newSession(id, bytes = 0) {
  const session = { id, turn: 0, turns: [] }
  const text = SENTENCE.repeat(200)
  for (let size = 0; size < bytes; size += text.length) addTurn(session, { by: 'history', text })
  return session
}

/** @param {Session} session @param {{ by: string, text: string }} turn */
function addTurn(session, turn) {
  session.turn += 1
  session.turns.push({ n: session.turn, ...turn })
}

/**
 * @param {Session} session
 * @returns {boolean} whether nothing is missing in it, and nothing is in it twice
 */
function isWhole(session) {
  return session.turns.length === session.turn && session.turns.every(({ n }, index) => n === index + 1)
}

module.exports = { addTurn, isWhole, newSession }
