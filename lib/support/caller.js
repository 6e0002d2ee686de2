'use strict'

// Stacks of errors: they begin with the frames of the caller, as those of Node's own errors do.

const nodePath = require('node:path')

/** How many frames of the package a stack has at most, above those of the caller. */
const OWN_FRAMES = 16

/** Where this file is in the package: elsewhere if a bundler has put it into another one, and then no frames are known. */
const SELF = nodePath.join('lib', 'support', 'caller.js')

/** Whether a line of a stack is of the package. @type {RegExp | undefined} */
let ownFrame

/** Errors that were made where the stack had no frame of the caller: in a batch, or when something had been waited for. @type {WeakSet<Error>} */
const withoutCaller = new WeakSet()

/** Whether a line of a stack is Node's, as there are between those of the package. */
const NODE_FRAME = /^ {4}at (?:async )?(?:.* \()?(?:node:|<anonymous>)/

/**
 * The same error with a stack that begins with the frames of the caller, as Node's own errors have it.
 *
 * @template {Error} E
 * @param {E} error one that has just been made
 * @returns {E}
 */
function atCaller(error) {
  const limit = Error.stackTraceLimit
  if (!__filename.endsWith(SELF) || typeof limit !== 'number' || !(limit > 0)) return error
  // Where the limit cannot be changed, the stack is shorter.
  const isRaised = Reflect.set(Error, 'stackTraceLimit', limit + OWN_FRAMES)
  try {
    Error.captureStackTrace(error, atCaller)
  } finally {
    if (isRaised) Reflect.set(Error, 'stackTraceLimit', limit)
  }
  // A program's own `Error.prepareStackTrace` may make anything of it.
  const stack = /** @type {unknown} */ (error.stack)
  if (typeof stack !== 'string') return error
  const begin = stack.indexOf('\n    at ', stack.indexOf(error.message) + error.message.length)
  if (begin < 0) return error
  const home = __filename.slice(0, -SELF.length).replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
  ownFrame ??= new RegExp(`[ (/]${home}(?:(?:lib|compat)[\\\\/]|(?:diagnostics|index|vectra)\\.m?js:)`)
  const frames = stack.slice(begin + 1).split('\n')
  const caller = frames.findIndex((frame) => !ownFrame?.test(frame) && !NODE_FRAME.test(frame))
  if (caller < 0) withoutCaller.add(error)
  const above = caller < 0 ? frames : frames.slice(0, caller)
  const own = above.findLastIndex((frame) => ownFrame?.test(frame)) + 1
  error.stack = [stack.slice(0, begin), ...frames.slice(own, own + limit)].join('\n')
  return error
}

/**
 * The same error, in the async function that the caller has called: if it was made elsewhere it gets its stack here.
 *
 * @template T
 * @param {T} error what a function of the caller has thrown, or what the package says of what that function has made
 * @returns {T}
 */
function passedOn(error) {
  return error instanceof Error && withoutCaller.delete(error) ? atCaller(error) : error
}

module.exports = { atCaller, passedOn }
