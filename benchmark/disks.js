'use strict'

const { spawn, spawnSync } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { bareSync } = require('./bare.js')
const { beforeExit } = require('./cleanup.js')
const { build } = require('../scripts/crates.js')
const { measureFlush } = require('./flush.js')

/**
 * A place to measure on.
 *
 * @typedef {object} Disk
 * @property {string} name
 * @property {string} title
 * @property {string} dir An empty folder there.
 * @property {string} note What it is, measured where that says more.
 * @property {() => void} settle Writes back all that is waiting, so that nobody pays for another.
 * @property {() => void} close
 */

const MEGABYTES = 1536
const FLUSH_MS = 5

/** A place that cannot be had here. The message says why. */
class Unavailable extends Error {}

/** @type {Record<string, () => Disk | Promise<Disk>>} */
const places = { tmpfs, ext4, flush5ms }

/** @returns {Disk} */
function tmpfs() {
  if (process.getuid?.() === 0) {
    const { dir, close } = folder()
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
  const { dir, close } = folder()
  const image = `${dir}.image`
  const backing = fileSystemOf(dir)
  const removeImage = beforeExit(() => fs.rmSync(image, { force: true }))
  // Written out, or the file system below would have to find its blocks while we measure.
  const zeroes = Buffer.alloc(1 << 23)
  const file = fs.openSync(image, 'wx', 0o600)
  for (let written = 0; written < MEGABYTES << 20; written += zeroes.length) fs.writeSync(file, zeroes)
  fs.fsyncSync(file)
  fs.closeSync(file)
  const unmount = mountImage(image, dir)
  // The loop device holds the file, whose name nobody needs.
  removeImage()
  const note = `a fresh ext4 in a file on ${backing}; ${measureFlush(dir).text}`
  return disk('ext4', 'ext4', dir, note, () => bareSync('settle', { dir }), [unmount, close])
}

/** @returns {Promise<Disk>} */
async function flush5ms() {
  needRoot()
  if (!fs.existsSync('/dev/fuse')) throw new Unavailable('there is no /dev/fuse')
  const { dir, close } = folder()
  const below = folder()
  const stop = await startSlowDisk(below.dir)
  const unmount = mountImage(path.join(below.dir, 'disk'), dir)
  const flush = measureFlush(dir)
  if (flush.milliseconds < FLUSH_MS) {
    throw new Unavailable(`a flush of the loop device takes ${flush.milliseconds.toFixed(2)} ms: it does not reach the disk`)
  }
  const note = `ext4 on a disk in memory whose flush takes ${FLUSH_MS} ms; ${flush.text}`
  const steps = [unmount, stop, below.close, close]
  return disk('flush5ms', `${FLUSH_MS} ms flush`, dir, note, () => bareSync('settle', { dir }), steps)
}

/**
 * @param {string} name
 * @param {string} title
 * @param {string} dir
 * @param {string} note
 * @param {() => void} settle
 * @param {(() => void)[]} steps
 * @returns {Disk}
 */
function disk(name, title, dir, note, settle, steps) {
  return { name, title, dir, note, settle, close: () => steps.forEach((step) => step()) }
}

function needRoot() {
  if (process.platform !== 'linux') throw new Unavailable('loop devices are a thing of Linux')
  if (process.getuid?.() !== 0) throw new Unavailable('mounting needs root')
}

/** An empty folder, for a mount. */
function folder() {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'holdfast-benchmark-'))
  return { dir, close: beforeExit(() => fs.rmdirSync(dir)) }
}

/**
 * @param {string} image
 * @param {string} dir
 * @returns {() => void} Takes it away; the loop device goes with the mount.
 */
function mountImage(image, dir) {
  const features = 'lazy_itable_init=0,lazy_journal_init=0,nodiscard'
  command('mkfs.ext4', ['-q', '-F', '-N', '200000', '-E', features, image])
  mount(dir, ['-t', 'ext4', '-o', 'loop,nodiscard', image])
  return beforeExit(() => umount(dir))
}

/**
 * @param {string} dir
 * @returns {Promise<() => void>} Ends it.
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
 * Whoever has just died may still hold files open for a moment.
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
  return stdout?.trim().replace(/\s+/, ' ') || 'the disk of the temporary folder'
}

/** @param {string} program @param {string[]} words */
function command(program, words) {
  const { error, status, stderr } = spawnSync(program, words, { encoding: 'utf8' })
  if (error || status !== 0) throw new Unavailable(`${program} failed: ${(error?.message ?? stderr).trim()}`)
}

module.exports = { places, Unavailable }
