'use strict'

const { spawn, spawnSync } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { bareSync } = require('./bare.js')
const { beforeExit } = require('./cleanup.js')
const { build } = require('../../scripts/crates.js')
const { measureSyncCost } = require('./sync-cost.js')

/**
 * A mounted file system to measure on.
 *
 * @typedef {object} Disk
 * @property {string} name
 * @property {string} title
 * @property {string} dir An empty directory on it.
 * @property {string} note What it is, with measured costs where it has a device.
 * @property {() => void} sync Writes back all dirty pages, so that no candidate pays for another's.
 * @property {() => void} close
 */

const MEGABYTES = 1536
const FLUSH_MS = 5

/** A disk that cannot be set up here. The message says why. */
class Unavailable extends Error {}

/** @type {Record<string, () => Disk | Promise<Disk>>} */
const disks = { tmpfs, ext4, flush5ms }

/** @returns {Disk} */
function tmpfs() {
  if (process.getuid?.() === 0) {
    const { dir, close } = newMountPoint()
    mount(dir, ['-t', 'tmpfs', '-o', 'size=4g', 'tmpfs'])
    const unmount = beforeExit(() => umount(dir))
    return disk('tmpfs', 'tmpfs', dir, 'a tmpfs of its own', () => {}, [unmount, close])
  }
  if (!fs.existsSync('/dev/shm')) throw new Unavailable('mounting needs root, and there is no /dev/shm')
  const dir = fs.mkdtempSync('/dev/shm/holdfast-benchmark-')
  const close = beforeExit(() => fs.rmSync(dir, { recursive: true }))
  return disk('tmpfs', 'tmpfs', dir, '/dev/shm', () => {}, [close])
}

/** @returns {Disk} */
function ext4() {
  needRoot()
  const { dir, close } = newMountPoint()
  const image = `${dir}.image`
  const backing = fileSystemOf(dir)
  const removeImage = beforeExit(() => fs.rmSync(image, { force: true }))
  // Written out, or the file system below would allocate its blocks during the measurement.
  const zeroes = Buffer.alloc(1 << 23)
  const file = fs.openSync(image, 'wx', 0o600)
  for (let written = 0; written < MEGABYTES << 20; written += zeroes.length) fs.writeSync(file, zeroes)
  fs.fsyncSync(file)
  fs.closeSync(file)
  const unmount = mountImage(image, dir)
  // The loop device keeps the file open; its name is not needed any more.
  removeImage()
  const note = `a fresh ext4 in a file on ${backing}; ${measureSyncCost(dir).text}`
  return disk('ext4', 'ext4', dir, note, () => bareSync('sync', { dir }), [unmount, close])
}

/** @returns {Promise<Disk>} */
async function flush5ms() {
  needRoot()
  if (!fs.existsSync('/dev/fuse')) throw new Unavailable('there is no /dev/fuse')
  const { dir, close } = newMountPoint()
  const below = newMountPoint()
  const stop = await startSlowDisk(below.dir)
  const unmount = mountImage(path.join(below.dir, 'disk'), dir)
  const cost = measureSyncCost(dir)
  if (cost.milliseconds < FLUSH_MS) {
    throw new Unavailable(`a flush of the loop device takes ${cost.milliseconds.toFixed(2)} ms: it does not reach the disk`)
  }
  const note = `ext4 on a disk in memory whose flush takes ${FLUSH_MS} ms; ${cost.text}`
  const steps = [unmount, stop, below.close, close]
  return disk('flush5ms', `${FLUSH_MS} ms flush`, dir, note, () => bareSync('sync', { dir }), steps)
}

/**
 * @param {string} name
 * @param {string} title
 * @param {string} dir
 * @param {string} note
 * @param {() => void} sync
 * @param {(() => void)[]} steps
 * @returns {Disk}
 */
function disk(name, title, dir, note, sync, steps) {
  return { name, title, dir, note, sync, close: () => steps.forEach((step) => step()) }
}

function needRoot() {
  if (process.platform !== 'linux') throw new Unavailable('loop devices need Linux')
  if (process.getuid?.() !== 0) throw new Unavailable('mounting needs root')
}

/** An empty directory to mount on. */
function newMountPoint() {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'holdfast-benchmark-'))
  return { dir, close: beforeExit(() => fs.rmdirSync(dir)) }
}

/**
 * @param {string} image
 * @param {string} dir
 * @returns {() => void} Unmounts it; the loop device goes with the mount.
 */
function mountImage(image, dir) {
  const features = 'lazy_itable_init=0,lazy_journal_init=0,nodiscard'
  command('mkfs.ext4', ['-q', '-F', '-N', '200000', '-E', features, image])
  mount(dir, ['-t', 'ext4', '-o', 'loop,nodiscard', image])
  return beforeExit(() => umount(dir))
}

/**
 * @param {string} dir
 * @returns {Promise<() => void>} Unmounts it and ends its process.
 */
async function startSlowDisk(dir) {
  const words = ['slow', dir, String(MEGABYTES), String(FLUSH_MS * 1000)]
  // In a process group of its own: Ctrl-C must not end the disk below a mounted file system.
  const child = spawn(build('disk'), words, { detached: true, stdio: ['pipe', 'pipe', 'inherit'] })
  child.unref()
  const stop = beforeExit(() => {
    umount(dir)
    child.stdin.destroy()
  })
  await new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', () => reject(new Unavailable('the slow disk could not be mounted')))
    child.stdout.once('data', resolve)
  })
  child.removeAllListeners('exit')
  child.stdout.destroy()
  return stop
}

/** @param {string} dir @param {string[]} words */
function mount(dir, words) {
  command('mount', [...words, dir])
}

/**
 * A process that was just killed may still have files open for a moment.
 *
 * @param {string} dir
 */
function umount(dir) {
  for (let attempt = 0; attempt < 50; attempt++) {
    if (spawnSync('umount', [dir]).status === 0 || !isMounted(dir)) return
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100)
  }
  command('umount', ['--lazy', dir])
}

/** @param {string} dir */
function isMounted(dir) {
  return fs.readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${dir} `)
}

/** @param {string} dir */
function fileSystemOf(dir) {
  const { stdout } = spawnSync('findmnt', ['--noheadings', '--output', 'FSTYPE,SOURCE', '--target', dir], { encoding: 'utf8' })
  return stdout?.trim().replace(/\s+/, ' ') || 'the disk of the temporary directory'
}

/** @param {string} program @param {string[]} words */
function command(program, words) {
  const { error, status, stderr } = spawnSync(program, words, { encoding: 'utf8' })
  if (error || status !== 0) throw new Unavailable(`${program} failed: ${(error?.message ?? stderr).trim()}`)
}

module.exports = { disks, Unavailable }
