// The types of `jsonFile` with schemas of the libraries that people have: the file holds the input, and what is read is the output.
// `npm run types` checks it; it is never run.

import { type as arktype } from 'arktype'
import * as v from 'valibot'
import { z } from 'zod'
import { jsonFile } from '../index.mjs'

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
/** Compiles only for `true`. */
declare function expect<T extends true>(): T

const zodFile = jsonFile('a.json', { schema: z.object({ at: z.iso.datetime().transform((text) => new Date(text)), n: z.number().default(0) }), defaultValue: { at: '2026-01-01T00:00:00Z' } })
expect<Equal<Awaited<ReturnType<typeof zodFile.read>>, { at: Date; n: number }>>()
const valibotFile = jsonFile('a.json', { schema: v.object({ n: v.number() }), defaultValue: { n: 1 } })
expect<Equal<Awaited<ReturnType<typeof valibotFile.read>>, { n: number }>>()
const arktypeFile = jsonFile('a.json', { schema: arktype({ n: 'number' }) })
expect<Equal<Awaited<ReturnType<typeof arktypeFile.read>>, { n: number }>>()
// @ts-expect-error the default is an input of the schema
jsonFile('a.json', { schema: z.object({ n: z.number() }), defaultValue: { n: 'one' } })
for await (const { n } of valibotFile.watch({ debounce: 10 })) expect<Equal<typeof n, number>>()
