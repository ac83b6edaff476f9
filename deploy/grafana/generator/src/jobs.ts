// What becomes of jobs? States, ends, waiting, checkpoints, restarts.
import { Dashboard, density, graph, number, quantile, rate, select } from './panels';

const ENDS = 'state=~"SUCCEEDED|DIVERGED|FAILED|CANCELLED"';

export const jobs: Dashboard = {
  uid: 'normlab-jobs',
  title: 'Normlab / Jobs and training',
  description: 'Jobs on their way from the queue to their end; attempts, checkpoints and restarts. Curves of single jobs: normlab report.',
  rows: [
    {
      title: 'At a glance',
      panels: [
        number({
          title: 'Running', unit: 'short',
          description: 'Jobs whose worker trains or is being started.',
          queries: [{ expr: `sum(${select('normlab_jobs', 'state=~"RUNNING|STARTING"')})`, legend: 'running' }],
        }),
        number({
          title: 'Waiting', unit: 'short',
          description: 'Jobs that wait for cores and memory.',
          queries: [{ expr: `sum(${select('normlab_jobs', 'state="QUEUED"')})`, legend: 'waiting' }],
        }),
        number({
          title: 'Ended in the last hour', unit: 'short', decimals: 0,
          description: 'Jobs that came to an end of any kind.',
          queries: [{ expr: `sum(increase(${select('normlab_job_transitions_total', ENDS)}[1h]))`, legend: 'ended' }],
        }),
        number({
          title: 'Failed in the last hour', unit: 'short', decimals: 0, warn: 1, bad: 10,
          description: 'Jobs that ended FAILED. `normlab list --filter state=FAILED` names them, `normlab get` says why and what to do.',
          queries: [{ expr: `sum(increase(${select('normlab_job_transitions_total', 'state="FAILED"')}[1h]))`, legend: 'failed' }],
        }),
        number({
          title: 'Last report', unit: 's', warn: 600, bad: 1800,
          description: 'Longest time for which a connected worker has had no report stored. Grows with very long steps, or when a worker hangs.',
          queries: [{ expr: `max(${select('normlab_worker_report_age_seconds')})`, legend: 'age' }],
        }),
        number({
          title: 'Replay mismatches', unit: 'short', bad: 1,
          description: 'Points that a resumed attempt computed differently from what was stored, since the servers\' start. Anything but 0 is a bug: see the alert NormlabReplayMismatch.',
          queries: [{ expr: `sum(increase(${select('normlab_replay_mismatches_total')}[1d]))`, legend: 'mismatches' }],
        }),
      ],
    },
    {
      title: 'States',
      panels: [
        graph({
          title: 'Unfinished jobs', unit: 'short', width: 12, stacked: true,
          description: 'Jobs that are not over, by state.',
          queries: [{ expr: `sum by (state) (${select('normlab_jobs', 'state=~"QUEUED|STARTING|RUNNING|PAUSED"')})`, legend: '{{state}}' }],
        }),
        graph({
          title: 'Ends', unit: 'cpm', width: 6, stacked: true,
          description: 'Jobs that ended, per minute, by how.',
          queries: [{ expr: `60 * sum by (state) (${rate('normlab_job_transitions_total', ENDS)})`, legend: '{{state}}' }],
        }),
        graph({
          title: 'Stored jobs', unit: 'short', width: 6, stacked: true,
          description: 'Jobs that are over and kept, by state. --retention_days removes old ones.',
          queries: [{ expr: `sum by (state) (${select('normlab_jobs', ENDS)})`, legend: '{{state}}' }],
        }),
      ],
    },
    {
      title: 'Queue',
      panels: [
        graph({
          title: 'Wait before a start', unit: 's', width: 12, logarithmic: true, min: 0.001,
          description: 'How long jobs that were started had waited: half of them, and 95 of 100.',
          queries: [
            { expr: `${quantile(0.5, 'normlab_queue_wait_seconds')} >= 0`, legend: 'p50' },
            { expr: `${quantile(0.95, 'normlab_queue_wait_seconds')} >= 0`, legend: 'p95' },
          ],
        }),
        density({
          title: 'Starts by wait', unit: 's', width: 12, queries: [],
          description: 'How many jobs were started after which wait.',
          histogram: 'normlab_queue_wait_seconds',
        }),
      ],
    },
    {
      title: 'Attempts',
      panels: [
        graph({
          title: 'Attempts that ended', unit: 'cpm', width: 12, stacked: true,
          description: 'Per minute, by outcome. WORKER_CRASHED, OUT_OF_MEMORY, INTERNAL: docs/operations.md, "When a job fails". PAUSED and SERVER_DRAINED are wanted.',
          queries: [{ expr: `60 * sum by (outcome) (${rate('normlab_attempts_total')}) > 0`, legend: '{{outcome}}' }],
        }),
        graph({
          title: 'Started', unit: 'cpm', width: 6,
          description: 'Worker processes started, per minute.',
          queries: [{ expr: `60 * sum by (instance) (${rate('normlab_attempts_started_total')})`, legend: '{{instance}}' }],
        }),
        graph({
          title: 'Late reports refused', unit: 'cpm', width: 6,
          description: 'Hellos and reports of attempts that are over, per minute: workers that came back after their job was given to another.',
          queries: [{ expr: `60 * sum by (instance) (${rate('normlab_fenced_reports_total')})`, legend: '{{instance}}' }],
        }),
      ],
    },
    {
      title: 'Training',
      panels: [
        graph({
          title: 'Steps', unit: 'ops', width: 8,
          description: 'Training steps per second, of all jobs of a server.',
          queries: [{ expr: `sum by (instance) (${rate('normlab_steps_total')})`, legend: '{{instance}}' }],
        }),
        graph({
          title: 'Points stored', unit: 'wps', width: 8,
          description: 'Metric points stored per second: losses, accuracies, probes.',
          queries: [{ expr: `sum by (instance) (${rate('normlab_metric_points_total')})`, legend: '{{instance}}' }],
        }),
        graph({
          title: 'Duration of a step, by model', unit: 's', width: 8, logarithmic: true, min: 0.00001,
          description: 'Median by the model\'s family.',
          queries: [{ expr: `${quantile(0.5, 'normlab_step_duration_seconds', '', ['model'])} >= 0`, legend: '{{model}}' }],
        }),
      ],
    },
    {
      title: 'Checkpoints and restarts',
      panels: [
        graph({
          title: 'Checkpoints', unit: 's', width: 8, logarithmic: true, min: 0.0001,
          description: 'How long writing one takes, forced to the disk.',
          queries: [
            { expr: `${quantile(0.5, 'normlab_checkpoint_duration_seconds')} >= 0`, legend: 'p50' },
            { expr: `${quantile(0.99, 'normlab_checkpoint_duration_seconds')} >= 0`, legend: 'p99' },
          ],
        }),
        graph({
          title: 'Checkpoint bytes', unit: 'Bps', width: 8,
          description: 'Bytes of checkpoints written per second.',
          queries: [{ expr: `sum by (instance) (${rate('normlab_checkpoint_bytes_total')})`, legend: '{{instance}}' }],
        }),
        graph({
          title: 'Jobs found at the start', unit: 'short', width: 8,
          description: 'Unfinished jobs that the server found when it was started last, by how they came through. `failed` is an alert.',
          queries: [{ expr: `max by (how) (${select('normlab_jobs_recovered_total')})`, legend: '{{how}}' }],
        }),
      ],
    },
  ],
};
