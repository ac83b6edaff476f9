#!/usr/bin/env python3
"""The Python package against the real server: submit, watch across kill -9, arrays, errors, experiments, normalizers."""
import os
import sys
import threading
import time

import numpy as np

from normlab_testing import PATIENCE, ServerTest, long_spec, main, tiny_spec, wait_for

sys.path.insert(0, os.environ.get('NORMLAB_PYTHON') or os.path.join(
    os.path.dirname(os.path.abspath(__file__)), '..', '..', 'build', 'release', 'python'))
import normlab  # noqa: E402  (made by the build)


class PythonClientTest(ServerTest):

    def setUp(self):
        super().setUp()
        # The address may change with a restart unless the port is kept.
        self.client = normlab.Client(self.server.address)
        self.addCleanup(self.client.close)

    def restart_on_the_same_port(self):
        self.server.start(f'--listen={self.server.address}', f'--http_listen={self.server.http}')

    def test_submit_watch_metrics(self):
        job = self.client.submit(tiny_spec(steps=40, display_name='from Python'))
        self.assertRegex(job.name, r'^jobs/[0-9a-z]{20}$')
        records = list(job.watch())
        self.assertEqual([record.sequence for record in records], list(range(1, len(records) + 1)))
        states = [record.state for record in records if isinstance(record, normlab.StateChange)]
        self.assertEqual(states, ['QUEUED', 'STARTING', 'RUNNING', 'SUCCEEDED'])
        self.assertTrue(any(isinstance(record, normlab.LogLine) for record in records))
        # What was watched is what is stored, bit for bit, and what the command line prints.
        watched = {}
        for record in records:
            if isinstance(record, normlab.Points):
                for series, value in record.values.items():
                    watched.setdefault(series, []).append((record.step, value))
        stored = job.metrics()
        self.assertEqual(set(stored), set(watched))
        for series, (steps, values) in stored.items():
            self.assertEqual(steps.dtype, np.int64)
            self.assertEqual(values.dtype, np.float64)
            self.assertEqual(list(zip(steps.tolist(), values.tolist())), watched[series], series)
        printed = self.server.metrics(job.name, '--series', 'train/loss')['train/loss']
        steps, values = job.metrics('train/loss')
        self.assertEqual([(step, float(text)) for step, text in printed], list(zip(steps.tolist(), values.tolist())))
        self.assertEqual(len(steps), 40)
        thinned = job.metrics('train/loss', max_points=10)
        self.assertLessEqual(len(thinned.steps), 10)
        self.assertEqual(thinned.values.min(), values.min())
        part = job.metrics(['train/loss'], first=5, last=9)
        self.assertEqual(part['train/loss'].steps.tolist(), [5, 6, 7, 8, 9])
        # A series that is not there is told with those that are; one without points in a range is there.
        with self.assertRaisesRegex(normlab.NotFound, 'no series "train/los"; it has train/loss, .*test/accuracy'):
            job.metrics('train/los')
        self.assertEqual(job.metrics('test/loss', first=1, last=2).steps.tolist(), [])
        self.assertEqual(job.metrics(['test/loss'], first=1, last=2)['test/loss'].values.dtype, np.float64)
        # The end.
        job.wait(check=True)
        self.assertEqual(job.message.display_name, 'from Python')
        self.assertEqual([other.name for other in self.client.jobs('state=SUCCEEDED', page_size=1)], [job.name])
        self.assertEqual(list(job.watch(after=records[-1].sequence)), [])
        [final] = [one for one in job.artifacts() if one.file_name == 'final.safetensors']
        path = job.download(final, os.path.join(self.folder, 'final.safetensors'))
        self.assertEqual(os.path.getsize(path), final.bytes)
        # What fails leaves nothing behind.
        final.sha256 = '0' * 64
        with self.assertRaisesRegex(normlab.NormlabError, 'another SHA-256'):
            job.download(final, os.path.join(self.folder, 'wrong.safetensors'))
        final.name = job.name + '/artifacts/99'
        with self.assertRaises(normlab.NotFound):
            job.download(final, os.path.join(self.folder, 'none.safetensors'))
        self.assertEqual([name for name in os.listdir(self.folder) if 'safetensors' in name], ['final.safetensors'])

    def test_a_watch_survives_kill_9_of_the_server(self):
        steps = self.server.steps_lasting(3, long_spec())
        job = self.client.submit(long_spec(steps=steps))
        seen, errors = [], []

        def watch():
            try:
                for record in job.watch():
                    seen.append(record)
            except normlab.NormlabError as error:
                errors.append(error)
        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        for target in (50, 200):
            wait_for(lambda: sum(isinstance(r, normlab.Points) for r in seen) > target, f'{target} points', 60)
            self.server.kill()
            self.restart_on_the_same_port()
        thread.join(180 * PATIENCE)
        self.assertFalse(thread.is_alive(), f'the watch goes on; last {seen[-1:]}')
        self.assertEqual(errors, [])
        self.assertEqual([record.sequence for record in seen], list(range(1, len(seen) + 1)))
        self.assertEqual(seen[-1].state, 'SUCCEEDED')
        told = [record.step for record in seen if isinstance(record, normlab.Points) and 'train/loss' in record.values]
        self.assertEqual(told, list(range(steps)))
        # The same as a fresh look at what is stored.
        self.assertEqual(job.metrics('train/loss').values.tolist(),
                         [r.values['train/loss'] for r in seen if isinstance(r, normlab.Points) and 'train/loss' in r.values])

    def test_control(self):
        job = self.client.submit(long_spec())
        self.server.wait_step(job.name, 5)
        job.pause()
        self.server.wait_state(job.name, 'PAUSED')
        self.assertEqual(job.resume().state, 'QUEUED')
        job.cancel()
        self.assertEqual(job.wait().state, 'CANCELLED')
        with self.assertRaises(normlab.JobFailed) as caught:
            job.wait(check=True)
        self.assertEqual(caught.exception.reason, 'CANCELLED')
        job.delete()
        with self.assertRaises(normlab.NotFound) as caught:
            job.refresh()
        self.assertEqual(caught.exception.reason, 'JOB_NOT_FOUND')

    def test_errors_say_what_is_wrong(self):
        with self.assertRaises(normlab.InvalidArgument) as caught:
            self.client.submit({'model': {'mlp': {'hidden': [100, 0]}}, 'data': {'fashion_mnist': {'path': 'tiny'}},
                                'optimizer': {'sgd': {'learning_rate': -1}}})
        error = caught.exception
        self.assertEqual(error.reason, 'INVALID_SPEC')
        self.assertEqual({violation.field for violation in error.violations},
                         {'model.mlp.hidden[1]', 'optimizer.sgd.learning_rate'})
        self.assertIn('model.mlp.hidden[1]: ', str(error))
        with self.assertRaisesRegex(normlab.InvalidArgument, 'modell'):
            self.client.submit({'modell': {}})
        with self.assertRaises(normlab.NotFound) as caught:
            self.client.job('m8' + 'a' * 18)
        self.assertEqual(caught.exception.code, 'NOT_FOUND')
        job = self.client.submit(tiny_spec())
        with self.assertRaises(normlab.InvalidArgument):
            list(job.watch(after=1_000_000))
        same = [self.client.submit(tiny_spec(), request_id='once').name for _ in range(2)]
        self.assertEqual(same[0], same[1])
        with self.assertRaises(normlab.NormlabError) as caught:
            self.client.submit(tiny_spec(seed=9), request_id='once')
        self.assertEqual(caught.exception.reason, 'REQUEST_ID_REUSED')
        nobody = normlab.Client('127.0.0.1:1', retry_for=0)
        with self.assertRaisesRegex(normlab.Unavailable, 'start normlabd'):
            nobody.info()
        nobody.close()
        with self.assertRaisesRegex(ValueError, 'without TLS'):
            normlab.Client('192.0.2.1:7600', token='secret')

    def test_validate_and_spec_files(self):
        path = os.path.join(self.folder, 'spec.textproto')
        with open(path, 'w', encoding='ascii') as file:
            file.write('model { mlp {} } data { fashion_mnist { path: "tiny" } } steps: 3')
        job = self.client.validate(path)
        self.assertEqual(job.resolved_spec.batch_size, self.client.validate(tiny_spec(batch_size=None)).resolved_spec.batch_size)
        self.assertEqual(list(self.client.jobs()), [])

    def test_an_experiment(self):
        experiment = self.client.submit_experiment(
            tiny_spec(steps=10, seed=None), {'normalization': ['none', 'batch'], 'batch_size': [10, 20]}, seeds=2)
        self.assertEqual(len(experiment.message.cells), 4)
        self.assertGreaterEqual(experiment.pause() + experiment.message.counts.succeeded, 8)  # some end instead
        self.assertEqual(experiment.pause(), 0)
        wait_for(lambda: experiment.refresh().message.counts.running == 0, 'all jobs rest')
        paused = experiment.message.counts.paused
        self.assertEqual(paused + experiment.message.counts.succeeded, 8)
        self.assertEqual(experiment.resume(), paused)
        experiment.wait()
        self.assertTrue(experiment.is_over)
        self.assertEqual(experiment.message.counts.succeeded, 8)
        self.assertEqual(len(experiment.jobs()), 8)
        summary = experiment.summary(['train/loss'], baseline=0)
        self.assertEqual([cell.statistics[0].n for cell in summary.cells], [2] * 4)
        self.assertEqual([one.name for one in self.client.experiments()], [experiment.name])

    def test_normalize(self):
        generator = np.random.default_rng(3)
        x = generator.normal(2.0, 3.0, (7, 5)).astype(np.float32)
        d_y = generator.normal(size=(7, 5)).astype(np.float32)
        result = self.client.normalize('batch', x, output_gradient=d_y)
        wide, gradient = x.astype(np.float64), d_y.astype(np.float64)
        mean, var = wide.mean(0), wide.var(0)
        hat = (wide - mean) / np.sqrt(var + 1e-5)
        # Of float32 with sums of seven terms.
        np.testing.assert_allclose(result.output, hat, atol=2e-5)
        np.testing.assert_allclose(result.statistics['mean'], mean, atol=1e-5)
        d_x = (gradient - gradient.mean(0) - hat * (gradient * hat).mean(0)) / np.sqrt(var + 1e-5)
        np.testing.assert_allclose(result.input_gradient, d_x, atol=2e-5)
        np.testing.assert_allclose(result.parameter_gradients['bias'], gradient.sum(0), atol=2e-5)
        self.assertIsNone(self.client.normalize({'layer': {}}, x).input_gradient)
        images = generator.normal(size=(2, 6, 3, 4)).astype(np.float32)
        self.assertEqual(self.client.normalize({'group': {'groups': 3}}, images).output.shape, images.shape)
        with self.assertRaises(normlab.InvalidArgument):
            self.client.normalize('batch', x.reshape(7, 5, 1))

    def test_info(self):
        info = self.client.info()
        self.assertIn('batch', info.normalizations)
        self.assertEqual(info.caller.owner, 'local')
        now = time.time()
        self.assertLess(abs(info.time.seconds - now), 60)
        self.assertEqual({disk.kind for disk in info.disks}, {1, 2})
        for disk in info.disks:
            self.assertGreater(disk.total_bytes, disk.free_bytes)
            self.assertGreater(disk.free_bytes, 0)


if __name__ == '__main__':
    main()
