'use strict'

/**
 * `memory.js <implementation> <options> <dir>`: the peak memory of a process that writes one
 * Buffer of 256 MiB, less what it had before the Buffer was made, as a multiple of its size.
 */

const fs = require('node:fs')
const { filePath } = require('../../harness/payload.js')

const SIZE = 256 << 20

/** @param {'VmHWM' | 'VmRSS'} name */
function status(name) {
  const line = fs.readFileSync('/proc/self/status', 'utf8').split('\n').find((one) => one.startsWith(`${name}:`))
  return Number(line?.match(/\d+/)?.[0]) * 1024
}

async function main() {
  const [, , module = '', options = '{}', dir = ''] = process.argv
  const { write } = await require(`../../peers/writes/${module}.js`).open(JSON.parse(options))
  // Threads and code are there before the memory is counted.
  for (let index = 0; index < 20; index++) await write(filePath(dir, index), Buffer.alloc(1 << 16, 1))
  const before = status('VmRSS')
  const data = Buffer.alloc(SIZE, 1)
  // Forgets the peak that there has been so far.
  fs.writeFileSync('/proc/self/clear_refs', '5')
  await write(filePath(dir, 20), data)
  const peak = status('VmHWM')
  if (fs.statSync(filePath(dir, 20)).size !== SIZE) throw new Error('the file is not whole')
  console.log(JSON.stringify({ ratio: (peak - before) / SIZE }))
}

main()
