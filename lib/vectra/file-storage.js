'use strict'

// The storage of the package `vectra`: its interface `FileStorage`, with writes that replace a file whole or not at all.

const fs = require('node:fs/promises')
const path = require('node:path')
const { atomicWrite } = require('../api/atomic-write.js')
const { oneOf, readOwnOptions } = require('../support/arguments.js')

/** The extensions that the package knows. */
const FILE_TYPES = new Set(`
  png jpg jpeg gif bmp tiff tif webp svg heic heif mp4 avi mov wmv flv mkv webm mpg mpeg 3gp mp3 wav flac m4a aac ogg wma aiff alac
  obj fbx stl dae ply 3ds gltf glb zip tar gz 7z rar tgz exe dll bin iso dmg msi deb rpm apk appimage rom efi sqlite sql mdb accdb
  pdf doc docx xls xlsx ppt pptx rtf tex txt csv log md rst js ts jsx tsx py java c cpp cs php go rb rs swift kt dart sh bash ps1 bat
  cmd html css scss sass less xml json yaml yml ini conf cfg env`.split(/\s+/).filter(Boolean))

/** The temp files and lock files of holdfast, which are none of the index (docs/formats.md). */
const OWN_NAME = /^\..+\.(?:[0-9a-f]{16}\.(?:tmp|claim)|lock)$/

const checks = { durability: oneOf('none', 'file', 'full') }

/** @param {string} name */
function fileType(name) {
  const extension = path.extname(name).toLowerCase().slice(1)
  return FILE_TYPES.has(extension) ? extension : undefined
}

/** @param {string} name @param {string} fullPath @param {{ isDirectory(): boolean, isFile(): boolean }} entry @returns {any} */
function details(name, fullPath, entry) {
  return { name, path: fullPath, isFolder: entry.isDirectory(), fileType: entry.isFile() ? fileType(name) : undefined }
}

/** @param {unknown} error */
function isMissing(error) {
  return ['ENOENT', 'ENOTDIR'].includes(/** @type {NodeJS.ErrnoException} */ (error).code ?? '')
}

/** @typedef {import('../../vectra.js').AtomicFileStorage} PublicStorage */

/** @implements {PublicStorage} */
class AtomicFileStorage {
  #root
  #options

  /** @param {string} [rootFolder] @param {import('../../vectra.js').AtomicFileStorageOptions} [options] */
  constructor(rootFolder, options) {
    this.#root = rootFolder
    this.#options = { newFileMode: 0o666, ...readOwnOptions(options, checks, 'AtomicFileStorage') }
  }

  /** @type {PublicStorage['createFile']} */
  async createFile(filePath, content) {
    await atomicWrite(this.#full(filePath), content, { ...this.#options, createOnly: true })
  }

  /** @type {PublicStorage['upsertFile']} */
  async upsertFile(filePath, content) {
    await atomicWrite(this.#full(filePath), content, this.#options)
  }

  /** @type {PublicStorage['readFile']} */
  async readFile(filePath) {
    return /** @type {any} */ (await fs.readFile(this.#full(filePath)))
  }

  /** @type {PublicStorage['deleteFile']} */
  async deleteFile(filePath) {
    const { durability = 'full' } = this.#options
    // Few programs delete: what it needs is loaded by the first that does.
    const { removeFile } = require('../api/remove-file.js')
    // Who changes an index locks its directory: the file has no lock of its own.
    await removeFile(this.#full(filePath), { durability, force: true, followSymlinks: false, lock: false })
  }

  /** @type {PublicStorage['createFolder']} */
  async createFolder(folderPath) {
    await fs.mkdir(this.#full(folderPath), { recursive: true })
  }

  /** @type {PublicStorage['deleteFolder']} */
  async deleteFolder(folderPath) {
    const full = this.#full(folderPath)
    try {
      // Refuses what is no folder: `rm` would remove it.
      await fs.opendir(full).then((dir) => dir.close())
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ENOENT') return
      throw error
    }
    // A writer may add a file meanwhile.
    await fs.rm(full, { recursive: true, force: true, maxRetries: 3 })
  }

  /** @type {PublicStorage['getDetails']} */
  async getDetails(fileOrFolderPath) {
    return details(path.basename(fileOrFolderPath), fileOrFolderPath, await fs.stat(this.#full(fileOrFolderPath)))
  }

  /** @type {PublicStorage['listFiles']} */
  async listFiles(folderPath, filter = 'all') {
    const folder = this.#full(folderPath)
    const all = (await fs.readdir(folder, { withFileTypes: true })).filter(({ name }) => !OWN_NAME.test(name))
    const wanted = filter === 'all' ? all : all.filter((entry) => entry.isDirectory() === (filter === 'folders'))
    return wanted.map((entry) => details(entry.name, path.join(folder, entry.name), entry))
  }

  /** @type {PublicStorage['pathExists']} */
  async pathExists(fileOrFolderPath) {
    try {
      await fs.access(this.#full(fileOrFolderPath))
      return true
    } catch (error) {
      // Where it cannot be seen it may be there: an index would be made in its place.
      if (!isMissing(error)) throw error
      return false
    }
  }

  /** @param {string} relative */
  #full(relative) {
    if (!this.#root) return relative || '.'
    return relative ? path.join(this.#root, relative) : this.#root
  }
}

module.exports = { AtomicFileStorage }
