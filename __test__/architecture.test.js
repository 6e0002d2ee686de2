'use strict'

// What docs/architecture.md says is true: the files that it names exist, its layers hold, and no files
// import each other in a circle.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { circles, filesBelow, projectImports, rustCode, rustImports, scriptImports, shown } = require('./imports.js')

/** @typedef {import('./imports.js').Import} Import */

const root = path.join(__dirname, '..')
const page = fs.readFileSync(path.join(root, 'docs', 'architecture.md'), 'utf8')

/** The text between a heading and the next one. @param {string} title */
function section(title) {
  const [, text = ''] = page.split(`\n${title}\n`)
  assert.notEqual(text, '', `the page has no section '${title}'`)
  return text.split(/^#+ /m)[0] ?? ''
}

/** The rows of the first table of a text, each as its cells. @param {string} text */
function rows(text) {
  const lines = text.split('\n').filter((line) => line.startsWith('| '))
  return lines.filter((line) => !line.startsWith('| ---')).slice(1).map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim()))
}

/** What stands in backticks. @param {string} text */
const quoted = (text) => Array.from(text.matchAll(/`([^`\n]+)`/g), ([, inside = '']) => inside)

/** The layers of a table, the top one first: for each its modules. @param {string} title */
const layers = (title) => rows(section(title)).map(([modules = '']) => quoted(modules))

/** Whether a file belongs to a module: a file, or a directory with a slash at its end. @param {string} file @param {string} module */
const isIn = (file, module) => file === module || (module.endsWith('/') && file.startsWith(module))

/**
 * The imports that the layers do not allow: from a module to another one that is not below it.
 *
 * @param {readonly Import[]} imports
 * @param {readonly string[][]} order
 */
function violations(imports, order) {
  const all = order.flatMap((modules, layer) => modules.map((module) => ({ module, layer })))
  /** @param {string} file */
  const find = (file) => {
    const found = all.find(({ module }) => isIn(file, module))
    assert.ok(found, `${file} is in no layer`)
    return found
  }
  return imports
    .filter(({ from, to }) => find(from).module !== find(to).module && find(to).layer <= find(from).layer)
    .map(({ from, line, to, name }) => `${from}:${line} imports ${name} of ${to}`)
}

const imports = projectImports(root)
const ofRust = imports.filter(({ from }) => from.startsWith('src/'))
const ofScripts = imports.filter(({ from }) => !from.startsWith('src/'))
const sources = [...filesBelow(root, 'src'), ...filesBelow(root, 'lib')]

describe('docs/architecture.md', () => {
  /** Every path of the project that the page names, wherever it stands. */
  const named = Array.from(page.matchAll(/(?<![\w./-])(?:src|lib|docs|tests|__test__|compat|benchmark|scripts|demo|examples|fuzz)\/[\w./-]*/g), ([name]) => name.replace(/\.$/, ''))
  const files = quoted(page).filter((name) => /^[\w./-]+\.(?:rs|js|mjs|ts|md|json|toml)$/.test(name))

  test('names only files and directories that exist', () => {
    assert.ok(new Set(named).size > 100, 'few files were found on it')
    for (const name of [...named, ...files]) {
      // The build makes it.
      if (name === 'lib/native/binding.d.ts') continue
      assert.ok(fs.existsSync(path.join(root, name)), `it names ${name}`)
      assert.equal(name.endsWith('/'), fs.statSync(path.join(root, name)).isDirectory(), `${name}: the name of a directory ends with a slash, that of a file does not`)
    }
  })

  test('names every directory of src and lib', () => {
    const dirs = new Set(sources.map((file) => path.posix.dirname(file)).filter((dir) => dir !== 'src').map((dir) => `${dir}/`))
    assert.deepEqual([...dirs].filter((dir) => !named.includes(dir)), [])
  })

  test('says which file answers a question, and what it names is there', () => {
    const questions = rows(section('## Where is…'))
    assert.ok(questions.length >= 40)
    for (const [question, answer = ''] of questions) {
      const places = quoted(answer).filter((name) => sources.includes(name) || name.startsWith('tests/'))
      assert.ok(places.length > 0, `${question}: no file answers`)
      const text = places.map((file) => fs.readFileSync(path.join(root, file), 'utf8')).join('\n')
      for (const name of quoted(answer).filter((each) => /^[A-Za-z_]\w*(?:::\w+)*$/.test(each)).flatMap((each) => each.split('::'))) {
        assert.match(text, new RegExp(`\\b${name}\\b`), `${question}: ${places.join(', ')} has no ${name}`)
      }
    }
  })

  test('says which layers Rust has, and no file imports one above its own or beside it', () => {
    assert.ok(ofRust.length > 500)
    assert.deepEqual(violations(ofRust, layers('### Rust')), [])
  })

  test('says which layers JavaScript has, and no file imports one above its own or beside it', () => {
    assert.ok(ofScripts.length > 50)
    assert.deepEqual(violations(ofScripts, layers('### JavaScript')), [])
  })

  test('says what is used in a few places only, and nothing else uses it', () => {
    for (const [what = '', where = ''] of rows(section('### Only there'))) {
      const [word = ''] = quoted(what)
      const places = quoted(where)
      const users = sources.filter((file) => file.endsWith('.rs') && new RegExp(`\\b${word}\\b`).test(rustCode(fs.readFileSync(path.join(root, file), 'utf8'))))
      assert.ok(users.length > 0, `nothing uses ${word}`)
      assert.deepEqual(users.filter((file) => !places.some((place) => isIn(file, place))), [], word)
      for (const place of places) assert.ok(users.some((file) => isIn(file, place)), `${place} does not use ${word}`)
    }
  })
})

test('no files of src and lib import each other in a circle', () => {
  assert.deepEqual(circles(imports).map((circle) => shown(circle)), [])
})

describe('the reader of imports', () => {
  /** @param {Record<string, string>} crate */
  const read = (crate) => rustImports((file) => crate[file], 'src/lib.rs')
  /** @param {readonly Import[]} found */
  const lines = (found) => found.map(({ from, line, to, name }) => `${from}:${line} ${to} ${name}`)

  const crate = {
    'src/lib.rs': 'mod disk;\nmod error;\npub mod write;\n',
    'src/error.rs': 'pub struct Failure;\npub fn failed() -> Failure {\n    Failure\n}\n',
    'src/disk/mod.rs': 'mod cache;\npub use cache::Cache;\npub(crate) use crate::error::Failure as Trouble;\n\npub trait Disk {}\n',
    'src/disk/cache.rs': 'pub struct Cache;\n',
    'src/write.rs': 'use crate::disk::{Cache, Disk, Trouble};\n\npub fn write<D: Disk>(_: D) -> (Cache, Trouble) {\n    todo()\n}\n',
  }

  test('follows a name to the file that has it, through re-exports and aliases', () => {
    assert.deepEqual(lines(read(crate)), [
      'src/write.rs:1 src/disk/cache.rs Cache',
      'src/write.rs:1 src/disk/mod.rs Disk',
      'src/write.rs:1 src/error.rs Failure',
    ])
  })

  test('sees paths in the middle of code, nested groups, and names of modules', () => {
    const found = read({
      ...crate,
      'src/write.rs': [
        'use crate::{',
        '    disk::{self, Cache},',
        '    error,',
        '};',
        'fn a(_: Cache) -> crate::error::Failure {',
        '    error::failed()',
        '}',
        'fn b<D: disk::Disk>() {}',
      ].join('\n'),
    })
    assert.deepEqual(lines(found), [
      'src/write.rs:1 src/disk/cache.rs Cache',
      'src/write.rs:5 src/error.rs Failure',
      'src/write.rs:6 src/error.rs failed',
      'src/write.rs:8 src/disk/mod.rs Disk',
    ])
  })

  test('ignores comments, literals, and what is compiled for tests only', () => {
    const found = read({
      ...crate,
      'src/write.rs': [
        '//! Unlike `crate::disk::Cache`.',
        '/* use crate::disk::Disk; */',
        'const TEXT: &str = r#"crate::error::Failure"#;',
        "const QUOTE: char = '\"';",
        "fn keep<'a>(text: &'a str) -> &'a str {",
        '    text',
        '}',
        '#[cfg(test)]',
        'use crate::error::Failure;',
        '#[cfg(test)]',
        'mod tests {',
        '    use crate::disk::Disk;',
        '}',
        'pub use crate::error::failed;',
      ].join('\n'),
    })
    // Nor does a re-export by itself tie the files: a user of the name leads to the file that has it.
    assert.deepEqual(lines(found), [])
  })

  test('a file that imports a layer above its own is reported, with the line', () => {
    const order = [['src/write.rs'], ['src/disk/'], ['src/error.rs', 'src/lib.rs']]
    assert.deepEqual(violations(read(crate), order), [])
    const forbidden = { ...crate, 'src/error.rs': `${crate['src/error.rs']}\nuse crate::write::write;\n` }
    assert.deepEqual(violations(read(forbidden), order), ['src/error.rs:6 imports write of src/write.rs'])
    const beside = { ...crate, 'src/disk/cache.rs': 'use super::super::write::write;\npub struct Cache;\n' }
    assert.deepEqual(violations(read(beside), [['src/write.rs', 'src/disk/'], ['src/error.rs', 'src/lib.rs']]), [
      'src/disk/cache.rs:1 imports write of src/write.rs',
      'src/write.rs:1 imports Cache of src/disk/cache.rs',
      'src/write.rs:1 imports Disk of src/disk/mod.rs',
    ])
  })

  test('a circle is reported, but not a parent that only declares its children and re-exports their names', () => {
    const child = 'use super::Disk;\npub struct Cache;\nimpl Disk for Cache {}\n'
    assert.deepEqual(circles(read({ ...crate, 'src/disk/cache.rs': child })), [])
    const user = `${crate['src/disk/mod.rs']}\npub fn cached() -> Cache {\n    Cache\n}\n`
    const found = circles(read({ ...crate, 'src/disk/cache.rs': child, 'src/disk/mod.rs': user }))
    assert.deepEqual(found.map(lines), [['src/disk/mod.rs:2 src/disk/cache.rs Cache', 'src/disk/cache.rs:1 src/disk/mod.rs Disk']])
  })

  test('knows that a name may be one of two files, and what a glob brings', () => {
    const found = read({
      'src/lib.rs': 'mod os;\nmod use_it;\n',
      'src/os/mod.rs': '#[cfg(unix)]\nmod unix;\n#[cfg(windows)]\nmod windows;\n#[cfg(unix)]\npub use unix::*;\n#[cfg(windows)]\npub use windows::*;\n',
      'src/os/unix.rs': 'pub struct Os;\n',
      'src/os/windows.rs': 'pub struct Native;\n',
      'src/use_it.rs': 'use crate::os::{Native, Os};\n',
    })
    assert.deepEqual(lines(found), ['src/use_it.rs:1 src/os/windows.rs Native', 'src/use_it.rs:1 src/os/unix.rs Os'])
  })

  test('sees what JavaScript requires, at the top and later, and no types', () => {
    /** @type {Record<string, string>} */
    const lib = {
      'lib/api/write.js': "const port = require('../native/port.js')\n// require('./no.js')\n/** @typedef {import('../../index.js').Lock} Lock */\nfunction f() {\n  return require('./lock.js')\n}\nrequire('node:fs')\n",
      'lib/api/lock.js': '',
    }
    const found = scriptImports((file) => lib[file], Object.keys(lib))
    assert.deepEqual(lines(found), ['lib/api/write.js:1 lib/native/port.js ../native/port.js', 'lib/api/write.js:5 lib/api/lock.js ./lock.js'])
    assert.deepEqual(violations(found, [['lib/native/'], ['lib/api/']]), ['lib/api/write.js:1 imports ../native/port.js of lib/native/port.js'])
  })
})
