'use strict'

// The examples do what they say.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const { spawn, spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const readline = require('node:readline')
const { setTimeout: wait } = require('node:timers/promises')
const { fullDisk, holdfast, root } = require('./helpers.js')
const { cleanUp, fastDir, newDir, whyNot } = require('./system.js')

test('an index of 5 000 vectors is found again, every one, after its process was killed', { skip: whyNot.unix() }, async (t) => {
  const { VectorIndex, tellStory } = await import('../examples/vector-index.mjs')
  const dir = path.join(fastDir(t), 'index.wal')
  const { acknowledged, there, found } = await tellStory(dir)
  assert.ok(acknowledged >= 5000)
  assert.ok(there >= acknowledged, 'what was acknowledged is there; what was under way may be')
  assert.equal(found, acknowledged)
  // And it goes on.
  const index = await VectorIndex.open(dir)
  const vector = new Float32Array(16).fill(2)
  await index.insert([{ id: 'new', vector }])
  assert.deepEqual(index.search(vector, 1), [{ id: 'new', distance: 0 }])
  assert.equal(index.search(vector, 3).length, 3)
  await index.close()
})

test('an outbox sends every order, though its workers are killed', { skip: whyNot.unix() }, async (t) => {
  const { tellStory } = await import('../examples/outbox.mjs')
  const { taken, sent, twice, workers } = await tellStory(path.join(fastDir(t), 'orders.wal'))
  assert.equal(sent, taken)
  assert.ok(workers > 1)
  assert.ok(twice < workers, 'of each worker the last order at most')
})

test('a job queue has one result of each job, though its workers are killed', { skip: whyNot.unix() }, async (t) => {
  const { tellStory } = await import('../examples/job-queue.mjs')
  const dir = fastDir(t)
  const { taken, results, failed, killed } = await tellStory(dir, { jobs: 210, killEvery: 25 })
  assert.equal(results + failed, taken)
  assert.equal(failed, 3)
  assert.ok(killed > 3)
  for (const name of fs.readdirSync(path.join(dir, 'results'))) {
    const number = Number(/^job-(\d+)\.json$/.exec(name)?.[1])
    if (number) assert.deepEqual(JSON.parse(fs.readFileSync(path.join(dir, 'results', name), 'utf8')), { result: number * number })
  }
  const { tries } = JSON.parse(fs.readFileSync(path.join(dir, 'failed', 'job-70.json'), 'utf8'))
  assert.ok(tries >= 3)
})

