'use strict'

// `holdfast recover`.

const assert = require('node:assert/strict')
const { spawn, spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { answer, ended, run, start } = require('./cli.js')
const { holdfast, newDir, root, temps, whyNot } = require('./helpers.js')

const noTerminal = spawnSync('script', ['--version']).status !== 0 && 'script(1) is missing'

/** A folder in which a writer was killed, and a corrupt file beside its good `.bak`. @param {import('node:test').TestContext} t */
async function afterCrash(t) {
  const cwd = newDir(t)
  fs.writeFileSync(path.join(cwd, 'f'), 'old')
  const child = start(['write', 'f'], { cwd })
  const end = ended(child)
  child.stdin.write('half')
  while (temps(cwd).length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  child.kill('SIGKILL')
  await end
  const [temp = ''] = temps(cwd)
  return { cwd, temp, left: () => fs.readdirSync(cwd).sort() }
}

/** Answers in a terminal. @param {string} args @param {string} cwd @param {string} said @returns {Promise<{ code: number | null, shown: string }>} */
function inTerminal(args, cwd, said) {
  return new Promise((resolve, reject) => {
    const child = spawn('script', ['-qec', `${process.execPath} ${path.join(root, 'bin/holdfast.js')} ${args}`, '/dev/null'], { cwd, stdio: 'pipe', timeout: 60_000, killSignal: 'SIGKILL' })
    let shown = ''
    child.stdout.setEncoding('utf8').on('data', (text) => {
      shown += text
      if (/\[y\/N\] $/.test(shown.replaceAll(/\x1b\[[\d;]*[A-Za-z]/g, ''))) child.stdin.write(said)
    })
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, shown }))
  })
}

describe('recover', () => {
  test('removes what a killed writer has left, and says so', async (t) => {
    const { cwd, temp, left } = await afterCrash(t)
    const { code, stdout } = await run(['recover'], { cwd })
    assert.equal(code, 0)
    assert.match(stdout, new RegExp(`^ACTION .*\nremoved +${temp.replaceAll('.', '\\.')} +\\S.*\n$`))
    assert.deepEqual(left(), ['f'])
    assert.equal((await run(['recover'], { cwd })).stdout, '.: nothing to do\n')
  })

  test('with --dry-run changes nothing', async (t) => {
    const { cwd, temp, left } = await afterCrash(t)
    const { actions, ...rest } = await answer(['recover', '--dry-run', '--json', 'f'], { cwd })
    assert.deepEqual(rest, { version: 1, command: 'recover', path: 'f', dryRun: true, complete: true })
    assert.deepEqual(actions.map((/** @type {any} */ { path: file, action }) => [path.basename(file), action]), [[temp, 'removed']])
    assert.match((await run(['recover', '-n'], { cwd })).stdout, /\nremove +\./)
    assert.deepEqual(left(), [temp, 'f'])
  })

  test('with --backups goes back to the newest good backup', async (t) => {
    const cwd = newDir(t)
    const file = path.join(cwd, 'f.json')
    fs.writeFileSync(file, '{"good":1}')
    await holdfast.createBackup(file)
    fs.writeFileSync(file, '{')
    await run(['recover', 'f.json'], { cwd })
    assert.equal(fs.readFileSync(file, 'utf8'), '{')
    assert.equal((await run(['recover', '--backups', 'f.json'], { cwd })).code, 0)
    assert.equal(fs.readFileSync(file, 'utf8'), '{"good":1}')
  })

  test('leaves a live writer alone', async (t) => {
    const cwd = newDir(t)
    const stream = holdfast.createAtomicWriteStream(path.join(cwd, 'f'))
    stream.write('half')
    while (temps(cwd).length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    const { actions } = await answer(['recover', '--json', '--min-age', '0s'], { cwd })
    assert.deepEqual(actions.map((/** @type {any} */ { action }) => action), ['left'])
    await new Promise((resolve, reject) => stream.on('error', reject).end('done', () => resolve(undefined)))
    assert.deepEqual(fs.readdirSync(cwd), ['f'])
  })

  test('goes into folders with --recursive only', async (t) => {
    const { cwd } = await afterCrash(t)
    const dir = newDir(t)
    fs.renameSync(cwd, path.join(dir, 'below'))
    assert.equal((await run(['recover', dir])).stdout, `${dir}: nothing to do\n`)
    assert.equal((await run(['recover', '-r', dir])).code, 0)
    assert.deepEqual(fs.readdirSync(path.join(dir, 'below')), ['f'])
  })

  test('ends with 1 if a person has to see to something, and with 3 where it cannot look', async (t) => {
    const cwd = newDir(t)
    fs.mkdirSync(path.join(cwd, 'd'))
    const file = path.join(cwd, 'd', 'f.json')
    fs.writeFileSync(file, '{')
    fs.writeFileSync(`${file}.bak`, '{}')
    if (!whyNot.people()) {
      fs.chmodSync(file, 0o644)
      fs.chmodSync(`${file}.bak`, 0o644)
      const { code, stdout } = await run(['recover', 'd/f.json', '--json'], { cwd, person: { uid: 65534 } })
      assert.ok(code === 1 || code === 3, stdout)
      assert.equal(fs.readFileSync(file, 'utf8'), '{')
    }
    assert.equal((await run(['recover', 'none/f'], { cwd })).code, 3)
    assert.equal((await run(['recover', 'd/f.json'], { cwd })).code, 0)
    assert.equal(fs.readFileSync(file, 'utf8'), '{}')
  })

  describe('in a terminal', { skip: noTerminal }, () => {
    test('asks, and does nothing without a yes', async (t) => {
      const { cwd, temp, left } = await afterCrash(t)
      for (const said of ['\r', 'no\r', '\x04', '\x03']) {
        const { code, shown } = await inTerminal('recover', cwd, said)
        assert.ok(shown.includes(temp), shown)
        assert.notEqual(code, 0)
        assert.deepEqual(left(), [temp, 'f'])
      }
    })

    test('does it with a yes, or with --yes', async (t) => {
      const first = await afterCrash(t)
      assert.equal((await inTerminal('recover', first.cwd, 'y\r')).code, 0)
      assert.deepEqual(first.left(), ['f'])
      const second = await afterCrash(t)
      const { code, shown } = await inTerminal('recover --yes', second.cwd, '')
      assert.equal(code, 0)
      assert.doesNotMatch(shown, /y\/N/)
      assert.deepEqual(second.left(), ['f'])
    })
  })
})
