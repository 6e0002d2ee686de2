// Settings over HTTP: several server processes, one directory of JSON files, and clients that do not overwrite each other.
//
// The story: the server read a file, merged what a client had sent, and wrote it back. Two requests at once lost one of the
// changes, a full disk left an empty file, and each failure was a 500. Here the check of the condition, the
// merge and the write are one update under a lock, and each failure has its own answer:
//
//   200, 201  done, and on the disk: a power cut does not take it back
//   404       there are no such settings
//   409       they are there already (POST makes new ones)
//   412       they are not what the client has seen (If-Match): it reads again, and tries again
//   400, 422  the body is not JSON, or not what settings are
//   428       PATCH needs If-Match
//   503       somebody has had the lock for long, or the disk is full: nothing has changed; try again later
//
//   node examples/settings-server.mjs [port] [directory]

import { createHash } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { createServer } from 'node:http'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { atomicWriteJson, readJsonFile, updateJsonFile } from 'holdfast'

/** How long a request waits for others that change the same settings, in milliseconds. */
const PATIENCE = 500

class Refusal extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message)
    this.status = status
  }
}

/** The version that a client has seen. @param {object} settings */
function tagOf(settings) {
  return `"${createHash('sha256').update(JSON.stringify(settings)).digest('base64url').slice(0, 22)}"`
}

/** @param {unknown} value @returns {Record<string, string | number | boolean | null>} */
function settingsOf(value) {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Refusal(422, 'settings are an object')
  for (const [key, setting] of Object.entries(value)) {
    if (typeof setting === 'object' && setting !== null) throw new Refusal(422, `"${key}" is neither a string, a number, true, false nor null`)
  }
  return /** @type {any} */ (value)
}

/** @param {import('node:http').IncomingMessage} request */
async function bodyOf(request) {
  const chunks = []
  for await (const chunk of request) chunks.push(chunk)
  try {
    return settingsOf(JSON.parse(Buffer.concat(chunks).toString()))
  } catch (error) {
    throw error instanceof SyntaxError ? new Refusal(400, `the body is not JSON: ${error.message}`) : error
  }
}

/** The answer to what went wrong. @param {any} error */
function refusalOf(error) {
  if (error instanceof Refusal) return error
  switch (error.code) {
    case 'ENOENT': return new Refusal(404, 'there are no such settings')
    case 'EEXIST': return new Refusal(409, 'there are such settings already')
    case 'ELOCKED': case 'ENOSPC': case 'EDQUOT': case 'EMFILE': case 'ENFILE': return new Refusal(503, error.message)
    default: return new Refusal(500, error.message)
  }
}

/** @param {string} dir */
export function settingsServer(dir) {
  return createServer(async (request, response) => {
    /** @param {number} status @param {object} body @param {Record<string, string>} [headers] */
    const answer = (status, body, headers) => response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(`${JSON.stringify(body)}\n`)
    try {
      const [, name = ''] = /^\/settings\/([a-z0-9-]{1,64})$/.exec(request.url ?? '') ?? []
      if (name === '') throw new Refusal(404, 'settings are at /settings/<name>')
      const file = path.join(dir, `${name}.json`)
      const expected = request.headers['if-match']
      switch (request.method) {
        case 'GET': {
          const settings = await readJsonFile(file)
          return answer(200, settings, { etag: tagOf(settings) })
        }
        case 'POST': {
          const settings = await bodyOf(request)
          await atomicWriteJson(file, settings, { createOnly: true, indent: 2, finalNewline: true })
          return answer(201, settings, { etag: tagOf(settings) })
        }
        case 'PATCH': {
          if (expected === undefined) throw new Refusal(428, 'say by If-Match which settings are changed')
          const changes = await bodyOf(request)
          const settings = await updateJsonFile(file, (current) => {
            // Thrown in the update: nothing is written, and the next one has its turn.
            if (tagOf(current) !== expected) throw new Refusal(412, 'the settings have been changed')
            return settingsOf({ ...current, ...changes })
          }, { timeout: PATIENCE })
          return answer(200, settings, { etag: tagOf(settings) })
        }
        default:
          throw new Refusal(405, 'GET, POST and PATCH are there')
      }
    } catch (error) {
      const { status, message } = refusalOf(error)
      answer(status, { error: message }, status === 503 ? { 'retry-after': '1' } : {})
    }
  })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , port = '8080', dir = 'settings'] = process.argv
  await mkdir(dir, { recursive: true })
  const server = settingsServer(dir).listen(Number(port), '127.0.0.1', () => {
    const address = server.address()
    console.log(`settings of ${path.resolve(dir)} at http://127.0.0.1:${typeof address === 'object' && address?.port}/settings/<name>`)
  })
}