describe('a server of settings', { skip: whyNot.unix() }, () => {
  /** @param {import('node:test').TestContext} t @param {string} dir */
  async function start(t, dir) {
    const server = spawn(process.execPath, [path.join(root, 'examples/settings-server.mjs'), '0', dir], { stdio: ['ignore', 'pipe', 'inherit'] })
    cleanUp(t, () => server.kill('SIGKILL'))
    for await (const line of readline.createInterface({ input: server.stdout })) {
      const [url = ''] = /http:\/\/127\.0\.0\.1:\d+\/settings\//.exec(line) ?? []
      return { server, url }
    }
    throw new Error('the server has ended')
  }

  /** @param {string} url @param {string} method @param {unknown} [body] @param {string | null} [tag] */
  async function ask(url, method, body, tag) {
    const response = await fetch(url, { method, body: typeof body === 'string' || body === undefined ? body : JSON.stringify(body), headers: { ...(tag && { 'if-match': tag }), connection: 'close' } })
    return { status: response.status, tag: response.headers.get('etag'), retryAfter: response.headers.get('retry-after'), body: await response.json() }
  }

  test('answers each failure by its own status, and nothing has changed then', async (t) => {
    const dir = fastDir(t)
    const { url } = await start(t, dir)
    const file = path.join(dir, 'screen.json')
    const made = await ask(`${url}screen`, 'POST', { theme: 'dark' })
    assert.equal(made.status, 201)
    const text = '{\n  "theme": "dark"\n}\n'
    const statusOf = async (/** @type {any[]} */ ...args) => {
      const { status, retryAfter } = await ask(...(/** @type {[string, string]} */ (args)))
      assert.equal(fs.readFileSync(file, 'utf8'), text)
      assert.equal(retryAfter, status === 503 ? '1' : null)
      return status
    }
    assert.equal(await statusOf(`${url}screen`, 'POST', { theme: 'light' }), 409)
    assert.equal(await statusOf(`${url}screen`, 'PATCH', { theme: 'light' }, '"another"'), 412)
    assert.equal(await statusOf(`${url}screen`, 'PATCH', { theme: 'light' }), 428)
    assert.equal(await statusOf(`${url}screen`, 'PATCH', '{"theme":', made.tag), 400)
    assert.equal(await statusOf(`${url}screen`, 'PATCH', { theme: [] }, made.tag), 422)
    assert.equal(await statusOf(`${url}none`, 'GET'), 404)
    assert.equal(await statusOf(`${url}none`, 'PATCH', {}, made.tag), 404)
    assert.equal(await statusOf(`${url}..%2Fscreen`, 'GET'), 404)
    await holdfast.withLock(file, async () => assert.equal(await statusOf(`${url}screen`, 'PATCH', { theme: 'light' }, made.tag), 503))
    assert.equal((await ask(`${url}screen`, 'PATCH', { theme: 'light' }, made.tag)).status, 200)
    assert.deepEqual((await ask(`${url}screen`, 'GET')).body, { theme: 'light' })
  })

  test('answers 503 on a full disk, and has the settings from before', { skip: whyNot.mount() }, async (t) => {
    const { dir, filler } = fullDisk(t)
    fs.unlinkSync(filler)
    const { url } = await start(t, dir)
    const { tag } = await ask(`${url}screen`, 'POST', { theme: 'dark' })
    assert.throws(() => fs.writeFileSync(filler, Buffer.alloc(1 << 20)), { code: 'ENOSPC' })
    const refused = await ask(`${url}screen`, 'PATCH', { wallpaper: 'x'.repeat(50_000) }, tag)
    assert.equal(refused.status, 503, JSON.stringify(refused))
    assert.deepEqual((await ask(`${url}screen`, 'GET')).body, { theme: 'dark' })
    fs.unlinkSync(filler)
    assert.equal((await ask(`${url}screen`, 'PATCH', { wallpaper: 'x'.repeat(50_000) }, tag)).status, 200)
  })

  test('loses no change that it has answered 200 to, though servers are killed', async (t) => {
    const dir = fastDir(t)
    let servers = await Promise.all([start(t, dir), start(t, dir)])
    await ask(`${servers[0]?.url}count`, 'POST', { n: 0 })
    let [answered, asked, done] = [0, 0, false]
    const clients = [0, 1, 2, 3].map(async (client) => {
      for (let round = 0; round < 25;) {
        const url = `${servers[client % 2]?.url}count`
        try {
          const { body, tag } = await ask(url, 'GET')
          asked++
          const { status } = await ask(url, 'PATCH', { n: body.n + 1 }, tag)
          if (status === 200) answered++
          if (status === 200 || status === 503) round++
          else assert.equal(status, 412)
        } catch (error) {
          // The server was killed.
          if (/** @type {Error} */ (error).message !== 'fetch failed' && !/terminated|reset/.test(String(error))) throw error
          await wait(20)
        }
      }
    })
    const killing = (async () => {
      for (let turn = 0; !done && turn < 6; turn++) {
        await wait(150)
        const place = turn % 2
        servers[place]?.server.kill('SIGKILL')
        const next = await start(t, dir)
        servers = servers.map((server, at) => (at === place ? next : server))
      }
    })()
    await Promise.all(clients)
    done = true
    await killing
    const { n } = JSON.parse(fs.readFileSync(path.join(dir, 'count.json'), 'utf8'))
    assert.ok(n >= answered && n <= asked, `${n} of ${answered} that were answered and ${asked} that were asked`)
  })
})

