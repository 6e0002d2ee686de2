'use strict'

const WIDTH = Math.min(Math.max(process.stdout.columns ?? 110, 80), 110)

const isColoured = Boolean(process.stdout.isTTY) && !process.env.NO_COLOR && process.env.TERM !== 'dumb'
const colour = (/** @type {number} */ code) => (/** @type {string} */ text) => (isColoured ? `\x1b[${code}m${text}\x1b[0m` : text)
const [bold, dim, red, green] = [1, 2, 31, 32].map(colour)

/** What is printed while the demo runs, and kept for the table at its end. */
class Report {
  /** @type {{ mark: string, claim: string, how: string, result: string }[]} */
  #rows = []
  #failures = 0
  #claims = 0

  /** @param {string} title @param {string} text what is going to happen */
  act(title, text) {
    console.log(`\n${bold(title)}`)
    for (const line of wrap(text, WIDTH - 2)) console.log(`  ${line}`)
    console.log()
  }

  /**
   * @param {boolean} held
   * @param {string} claim
   * @param {string} how it was checked
   * @param {string} result in numbers
   */
  check(held, claim, how, result) {
    this.#claims++
    if (!held) this.#failures++
    this.#print(held ? '✓' : '✗', claim, how, result)
  }

  /** What others do under the same conditions: neither right nor wrong. @param {string} who */
  beside(who, how, result) {
    this.#print('·', `beside it: ${who}`, how, result)
  }

  /** @param {string} claim @param {string} reason */
  skip(claim, reason) {
    this.#print('-', claim, 'skipped', reason)
  }

  /** @param {string} text */
  note(text) {
    for (const line of wrap(text, WIDTH - 2)) console.log(dim(`  ${line}`))
  }

  #print(mark, claim, how, result) {
    this.#rows.push({ mark, claim, how, result })
    console.log(`  ${paint(mark)} ${mark === '✓' || mark === '✗' ? claim : dim(claim)}`)
    for (const line of wrap(`${how}: ${result}`, WIDTH - 6)) console.log(dim(`      ${line}`))
  }

  /** Prints the table. */
  table() {
    const room = WIDTH - 8
    const [claim, how] = [Math.floor(room * 0.33), Math.floor(room * 0.39)]
    const widths = [claim, how, room - claim - how]
    console.log(`\n${bold('All claims')}\n`)
    this.#line(' ', ['claim', 'how it was checked', 'result'], widths)
    console.log(dim(`    ${'─'.repeat(WIDTH - 4)}`))
    for (const { mark, claim, how, result } of this.#rows) this.#line(mark, [claim, how, result], widths)
  }

  #line(mark, cells, widths) {
    const columns = cells.map((cell, index) => wrap(cell, widths[index]))
    const height = Math.max(...columns.map((column) => column.length))
    for (let row = 0; row < height; row++) {
      const line = columns.map((column, index) => (column[row] ?? '').padEnd(widths[index])).join('  ')
      console.log(`  ${row === 0 ? paint(mark) : ' '} ${line.trimEnd()}`)
    }
  }

  /** @returns {boolean} whether every claim held */
  verdict() {
    const held = this.#claims - this.#failures
    const skipped = this.#rows.filter(({ mark }) => mark === '-').length
    const text = `${held} of ${this.#claims} claims held${skipped > 0 ? `, ${skipped} not checked here` : ''}`
    console.log(`\n${this.#failures === 0 ? green(`✓ ${text}`) : red(`✗ ${text}`)}`)
    return this.#failures === 0
  }
}

/** @param {string} mark */
function paint(mark) {
  if (mark === '✓') return green(mark)
  return mark === '✗' ? red(mark) : dim(mark)
}

/** @param {string} text @param {number} width @returns {string[]} */
function wrap(text, width) {
  const lines = ['']
  for (const word of text.split(' ')) {
    const last = lines.length - 1
    if (lines[last] === '') lines[last] = word
    else if (lines[last].length + 1 + word.length <= width) lines[last] += ` ${word}`
    else lines.push(word)
  }
  return lines
}

/** `1 file`, `2,000 files`. @param {number} number @param {string} noun */
function count(number, noun) {
  return `${number.toLocaleString('en-US')} ${noun}${number === 1 ? '' : 's'}`
}

/** @param {number} bytes */
function mebibytes(bytes) {
  return `${Number((bytes / 2 ** 20).toFixed(1))} MiB`
}

module.exports = { Report, count, mebibytes }
