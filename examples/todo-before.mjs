// A list of things to do, as it was kept before: with proper-lockfile and write-file-atomic. examples/todo-after.mjs is the
// same with holdfast.
//
//   node examples/todo-before.mjs todo.json add 'buy bread'
//   node examples/todo-before.mjs todo.json done 1
//   node examples/todo-before.mjs todo.json list

import { readFile, writeFile } from 'node:fs/promises'
import lockfile from 'proper-lockfile'
import writeFileAtomic from 'write-file-atomic'

const [, , file, command, argument] = process.argv

/** @param {(list: { text: string, isDone: boolean }[]) => void} change */
async function update(change) {
  // The lock needs a file.
  await writeFile(file, '[]', { flag: 'wx' }).catch((error) => {
    if (error.code !== 'EEXIST') throw error
  })
  const release = await lockfile.lock(file, { retries: { retries: 100, minTimeout: 20, maxTimeout: 200 } })
  try {
    const list = JSON.parse(await readFile(file, 'utf8'))
    change(list)
    await writeFileAtomic(file, `${JSON.stringify(list, null, 2)}\n`)
    return list
  } finally {
    await release()
  }
}

switch (command) {
  case 'add':
    await update((list) => { list.push({ text: argument, isDone: false }) })
    break
  case 'done':
    await update((list) => { list[argument - 1].isDone = true })
    break
  default:
    for (const { text, isDone } of JSON.parse(await readFile(file, 'utf8'))) console.log(`[${isDone ? 'x' : ' '}] ${text}`)
}