describe('a list of things to do', { skip: whyNot.unix() }, () => {
  const [before, after] = ['before', 'after'].map((name) => path.join(root, `examples/todo-${name}.mjs`))
  /** @param {string | undefined} program @param {string[]} args @param {Record<string, string>} [env] */
  const start = (program, args, env) => spawn(process.execPath, [program ?? '', ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } })
  /** @param {import('node:child_process').ChildProcess} child @returns {Promise<number | null>} */
  const ended = (child) => new Promise((resolve) => child.on('exit', (code) => resolve(code)))
  /** @param {string} file */
  const textsOf = (file) => JSON.parse(fs.readFileSync(file, 'utf8')).map(({ text }) => text).sort()

  test('is kept by programs of before and after, side by side', async (t) => {
    const file = path.join(fastDir(t), 'todo.json')
    const texts = Array.from({ length: 12 }, (_, number) => `thing ${String(number).padStart(2, '0')}`)
    assert.equal(await ended(start(before, [file, 'add', 'the first'])), 0)
    const codes = await Promise.all(texts.map((text, number) => ended(start(number % 2 ? after : before, [file, 'add', text], { PROTOCOL: 'proper-lockfile' }))))
    assert.deepEqual(codes, texts.map(() => 0))
    assert.deepEqual(textsOf(file), ['the first', ...texts].sort())
    const { stdout } = spawnSync(process.execPath, [after ?? '', file, 'list'], { encoding: 'utf8' })
    assert.equal(stdout, spawnSync(process.execPath, [before ?? '', file, 'list'], { encoding: 'utf8' }).stdout)
  })

  test('has everything that was acknowledged, and no lock that is left, though programs are killed', async (t) => {
    const file = path.join(newDir(t), 'todo.json')
    const acknowledged = []
    const begin = performance.now()
    let killed = 0
    for (let number = 0; number < 24; number++) {
      const child = start(after, [file, 'add', `thing ${number}`])
      const code = ended(child)
      // From before the addon is loaded to after the end.
      const timer = setTimeout(() => child.kill('SIGKILL'), number % 2 ? 40 + number * 4 : 60_000)
      if (await code === 0) acknowledged.push(`thing ${number}`)
      else killed++
      clearTimeout(timer)
    }
    t.diagnostic(`${killed} killed in ${Math.round(performance.now() - begin)} ms`)
    assert.ok(acknowledged.length >= 12)
    const texts = textsOf(file)
    for (const text of acknowledged) assert.equal(texts.filter((found) => found === text).length, 1)
    assert.ok(texts.length <= 24)
  })

  test('is the list from before when the disk is full, and the program says so', { skip: whyNot.mount() }, async (t) => {
    const { dir, filler } = fullDisk(t)
    fs.unlinkSync(filler)
    const file = path.join(dir, 'todo.json')
    assert.equal(await ended(start(after, [file, 'add', 'a'])), 0)
    assert.throws(() => fs.writeFileSync(filler, Buffer.alloc(1 << 20)), { code: 'ENOSPC' })
    const child = start(after, [file, 'add', 'x'.repeat(60_000)])
    let stderr = ''
    child.stderr?.on('data', (data) => { stderr += data })
    assert.notEqual(await ended(child), 0)
    assert.match(stderr, /ENOSPC/)
    assert.deepEqual(textsOf(file), ['a'])
  })
})

