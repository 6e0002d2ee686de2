'use strict'

// The examples do what they say.

const { test } = require('node:test')
const assert = require('node:assert/strict')
const path = require('node:path')
const { fastDir, whyNot } = require('./system.js')

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
