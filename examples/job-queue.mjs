// A job queue: one process takes jobs into a log, several work on them, any of them may be killed at any moment.
//
// The story: jobs were rows of a JSON array in one file, workers took the first one and wrote the rest back. Two
// workers took the same job, a killed one took it with it, and the file was written anew for each. Here a job is
// acknowledged when it is on the disk. It belongs to a lane, which is a collection of the log; the worker of a lane is
// a consumer, of which there is one at a time: another worker waits for the lane, and has it as soon as that one
// is dead. A job is done again if its worker died before it could say so, so its result gets its file by `createOnly`,
// once. A job that fails again and again is set aside, and does not hold up those behind it.
//
//   node examples/job-queue.mjs
//
// takes jobs, kills workers again and again, and looks whether each job has one result.

import { spawn } from 'node:child_process'
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import readline from 'node:readline'
import { fileURLToPath } from 'node:url'
import { atomicWriteJson, openWal, updateJsonFile } from 'holdfast'

const LANES = ['lane-0', 'lane-1', 'lane-2']
const TRIES = 3

/** @typedef {{ number: number }} Job */

/** What the jobs are about. Each seventieth has a fault that no second try mends. @param {Job} job */
function work({ number }) {
  if (number % 70 === 0) throw new Error(`job ${number} cannot be done`)
  return number * number
}

/** Does the jobs of whatever lane is free, for ever. @param {string} dir */
async function workOn(dir) {
  const reader = await openWal(path.join(dir, 'jobs.wal'), { readOnly: true, codec: 'json' })
  await Promise.all(LANES.map(async (name) => {
    // Waits while another process has this lane.
    const lane = await reader.consumer('worker', name, { timeout: Infinity })
    for await (const { id, payload, sequence } of lane.follow()) {
      await finish(dir, id, payload)
      console.log(id)
      await lane.ack(sequence)
    }
  }))
}

/** @param {string} dir @param {string} id @param {Job} job */
async function finish(dir, id, job) {
  for (;;) {
    try {
      await atomicWriteJson(path.join(dir, 'results', `${id}.json`), { result: work(job) }, { createOnly: true })
      return
    } catch (error) {
      // The worker before this one had done it, and was killed before it could acknowledge it.
      if (error.code === 'EEXIST') return
      // What concerns the disk and not the job ends the worker: the job is the next one's.
      if (error.code !== undefined) throw error
      const { tries } = await updateJsonFile(path.join(dir, 'failed', `${id}.json`), (data) => ({ tries: data.tries + 1, reason: error.message }), { defaultValue: { tries: 0, reason: '' } })
      if (tries >= TRIES) return
    }
  }
}

/**
 * The story, from its beginning to its end.
 *
 * @param {string} dir
 * @param {{ jobs?: number, killEvery?: number }} [options] a worker is killed each time so many jobs have been done
 */
export async function tellStory(dir, { jobs = 280, killEvery = 40 } = {}) {
  await Promise.all(['results', 'failed'].map((name) => mkdir(path.join(dir, name), { recursive: true })))
  const queue = await openWal(path.join(dir, 'jobs.wal'), { codec: 'json' })
  // Nothing is released from now on that was not done, though no worker runs yet.
  for (const lane of LANES) await (await queue.consumer('worker', lane)).close()

  let killed = 0
  let running = true
  let reported = 0
  const done = new Set()
  /** @type {Set<import('node:child_process').ChildProcess>} */
  const workers = new Set()
  /** @param {() => void} finished */
  const start = (finished) => {
    const worker = spawn(process.execPath, [fileURLToPath(import.meta.url), 'work', dir], { stdio: ['ignore', 'pipe', 'inherit'] })
    workers.add(worker)
    readline.createInterface({ input: worker.stdout }).on('line', (id) => {
      done.add(id)
      if (++reported % killEvery === 0) {
        killed++
        worker.kill('SIGKILL')
      }
      if (done.size === jobs) finished()
    })
    worker.on('exit', () => {
      workers.delete(worker)
      if (running) start(finished)
    })
  }
  const finished = new Promise((resolve) => {
    for (let count = 0; count < 2; count++) start(() => resolve(undefined))
  })

  /** @type {Map<string, bigint>} */
  const last = new Map()
  for (let number = 1; number <= jobs; number++) {
    const lane = LANES[number % LANES.length] ?? ''
    const [sequence = 0n] = await queue.append(lane, [{ id: `job-${number}`, op: 'insert', payload: { number } }])
    last.set(lane, sequence)
  }
  await finished
  running = false
  for (const worker of workers) worker.kill('SIGKILL')
  await Promise.all([...workers].map((worker) => new Promise((resolve) => worker.on('exit', resolve))))

  // What was done leaves the log; what was not acknowledged would stay.
  for (const [lane, sequence] of last) await queue.checkpoint(lane, sequence)
  await queue.close()
  const [results, failed] = await Promise.all(['results', 'failed'].map((name) => readdir(path.join(dir, name))))
  const named = (/** @type {string[]} */ names) => names.filter((name) => /^job-\d+\.json$/.test(name)).length
  return { taken: jobs, results: named(results), failed: named(failed), killed }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , command, given] = process.argv
  if (command === 'work') await workOn(given)
  else {
    const dir = await mkdtemp(path.join(os.tmpdir(), 'holdfast-jobs-'))
    const { taken, results, failed, killed } = await tellStory(dir)
    console.log(`${taken} jobs were taken; ${results} have a result and ${failed} were set aside, though ${killed} workers were killed.`)
    await rm(dir, { recursive: true })
    if (results + failed !== taken) process.exitCode = 1
  }
}
