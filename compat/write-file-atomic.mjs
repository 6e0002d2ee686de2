// One implementation for both module systems.
import writeFile from './write-file-atomic.js'

export default writeFile
export const { sync } = writeFile
