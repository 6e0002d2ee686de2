'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { WriteFileAtomicStore, openStore } = require('./plain-stores.js')
const { mebibytes } = require('./report.js')
const { Child, mountSmallDisk, newDir } = require('./sandbox.js')
const { newSession } = require('./session.js')

const MIB = 2 ** 20
const DISK = 8 * MIB
const OLD = 2 * MIB
const NEW = 4 * MIB
const ROOM = MIB
const ID = 'conversation'

/** @param {import('./report.js').Report} report */
async function fullDisk(report) {
  if (process.platform === 'win32') {
    report.act('2 · Full disk', 'Windows has neither small disks in memory nor limits on the size of files.')
    report.skip('Full disk', 'not on Windows')
    return
  }
  const disk = openDisk()
  report.act(
    '2 · Full disk',
    `A conversation of ${mebibytes(OLD)} has grown to ${mebibytes(NEW)} and is saved, but ${disk.story}.`,
  )
  if (disk.reason) report.note(`(No small disk: ${disk.reason}. A limit on the size of files does instead.)\n`)

  const store = openStore('holdfast', disk.dir)
  const file = store.fileOf(ID)
  const old = JSON.stringify(newSession(ID, OLD))
  const grown = JSON.stringify(newSession(ID, NEW))
  disk.begin(file, old)

  const { outcome, code, attempts, committed } = await save('holdfast', disk)
  report.check(
    outcome === 'rejected' && code === disk.code && committed === 'false',
    `The save is refused, with ${disk.code}`,
    'the error is looked at',
    outcome === 'rejected' ? `${code}, attempts: ${attempts}, committed: ${committed}` : 'it reports success',
  )
  const left = fs.readFileSync(file, 'utf8')
  report.check(
    left === old,
    'The old file is whole',
    'it is compared with what it was, byte for byte',
    left === old ? `all ${mebibytes(Buffer.byteLength(old))} are the same` : describe(left, grown),
  )
  const others = disk.others()
  report.check(others.length === 0, 'No temp file is left', 'the directory is listed', others.join(', ') || 'none')

  const peers = ['fs.writeFile']
  const { version } = WriteFileAtomicStore
  if (version !== undefined) peers.push('write-file-atomic')
  for (const peer of peers) {
    disk.begin(file, old)
    const { outcome, code } = await save(peer, disk)
    const text = fs.readFileSync(file, 'utf8')
    const said = outcome === 'rejected' ? `rejects with ${code}` : 'reports success'
    const temps = disk.others().length > 0 ? `; left beside it: ${disk.others().join(', ')}` : ''
    const state = text === old ? 'keeps the old file' : `leaves ${describe(text, grown)}`
    report.beside(peer === 'fs.writeFile' ? peer : `${peer} ${version}`, 'the same save', `${said}, and ${state}${temps}`)
  }

  disk.begin(file, old)
  disk.free()
  const again = await save('holdfast', disk)
  const saved = again.outcome === 'resolved' && fs.readFileSync(file, 'utf8') === grown
  report.check(
    saved,
    'With room again, the save works',
    `${disk.freed}, and it is saved once more`,
    saved ? `all ${mebibytes(Buffer.byteLength(grown))} are there` : `${again.outcome} ${again.code ?? 'but not whole'}`,
  )
}

/** A directory where less can be written than is wanted. */
function openDisk() {
  const mounted = mountSmallDisk(DISK)
  const at = mounted.dir ?? newDir()
  const ballast = path.join(at, 'ballast')
  const disk = {
    dir: at,
    reason: mounted.reason,
    isLimited: false,
    /** Removes what others have left, and puts the old file back. */
    begin(file, old) {
      for (const name of disk.others()) fs.unlinkSync(path.join(at, name))
      fs.rmSync(file, { force: true })
      fs.writeFileSync(file, old)
      disk.fill()
    },
    others: () => fs.readdirSync(at).filter((name) => name !== `${ID}.json` && name !== 'ballast'),
  }
  if (mounted.dir === undefined) {
    return Object.assign(disk, {
      code: 'EFBIG',
      story: `no file may be longer than ${mebibytes(ROOM)} (ulimit -f)`,
      freed: 'the limit is taken away',
      fill: () => (disk.isLimited = true),
      free: () => (disk.isLimited = false),
    })
  }
  return Object.assign(disk, {
    code: 'ENOSPC',
    story: `the disk (a tmpfs of ${mebibytes(DISK)}) has room for ${mebibytes(ROOM)} only`,
    freed: 'the ballast is removed',
    fill() {
      fs.rmSync(ballast, { force: true })
      const { bavail, bsize } = fs.statfsSync(at)
      fs.writeFileSync(ballast, Buffer.alloc(bavail * bsize - ROOM))
    },
    free: () => fs.unlinkSync(ballast),
  })
}

/** Saves the grown conversation in a process of its own. */
async function save(store, disk) {
  /** @type {string[]} */
  let answer = []
  // In blocks of 512 bytes, as POSIX has it.
  const under = disk.isLimited ? ['sh', '-c', `ulimit -f ${ROOM / 512} && exec "$@"`, 'sh'] : []
  const child = new Child('save-once.js', [store, disk.dir, ID, String(NEW)], { under, onLine: (words) => (answer = words) })
  await child.ended
  const [outcome, code, attempts, committed] = answer
  return { outcome, code, attempts, committed }
}

/** @param {string} text what is in the file @param {string} grown what should have been */
function describe(text, grown) {
  if (text === grown) return 'the new file, whole'
  const size = `${mebibytes(Buffer.byteLength(text))} of ${mebibytes(Buffer.byteLength(grown))}`
  return grown.startsWith(text) ? `a file cut off after ${size}` : `a file that is neither old nor new (${size})`
}

module.exports = { fullDisk }
