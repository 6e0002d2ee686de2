// One implementation for both module systems, so that `instanceof` holds across them.
import holdfast from './index.js'

export const { atomicWrite, atomicWriteJson, atomicWriteSync, SessionFileError, setLogger } = holdfast
