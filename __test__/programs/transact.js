'use strict'

// Makes one transaction and says `"done"`.
//
// Argument: what to write to which file (`null` removes it), in this order, and the options, as JSON.

const fs = require('node:fs')
const { transaction } = require('../..')

const { changes, options } = JSON.parse(process.argv[2])

transaction(changes.map(([path]) => path), async (tx) => {
  for (const [path, text] of changes) await (text === null ? tx.remove(path) : tx.write(path, text))
}, options).then(() => fs.writeSync(1, '"done"\n'))
