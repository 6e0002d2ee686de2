// A program of a user, for __test__/typescript-versions.test.js: it is compiled and never run.

import { atomicWrite, createAtomicWriteStream, openWal, readJsonFile, transaction, updateJsonFile, withLock, type Lock, SessionFileError } from 'holdfast'
import { channels } from 'holdfast/diagnostics'
import { AtomicFileStorage, AtomicOperations } from 'holdfast/vectra'
import lockfile from 'holdfast/compat/proper-lockfile'
import { readFile, writeFile, writeFileSync } from 'holdfast/compat/atomically'
import writeFileAtomic, { sync, type Options } from 'holdfast/compat/write-file-atomic'

export async function use(readOnly: boolean): Promise<number> {
  await atomicWrite('a', new Uint8Array(4), 'utf8')
  await atomicWrite(new URL('file:///a'), ['a', new Uint8Array(1)], { durability: 'none' })
  // @ts-expect-error a path
  await atomicWrite(1, 'a')
  const { turns } = await updateJsonFile('a.json', (data) => { data.turns++ }, { defaultValue: { turns: 0 } })
  // @ts-expect-error it replaces an object
  await updateJsonFile('a.json', (data) => data.turns, { defaultValue: { turns: 0 } })
  const theme: string = (await readJsonFile('b.json', { defaultValue: { theme: 'dark' } })).theme
  const result: number = await transaction(['a'], async (tx) => (await tx.read('a')).length + theme.length)
  await withLock('a', async (lock: Lock) => lock.kind)
  const wal = await openWal<{ n: number }>('w', { codec: 'json', readOnly })
  for await (const { payload } of wal.replay('c')) if (payload) await atomicWrite('n', String(payload.n))
  const writer = await openWal('w')
  await writer.append('c', [{ id: 'a', op: 'insert', payload: new Uint8Array(1) }])
  createAtomicWriteStream('c').end('x')
  channels.write.subscribe({ error: ({ error }) => void error })
  await AtomicOperations.writeFile('a', 'b')
  await new AtomicFileStorage('a').upsertFile('b', (await new AtomicFileStorage().listFiles('a', 'files'))[0]?.fileType ?? '')
  await (await lockfile.lock('a'))()
  const options: Options = { mode: '644', fsync: false, chown: false, tmpfileCreated: async (name: string) => void name }
  await writeFileAtomic('a', 'b', options)
  await writeFileAtomic('a', new Uint8Array(1), (error) => void error?.code)
  await writeFileAtomic('a', 'b', 'latin1', (error) => void error?.syscall)
  sync('a', 'b', { mode: null })
  await writeFile('a', 'b', { mode: false, timeout: 100, schedule: async () => () => {} }, (error) => { if (error) throw error })
  const text: string = await readFile('a', 'utf8')
  const bytes: Uint8Array = await readFile('a', { timeout: text.length })
  // @ts-expect-error bytes
  writeFileSync('a', bytes.length)
  // @ts-expect-error a path
  await writeFileAtomic(1, 'b')
  const error: unknown = undefined
  if (error instanceof SessionFileError && error.code === 'ENOENT') return error.attempts
  return turns + result
}
