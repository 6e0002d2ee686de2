'use strict'

// Reads which files of the project import which, in Rust and in JavaScript, for
// architecture.test.js. It understands what this project writes, not all of either language:
// items begin at the first column, and modules are files.

const fs = require('node:fs')
const path = require('node:path')

/**
 * @typedef {object} Import
 * @property {string} from the importing file, from the root of the project, with slashes
 * @property {string} to the file that has what is imported
 * @property {number} line where it is imported
 * @property {string} name what is imported
 */

/**
 * @typedef {object} Module a Rust module that is a file
 * @property {string} file
 * @property {Module | undefined} parent
 * @property {Map<string, Module>} children
 * @property {string} code its text without comments, literals and tests
 * @property {Use[]} uses
 * @property {Set<string>} items the names of the items that it defines
 */

/**
 * @typedef {object} Use one name that a `use` brings in
 * @property {string[]} segments
 * @property {string} name the name that it gets; `*` for all
 * @property {boolean} isPublic
 * @property {number} line
 */

/** The text with spaces instead of what `pattern` matches; lines keep their numbers. @param {string} text @param {RegExp} pattern */
function blank(text, pattern) {
  return text.replace(pattern, (found) => found.replace(/[^\n]/g, ' '))
}

/** Rust code without comments, literals and everything that is compiled for tests only. @param {string} text */
function rustCode(text) {
  const literals = /\/\/[^\n]*|\/\*(?:[^*]|\*(?!\/))*\*\/|\bb?r(#*)"[^]*?"\1|b?"(?:[^"\\]|\\[^])*"|b?'(?:[^'\\\n]|\\(?:u\{[^}]*\}|x..|.))'/g
  let code = blank(text, literals)
  const test = /^[ \t]*#\[cfg\((?:all\()?test\b[^\]]*\]/m
  for (let found = test.exec(code); found; found = test.exec(code)) {
    const end = endOfItem(code, found.index + found[0].length)
    code = code.slice(0, found.index) + blank(code.slice(found.index, end), /[^]+/) + code.slice(end)
  }
  return code
}

/** Where the item that begins at `start` ends: behind its semicolon, or its last brace. @param {string} code @param {number} start */
function endOfItem(code, start) {
  let depth = 0
  for (let at = start; at < code.length; at++) {
    const char = code.charAt(at)
    if ('{(['.includes(char)) depth++
    if ('})]'.includes(char)) depth--
    if (depth === 0 && (char === ';' || char === '}')) return at + 1
  }
  return code.length
}

/** @param {string} text @param {number} index */
const lineAt = (text, index) => text.slice(0, index).split('\n').length

/** The parts of a list between its commas, those in braces left together. @param {string} list */
function splitList(list) {
  /** @type {string[]} */
  const parts = []
  let depth = 0
  let part = ''
  for (const char of list) {
    if (char === '{') depth++
    if (char === '}') depth--
    if (char === ',' && depth === 0) {
      parts.push(part)
      part = ''
    } else part += char
  }
  return [...parts, part].map((each) => each.trim()).filter((each) => each !== '')
}

/** The names of a `use`, each with its whole path. @param {string} tree @param {string[]} [before] @returns {{ segments: string[], name: string }[]} */
function useTree(tree, before = []) {
  const group = /^((?:\w+\s*::\s*)*)\{([^]*)\}$/.exec(tree.trim())
  if (group) {
    const prefix = [...before, ...(group[1] ?? '').split('::').map((each) => each.trim()).filter((each) => each !== '')]
    return splitList(group[2] ?? '').flatMap((part) => useTree(part, prefix))
  }
  const [whole = '', alias] = tree.trim().split(/\s+as\s+/)
  const segments = [...before, ...whole.split('::').map((each) => each.trim()).filter((each) => each !== '')]
  // `a::{self}` is `a`.
  if (segments.at(-1) === 'self' && segments.length > 1) segments.pop()
  return [{ segments, name: alias ?? segments.at(-1) ?? '' }]
}

/** @param {string} code */
function usesOf(code) {
  /** @type {Use[]} */
  const uses = []
  for (const found of code.matchAll(/^[ \t]*(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);/gm)) {
    const line = lineAt(code, found.index + found[0].length - found[0].trimStart().length)
    for (const each of useTree(found[2] ?? '')) uses.push({ ...each, isPublic: found[1] !== undefined, line })
  }
  return uses
}

/** The names of the items that begin at the first column. @param {string} code */
function itemsOf(code) {
  const item = /^(?:pub(?:\([^)]*\))?\s+)?(?:(?:const|async|unsafe|extern)\s+)*(?:fn|struct|enum|union|trait|type|const|static|mod(?=\s+\w+\s*\{)|macro_rules!)\s+(\w+)/gm
  return new Set(Array.from(code.matchAll(item), ([, name = '']) => name))
}

/**
 * The modules of a crate.
 *
 * @param {(file: string) => string | undefined} read the text of a file, if there is one
 * @param {string} file
 * @param {Module} [parent]
 * @returns {Module}
 */
function readModule(read, file, parent) {
  const code = rustCode(read(file) ?? '')
  /** @type {Module} */
  const module = { file, parent, children: new Map(), code, uses: usesOf(code), items: itemsOf(code) }
  for (const inline of code.matchAll(/^[ \t]*(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*\{/gm)) {
    const body = code.slice(inline.index, endOfItem(code, inline.index))
    // Its paths would be read as if they stood outside it.
    if (/\b(?:use\b|(?:super|self|crate)\s*::)/.test(body)) throw new Error(`${file}: the module ${inline[1]} imports something and is no file of its own`)
  }
  const name = path.posix.basename(file)
  const dir = path.posix.dirname(file) + (['lib.rs', 'mod.rs'].includes(name) ? '' : `/${name.replace(/\.rs$/, '')}`)
  for (const [, child = ''] of code.matchAll(/^[ \t]*(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*;/gm)) {
    const at = [`${dir}/${child}.rs`, `${dir}/${child}/mod.rs`].find((candidate) => read(candidate) !== undefined)
    if (at === undefined) throw new Error(`${file}: there is no file for the module ${child}`)
    module.children.set(child, readModule(read, at, module))
  }
  return module
}

/** @param {Module} module @returns {Module[]} */
const withBelow = (module) => [module, ...Array.from(module.children.values()).flatMap(withBelow)]

/** @param {Module} module @returns {Module} */
const rootOf = (module) => (module.parent ? rootOf(module.parent) : module)

/**
 * Follows a path, through re-exports, to the files that have what it names. A path that ends at a module
 * names nothing in it.
 *
 * @param {Module} module where the path is written
 * @param {string[]} segments
 * @param {Set<Use>} [seen]
 * @returns {(Module | { module: Module, item: string })[]}
 */
function follow(module, segments, seen = new Set()) {
  const [first = '', ...rest] = segments
  if (first === 'crate') return followIn(rootOf(module), rest, seen)
  if (first === 'self') return followIn(module, rest, seen)
  if (first === 'super') return module.parent ? (rest[0] === 'super' ? follow(module.parent, rest, seen) : followIn(module.parent, rest, seen)) : []
  const isKnown = module.children.has(first) || module.uses.some(({ name }) => name === first)
  return isKnown ? followIn(module, segments, seen) : []
}

/** @param {Module} module @param {string[]} segments @param {Set<Use>} seen @returns {(Module | { module: Module, item: string })[]} */
function followIn(module, segments, seen) {
  const [first, ...rest] = segments
  if (first === undefined) return [module]
  const child = module.children.get(first)
  if (child) return followIn(child, rest, seen)
  if (module.items.has(first)) return [{ module, item: first }]
  const named = module.uses.filter((use) => use.name === first && !seen.has(use))
  if (named.length > 0) return named.flatMap((use) => follow(module, [...use.segments, ...rest], new Set([...seen, use])))
  for (const use of module.uses.filter(({ name }) => name === '*')) {
    const found = seen.has(use) ? [] : follow(module, [...use.segments.slice(0, -1), ...segments], new Set([...seen, use]))
    const known = found.filter((each) => 'item' in each && each.module.items.has(each.item))
    if (known.length > 0) return known
  }
  // A macro makes it.
  return first === '*' ? [module] : [{ module, item: first }]
}

/** Whether code uses a name that it re-exports. A variant of an enum, or a module, may be called the same. @param {string} code @param {string} name */
function isUsed(code, name) {
  const elsewhere = code.replace(/^[ \t]+\w+(?=,$)|\bmod\s+\w+\s*;/gm, '')
  return name !== '*' && new RegExp(`(?<!::|\\.)\\b${name}\\b`).test(elsewhere)
}

/**
 * Every import between the files of a crate, each once for each name. A re-export that the file itself does
 * not use is none, nor is the declaration of a module.
 *
 * @param {(file: string) => string | undefined} read
 * @param {string} root its `lib.rs`
 */
function rustImports(read, root) {
  /** @type {Import[]} */
  const imports = []
  for (const module of withBelow(readModule(read, root))) {
    /** @param {string[]} segments @param {number} line */
    const add = (segments, line) => {
      for (const found of follow(module, segments)) {
        const isGlob = segments.at(-1) === '*'
        // What is used of a module shows where it is used.
        if (!('item' in found) && !isGlob) continue
        const to = 'item' in found ? found.module.file : found.file
        if (to === module.file) continue
        const name = 'item' in found ? found.item : '*'
        const isKnown = imports.some((other) => other.from === module.file && other.to === to && other.name === name)
        if (!isKnown) imports.push({ from: module.file, to, line, name })
      }
    }
    const body = blank(module.code, /^[ \t]*(?:pub(?:\([^)]*\))?\s+)?use\s+[^;]+;/gm)
    for (const { segments, name, isPublic, line } of module.uses) {
      if (!isPublic || isUsed(body, name)) add(segments, line)
    }
    for (const found of body.matchAll(/(?<![\w:.$])(?:\$)?([A-Za-z_]\w*(?:\s*::\s*\w+)+)/g)) {
      add((found[1] ?? '').split('::').map((each) => each.trim()), lineAt(body, found.index))
    }
  }
  return imports
}

/**
 * Every `require` of one file of the project by another.
 *
 * @param {(file: string) => string | undefined} read
 * @param {readonly string[]} files
 */
function scriptImports(read, files) {
  /** @type {Import[]} */
  const imports = []
  for (const from of files) {
    const text = blank(read(from) ?? '', /^[ \t]*\/\/[^\n]*|\/\*(?:[^*]|\*(?!\/))*\*\//gm)
    for (const found of text.matchAll(/\brequire\(\s*(['"])(\.[^'"]*)\1\s*\)/g)) {
      const name = found[2] ?? ''
      imports.push({ from, to: path.posix.join(path.posix.dirname(from), name), line: lineAt(text, found.index), name })
    }
  }
  return imports
}

/**
 * The circles of files: each with the imports that make it.
 *
 * @param {readonly Import[]} imports
 * @returns {Import[][]}
 */
function circles(imports) {
  /** @type {Map<string, Set<string>>} */
  const direct = new Map()
  for (const { from, to } of imports) direct.set(from, (direct.get(from) ?? new Set()).add(to))
  /** Every file that a file leads to. @param {string} file */
  const reach = (file) => {
    /** @type {Set<string>} */
    const reached = new Set()
    const queue = [file]
    for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
      for (const to of direct.get(next) ?? []) {
        if (!reached.has(to)) queue.push(to)
        reached.add(to)
      }
    }
    return reached
  }
  const reached = new Map(Array.from(direct.keys(), (file) => [file, reach(file)]))
  const inCircle = [...direct.keys()].filter((file) => reached.get(file)?.has(file)).sort()
  /** @type {Import[][]} */
  const found = []
  /** @type {Set<string>} */
  const reported = new Set()
  for (const file of inCircle) {
    if (reported.has(file)) continue
    const members = inCircle.filter((other) => reached.get(file)?.has(other) && reached.get(other)?.has(file))
    for (const member of members) reported.add(member)
    found.push(imports.filter(({ from, to }) => members.includes(from) && members.includes(to)))
  }
  return found
}

/** All files below a directory, from the root of the project, with slashes. @param {string} root @param {string} dir @returns {string[]} */
function filesBelow(root, dir) {
  return fs.readdirSync(path.join(root, dir), { withFileTypes: true }).flatMap((entry) => {
    const file = `${dir}/${entry.name}`
    return entry.isDirectory() ? filesBelow(root, file) : [file]
  }).sort()
}

/** A circle in lines for people. @param {readonly Import[]} circle */
function shown(circle) {
  const arrows = new Set(circle.map(({ from, to }) => `${from} -> ${to}`))
  return Array.from(arrows, (arrow) => {
    const names = circle.filter(({ from, to }) => `${from} -> ${to}` === arrow)
    return `  ${names[0]?.from}:${names[0]?.line} -> ${names[0]?.to}: ${names.map(({ name }) => name).join(', ')}`
  })
}

/** What the files of the project import from each other. @param {string} root */
function projectImports(root) {
  const read = (/** @type {string} */ file) => (fs.existsSync(path.join(root, file)) ? fs.readFileSync(path.join(root, file), 'utf8') : undefined)
  const scripts = ['bin/holdfast.js', 'index.js', 'vectra.js', ...filesBelow(root, 'compat'), ...filesBelow(root, 'lib')].filter((file) => file.endsWith('.js'))
  return [...rustImports(read, 'src/lib.rs'), ...scriptImports(read, scripts)]
}

// `node __test__/imports.js` prints the circles.
if (require.main === module) {
  const found = circles(projectImports(path.join(__dirname, '..')))
  for (const [index, circle] of found.entries()) console.log([`circle ${index + 1}`, ...shown(circle)].join('\n'))
  console.log(found.length === 0 ? 'no circles' : `${found.length} circles`)
}

module.exports = { circles, filesBelow, projectImports, rustCode, rustImports, scriptImports, shown }
