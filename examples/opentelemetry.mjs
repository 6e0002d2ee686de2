// Spans of OpenTelemetry for what holdfast does: a span for each call, those of an update's lock and write within it.
//
//   traceHoldfast(trace.getTracer('holdfast'))

import { AsyncLocalStorage } from 'node:async_hooks'
import { SpanStatusCode, context, trace } from '@opentelemetry/api'
import { channels } from 'holdfast/diagnostics'

/** The span that the running code is in, if it is one of holdfast's. */
const current = new AsyncLocalStorage()

const TRACES = ['write', 'update', 'lock', 'backup', 'transaction', 'wal']

/**
 * Makes spans from now on.
 *
 * @param {import('@opentelemetry/api').Tracer} tracer
 * @returns {() => void} ends that
 */
export function traceHoldfast(tracer) {
  /** By the context of a call. */
  const spans = new WeakMap()

  function start(call) {
    const parent = current.getStore()
    const { operation, path, paths, dir } = call
    const around = parent ? trace.setSpan(context.active(), parent) : context.active()
    const span = tracer.startSpan(`holdfast ${operation}`, { attributes: { 'file.path': path ?? dir ?? paths?.join(', ') } }, around)
    spans.set(call, span)
    return span
  }

  function finish(call) {
    const span = spans.get(call)
    if (!span) return
    spans.delete(call)
    if (call.size !== undefined) span.setAttribute('file.size', call.size)
    if ('error' in call) {
      if (call.error instanceof Error) span.recordException(call.error)
      span.setStatus({ code: SpanStatusCode.ERROR, message: call.error?.code })
    }
    span.end()
  }

  const subscribers = {
    // A synchronous call is over here, and has an outcome.
    end: (call) => ('result' in call || 'error' in call) && finish(call),
    asyncEnd: finish,
  }
  for (const name of TRACES) {
    channels[name].start.bindStore(current, start)
    channels[name].subscribe(subscribers)
  }
  return () => {
    for (const name of TRACES) {
      channels[name].start.unbindStore(current)
      channels[name].unsubscribe(subscribers)
    }
  }
}
