// Is the service well? Rate, errors and duration of calls; streams; what it stores.
import { Dashboard, density, graph, number, quantile, rate, select } from './panels';

// Codes that are the server's fault; all others the caller can mend.
const FAULTS = 'grpc_code=~"Unknown|DeadlineExceeded|Internal|Unavailable|DataLoss"';
const SUBMITS = 'grpc_method=~"CreateJob|CreateExperiment"';
const UNARY = 'grpc_type="unary"';
// What nobody has called is left out.
const CALLED = ' > 0';

export const service: Dashboard = {
  uid: 'normlab-service',
  title: 'Normlab / Service',
  description: 'Calls, streams and storage of normlabd: is it well, and do people get what they ask for?',
  rows: [
    {
      title: 'At a glance',
      panels: [
        number({
          title: 'Servers up', unit: 'short', low: true, bad: 1, warn: 1,
          description: 'Servers that Prometheus reached at its last scrape. Below the number that you run: see the alert NormlabDown.',
          queries: [{ expr: `sum(${select('up')})`, legend: 'up' }],
        }),
        number({
          title: 'Uptime', unit: 's', decimals: 0,
          description: 'Since the start of the server that was started last.',
          queries: [{ expr: `min(time() - ${select('process_start_time_seconds')})`, legend: 'uptime' }],
        }),
        number({
          title: 'Calls', unit: 'reqps',
          description: 'Calls ended per second, of all kinds.',
          queries: [{ expr: `sum(${rate('grpc_server_handled_total')})`, legend: 'calls' }],
        }),
        number({
          title: 'Server faults', unit: 'percentunit', warn: 0.001, bad: 0.01,
          description: 'Share of calls that ended with Unknown, DeadlineExceeded, Internal, Unavailable or DataLoss. Anything but 0 is worth a look at the log.',
          queries: [{
            expr: `(sum(${rate('grpc_server_handled_total', FAULTS)}) or vector(0)) / (sum(${rate('grpc_server_handled_total')}) > 0)`,
            legend: 'faults',
          }],
        }),
        number({
          title: 'Submission p99', unit: 's', warn: 0.1, bad: 1,
          description: 'Time within which 99 of 100 CreateJob calls were answered, durable on disk. The first one of a data set takes longer: it is decoded.',
          queries: [{ expr: quantile(0.99, 'grpc_server_handling_seconds', 'grpc_method="CreateJob"'), legend: 'p99' }],
        }),
        number({
          title: 'Ready', unit: 'short', low: true, bad: 1, warn: 1,
          description: '1 while every server takes and starts jobs. 0: a full disk, an I/O error, damaged data or a work folder that is not there, see the alerts NormlabStoreUnhealthy and NormlabNotReady.',
          queries: [{ expr: `min(${select('normlab_ready')})`, legend: 'ready' }],
        }),
      ],
    },
    {
      title: 'Rate',
      panels: [
        graph({
          title: 'Calls by method', unit: 'reqps', width: 12, stacked: true,
          description: 'Calls ended per second. Methods that nobody calls are left out.',
          queries: [{ expr: `sum by (grpc_method) (${rate('grpc_server_handled_total')})${CALLED}`, legend: '{{grpc_method}}' }],
        }),
        graph({
          title: 'Submissions', unit: 'reqps', width: 6,
          description: 'Jobs and experiments submitted per second, and those refused or failed.',
          queries: [
            { expr: `sum(${rate('grpc_server_handled_total', `${SUBMITS}, grpc_code="OK"`)})`, legend: 'accepted' },
            { expr: `sum(${rate('grpc_server_handled_total', `${SUBMITS}, grpc_code!="OK"`)})`, legend: 'not accepted' },
          ],
        }),
        graph({
          title: 'Messages on streams', unit: 'cps', width: 6,
          description: 'Messages per second: to those who watch, and from workers.',
          queries: [
            { expr: `sum(${rate('grpc_server_msg_sent_total', 'grpc_type="server_stream"')})`, legend: 'to readers' },
            { expr: `sum(${rate('grpc_server_msg_received_total', 'grpc_method="Report"')})`, legend: 'from workers' },
          ],
        }),
      ],
    },
    {
      title: 'Errors',
      panels: [
        graph({
          title: 'Calls that did not succeed', unit: 'reqps', width: 8, stacked: true,
          description: 'By code. InvalidArgument, NotFound, FailedPrecondition: callers\' mistakes, with a message that says what to do. Canceled: the caller went away.',
          queries: [{ expr: `sum by (grpc_code) (${rate('grpc_server_handled_total', 'grpc_code!="OK"')})${CALLED}`, legend: '{{grpc_code}}' }],
        }),
        graph({
          title: 'Calls refused', unit: 'reqps', width: 8,
          description: 'For who made them (UNAUTHENTICATED, PERMISSION_DENIED) or for how often they came (RESOURCE_EXHAUSTED).',
          queries: [{ expr: `sum by (code) (${rate('normlab_calls_refused_total')})`, legend: '{{code}}' }],
        }),
        graph({
          title: 'Error budget of submissions', unit: 'percentunit', width: 8, limit: 0.0144,
          description: 'Share of submissions that failed through the server\'s fault, in the last hour and the last six. The objective is 0.1% over 30 days; the dashed line is the fast-burn alert.',
          queries: [
            { expr: `max(${select('instance:normlab_submit_failures:ratio_rate1h')}) or vector(0)`, legend: '1 h' },
            { expr: `max(${select('instance:normlab_submit_failures:ratio_rate6h')}) or vector(0)`, legend: '6 h' },
          ],
        }),
      ],
    },
    {
      title: 'Duration',
      panels: [
        graph({
          title: 'p99 of unary calls', unit: 's', width: 12, logarithmic: true, min: 0.0001,
          description: 'Time within which 99 of 100 calls were answered, by method. CreateJob and Normalize may take seconds the first time they see a data set or start the helper.',
          queries: [{ expr: `${quantile(0.99, 'grpc_server_handling_seconds', UNARY, ['grpc_method'])} >= 0`, legend: '{{grpc_method}}' }],
        }),
        density({
          title: 'Unary calls by duration', unit: 's', width: 12, queries: [],
          description: 'How many calls took how long. Two bands: cheap and dear calls. A band that climbs: the disk or the machine is overloaded.',
          histogram: 'grpc_server_handling_seconds', matchers: UNARY,
        }),
      ],
    },
    {
      title: 'Streams',
      panels: [
        graph({
          title: 'Subscribers', unit: 'short', width: 8,
          description: 'Streams that follow a job or an experiment (watch, logs --follow, reports).',
          queries: [{ expr: `sum by (instance) (${select('normlab_stream_subscribers')})`, legend: '{{instance}}' }],
        }),
        graph({
          title: 'Furthest behind', unit: 'short', width: 8,
          description: 'Records that are stored and that the slowest reader has not been sent. High for a moment when somebody reads a long history; high for long: a reader that cannot keep up.',
          queries: [{ expr: `max by (instance) (${select('normlab_stream_lag_records')})`, legend: '{{instance}}' }],
        }),
        graph({
          title: 'Streams cut off', unit: 'cps', width: 8,
          description: 'Streams ended because nobody took a message for --stream_write_timeout. Their readers can go on where they were.',
          queries: [{ expr: `sum by (instance) (${rate('normlab_streams_cut_off_total')})`, legend: '{{instance}}' }],
        }),
      ],
    },
    {
      title: 'Storage',
      panels: [
        graph({
          title: 'Commits', unit: 's', width: 8, logarithmic: true, min: 0.00001,
          description: 'Duration of database commits, each forced to the disk. Above 0.25 s for 10 minutes: the alert NormlabCommitsSlow.',
          queries: [
            { expr: `${quantile(0.5, 'normlab_commit_duration_seconds')} >= 0`, legend: 'p50' },
            { expr: `max(${select('instance:normlab_commit_duration_seconds:p99_5m')}) >= 0`, legend: 'p99 of 5 min' },
          ],
        }),
        graph({
          title: 'Operations written', unit: 'wps', width: 8,
          description: 'Write operations per second and how many shared one commit: the busier, the more are committed together.',
          queries: [
            { expr: `sum(${rate('normlab_commit_operations_total')})`, legend: 'operations' },
            { expr: `sum(${rate('normlab_commit_duration_seconds_count')})`, legend: 'commits' },
          ],
        }),
        graph({
          title: 'Data disk', unit: 'bytes', width: 8,
          description: 'What may still be written to the disk of the data folder, and what the database takes of it (wal: not yet merged into the main file).',
          queries: [
            { expr: `min by (instance) (${select('normlab_data_disk_free_bytes')})`, legend: 'free on {{instance}}' },
            { expr: `sum by (file) (${select('normlab_database_bytes')})`, legend: 'database {{file}}' },
          ],
        }),
      ],
    },
  ],
};