test('OpenTelemetry: the lock and the write of an update are spans within its span', async (t) => {
  const { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } = require('@opentelemetry/sdk-trace-base')
  const { traceHoldfast } = await import('../examples/opentelemetry.mjs')
  const exporter = new InMemorySpanExporter()
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
  t.after(traceHoldfast(provider.getTracer('holdfast')))
  const file = path.join(fastDir(t), 'file')
  for (const name of ['holdfast update JSON', 'nothing']) {
    exporter.reset()
    if (name === 'nothing') await assert.rejects(holdfast.updateJsonFile(`${file}-missing`, () => {}), { code: 'ENOENT' })
    else await holdfast.updateJsonFile(file, (data) => void data.n++, { defaultValue: { n: 0 } })
    const spans = exporter.getFinishedSpans()
    const update = spans.find((span) => span.name === 'holdfast update JSON')
    assert.equal(update.attributes['file.path'].startsWith(file), true)
    assert.equal(update.status.code, name === 'nothing' ? 2 : 0)
    const within = spans.filter((span) => span !== update)
    assert.deepEqual(within.map((span) => span.name).sort(), name === 'nothing' ? ['holdfast lock'] : ['holdfast atomic write', 'holdfast lock'])
    for (const span of within) assert.equal(span.parentSpanContext.spanId, update.spanContext().spanId)
  }
  exporter.reset()
  holdfast.atomicWriteSync(file, 'new')
  assert.deepEqual(exporter.getFinishedSpans().map((span) => [span.name, span.attributes['file.size']]), [['holdfast atomic write', 3]])
})

test('Prometheus: counters and histograms are there when they are scraped', async (t) => {
  const { Registry } = require('prom-client')
  const { registerHoldfast } = await import('../examples/prometheus.mjs')
  const registry = new Registry()
  registerHoldfast(registry)
  holdfast.resetMetrics()
  const file = path.join(fastDir(t), 'file')
  for (let i = 0; i < 3; i++) await holdfast.atomicWrite(file, 'new', { durability: 'none' })
  await assert.rejects(holdfast.atomicWrite(path.join(file, 'no'), 'new'))
  const text = await registry.metrics()
  for (const line of [
    'holdfast_writes_total{durability="none"} 3', 'holdfast_write_errors_total{code="ENOTDIR"} 1', '# TYPE holdfast_write_seconds histogram',
    'holdfast_write_seconds_bucket{durability="none",le="60"} 3', 'holdfast_write_seconds_bucket{durability="none",le="+Inf"} 3', 'holdfast_write_seconds_count{durability="none"} 3',
  ]) assert.ok(text.split('\n').includes(line), `${line}\n${text}`)
  const [, sum] = /^holdfast_write_seconds_sum\{durability="none"\} (.*)$/m.exec(text)
  assert.ok(Math.abs(Number(sum) * 1000 - holdfast.metrics().writes.latency.none.sum) < 1e-6)
})

