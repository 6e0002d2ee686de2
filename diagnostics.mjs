// One implementation for both module systems.
import diagnostics from './diagnostics.js'

export const { channels } = diagnostics
