// A list of things to do, as examples/todo-before.mjs keeps it, with holdfast in the place of proper-lockfile and write-file-atomic.
//
// What is gone: the file that was made so that it could be locked; the lock that a killed process left, for which the
// next one waited ten seconds; retries that do not come in turn; the report of success on a full disk. What differs:
// `add` resolves when a power cut cannot take it back, and a file that another program has cut off is an error that
// says where (EBADJSON), before anything is written over it.
//
// While old and new programs run side by side they must exclude each other: `PROTOCOL=proper-lockfile` locks as the
// old ones do. When the last of them is gone, kernel locks are quicker and leave nothing behind.
//
//   node examples/todo-after.mjs todo.json add 'buy bread'
//   node examples/todo-after.mjs todo.json done 1
//   node examples/todo-after.mjs todo.json list

import { readJsonFile, updateJsonFile, withLock } from 'holdfast'

const [, , file, command, argument] = process.argv

/** @param {(list: { text: string, isDone: boolean }[]) => void} change */
async function update(change) {
  const options = { defaultValue: [], indent: 2, finalNewline: true }
  if (process.env.PROTOCOL !== 'proper-lockfile') return await updateJsonFile(file, change, options)
  return await withLock(file, () => updateJsonFile(file, change, options), { protocol: 'proper-lockfile' })
}

switch (command) {
  case 'add':
    await update((list) => { list.push({ text: argument, isDone: false }) })
    break
  case 'done':
    await update((list) => { list[argument - 1].isDone = true })
    break
  default:
    for (const { text, isDone } of await readJsonFile(file)) console.log(`[${isDone ? 'x' : ' '}] ${text}`)
}
