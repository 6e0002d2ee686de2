'use strict'

// A real file system on a disk whose power can be cut: the disk is `tests/disk`, which records every
// write and flush of the kernel and can go back to what a power cut at any of them may have left.

const { spawn, spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const readline = require('node:readline')
const { build } = require('../scripts/crates.js')
const { cleanUp, newDir, run, whyNot } = require('./system.js')

/** How each is made and mounted. xfs refuses a second mount of one identity, which the kernel may still have in use. */
const ext4 = { type: 'ext4', megabytes: 48, make: ['mkfs.ext4', '-q', '-F', '-E', 'nodiscard'], options: 'loop,nodiscard' }
const xfs = { type: 'xfs', megabytes: 320, make: ['mkfs.xfs', '-q', '-f', '-K'], options: 'loop,nodiscard,nouuid' }
const btrfs = { type: 'btrfs', megabytes: 128, make: ['mkfs.btrfs', '-q', '-f', '-K'], options: 'loop,nodiscard' }
const KINDS = { ext4, xfs, btrfs }
/** Less usual ways to make and mount them. */
const VARIANTS = {
  'ext4, data=writeback': { ...ext4, options: `${ext4.options},data=writeback` },
  'ext4, data=journal': { ...ext4, options: `${ext4.options},data=journal` },
  'btrfs, compressed': { ...btrfs, options: `${btrfs.options},compress-force=zstd` },
}

/** The reason why there can be no such disk here; `false` when there can. */
function whyNoDisk({ type, make }) {
  if (whyNot.mount()) return whyNot.mount()
  if (!fs.existsSync('/dev/fuse')) return 'needs /dev/fuse'
  if (spawnSync('cargo', ['--version']).status !== 0) return 'needs cargo'
  if (spawnSync(make[0], ['--help']).error) return `needs ${make[0]}`
  return !fs.readFileSync('/proc/filesystems', 'utf8').match(new RegExp(`^\\s${type}$`, 'm')) && `this kernel has no ${type}`
}

class RecordedDisk {
  /** @param {typeof ext4} kind */
  static async make(t, kind) {
    const disk = new RecordedDisk(t, kind)
    await disk.ready
    const [command, ...words] = kind.make
    run(command, [...words, path.join(disk.below, 'disk')])
    return disk
  }

  constructor(t, kind) {
    this.kind = kind
    this.below = newDir(t)
    this.at = newDir(t)
    // In a process group of its own: Ctrl-C must not end the disk below a mounted file system.
    this.child = spawn(build('disk'), ['record', this.below, String(kind.megabytes)], { detached: true, stdio: ['pipe', 'pipe', 'inherit'] })
    this.waiting = []
    readline.createInterface({ input: this.child.stdout }).on('line', (line) => this.waiting.shift()?.resolve(line))
    this.child.once('exit', () => this.waiting.forEach(({ reject }) => reject(new Error('the disk is gone'))))
    cleanUp(t, () => {
      for (const place of [this.at, this.below]) spawnSync('umount', ['-l', place], { stdio: 'ignore' })
      this.child.kill('SIGKILL')
    })
    this.ready = this.answer()
  }

  answer() {
    return new Promise((resolve, reject) => this.waiting.push({ resolve, reject }))
  }

  async tell(line) {
    this.child.stdin.write(`${line}\n`)
    const answer = await this.answer()
    if (!/^(ok|\d+)$/.test(answer)) throw new Error(answer)
    return answer
  }

  mount() {
    run('mount', ['-t', this.kind.type, '-o', this.kind.options, path.join(this.below, 'disk'), this.at])
  }

  /** The kernel may keep a closed file in use for a moment. */
  async unmount() {
    for (let attempt = 0; spawnSync('umount', [this.at]).status !== 0; attempt++) {
      if (attempt === 100) run('umount', [this.at])
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  /** Starts recording. */
  record() {
    return this.tell('record')
  }

  /** How many events are recorded so far. */
  async moment() {
    return Number(await this.tell('mark'))
  }

  /**
   * Cuts the power at a moment: of what was not flushed then, all is lost, or kept, or a number
   * decides of each page. The disk must not be mounted.
   *
   * @param {number} moment
   * @param {'lost' | 'kept' | number} unflushed
   */
  cut(moment, unflushed) {
    return this.tell(`cut ${moment} ${unflushed}`)
  }
}

module.exports = { KINDS, RecordedDisk, VARIANTS, whyNoDisk }
