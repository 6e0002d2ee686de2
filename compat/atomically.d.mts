export * from './atomically.js'
