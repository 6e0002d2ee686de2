'use strict'

// The types of what the addon exports, from what the macros of the binding have written down: a line of JSON for each item.

/**
 * @typedef {object} Item
 * @property {'interface' | 'struct' | 'impl' | 'fn'} kind
 * @property {string} name
 * @property {string} js_doc its comment
 * @property {string} def the inside of it; of a function, all of it
 */

/** @param {string} lines @returns {string} the text of a .d.ts file */
function declarations(lines) {
  const items = lines.split('\n').filter((line) => line !== '').map((line) => /** @type {Item} */ (JSON.parse(line)))
  /** @param {string} name */
  const members = (name) => items.filter((item) => item.kind === 'impl' && item.name === name).map(({ def }) => def).join('\n')
  const all = items.filter(({ kind }) => kind !== 'impl').sort((a, b) => (a.name < b.name ? -1 : 1)).map((item) => {
    switch (item.kind) {
      case 'interface':
        return `${item.js_doc}export interface ${item.name} {\n${indented(item.def)}\n}\n`
      case 'struct':
        return `${item.js_doc}export declare class ${item.name} {\n${indented([item.def, members(item.name)].filter(Boolean).join('\n'))}\n}\n`
      case 'fn':
        return `${item.js_doc}export declare ${item.def}\n`
      default:
        throw new Error(`${item.name}: an item of kind ${item.kind} cannot be declared yet`)
    }
  })
  return `// Made by \`npm run build\` from src/binding/.\n\n/** A path as lib/support/byte-paths.js writes it. */\nexport type NativePath = string\n\n${all.join('\n')}`
}

/** @param {string} text */
function indented(text) {
  return text.split('\n').map((line) => `  ${line.trim().replace(/^\*/, ' *')}`).join('\n')
}

module.exports = { declarations }
