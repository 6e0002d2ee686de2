// The types that the parts of the benchmark share.

import type { Disk } from './disks.js'
import type { Plan } from './plan.js'
import type { Summary } from './statistics.js'

/** What an acknowledged write is worth after a power cut: nothing, old or new content whole, the new content. */
export type Guarantee = 'none' | 'file' | 'full'

/** Something that writes files atomically: holdfast, a peer, or the bare system calls. */
export interface Implementation {
  name: string
  guarantee: Guarantee
  /** In `peers/writes/`; without it the bare system calls. */
  module?: string
  /** For its `open`. */
  options?: object
  /** Writes to one file take effect in call order. */
  ordered?: boolean
  /** The command of the bare program for each schedule that it has. */
  bare?: Partial<Record<string, [command: string, values: Record<string, string | number>]>>
}

/** How the operations of one task follow each other. */
export type ScheduleName = 'oneByOne' | 'atOnce' | 'pending'

/** The writes that an implementation is to make in one round. */
export interface WriteTask {
  schedule: ScheduleName
  dir: string
  /** Of the files' names. */
  prefix?: string
  count: number
  size: number
  round: number
  /** All writes go to file number 0. */
  onePath?: boolean
  /** Of the schedule `pending`. */
  limit?: number
}

/** What is measured for one row of a table. */
export interface Candidate {
  name: string
  guarantee?: Guarantee
  /** Round 0 is the warm-up. Resolves with microseconds per operation. */
  run: (round: number) => Promise<number>
  /** Throws when the last round left anything wrong; may return a remark. */
  verify: () => string | void
  /** Ends its processes and removes its files. */
  close?: () => void
  /** Where it is too slow for as many as the others. */
  rounds?: number
}

export interface RoundBudget {
  /** Rounds at most. */
  most: number
  /** Rounds that are made even when the time is over. */
  least: number
  /** After which no further round begins. */
  seconds: number
}

export interface Row extends Partial<Summary> {
  name: string
  guarantee?: Guarantee
  remark?: string
  failed?: string
}

export interface Table {
  /** Unique on its disk. */
  key: string
  title: string
  unit: string
  rows: Row[]
}

/** By disk; `once` for what does not depend on a disk. */
export type Tables = Record<string, Table[]>

export interface Context {
  disk: Disk
  plan: Plan
  workers: { workerFor: (implementation: Implementation) => Promise<{ run: (task: WriteTask) => Promise<number> }> }
  /** Says what could not be measured, and why. */
  skip: (what: string) => void
}

/** Made on each disk. */
export interface Measurement {
  name: string
  measure: (context: Context) => Promise<Table[]>
}

/** Made once. */
export interface Probe {
  name: string
  measure: (context: { quick: boolean }) => Promise<Table[]>
}
