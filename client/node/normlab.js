// Normlab from Node, with the public .proto files and nothing generated: submit, watch without a gap across restarts of the
// server, read metrics.
'use strict';
const path = require('path');
const { randomUUID } = require('crypto');
const { setTimeout: sleep } = require('timers/promises');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const PROTO = process.env.NORMLAB_PROTO || path.join(__dirname, '..', '..', 'proto');
const TERMINAL = new Set(['SUCCEEDED', 'DIVERGED', 'FAILED', 'CANCELLED']);

const v1 = grpc.loadPackageDefinition(protoLoader.loadSync(
  ['normlab/v1/jobs.proto', 'normlab/v1/normalization.proto'],
  // Sequences and steps stay exact: as numbers they would be so only up to 2^53.
  { includeDirs: [PROTO], keepCase: true, longs: String, enums: String, defaults: true, oneofs: true })).normlab.v1;

// Whether a call that ended so is worth repeating: the server is being restarted, or cut off a slow reader.
const isResumable = (error) =>
  [grpc.status.UNAVAILABLE, grpc.status.ABORTED, grpc.status.CANCELLED].includes(error.code);

class Normlab {
  // address: HOST:PORT. options: {token, ca: Buffer with the authority's PEM, reconnectFor: seconds}
  constructor(address, options = {}) {
    const credentials = options.ca ? grpc.credentials.createSsl(options.ca) : grpc.credentials.createInsecure();
    const channel = {
      'grpc.initial_reconnect_backoff_ms': 100, 'grpc.max_reconnect_backoff_ms': 1000,
      'grpc.max_receive_message_length': 160 << 20, 'grpc.keepalive_time_ms': 10000, 'grpc.keepalive_timeout_ms': 10000,
    };
    this.jobs = new v1.Jobs(address, credentials, channel);
    this.server = new v1.Server(address, credentials, channel);
    this.metadata = new grpc.Metadata();
    if (options.token) this.metadata.set('authorization', `Bearer ${options.token}`);
    this.reconnectFor = options.reconnectFor ?? 600;
  }

  close() {
    this.jobs.close();
    this.server.close();
  }

  call(stub, method, request) {
    return new Promise((resolve, reject) => {
      stub[method](request, this.metadata, { deadline: Date.now() + 60000 },
        (error, answer) => (error ? reject(error) : resolve(answer)));
    });
  }

  info() { return this.call(this.server, 'GetServerInfo', {}); }

  get(name) { return this.call(this.jobs, 'GetJob', { name }); }

  // Stores a job; the request id makes a repetition harmless.
  submit(spec, requestId = randomUUID()) {
    return this.call(this.jobs, 'CreateJob', { job: { spec }, request_id: requestId });
  }

  // Every record after `after`, in order and exactly once, to the end of the job: {sequence, step, values},
  // {sequence, state, message} or {sequence, log}.
  async* watch(name, after = 0) {
    const names = new Map(); // of series, by id; they keep their meaning across streams
    let last = BigInt(after);
    let giveUpAt = 0;
    for (;;) {
      const stream = this.jobs.WatchJob({ name, after_sequence: last.toString() }, this.metadata);
      try {
        for await (const message of stream) {
          giveUpAt = 0;
          if (message.event === 'heartbeat') {
            const sent = BigInt(message.heartbeat.sequence);
            if (sent > last) throw new Error(`everything up to ${sent} was sent, but ${last} came last: a bug of the server`);
            continue;
          }
          if (message.event !== 'records') continue; // of a newer version
          const batch = message.records;
          if (BigInt(batch.first_sequence) !== last + 1n) {
            throw new Error(`record ${batch.first_sequence} came after ${last}: a bug of the server`);
          }
          for (const series of batch.new_series) names.set(series.id, series.name);
          for (const segment of batch.segments) {
            for (const record of records(segment, names)) {
              last += 1n;
              yield { sequence: last.toString(), ...record };
              if (TERMINAL.has(record.state)) return;
            }
          }
        }
        // An end without the last record: nothing was left to show, or the server forgot to say why.
        const job = await this.get(name);
        if (TERMINAL.has(job.state) && BigInt(job.last_sequence) <= last) return;
        throw Object.assign(new Error('the server ended the stream before the job'), { code: grpc.status.UNAVAILABLE });
      } catch (error) {
        if (!isResumable(error)) throw error;
        giveUpAt = giveUpAt || Date.now() + 1000 * this.reconnectFor;
        if (Date.now() > giveUpAt) throw error;
      } finally {
        stream.cancel();
      }
      await sleep(200);
    }
  }

  // Stored points by series: {'train/loss': {steps: [...], values: Float64Array}}; maxPoints 0: all.
  async metrics(name, series = [], maxPoints = 0) {
    const found = {};
    const request = { name, series, max_points: maxPoints, position: '' };
    for (let tries = 0; ; ++tries) {
      const stream = this.jobs.ReadMetrics(request, this.metadata);
      try {
        for await (const part of stream) {
          const points = found[part.series] ||= { steps: [], values: [] };
          points.steps.push(...part.steps);
          points.values.push(...part.values);
          request.position = part.position;
        }
        break;
      } catch (error) {
        if (!isResumable(error) || tries > 20) throw error;
        await sleep(200);
      }
    }
    for (const points of Object.values(found)) points.values = Float64Array.from(points.values);
    return found;
  }
}

function* records(segment, names) {
  if (segment.kind === 'metrics') {
    const { series, steps, values } = segment.metrics;
    for (let row = 0; row < steps.length; ++row) {
      const at = {};
      series.forEach((id, column) => { at[names.get(id)] = values[row * series.length + column]; });
      yield { step: steps[row], values: at };
    }
  } else if (segment.kind === 'state') {
    yield { state: segment.state.state, message: segment.state.message };
  } else {
    yield { log: segment.log.text };
  }
}

module.exports = { Normlab };
