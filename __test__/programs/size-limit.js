'use strict'

// Writes one file again and again while the system lets it grow to a few bytes only, and
// looks at what is there after each time.
//
// Reads one line, {dir, pipes, size, limits, way, durability}, and answers {tried, resolved, rejected, wrong, torn}.

const { execFileSync, spawn } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const readline = require('node:readline')
const { content } = require('../system.js')

// SIGXFSZ is ignored in Node, so that a write beyond the limit is cut short, and one at the
// limit fails with EFBIG: just what a full disk does, byte by byte. (write-file-atomic
// listens to every signal and kills the process; with another listener it does not.)
if (process.platform !== 'win32') process.on('SIGXFSZ', () => {})

/** Sets the limit of this process, which Node itself cannot do. */
function limiter(dir) {
  const number = { x64: 302, arm64: 261 }[process.arch]
  const perl = `$| = 1; while (<STDIN>) { syscall(${number}, ${process.pid}, 1, pack("QQ", $_ + 0, ~0), 0) == 0 or die "$!"; print "." }`
  // The same by a new process each time: slower.
  const shell = `while read limit; do prlimit --pid ${process.pid} --fsize=$limit: || exit 1; printf .; done`
  const script = process.env.LIMITER === 'perl' && number ? ['perl', '-e', perl] : ['sh', '-c', shell]
  // Through named pipes, because those can be waited for without the event loop.
  const [to, from] = ['to', 'from'].map((name) => path.join(dir, name))
  execFileSync('mkfifo', [to, from])
  const child = spawn('sh', ['-c', '"$@" <"$TO" >"$FROM"', 'sh', ...script], { env: { ...process.env, TO: to, FROM: from }, stdio: ['ignore', 'ignore', 'inherit'] })
  const questions = fs.openSync(to, 'w')
  const answers = fs.openSync(from, 'r')
  const answer = Buffer.alloc(1)
  return {
    set(limit) {
      fs.writeSync(questions, `${limit}\n`)
      if (fs.readSync(answers, answer) !== 1) throw new Error('the limit cannot be set')
    },
    end() {
      fs.closeSync(questions)
      fs.closeSync(answers)
      child.unref()
    },
  }
}

const ways = {
  async: (...args) => require('../../index.js').atomicWrite(...args),
  sync: async (...args) => require('../../index.js').atomicWriteSync(...args),
  peer: (file, bytes, { durability }) => require('write-file-atomic')(file, bytes, { fsync: durability !== 'none' }),
}

async function main({ dir, pipes, size, limits, way, durability }) {
  const target = path.join(dir, 'target')
  const contents = [content('one', size), content('other', size)]
  let old = content('old', 700)
  fs.writeFileSync(target, old)
  const counts = { tried: 0, resolved: 0, rejected: {}, wrong: [], torn: 0 }
  const limit = limiter(pipes)
  for (const bytes of limits) {
    limit.set(bytes)
    const fresh = contents[counts.resolved % 2]
    let error
    try {
      await ways[way](target, fresh, { durability })
    } catch (caught) {
      error = caught
    }
    counts.tried++
    if (error) counts.rejected[error.code] = (counts.rejected[error.code] ?? 0) + 1
    else counts.resolved++

    const found = fs.readFileSync(target)
    const expected = error ? old : fresh
    const others = fs.readdirSync(dir).filter((name) => name !== 'target')
    if (!found.equals(expected)) counts.torn++
    if (!found.equals(expected) || others.length > 0 || Boolean(error) !== bytes < size) {
      counts.wrong.push({ limit: bytes, code: error?.code, found: found.length, expected: expected.length, others })
    }
    if (error?.committed) counts.wrong.push({ limit: bytes, committed: true })
    // A peer may have left anything; the next try starts anew.
    if (way === 'peer') {
      for (const name of others) fs.unlinkSync(path.join(dir, name))
      limit.set(1e9)
      fs.writeFileSync(target, old)
    } else if (!error) {
      old = fresh
    }
  }
  limit.end()
  counts.wrong = counts.wrong.slice(0, 5)
  console.log(JSON.stringify(counts))
}

readline.createInterface({ input: process.stdin }).once('line', (line) => {
  process.stdin.destroy()
  main(JSON.parse(line))
})
