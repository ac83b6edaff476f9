"""Experiments, through the command line and real processes: sweeps, exactly once under kill -9, cancel, delete, summaries."""
import json
import math
import os
import signal
import statistics
import subprocess
import threading
import time

from normlab_testing import (BIN, EXIT_CANCELLED, EXIT_OK, EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE, PATIENCE,
                             ServerTest, long_spec, main, tiny_spec, wait_for)

# Student's t for a two-sided 95% interval of 3 values.
T_95_2 = 4.302652729911275


class ExperimentsTest(ServerTest):

    def sweep(self, spec, *arguments, check=EXIT_OK, stdin=None):
        return self.server.cli('sweep', '-', *arguments, '--output', 'json', check=check,
                               stdin=stdin or json.dumps(spec))

    def experiment(self, verb, *arguments, check=EXIT_OK):
        return self.server.cli('experiment', verb, *arguments, '--output', 'json', check=check)

    def jobs_of(self, name):
        return self.server.cli('list', '--all', '--filter', f'experiment={name}', '--output', 'json',
                               check=EXIT_OK).json()['jobs']

    def test_a_sweep_runs_and_is_summarized(self):
        done = self.sweep(tiny_spec(display_name='rates'), '--axis', 'normalization=none,batch', '--axis',
                          'optimizer.sgd.learning_rate=0.05,0.5', '--seeds', '3', '--wait').json()
        name = done['name']
        self.assertEqual(done['counts'], {'succeeded': 12})
        self.assertEqual(len(done['cells']), 4)
        self.assertEqual(done['cells'][3]['values'],
                         {'normalization': 'batch', 'optimizer.sgd.learning_rate': '0.5'})
        self.assertIn('endTime', done)
        jobs = {job['name']: job for job in self.jobs_of(name)}
        self.assertEqual(sorted(jobs), sorted(job for cell in done['cells'] for job in cell['jobs']))
        job = jobs[done['cells'][2]['jobs'][1]]
        self.assertEqual(job['experiment'], name)
        self.assertEqual(job['spec']['seed'], 2)
        self.assertEqual(job['displayName'], 'rates: normalization=batch, learning_rate=0.05, seed=2')
        self.assertEqual(job['labels'], {'normalization': 'batch', 'learning_rate': '0.05'})
        # A cell and a seed are what the same spec submitted alone is.
        alone = self.server.submit(tiny_spec(seed=2, optimizer={'sgd': {'learning_rate': 0.05}}), '--wait')
        self.assertEqual(alone['result']['weightsSha256'],
                         self.server.get(job['name'])['result']['weightsSha256'])

        # Against the curves themselves.
        summary = self.experiment('summary', name, '--baseline', '0', '--series',
                                  'train/loss,test/accuracy').json()
        last = {}
        for cell in done['cells']:
            for job_name in cell['jobs']:
                metrics = self.server.metrics(job_name)
                last[job_name] = {series: float(points[-1][1]) for series, points in metrics.items()}
        for cell, shown in zip(done['cells'], summary['cells']):
            self.assertEqual(shown['counts'], {'succeeded': 3})
            for statistic in shown['statistics']:
                series = statistic['series']
                values = [last[job_name][series] for job_name in cell['jobs']]
                base = [last[job_name][series] for job_name in done['cells'][0]['jobs']]
                self.assertEqual(statistic['perSeed'], values)
                self.assertEqual(statistic['n'], 3)
                self.assertAlmostEqual(statistic.get('mean', 0), statistics.mean(values), 12)
                half = T_95_2 * statistics.stdev(values) / math.sqrt(3)
                self.assertAlmostEqual(statistic.get('intervalHigh', 0), statistics.mean(values) + half, 9)
                differences = [a - b for a, b in zip(values, base)]
                self.assertAlmostEqual(statistic['differenceMean'], statistics.mean(differences), 12)
                half = T_95_2 * statistics.stdev(differences) / math.sqrt(3)
                self.assertAlmostEqual(statistic['differenceLow'], statistics.mean(differences) - half, 9)
        text = self.server.cli('compare', name, check=EXIT_OK).out
        self.assertIn('learning_rate', text)
        self.assertIn('step 0', text)

        self.assertEqual([e['name'] for e in self.experiment('list').json()['experiments']], [name])
        self.server.cli('experiment', 'delete', name, check=EXIT_OK)
        self.assertEqual(self.jobs_of(name), [])
        self.experiment('get', name, check=EXIT_REFUSED)
        self.server.cli('get', job['name'], check=EXIT_REFUSED)
        self.assertEqual(self.server.get(alone['name'])['state'], 'SUCCEEDED')

    def test_a_diverged_run_is_a_result_and_counted(self):
        # Linear regression with far too large a rate.
        spec = {'model': {'mlp': {'hidden': []}}, 'normalization': {'none': {}},
                'data': {'linear_regression': {}}, 'batch_size': 20, 'steps': 200}
        result = self.sweep(spec, '--axis', 'optimizer.sgd.learning_rate=0.001,1000', '--seeds', '2', '--wait')
        done = result.json()
        self.assertEqual(done['counts'], {'succeeded': 2, 'diverged': 2})
        summary = self.experiment('summary', done['name']).json()
        self.assertEqual(summary['cells'][1]['counts'], {'diverged': 2})
        for statistic in summary['cells'][1]['statistics']:
            self.assertEqual(statistic.get('n', 0), 0)
            self.assertEqual(statistic['perSeed'], ['NaN', 'NaN'])
        self.assertEqual(summary['cells'][0]['statistics'][0]['n'], 2)

    def test_bad_sweeps_are_refused_with_path_and_nearest_name(self):
        def refused(*arguments):
            result = self.server.cli('sweep', '-', *arguments, stdin=json.dumps(tiny_spec()), check=EXIT_REFUSED)
            return result.err
        self.assertIn('did you mean learning_rate?',
                      refused('--axis', 'optimizer.sgd.learning_rat=0.1'))
        self.assertIn('--axis nothing_like_it: "nothing_like_it" is no field', refused('--axis', 'nothing_like_it=1'))
        self.assertIn('--axis normalization, value 1: "batsh" is no value', refused('--axis', 'normalization=batsh,none'))
        self.assertIn('--seeds', refused('--axis', 'seed=1,2'))
        self.assertIn('cells[1].batch_size', refused('--axis', 'batch_size=10,-3'))
        self.assertIn('base.steps', refused('--set', 'steps=-1', '--axis', 'batch_size=10,20'))
        self.assertIn('10000', refused('--axis', 'batch_size=' + ','.join(map(str, range(2, 1002))), '--seeds', '11'))
        self.assertIn('base.data.fashion_mnist.path',
                      refused('--set', 'data.fashion_mnist.path=nowhere', '--axis', 'batch_size=10,20'))
        self.server.cli('sweep', '-', '--axis', 'batch_size=', stdin=json.dumps(tiny_spec()), check=EXIT_USAGE)
        self.assertEqual(self.experiment('list').json()['experiments'], [])
        self.assertEqual(self.server.cli('list', '--output', 'json', check=EXIT_OK).json()['jobs'], [])

    def test_cancel_and_delete(self):
        done = self.sweep(long_spec(), '--axis', 'batch_size=20,40', '--seeds', '3').json()
        name = done['name']
        wait_for(lambda: self.experiment('get', name).json()['counts'].get('running', 0) > 0, 'a job to run')
        refused = self.server.cli('experiment', 'delete', name, check=EXIT_REFUSED)
        self.assertIn('cancel it first', refused.err)
        watcher = subprocess.Popen(
            [os.path.join(BIN, 'normlab'), '--server', self.server.address, 'experiment', 'watch', name],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertIn('0 of 6 jobs ended', watcher.stdout.readline())
        self.experiment('cancel', name)
        out, _ = watcher.communicate(timeout=60 * PATIENCE)
        self.assertEqual(watcher.returncode, EXIT_CANCELLED)
        self.assertIn('6 of 6 jobs ended: 6 cancelled', out)
        wait_for(lambda: not self.server.worker_pids(), 'the workers to be gone', 30)
        self.server.cli('experiment', 'delete', name, check=EXIT_OK)
        # With force, while jobs run.
        other = self.sweep(long_spec(), '--axis', 'batch_size=20,40').json()['name']
        wait_for(lambda: self.experiment('get', other).json()['counts'].get('running', 0) > 0, 'a job to run')
        self.server.cli('experiment', 'delete', '--force', other, check=EXIT_OK)
        self.assertEqual(self.jobs_of(other), [])

    def test_large_specs_by_many_seeds(self):
        """Of 50 KB a spec: what would take the server's memory is refused, what fits does not, and a restart reads none of it."""
        self.server.submit(long_spec(priority=100, threads=len(os.sched_getaffinity(0))))
        layers = [{'flatten': {}}, {'linear': {'outputs': 2}}]
        layers += [{'name': f'layer_with_a_long_name_{i:04}', 'activation': {}} for i in range(1500)]
        spec = tiny_spec(model={'custom': {'layers': [*layers, {'linear': {'outputs': 10}}]}}, normalization=None)
        refused = self.sweep(spec, '--axis', 'batch_size=20', '--seeds', '4000', check=EXIT_REFUSED).err
        self.assertRegex(refused, r'design: makes specs of \d+ MiB')
        done = self.sweep(spec, '--axis', 'batch_size=20', '--seeds', '400').json()
        self.assertEqual(done['counts'], {'queued': 400})
        self.assertLess(self.server.peak_memory(), 400 << 20)
        self.server.kill()
        self.server.start()
        # All four hundred are known to the queue again, which took none of their specs.
        self.assertEqual(self.experiment('get', done['name']).json()['counts'], {'queued': 400})
        self.assertLess(self.server.peak_memory(), 60 << 20)
        self.experiment('cancel', done['name'])
        self.assertEqual(self.experiment('get', done['name']).json()['counts'], {'cancelled': 400})

    def test_ctrl_c_leaves_it_running(self):
        process = subprocess.Popen(
            [os.path.join(BIN, 'normlab'), '--server', self.server.address, 'sweep', '-', '--axis', 'batch_size=20,40',
             '--wait'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdin.write(json.dumps(long_spec()))
        process.stdin.close()
        process.stdin = None
        name = process.stdout.readline().strip()
        self.assertTrue(name.startswith('experiments/'), name)
        process.stdout.readline()  # it watches
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30 * PATIENCE)
        self.assertEqual(process.returncode, 130)
        self.assertIn(f'{name} goes on', err)
        counts = self.experiment('get', name).json()['counts']
        self.assertEqual(sum(counts.values()), 2)
        self.assertNotIn('cancelled', counts)

    def test_exactly_one_experiment_whenever_the_server_dies(self):
        """kill -9 while experiments are created; the same request again makes no second one, and no half of one."""
        port = self.server.address.rsplit(':', 1)[1]
        spec = json.dumps(long_spec())
        for attempt in range(4):
            request = f'request-{attempt}'
            arguments = ('sweep', '-', '--axis', 'batch_size=' + ','.join(str(20 + i) for i in range(40)), '--seeds', '5',
                         '--request-id', request, '--retry-for', '0s', '--output', 'json')
            results = []
            thread = threading.Thread(target=lambda: results.append(self.server.cli(*arguments, stdin=spec)))
            thread.start()
            time.sleep(0.02 * (attempt + 1))  # somewhere within its creation; any moment will do
            self.server.kill()
            thread.join()
            self.assertIn(results[0].code, (EXIT_OK, EXIT_UNREACHABLE), results[0])
            self.server.start(f'--listen=127.0.0.1:{port}')
            again = self.server.cli(*arguments, stdin=spec, check=EXIT_OK).json()
            if results[0].code == EXIT_OK:
                self.assertEqual(results[0].json()['name'], again['name'])
            self.assertEqual(len(self.experiment('list').json()['experiments']), 1)
            jobs = self.jobs_of(again['name'])
            self.assertEqual(len(jobs), 200)
            self.assertEqual(len({(job['spec']['batchSize'], job['spec']['seed']) for job in jobs}), 200)
            everything = self.server.cli('list', '--all', '--output', 'json', check=EXIT_OK).json()['jobs']
            self.assertEqual(len(everything), 200)
            self.server.cli('experiment', 'delete', '--force', again['name'], check=EXIT_OK)
            self.assertEqual(self.experiment('list').json()['experiments'], [])


if __name__ == '__main__':
    main()
