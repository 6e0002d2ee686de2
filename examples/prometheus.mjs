// Metrics of holdfast for Prometheus, by prom-client: read when they are asked for, so that nothing runs in between.
//
//   registerHoldfast(register)

import { metrics } from 'holdfast'

/** Seconds, as Prometheus has durations. @param {number} milliseconds */
const seconds = (milliseconds) => milliseconds / 1000

/**
 * The values of a histogram.
 *
 * @param {string} name
 * @param {import('holdfast').Histogram} histogram
 * @param {Record<string, string>} labels
 */
function valuesOf(name, { count, sum, buckets }, labels) {
  return [
    ...buckets.map(({ le, count }) => ({ metricName: `${name}_bucket`, labels: { ...labels, le: seconds(le) }, value: count })),
    { metricName: `${name}_bucket`, labels: { ...labels, le: '+Inf' }, value: count },
    { metricName: `${name}_sum`, labels, value: seconds(sum) },
    { metricName: `${name}_count`, labels, value: count },
  ]
}

/** @param {import('prom-client').Registry} registry */
export function registerHoldfast(registry) {
  const register = (type, name, help, values) =>
    registry.registerMetric({ name, help, type, aggregator: 'sum', reset() {}, get: async () => ({ name, help, type, aggregator: 'sum', values: values(metrics(), name) }) })
  const counters = (name, help, label, read) =>
    register('counter', name, help, (all) => Object.entries(read(all)).map(([key, value]) => ({ labels: { [label]: key }, value })))
  const histograms = (name, help, label, read) =>
    register('histogram', name, help, (all) => Object.entries(read(all)).flatMap(([key, histogram]) => valuesOf(name, histogram, { [label]: key })))

  counters('holdfast_writes_total', 'Writes that succeeded', 'durability', ({ writes }) => writes.acknowledged)
  counters('holdfast_write_errors_total', 'Writes that failed', 'code', ({ writes }) => writes.failed)
  histograms('holdfast_write_seconds', 'From the call to its answer', 'durability', ({ writes }) => writes.latency)
  histograms('holdfast_lock_wait_seconds', 'Waits for locks', 'kind', ({ locks }) => locks.wait)
  histograms('holdfast_lock_hold_seconds', 'How long locks were held', 'kind', ({ locks }) => locks.hold)
  histograms('holdfast_sync_seconds', 'Waits for the disk', 'call', ({ syncs: { failed, ...calls } }) => calls)
}
