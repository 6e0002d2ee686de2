// A chat in the terminal that can be resumed: by several terminals at once, after a kill, and after a release that kept its sessions
// in another form.
//
// The story: the whole session was one JSON file, read at the start and written after each turn. Two terminals with one
// session overwrote each other's turns, a full disk left half a file, and a session of the release before could not be
// opened. Here each turn is appended to a transcript of JSON lines, which `tail -f` and `jq` can read, and is there, both
// lines of it, before the answer is shown. The session's own file has its title and the form that it is in.
//
//   node examples/chat.mjs hello                     begins a session, says its name
//   node examples/chat.mjs --resume NAME and now?    goes on with it
//   node examples/chat.mjs --list
//
// Sessions are in ./chats, or where CHATS leads.

import { randomUUID } from 'node:crypto'
import { mkdir, readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { atomicWriteJson, createBackup, openJsonLines, readJsonFile, recoverFromCrash, restoreLatest, transaction, updateJsonFile } from 'holdfast'

/** The form of sessions. The one before had `{ messages: [question, answer, question…] }` in one file. */
const VERSION = 2

/** @typedef {{ version: number, title: string, turns: number }} Session */
/** @typedef {{ role: 'user' | 'assistant', text: string }} Turn */

/** What stands for the model. @param {string} question @param {number} number */
const answerTo = (question, number) => `That was question ${number}: ${question}`

/** @param {string} dir @param {string} name */
const filesOf = (dir, name) => ({ session: path.join(dir, `${name}.json`), transcript: path.join(dir, `${name}.jsonl`) })

/** What a crash has left, and a session that something else has cut off, of which there is a backup. @param {string} dir @param {string} name */
async function recover(dir, name) {
  const { session } = filesOf(dir, name)
  await recoverFromCrash(dir)
  try {
    await readJsonFile(session)
  } catch (error) {
    if (error.code !== 'EBADJSON' && error.code !== 'EEMPTYJSON') throw error
    const { backup } = await restoreLatest(session, { validate: 'json' })
    console.error(`The session was damaged (${error.code}); it is the one of ${backup.createdAt.toISOString()} again.`)
  }
}

/** Brings a session of the release before to the form of this one: both files change together or not at all. @param {string} dir @param {string} name */
async function migrate(dir, name) {
  const { session, transcript } = filesOf(dir, name)
  if ((await readJsonFile(session)).version === VERSION) return
  await createBackup(session)
  await transaction([session, transcript], async (tx) => {
    const old = JSON.parse(await tx.read(session, 'utf8'))
    // Another terminal was faster.
    if (old.version === VERSION) return
    const lines = old.messages.map((/** @type {string} */ text, /** @type {number} */ at) => `${JSON.stringify({ role: at % 2 ? 'assistant' : 'user', text })}\n`)
    await tx.write(transcript, lines.join(''))
    await tx.write(session, JSON.stringify({ version: VERSION, title: old.messages[0] ?? '', turns: Math.ceil(lines.length / 2) }))
  })
}

/**
 * One question and its answer.
 *
 * @param {string} dir
 * @param {string} question
 * @param {string} [resumed] the name of the session to go on with
 */
export async function say(dir, question, resumed) {
  const name = resumed ?? randomUUID()
  const { session, transcript } = filesOf(dir, name)
  if (resumed === undefined) await atomicWriteJson(session, { version: VERSION, title: question, turns: 0 }, { createOnly: true })
  else {
    await recover(dir, name)
    await migrate(dir, name)
    // Three of the last, and one of each day of the last week, and none that would be the same.
    await createBackup(session, { onlyIfChanged: true, keep: { last: 3, daily: 7 } })
  }
  const lines = await openJsonLines(transcript)
  try {
    const { turns } = await updateJsonFile(session, (data) => {
      data.turns++
    })
    const answer = answerTo(question, turns)
    await lines.append([{ role: 'user', text: question }, { role: 'assistant', text: answer }])
    return { name, answer }
  } finally {
    await lines.close()
  }
}

/** @param {string} dir @param {string} name @returns {Promise<Turn[]>} */
export async function transcriptOf(dir, name) {
  const lines = await openJsonLines(filesOf(dir, name).transcript)
  try {
    const found = []
    for await (const { value } of lines.read()) found.push(value)
    return found
  } finally {
    await lines.close()
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const dir = process.env.CHATS ?? 'chats'
  await mkdir(dir, { recursive: true })
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { resume: { type: 'string' }, list: { type: 'boolean' } } })
  if (values.list) {
    for (const file of await readdir(dir)) {
      if (file.endsWith('.json') && !file.startsWith('.')) console.log(path.basename(file, '.json'), JSON.parse(await readFile(path.join(dir, file), 'utf8')).title)
    }
  } else {
    const { name, answer } = await say(dir, positionals.join(' '), values.resume)
    console.log(answer)
    if (values.resume === undefined) console.log(`Go on with --resume ${name}`)
  }
}
