"""The HTTP port: a real scrape during training, health and readiness."""
import shutil
import subprocess
import urllib.error
import urllib.request

from normlab_testing import EXIT_OK, ServerTest, long_spec, main, sample, tiny_spec, wait_for


class MonitoringTest(ServerTest):
    FLAGS = ('--cores=2', '--pin=false')  # so that jobs wait on any machine

    def scrape_until(self, condition, what):
        """A scrape of which the condition is true."""
        def scraped():
            text = self.server.scrape()
            return text if condition(text) else None
        return wait_for(scraped, what)

    def test_a_scrape_during_training(self):
        job = self.server.submit(long_spec())
        waiting = [self.server.submit(long_spec(threads=2))['name'] for _ in range(2)]
        self.server.wait_step(job['name'], 200)
        # A busy machine may answer a scrape with what was seen before.
        first = self.scrape_until(lambda s: sample(s, 'normlab_jobs', state='RUNNING') == 1
                                  and sample(s, 'normlab_steps_total') > 100, 'the training to be counted')
        self.assertEqual(sample(first, 'normlab_jobs', state='QUEUED'), 2)
        self.assertEqual(sample(first, 'normlab_queue_depth'), 2)
        self.assertEqual(sample(first, 'grpc_server_handled_total', grpc_method='CreateJob', grpc_code='OK'), 3)
        self.assertEqual(sample(first, 'grpc_server_handled_total', grpc_method='ListJobs', grpc_code='OK'), 0,
                         'methods exist at zero before they are called')
        self.assertGreater(sample(first, 'process_resident_memory_bytes'), 1e6)
        self.scrape_until(lambda s: sample(s, 'normlab_steps_total') > sample(first, 'normlab_steps_total'),
                          'steps to go on being counted')
        for name in [*waiting, job['name']]:
            self.server.cli('cancel', name, check=EXIT_OK)
        for name in [*waiting, job['name']]:
            self.server.wait_state(name, 'CANCELLED')
        last = self.scrape_until(lambda s: sample(s, 'normlab_jobs', state='CANCELLED') == 3, 'no job to be counted as running')
        self.assertEqual(sample(last, 'normlab_jobs', state='RUNNING'), 0)
        # Of one step each, now that none is added between one sum and the next.
        steps = sample(last, 'normlab_steps_total')
        self.assertEqual(sample(last, 'normlab_examples_total'), 20 * steps)
        self.assertEqual(sample(last, 'normlab_step_duration_seconds_count'), steps)
        for forbidden in (job['name'].split('/')[1], 'train/loss'):
            self.assertNotIn(forbidden, last, 'jobs and series are never labels')

    def test_promtool_accepts_the_exposition(self):
        promtool = shutil.which('promtool')
        self.assertTrue(promtool, 'promtool is missing: install the package prometheus')
        self.server.submit(tiny_spec(), '--wait')
        checked = subprocess.run([promtool, 'check', 'metrics'], input=self.server.scrape(), capture_output=True,
                                 text=True, check=False)
        self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ''))

    def test_health_and_unknown_paths(self):
        for path in ('/healthz', '/readyz'):
            with urllib.request.urlopen(f'http://{self.server.http}{path}', timeout=10) as answer:
                self.assertEqual(answer.status, 200)
        with self.assertRaises(urllib.error.HTTPError) as missing:
            urllib.request.urlopen(f'http://{self.server.http}/nothing', timeout=10)
        self.assertEqual(missing.exception.code, 404)
        missing.exception.close()


if __name__ == '__main__':
    main()
