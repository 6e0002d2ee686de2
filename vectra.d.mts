export * from './vectra.js'
