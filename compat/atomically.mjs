// One implementation for both module systems.
import atomically from './atomically.js'

export const { readFile, readFileSync, writeFile, writeFileSync } = atomically
