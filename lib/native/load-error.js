'use strict'

// Why the addon could not be loaded, in words that are true of the case. What the generated loader says
// blames npm for all of them.

/** What the errors behind an error say: what the loader has tried, the last first. It passes on their texts only. @param {unknown} error */
function reasons(error) {
  /** @type {string[]} */
  const all = []
  for (let each = /** @type {any} */ (error)?.cause; each && all.length < 20; each = each.cause) all.push(String(each.message))
  return all
}

/**
 * The error to throw in place of that of the loader, which is its cause.
 *
 * @param {unknown} error
 * @returns {Error}
 */
function explained(error) {
  const all = reasons(error)
  if (all.some((reason) => /loading addons is disabled/.test(reason))) {
    return coded(
      'holdfast needs its native addon, and this process may not load addons: it was started with --no-addons, or with --permission and without --allow-addons.',
      'ERR_DLOPEN_DISABLED',
      error,
    )
  }
  // Of a library that is there, and that the system does not load: another libc, an older system, a damaged file.
  const refused = all.find((reason) => !/^Cannot find module|^Unsupported |^WASI /.test(reason))
  if (refused !== undefined) return coded(`holdfast's native addon does not load here: ${refused}`, 'ERR_DLOPEN_FAILED', error)
  return coded(
    `holdfast has no native addon for ${process.platform} on ${process.arch} here. It comes in a package of its own, an optional dependency: ` +
      'it is missing if optional dependencies were left out, if the packages were installed on another platform, or if there is none for this one.',
    'MODULE_NOT_FOUND',
    error,
  )
}

/** @param {string} message @param {string} code @param {unknown} cause */
function coded(message, code, cause) {
  return Object.assign(new Error(message, { cause }), { code })
}

module.exports = { explained }
