// Is the machine used well? Utilization and saturation of cores, memory and disk, by workers and by the server itself.
import { Dashboard, density, graph, number, quantile, rate, select } from './panels';

export const engine: Dashboard = {
  uid: 'normlab-engine',
  title: 'Normlab / Engine and host',
  description: 'What training and the server take of the machine, how fast steps are, and what is left.',
  rows: [
    {
      title: 'At a glance',
      panels: [
        number({
          title: 'Cores reserved', unit: 'percentunit',
          description: 'Share of the cores that jobs may use which running jobs hold. 100% with jobs waiting is a server that is used well.',
          queries: [{
            expr: `sum(${select('normlab_cores', 'kind="reserved"')}) / sum(${select('normlab_cores', 'kind="capacity"')})`,
            legend: 'reserved',
          }],
        }),
        number({
          title: 'Memory reserved', unit: 'percentunit',
          description: 'Share of the memory that jobs may use which running jobs have reserved.',
          queries: [{
            expr: `sum(${select('normlab_memory_bytes', 'kind="reserved"')}) / sum(${select('normlab_memory_bytes', 'kind="capacity"')})`,
            legend: 'reserved',
          }],
        }),
        number({
          title: 'Workers', unit: 'short',
          description: 'Worker processes that run, one for each running job.',
          queries: [{ expr: `sum(${select('normlab_workers')})`, legend: 'workers' }],
        }),
        number({
          title: 'Steps', unit: 'ops',
          description: 'Training steps per second, of all jobs.',
          queries: [{ expr: `sum(${rate('normlab_steps_total')})`, legend: 'steps' }],
        }),
        number({
          title: 'Examples', unit: 'cps',
          description: 'Training examples per second, of all jobs.',
          queries: [{ expr: `sum(${rate('normlab_examples_total')})`, legend: 'examples' }],
        }),
        number({
          title: 'Disk free', unit: 'percentunit', low: true, bad: 0.05, warn: 0.25,
          description: 'Of the disks of data folder and work folder the one that has least, on all servers. Below 25% and falling fast, or below 5%: an alert.',
          queries: [{
            // The second exists only where the work folder has a disk of its own; without a label the first would hide it.
            expr: `min(label_replace(${select('normlab_data_disk_free_bytes')} / ${select('normlab_data_disk_size_bytes')}, "disk", "data", "", "")`
              + ` or label_replace(${select('normlab_work_disk_free_bytes')} / ${select('normlab_work_disk_size_bytes')}, "disk", "work", "", ""))`,
            legend: 'free',
          }],
        }),
      ],
    },
    {
      title: 'Utilization',
      panels: [
        graph({
          title: 'Cores', unit: 'short', width: 12,
          description: 'Cores that jobs may use, that running jobs hold, and that their workers really keep busy. Busy far below reserved: workers wait (data, disk), or jobs ask for more threads than they can use.',
          queries: [
            { expr: `sum(${select('normlab_cores', 'kind="capacity"')})`, legend: 'capacity' },
            { expr: `sum(${select('normlab_cores', 'kind="reserved"')})`, legend: 'reserved' },
            { expr: `sum(${rate('normlab_worker_cpu_seconds_total')})`, legend: 'busy in workers' },
          ],
        }),
        graph({
          title: 'Memory', unit: 'bytes', width: 12, logarithmic: true, min: 1000000,
          description: 'Memory that jobs may reserve, that running jobs have reserved by their estimates, and that their workers and the server really have.',
          queries: [
            { expr: `sum(${select('normlab_memory_bytes', 'kind="capacity"')})`, legend: 'capacity' },
            { expr: `sum(${select('normlab_memory_bytes', 'kind="reserved"')})`, legend: 'reserved' },
            { expr: `sum(${select('normlab_worker_resident_memory_bytes')})`, legend: 'resident in workers' },
            { expr: `sum(${select('process_resident_memory_bytes')})`, legend: 'resident in the server' },
          ],
        }),
      ],
    },
    {
      title: 'Training speed',
      panels: [
        graph({
          title: 'Steps by model', unit: 'ops', width: 8, stacked: true,
          description: 'Training steps per second, by the model\'s family.',
          queries: [{ expr: `sum by (model) (${rate('normlab_steps_total')}) > 0`, legend: '{{model}}' }],
        }),
        graph({
          title: 'Examples by model', unit: 'cps', width: 8, stacked: true,
          description: 'Training examples per second, by the model\'s family.',
          queries: [{ expr: `sum by (model) (${rate('normlab_examples_total')}) > 0`, legend: '{{model}}' }],
        }),
        graph({
          title: 'Duration of a step', unit: 's', width: 8, logarithmic: true, min: 0.00001,
          description: 'Median and p99 by the model\'s family. p99 far above the median: something else wants the cores.',
          queries: [
            { expr: `${quantile(0.5, 'normlab_step_duration_seconds', '', ['model'])} >= 0`, legend: '{{model}} p50' },
            { expr: `${quantile(0.99, 'normlab_step_duration_seconds', '', ['model'])} >= 0`, legend: '{{model}} p99' },
          ],
        }),
        density({
          title: 'Steps by duration', unit: 's', width: 12, queries: [],
          description: 'How many steps took how long, all models together.',
          histogram: 'normlab_step_duration_seconds',
        }),
        graph({
          title: 'CPU time of a step', unit: 's', width: 12, logarithmic: true, min: 0.00001,
          description: 'CPU seconds of all workers over steps done: grows when steps get dearer, when workers wait spinning, or when evaluation, probes and checkpoints take a larger part.',
          queries: [{
            expr: `sum(${rate('normlab_worker_cpu_seconds_total')}) / (sum(${rate('normlab_steps_total')}) > 0)`,
            legend: 'CPU time a step',
          }],
        }),
      ],
    },
    {
      title: 'Saturation',
      panels: [
        graph({
          title: 'Queue', unit: 'short', width: 8,
          description: 'Jobs that wait for cores and memory. Growing for days: more machine is wanted.',
          queries: [{ expr: `sum by (instance) (${select('normlab_queue_depth')})`, legend: '{{instance}}' }],
        }),
        graph({
          title: 'Longest wait', unit: 's', width: 8,
          description: 'How long the job that has waited longest has waited by now.',
          queries: [{ expr: `max by (instance) (${select('normlab_queue_oldest_wait_seconds')})`, legend: '{{instance}}' }],
        }),
        graph({
          title: 'Memory against estimate', unit: 'percentunit', width: 8, limit: 1,
          description: 'Most memory that attempts had over what admission had reserved, of those that ended in the last 6 hours: median and p95. Near 100% is a good estimate; above, the machine may run out.',
          queries: [
            { expr: `histogram_quantile(0.5, sum by (le) (increase(${select('normlab_memory_estimate_ratio_bucket')}[6h]))) >= 0`, legend: 'p50' },
            { expr: `histogram_quantile(0.95, sum by (le) (increase(${select('normlab_memory_estimate_ratio_bucket')}[6h]))) >= 0`, legend: 'p95' },
          ],
        }),
      ],
    },
    {
      title: 'The server itself',
      panels: [
        graph({
          title: 'CPU of the server', unit: 'short', width: 8,
          description: 'Cores that normlabd keeps busy: calls, streams, commits, monitoring. Small beside what workers take.',
          queries: [{ expr: `sum by (instance) (${rate('process_cpu_seconds_total')})`, legend: '{{instance}}' }],
        }),
        graph({
          title: 'Open files', unit: 'percentunit', width: 8, limit: 0.8,
          description: 'Of those the server may have open: connections, workers, the database.',
          queries: [{ expr: `max by (instance) (${select('process_open_fds')} / ${select('process_max_fds')})`, legend: '{{instance}}' }],
        }),
        graph({
          title: 'Scrapes', unit: 's', width: 8,
          description: 'How long Prometheus took to read the metrics; the server\'s part is some milliseconds, whatever the number of jobs.',
          queries: [{ expr: `max by (instance) (${select('scrape_duration_seconds')})`, legend: '{{instance}}' }],
        }),
      ],
    },
  ],
};
