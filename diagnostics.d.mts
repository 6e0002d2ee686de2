export * from './diagnostics.js'
