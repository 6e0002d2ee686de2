'use strict'

// Times that more than one file needs, or that no option sets. All are in milliseconds.

/** How long a call waits for a lock, where its options do not say so. */
const DEFAULT_LOCK_TIMEOUT = 10_000

/**
 * How long the end of the process waits for writes that have begun. They take milliseconds; a disk
 * that hangs must not hang the exit.
 */
const EXIT_TIMEOUT = 1000

/**
 * How long a batch of updates goes on starting further ones: then other processes and the event
 * loop have their turn.
 */
const LONGEST_BATCH = 20

module.exports = { DEFAULT_LOCK_TIMEOUT, EXIT_TIMEOUT, LONGEST_BATCH }