describe('a chat', { skip: whyNot.unix() }, () => {
  const program = path.join(root, 'examples/chat.mjs')
  /** @param {string} dir @param {string[]} args @param {number} [killAfter] */
  function chat(dir, args, killAfter) {
    const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, CHATS: dir } })
    let [stdout, stderr] = ['', '']
    child.stdout.on('data', (data) => { stdout += data })
    child.stderr.on('data', (data) => { stderr += data })
    const timer = killAfter === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), killAfter)
    return new Promise((resolve) => child.on('close', (code) => {
      clearTimeout(timer)
      resolve({ code, stdout, stderr })
    }))
  }
  /** @param {string} dir @param {string} name @returns {{ role: string, text: string }[]} */
  const transcript = (dir, name) => fs.readFileSync(path.join(dir, `${name}.jsonl`), 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line))

  /** Each question has its answer right behind it. @param {{ role: string, text: string }[]} turns */
  function assertWhole(turns) {
    assert.equal(turns.length % 2, 0)
    for (let at = 0; at < turns.length; at += 2) {
      assert.deepEqual([turns[at]?.role, turns[at + 1]?.role], ['user', 'assistant'])
      assert.ok(turns[at + 1]?.text.endsWith(`: ${turns[at]?.text}`))
    }
  }

  test('is resumed by several terminals at once, though they are killed, and has each turn that was answered', async (t) => {
    const dir = newDir(t)
    const { stdout } = await chat(dir, ['the', 'first'])
    const [, name = ''] = /--resume (\S+)/.exec(stdout) ?? []
    /** @type {string[]} */
    const answered = []
    let killed = 0
    for (let round = 0; round < 6; round++) {
      await Promise.all([0, 1, 2].map(async (terminal) => {
        const question = `${round} of ${terminal}`
        const { code, stderr } = await chat(dir, ['--resume', name, question], terminal === round % 3 ? 60 + round * 40 : undefined)
        if (code === 0) answered.push(question)
        else if (code === null) killed++
        else assert.fail(stderr)
      }))
    }
    t.diagnostic(`${killed} killed`)
    const turns = transcript(dir, name)
    assertWhole(turns)
    for (const question of ['the first', ...answered]) assert.equal(turns.filter(({ text }) => text === question).length, 1, question)
    assert.ok(answered.length >= 12)
    assert.match((await chat(dir, ['--list'])).stdout, new RegExp(`^${name} the first$`, 'm'))
  })

  test('goes on with a session of the release before, whichever moment its first program is killed at', async (t) => {
    const dir = newDir(t)
    const old = ['a', 'That was question 1: a', 'b', 'That was question 2: b']
    for (let number = 0; number < 8; number++) {
      const name = `old-${number}`
      fs.writeFileSync(path.join(dir, `${name}.json`), JSON.stringify({ messages: old }))
      await chat(dir, ['--resume', name, 'killed'], 50 + number * 20)
      const { code, stdout, stderr } = await chat(dir, ['--resume', name, 'and now?'])
      assert.equal(code, 0, stderr)
      assert.match(stdout, /^That was question [34]: and now\?$/m)
      const turns = transcript(dir, name)
      assertWhole(turns)
      assert.deepEqual(turns.slice(0, 4).map(({ text }) => text), old)
      assert.equal(turns.at(-2)?.text, 'and now?')
      assert.ok((await holdfast.listBackups(path.join(dir, `${name}.json`))).length > 0)
    }
  })

  test('is that of its newest backup when something has cut its session off', async (t) => {
    const dir = newDir(t)
    const { stdout } = await chat(dir, ['one'])
    const [, name = ''] = /--resume (\S+)/.exec(stdout) ?? []
    await chat(dir, ['--resume', name, 'two'])
    const session = path.join(dir, `${name}.json`)
    fs.truncateSync(session, 20)
    const { code, stderr } = await chat(dir, ['--resume', name, 'three'])
    assert.equal(code, 0, stderr)
    assert.match(stderr, /The session was damaged \(EBADJSON\)/)
    assert.equal(JSON.parse(fs.readFileSync(session, 'utf8')).title, 'one')
    const turns = transcript(dir, name)
    assert.deepEqual(turns.filter(({ role }) => role === 'user').map(({ text }) => text), ['one', 'two', 'three'])
  })

  test('says that the disk is full, and has everything from before', { skip: whyNot.mount() }, async (t) => {
    const { dir, filler } = fullDisk(t)
    fs.unlinkSync(filler)
    const [, name = ''] = /--resume (\S+)/.exec((await chat(dir, ['one'])).stdout) ?? []
    assert.throws(() => fs.writeFileSync(filler, Buffer.alloc(1 << 20)), { code: 'ENOSPC' })
    const { code, stderr } = await chat(dir, ['--resume', name, 'x'.repeat(100_000)])
    assert.notEqual(code, 0)
    assert.match(stderr, /ENOSPC/)
    fs.unlinkSync(filler)
    assert.deepEqual(transcript(dir, name).map(({ text }) => text), ['one', 'That was question 1: one'])
    assert.equal((await chat(dir, ['--resume', name, 'two'])).code, 0)
    assertWhole(transcript(dir, name))
  })
})
