"""Jobs from submission to result, through the command line."""
import json
import os

from normlab_testing import (EXIT_CANCELLED, EXIT_DIVERGED, EXIT_OK, EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE,
                             ServerTest, Server, long_spec, main, tiny_spec, wait_for)


class JobsTest(ServerTest):

    def test_a_job_trains_to_its_end_and_tells_its_result(self):
        job = self.server.submit(tiny_spec(display_name='first'), '--wait')
        self.assertEqual(job['state'], 'SUCCEEDED')
        final = job['result']['finalMetrics']
        self.assertGreater(final['test/accuracy'], 0.5)
        self.assertEqual(set(final), {'train/loss', 'train/accuracy', 'train/learning_rate', 'test/loss', 'test/accuracy'})
        self.assertEqual(job['progress']['step'], '60')
        self.assertRegex(job['result']['weightsSha256'], '^[0-9a-f]{64}$')
        self.assertTrue(job['result']['implementations'])
        self.assertEqual(len(job['attempts']), 1)
        self.assertEqual(job['displayName'], 'first')
        # Every default is written out.
        resolved = job['resolvedSpec']
        self.assertEqual(resolved['normalization']['batch'],
                         {'epsilon': 1e-05, 'runningUpdateRate': 0.1, 'affine': True})
        self.assertEqual(resolved['data']['scaling'], 'STANDARDIZE')

    def test_a_spec_of_only_model_and_data_trains(self):
        for model in ({'mlp': {}}, {'cnn': {}}):
            job = self.server.submit({'model': model, 'data': {'fashion_mnist': {'path': 'tiny'}}}, '--wait')
            self.assertEqual(job['state'], 'SUCCEEDED', job)
            points = self.server.metrics(job['name'], '--series', 'train/loss')['train/loss']
            self.assertEqual(len(points), 600 // 64)

    def test_the_same_spec_and_seed_twice_is_bit_identical(self):
        for model, threads in (({'mlp': {'hidden': [24, 16]}}, 1), ({'cnn': {}}, 2)):
            spec = tiny_spec(model=model, threads=threads, epochs=2, steps=None)
            first, second, other = (self.server.submit(s, '--wait') for s in (spec, spec, {**spec, 'seed': 2}))
            self.assertEqual(first['result']['weightsSha256'], second['result']['weightsSha256'])
            # Printed so that they read back the same: equal text is equal bits.
            self.assertEqual(self.server.metrics(first['name']), self.server.metrics(second['name']))
            self.assertNotEqual(first['result']['weightsSha256'], other['result']['weightsSha256'])

    def test_every_step_is_recorded_once(self):
        job = self.server.submit(tiny_spec(epochs=3, steps=None), '--wait')
        metrics = self.server.metrics(job['name'])
        self.assertEqual([s for s, _ in metrics['train/loss']], list(range(90)))
        self.assertEqual([s for s, _ in metrics['test/accuracy']], [0, 30, 60, 90])

    def test_metrics_formats_ranges_and_thinning(self):
        job = self.server.submit(tiny_spec(steps=500), '--wait')
        name = job['name']
        whole = self.server.metrics(name, '--series', 'train/loss')['train/loss']
        part = self.server.metrics(name, '--series', 'train/loss', '--from', '100', '--to', '199')['train/loss']
        self.assertEqual(part, whole[100:200])
        thin = self.server.metrics(name, '--series', 'train/loss', '--max-points', '40')['train/loss']
        self.assertLessEqual(len(thin), 40)
        values = [float(v) for _, v in whole]
        self.assertEqual(min(float(v) for _, v in thin), min(values))
        self.assertEqual(max(float(v) for _, v in thin), max(values))
        self.assertEqual((thin[0], thin[-1]), (whole[0], whole[-1]))
        lines = self.server.cli('metrics', name, '--series', 'train/loss', '--format', 'jsonl', check=EXIT_OK).json_lines()
        self.assertEqual(len(lines), 500)
        refused = self.server.cli('metrics', name, '--series', 'train/los', check=EXIT_REFUSED)
        self.assertIn('train/loss', refused.err)

    def test_metrics_follow_gives_the_whole_curve_of_a_running_job(self):
        job = self.server.submit(tiny_spec(steps=20000))
        followed = self.server.cli('metrics', job['name'], '--follow', '--format', 'csv', '--series', 'train/loss')
        self.assertEqual(followed.code, EXIT_OK, followed)
        self.assertEqual([line.split(',')[0] for line in followed.out.splitlines()[1:]], [str(i) for i in range(20000)])
        self.assertEqual(followed.out, self.server.cli('metrics', job['name'], '--format', 'csv', '--series', 'train/loss').out)

    def test_cancel_while_running_and_while_queued(self):
        cores = self.server.cores()
        running = self.server.submit(long_spec(threads=cores))
        queued = self.server.submit(tiny_spec())
        self.server.wait_step(running['name'], 1)
        self.assertEqual(self.server.get(queued['name'])['state'], 'QUEUED', f'{cores} cores')
        self.server.cli('cancel', queued['name'], check=EXIT_OK)
        self.assertEqual(self.server.get(queued['name'])['state'], 'CANCELLED')
        self.server.cli('cancel', running['name'], check=EXIT_OK)
        job = self.server.wait_state(running['name'], 'CANCELLED')
        wait_for(lambda: not self.server.worker_pids(), 'the worker to be gone')
        self.assertEqual(self.server.cli('watch', running['name']).code, EXIT_CANCELLED)
        # Its points stay.
        steps = [s for s, _ in self.server.metrics(job['name'], '--series', 'train/loss')['train/loss']]
        self.assertEqual(steps, list(range(len(steps))))
        self.assertGreater(len(steps), 0)
        # Cancelling again is harmless, cancelling a finished job is refused.
        self.server.cli('cancel', running['name'], check=EXIT_OK)
        done = self.server.submit(tiny_spec(), '--wait')
        self.assertEqual(self.server.cli('cancel', done['name']).code, EXIT_REFUSED)

    def test_divergence_is_a_result_with_its_step(self):
        # Without normalization and at an absurd rate the first updates overflow.
        spec = tiny_spec(normalization={'none': {}}, optimizer={'sgd': {'learning_rate': 1e30}})
        result = self.server.cli('submit', '-', '--wait', '--output', 'json', stdin=json.dumps(spec))
        self.assertEqual(result.code, EXIT_DIVERGED, result)
        job = result.json()
        self.assertEqual(job['state'], 'DIVERGED')
        self.assertLess(int(job['result']['steps']), 60)
        self.assertTrue(self.server.records(job['name'])[-1]['state']['state'], 'DIVERGED')

    def test_a_retried_submission_is_the_same_job(self):
        first = self.server.submit(tiny_spec(), '--request-id', 'mine-1')
        again = self.server.submit(tiny_spec(), '--request-id', 'mine-1')
        self.assertEqual(first['name'], again['name'])
        other = self.server.cli('submit', '-', '--request-id', 'mine-1', stdin=json.dumps(tiny_spec(seed=9)))
        self.assertEqual(other.code, EXIT_REFUSED, other)
        self.assertEqual(len(self.server.cli('list', '--all', '--output', 'json').json()['jobs']), 1)

    def test_list_pages_filters_and_orders(self):
        names = [self.server.submit(tiny_spec(labels={'parity': str(i % 2)}, steps=1))['name'] for i in range(7)]
        for name in names:
            self.server.wait_state(name, 'SUCCEEDED')
        page = self.server.cli('list', '--page-size', '3', '--output', 'json', check=EXIT_OK).json()
        self.assertEqual([job['name'] for job in page['jobs']], names[:3:-1])
        self.assertTrue(page['nextPageToken'])
        every = self.server.cli('list', '--page-size', '3', '--all', '--output', 'json', check=EXIT_OK).json()
        self.assertEqual([job['name'] for job in every['jobs']], names[::-1])
        odd = self.server.cli('list', '--filter', 'state=SUCCEEDED AND labels.parity=1', '--output', 'json', check=EXIT_OK).json()
        self.assertEqual([job['name'] for job in odd['jobs']], names[1::2][::-1])
        self.assertEqual(self.server.cli('list', '--filter', 'stat=RUNNING').code, EXIT_REFUSED)

    def test_logs_and_version_and_validate(self):
        job = self.server.submit(tiny_spec(), '--wait')
        logs = self.server.cli('logs', job['name'], check=EXIT_OK)
        self.assertIn('oneDNN', logs.out)
        version = self.server.cli('version', '--output', 'json', check=EXIT_OK).out
        self.assertIn('onednnVersion', version)
        before = self.server.cli('list', '--output', 'json').json()
        self.server.cli('validate', '-', stdin=json.dumps(tiny_spec()), check=EXIT_OK)
        self.assertEqual(self.server.cli('list', '--output', 'json').json(), before)

    def test_every_spec_format_means_the_same(self):
        texts = {
            'spec.json': '{"model": {"mlp": {"hidden": [9]}}, "data": {"fashionMnist": {"path": "tiny"}}, "batchSize": 20}',
            'spec.yaml': 'model:\n  mlp: {hidden: [9]}\ndata:\n  fashion_mnist:\n    path: tiny\nbatch_size: 20\n',
            'spec.textproto': 'model { mlp { hidden: 9 } }\ndata { fashion_mnist { path: "tiny" } }\nbatch_size: 20\n',
        }
        hashes = set()
        for name, text in texts.items():
            path = os.path.join(self.folder, name)
            with open(path, 'w', encoding='utf-8') as file:
                file.write(text)
            job = self.server.cli('submit', path, '--wait', '--output', 'json', check=EXIT_OK).json()
            hashes.add(job['result']['weightsSha256'])
        self.assertEqual(len(hashes), 1)

    def test_exit_codes_of_misuse(self):
        self.assertEqual(self.server.cli('get', 'jobs/00000000000000000000').code, EXIT_REFUSED)
        self.assertEqual(self.server.cli('get', 'jobs/../../etc').code, EXIT_REFUSED)
        self.assertEqual(self.server.cli('frobnicate').code, EXIT_USAGE)
        self.assertEqual(self.server.cli('submit', '/no/such/spec.yaml').code, EXIT_REFUSED)
        nobody = Server(self.folder)
        nobody.address = '127.0.0.1:1'
        self.assertEqual(nobody.cli('get', 'jobs/00000000000000000000').code, EXIT_UNREACHABLE)

    def test_a_second_server_on_the_same_folder_is_refused(self):
        second = Server(self.folder)
        second.start(wait=False)
        self.assertNotEqual(second.process.wait(30), 0)
        self.assertIn(str(self.server.process.pid), second.log())

    def test_jobs_beyond_the_cores_wait_and_all_finish(self):
        names = [self.server.submit(tiny_spec(seed=i))['name'] for i in range(8)]
        for name in names:
            self.server.wait_state(name, 'SUCCEEDED')


if __name__ == '__main__':
    main()
