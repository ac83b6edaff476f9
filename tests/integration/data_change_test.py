"""Data sets that change, go or are damaged between a job's submission, its start and its resumption."""
import glob
import json
import os

from normlab_testing import EXIT_OK, ServerTest, long_spec, main, tiny_spec, write_tiny_images


def with_data(spec, path):
    return {**spec, 'data': {'fashion_mnist': {'path': path}}}


class DataChangeTest(ServerTest):
    FLAGS = ('--pin=false', '--cores=1')

    def setUp(self):
        super().setUp()
        self.set('v1')

    def set(self, path, **how):
        write_tiny_images(os.path.join(self.server.data_root, path), **{'train': 200, 'test': 50, **how})

    def finish(self, name):
        return self.server.wait_state(name, ['SUCCEEDED', 'FAILED', 'DIVERGED'])

    def run_job(self, path):
        return self.finish(self.server.submit(with_data(tiny_spec(steps=20), path))['name'])

    def paused(self):
        """A job with a checkpoint that is far from its end."""
        name = self.server.submit(with_data(long_spec(), 'v1'))['name']
        self.server.wait_step(name, 1)
        self.server.cli('pause', name, check=EXIT_OK)
        self.server.wait_state(name, 'PAUSED')
        return name

    def test_a_job_does_not_go_on_with_other_data(self):
        for change in ({'seed': 99}, {'train': 400}):
            with self.subTest(change):
                self.set('v1', seed=1)
                name = self.paused()
                self.set('v1', **change)
                self.server.cli('resume', name, check=EXIT_OK)
                job = self.finish(name)
                self.assertEqual(job['state'], 'FAILED')
                self.assertEqual(job['failure']['reason'], 'DATA_ERROR')
                self.assertIn('the data set changed since the checkpoint', job['failure']['message'])

    def test_a_job_goes_on_with_the_same_data_in_new_files(self):
        name = self.paused()
        self.set('v1', seed=1)
        self.server.cli('resume', name, check=EXIT_OK)
        at = int(self.server.get(name)['progress']['step'])
        self.server.wait_step(name, at + 1)
        self.server.cli('cancel', name, check=EXIT_OK)

    def test_another_choice_of_files_is_noticed(self):
        root = self.server.data_root
        self.assertEqual(self.run_job('v1')['data']['trainExamples'], 200)
        # Plain files go before those with .gz, which have not changed.
        self.set('v1', train=300, suffix='')
        self.assertEqual(self.run_job('v1')['data']['trainExamples'], 300)
        # The folder now lies outside of the data root, though every file is what it was.
        outside = os.path.join(self.folder, 'outside')
        os.rename(f'{root}/v1', outside)
        os.symlink(outside, f'{root}/v1')
        refused = self.server.cli('submit', '-', stdin=json.dumps(with_data(tiny_spec(), 'v1')))
        self.assertNotEqual(refused.code, 0)
        self.assertIn('leads outside', refused.err)

    def test_a_set_of_another_shape_at_the_start_is_said(self):
        first = self.server.submit(with_data(long_spec(), 'v1'))['name']
        self.server.wait_state(first, 'RUNNING')
        name = self.server.submit(with_data(tiny_spec(steps=None, epochs=2, batch_size=20), 'v1'))['name']
        self.assertEqual(self.server.get(name)['progress']['totalSteps'], '20')
        self.set('v1', train=600)
        self.server.cli('cancel', first, check=EXIT_OK)
        job = self.finish(name)
        self.assertEqual(job['state'], 'SUCCEEDED')
        self.assertEqual(job['data']['trainExamples'], 600)
        self.assertEqual(job['progress']['totalSteps'], '60')
        self.assertIn('the data set changed since the job was accepted', self.server.cli('logs', name).out)

    def test_a_damaged_decoded_set_is_made_again(self):
        self.assertEqual(self.run_job('v1')['state'], 'SUCCEEDED')
        [cache] = glob.glob(f'{self.server.data_dir}/work/cache/*.nldata')
        size = os.path.getsize(cache)
        for cut in (size // 2, 0):
            os.truncate(cache, cut)
            self.assertEqual(self.run_job('v1')['state'], 'SUCCEEDED')
            self.assertEqual(os.path.getsize(cache), size)

    def test_a_synthetic_set_is_accepted_without_a_helper(self):
        job = self.server.submit({'model': {'mlp': {'hidden': [4]}}, 'steps': 5, 'threads': 1, 'data': {
            'gaussian_classes': {'classes': 2, 'dims': [8], 'train_examples': 100, 'test_examples': 50}}})
        self.assertEqual(job['data']['trainExamples'], 100)
        logs = [os.readlink(f'/proc/{pid}/fd/1') for pid in self.server.worker_pids(include_helper=True)]
        self.assertFalse([log for log in logs if log.endswith('/helper.log')], logs)


if __name__ == '__main__':
    main()
