'use strict'

// Figures that may be made JSON: `JSON.stringify` throws for a bigint.

/**
 * Gives an object, and those in it, a method that JSON.stringify calls, so that sequence numbers become
 * strings of their digits there. It does not show otherwise.
 *
 * @template T
 * @param {T} value
 * @returns {T}
 */
function jsonSafe(value) {
  if (value === null || typeof value !== 'object') return value
  for (const each of Object.values(value)) jsonSafe(each)
  if (!Array.isArray(value)) Object.defineProperty(value, 'toJSON', { value: toJSON, configurable: true, writable: true })
  return value
}

/** The object with sequence numbers as text. @this {object} */
function toJSON() {
  return Object.fromEntries(Object.entries(this).map(([name, value]) => [name, asText(value)]))
}

/** @param {unknown} value @returns {unknown} */
function asText(value) {
  if (Array.isArray(value)) return value.map(asText)
  return typeof value === 'bigint' ? String(value) : value
}

module.exports = { jsonSafe, toJSON }
