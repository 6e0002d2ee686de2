'use strict'

// Schemas of any library that follows Standard Schema (`~standard`, version 1).

const { coded, wrongType } = require('./arguments.js')

/** @typedef {import('../../index.js').StandardSchema} StandardSchema */
/** @typedef {import('../../index.js').SchemaIssue} SchemaIssue */

/** @param {unknown} value @param {string} name @returns {StandardSchema} */
function schema(value, name) {
  const isObject = (typeof value === 'object' || typeof value === 'function') && value !== null
  const standard = isObject ? /** @type {any} */ (value)['~standard'] : undefined
  if (typeof standard?.validate !== 'function') throw wrongType(name, 'a schema that follows Standard Schema ("~standard")', value)
  return /** @type {StandardSchema} */ (value)
}

/**
 * What the schema makes of a value, or what is wrong with it.
 *
 * @param {StandardSchema} given
 * @param {unknown} value
 * @returns {Promise<{ value: unknown, issues?: undefined } | { issues: readonly SchemaIssue[] }>}
 */
async function validate(given, value) {
  const result = /** @type {any} */ (await given['~standard'].validate(value))
  if (typeof result !== 'object' || result === null || !(result.issues || 'value' in result)) {
    throw coded(new TypeError('The "schema" option does not follow Standard Schema: its `validate` returned neither a value nor issues'), 'ERR_INVALID_RETURN_VALUE')
  }
  return result.issues ? { issues: [...result.issues] } : { value: result.value }
}

/** The first issues, for people. @param {readonly SchemaIssue[]} issues */
function inWords(issues) {
  const shown = issues.slice(0, 3).map(({ message, path }) => {
    const keys = (path ?? []).map((part) => String(typeof part === 'object' && part !== null ? part.key : part))
    return keys.length > 0 ? `${keys.join('.')}: ${message}` : message
  })
  const more = issues.length - shown.length
  return shown.join('; ') + (more > 0 ? `; and ${more} more` : '')
}

module.exports = { inWords, schema, validate }
