'use strict'

// Calls every function on file systems that the kernel of this machine may not have, in a small machine with Debian's
// kernel; on network file systems, from two machines, too. Debian on x64; takes 10 to 20 minutes where the machine is emulated.
//
//   npm run test:machine                     all of them
//   npm run test:machine -- vfat 'two nfs'   some of them
//   npm run test:machine -- --list

const { spawn } = require('node:child_process')
const path = require('node:path')

const LOCAL = ['vfat', 'exfat', 'ntfs3', 'f2fs', 'f2fs-casefold', 'jfs', 'ext2', 'ext4-casefold', 'xfs', 'btrfs', 'overlay']
const NETWORK = ['nfs', 'nfs40', 'nfs3', 'cifs']
const ALL = [...LOCAL, ...NETWORK, ...NETWORK.map((name) => `two ${name}`)]

const node = JSON.stringify(process.execPath)
const program = (/** @type {string[]} */ ...names) => JSON.stringify(path.join(__dirname, ...names))

/** @param {string} which @returns {string[]} */
function machine(which) {
  const [kind, name] = which.startsWith('two ') ? ['pair', which.slice(4)] : ['run', which]
  // The first of two machines is the one that has the server, and a client of it like the other one's.
  if (kind === 'pair') return [kind, name, ...['a', 'b'].map((me) => `${node} ${program('two-machines.js')} ${me} /mnt/odd`)]
  const programs = [program('..', 'programs', 'every-function.js'), program('case-and-mode.js')]
  return [kind, name, programs.map((each) => `${node} ${each} /mnt/odd`).join(' && ')]
}

/** @param {string} which @returns {Promise<boolean>} whether all did what it should */
function run(which) {
  return new Promise((resolve, reject) => {
    const begun = Date.now()
    const child = spawn(path.join(__dirname, 'machine.sh'), machine(which), { cwd: path.join(__dirname, '..', '..'), stdio: ['ignore', 'pipe', 'inherit'] })
    child.stdout.setEncoding('utf8')
    let rest = ''
    child.stdout.on('data', (text) => {
      const lines = (rest + text).split(/\r?\n/)
      rest = lines.pop() ?? ''
      for (const line of lines) console.log(`  ${line}`)
    })
    child.on('error', reject)
    child.on('close', (code) => {
      if (rest) console.log(`  ${rest}`)
      console.log(`${code === 0 ? '✓' : '✗'} ${which} (${Math.round((Date.now() - begun) / 1000)} s)`)
      resolve(code === 0)
    })
  })
}

async function main() {
  const args = process.argv.slice(2)
  if (args.includes('--list')) return console.log(ALL.join('\n'))
  const unknown = args.filter((name) => !ALL.includes(name))
  if (unknown.length) throw new Error(`no such file system: ${unknown.join(', ')}; there are ${ALL.join(', ')}`)
  const failed = []
  for (const which of args.length ? args : ALL) if (!(await run(which))) failed.push(which)
  if (failed.length) {
    console.log(`✗ ${failed.join(', ')}`)
    process.exitCode = 1
  }
}

void main()
