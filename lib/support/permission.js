'use strict'

// What this process may do with files, where it runs under a permission model: Node's (`--permission`) or Deno's. The addon
// could do all that the user may whom the process belongs to, so it is not asked to do what the model forbids.

const nodePath = require('node:path')

/**
 * How a path is used. `read`: the file alone. `write`: it, and files beside it: temp files, locks, backups. `dir`: what is in
 * the directory. `tree`: a file with those beside it, or what is in a directory.
 *
 * @typedef {'read' | 'write' | 'dir' | 'tree'} Access
 */

/** @typedef {{ has: (scope: string, reference?: string) => boolean }} NodePermission */

/** @typedef {{ permissions: { querySync: (query: { name: string, path: string }) => { state: string } } }} Deno */

/** A name that only a rule for the whole directory allows. */
const ANY = '.holdfast-any'

/**
 * Throws where the process may not use a path so. Nothing has been done then.
 *
 * @param {string} path
 * @param {Access} access
 */
function demand(path, access) {
  const absolute = nodePath.resolve(path)
  const beside = nodePath.join(nodePath.dirname(absolute), ANY)
  const inside = nodePath.join(absolute, ANY)
  if (access === 'read') return refuse(may('read', absolute), 'FileSystemRead', absolute, 'the file')
  const asFile = () => may('write', absolute) && may('write', beside) && may('read', absolute)
  const asDir = () => may('write', inside) && may('read', inside)
  if (access === 'write') refuse(asFile(), 'FileSystemWrite', absolute, 'the directory of the file, where temp files and locks are made')
  else if (access === 'dir') refuse(asDir(), 'FileSystemWrite', absolute, 'the directory')
  else refuse(asFile() || asDir(), 'FileSystemWrite', absolute, 'the directory')
}

/** @param {'read' | 'write'} what @param {string} path */
function may(what, path) {
  // Bytes that are not UTF-8: a permission is asked for with text, which would name another file.
  if (/[\ud800-\udfff]/u.test(path)) return false
  const node = /** @type {{ permission?: NodePermission }} */ (/** @type {unknown} */ (process)).permission
  if (node !== undefined && !node.has(`fs.${what}`, path)) return false
  const { Deno: deno } = /** @type {{ Deno?: Deno }} */ (globalThis)
  return deno === undefined || deno.permissions.querySync({ name: what, path }).state === 'granted'
}

/** @param {boolean} isAllowed @param {string} permission as Node calls it @param {string} resource @param {string} what */
function refuse(isAllowed, permission, resource, what) {
  if (isAllowed) return
  const flag = permission === 'FileSystemRead' ? 'fs-read' : 'fs-write and --allow-fs-read'
  const error = new Error(`Access to this API has been restricted: ${resource}. Use --allow-${flag} (Deno: --allow-read, --allow-write) for ${what}`)
  throw Object.assign(error, { code: 'ERR_ACCESS_DENIED', permission, resource })
}

module.exports = { demand }
