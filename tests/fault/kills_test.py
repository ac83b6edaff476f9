"""Kills of workers and server at awkward moments. The promises: no job lost, none RUNNING without a live worker, every
acknowledged point kept, curves without gap or duplicate, and the same final weights as an undisturbed run.

NORMLAB_FAULT_ROUNDS (default 3) says how many kills the random rounds make.
"""
import json
import os
import random
import signal
import time

from normlab_testing import (EXIT_FAILED, EXIT_OK, PATIENCE, ServerTest, check_sequences, check_whole, is_alive, let_go,
                             long_spec, main, read_lines, tiny_spec, wait_for)

ROUNDS = int(os.environ.get('NORMLAB_FAULT_ROUNDS', '3'))


class KillsTest(ServerTest):

    def check_curve(self, name, steps):
        check_whole(self, self.server.records(name), steps)

    def the_worker(self):
        pids = wait_for(self.server.worker_pids, 'a worker process')
        self.assertEqual(len(pids), 1)
        return pids[0]

    def test_a_killed_worker_fails_its_job_with_the_reason(self):
        job = self.server.submit(long_spec())
        self.server.wait_step(job['name'], 10)
        os.kill(self.the_worker(), signal.SIGKILL)
        killed_at = time.monotonic()
        job = self.server.wait_state(job['name'], 'FAILED', seconds=5)
        print(f'FAILED {time.monotonic() - killed_at:.2f} s after the kill')
        self.assertEqual(job['failure']['reason'], 'WORKER_CRASHED')
        self.assertIn('signal 9', job['failure']['message'])
        self.assertEqual(self.server.cli('watch', job['name']).code, EXIT_FAILED)
        # The server goes on.
        self.assertEqual(self.server.submit(tiny_spec(), '--wait')['state'], 'SUCCEEDED')

    def test_a_killed_worker_is_retried_from_its_checkpoint_bit_for_bit(self):
        spec = tiny_spec(model={'mlp': {'hidden': [200, 200]}}, max_retries=5,
                         optimizer={'sgd': {'learning_rate': 0.1, 'momentum': 0.9, 'weight_decay': 1e-4}},
                         checkpoint={'every_steps': 500}, evaluation={'every_steps': 1000})
        steps = self.server.steps_lasting(3, spec)
        every = steps // 12
        spec.update(steps=steps, checkpoint={'every_steps': every})
        undisturbed = self.server.submit(spec, '--wait')
        job = self.server.submit(spec)
        for step in (every * 3 // 2, every * 5):
            self.server.wait_step(job['name'], step)
            os.kill(self.the_worker(), signal.SIGKILL)
            attempts = len(self.server.get(job['name'])['attempts'])
            wait_for(lambda: len(self.server.get(job['name'])['attempts']) > attempts, 'a new attempt')
        job = self.server.wait_state(job['name'], 'SUCCEEDED', 120)
        self.assertEqual(len(job['attempts']), 3)
        self.assertGreaterEqual(int(job['attempts'][1]['startStep']), every)
        self.assertEqual(job['attempts'][0]['failure']['reason'], 'WORKER_CRASHED')
        self.assertEqual([a.get('replayMismatches', '0') for a in job['attempts']], ['0'] * 3)
        self.assertEqual(job['result']['weightsSha256'], undisturbed['result']['weightsSha256'])
        self.assertEqual(self.server.metrics(job['name']), self.server.metrics(undisturbed['name']))
        self.check_curve(job['name'], steps)

    def test_a_killed_server_loses_nothing_while_its_worker_goes_on(self):
        steps = self.server.steps_lasting(3, tiny_spec())
        spec = tiny_spec(steps=steps)
        undisturbed = self.server.submit(spec, '--wait')
        job = self.server.submit(spec)
        waiting = [self.server.submit(tiny_spec(seed=i, threads=2))['name'] for i in range(5)]
        self.server.wait_step(job['name'], steps // 20)
        worker = self.the_worker()
        acknowledged = self.server.metrics(job['name'])
        self.server.kill()
        self.assertTrue(is_alive(worker))
        self.server.start()
        now = self.server.metrics(job['name'])
        for series, points in acknowledged.items():
            self.assertEqual(now[series][:len(points)], points)
        job = self.server.wait_state(job['name'], 'SUCCEEDED', 60)
        self.assertEqual(len(job['attempts']), 1, 'the worker outlived the server and reconnected')
        self.assertEqual(job['result']['weightsSha256'], undisturbed['result']['weightsSha256'])
        self.check_curve(job['name'], steps)
        for name in waiting:
            self.server.wait_state(name, 'SUCCEEDED')

    def test_server_and_worker_killed_together(self):
        spec = long_spec(checkpoint={'every_steps': 200})
        steps = self.server.steps_lasting(4, spec)
        job = self.server.submit({**spec, 'steps': steps})
        self.server.wait_step(job['name'], 300)
        worker = self.the_worker()
        acknowledged = self.server.metrics(job['name'])
        self.server.kill()
        os.kill(worker, signal.SIGKILL)
        self.server.start()
        restarted = time.monotonic()

        def truthful():
            state = self.server.get(job['name'])['state']
            return state != 'RUNNING' or bool(self.server.worker_pids())
        wait_for(truthful, 'the job not to claim that it runs', 10)
        print(f'truthful {time.monotonic() - restarted:.2f} s after the restart')
        job = self.server.wait_state(job['name'], 'SUCCEEDED', 120)
        self.assertEqual(job['attempts'][0]['failure']['reason'], 'SERVER_LOST')
        now = self.server.metrics(job['name'])
        for series, points in acknowledged.items():
            self.assertEqual(now[series][:len(points)], points)
        self.check_curve(job['name'], steps)

    def test_a_watcher_outlives_the_server(self):
        job = self.server.submit(tiny_spec(steps=self.server.steps_lasting(2, tiny_spec())))
        port = self.server.address.rsplit(':', 1)[1]
        watcher, lines = self.server.watch(job['name']), []
        reader = read_lines(watcher.stdout, lines)
        wait_for(lambda: len(lines) > 100, 'records to arrive')
        self.server.kill()
        self.server.start(f'--listen=127.0.0.1:{port}')
        self.assertEqual(watcher.wait(120), 0, watcher.stderr.read() if watcher.poll() else '')
        let_go(watcher, reader)
        records = [json.loads(line) for line in lines]
        check_sequences(self, records)
        self.assertEqual(records[-1]['state']['state'], 'SUCCEEDED')

    def test_random_kills_of_the_server(self):
        """Jobs are submitted while the server dies again and again; each exists once, and each ends truthfully."""
        rng = random.Random(7)
        names = {}
        for number in range(ROUNDS):
            for k in range(4):
                request = f'r{number}-{k}'
                names[request] = self.server.submit(tiny_spec(seed=k, steps=2000), '--request-id', request)['name']
            wait_for(lambda: any(self.server.get(n)['state'] == 'RUNNING' for n in names.values()) or
                     all(self.server.get(n)['state'] == 'SUCCEEDED' for n in names.values()), 'something to run')
            time.sleep(rng.random() * 0.3)  # the moment of the kill, not a bound
            self.server.kill()
            self.server.start()
        for request, name in names.items():
            seed = int(request.split('-')[1])
            again = self.server.submit(tiny_spec(seed=seed, steps=2000), '--request-id', request)
            self.assertEqual(again['name'], name)
            self.server.wait_state(name, 'SUCCEEDED', 120)
            self.check_curve(name, 2000)
        listed = self.server.cli('list', '--all', '--output', 'json', check=EXIT_OK).json()['jobs']
        self.assertEqual(sorted(j['name'] for j in listed), sorted(names.values()))

    def test_sigterm_ends_the_server_cleanly_and_the_job_goes_on(self):
        steps = self.server.steps_lasting(2, tiny_spec())
        job = self.server.submit(tiny_spec(steps=steps))
        watcher, lines = self.server.watch(job['name']), []
        reader = read_lines(watcher.stdout, lines)
        self.server.wait_step(job['name'], 100)
        started = time.monotonic()
        self.assertEqual(self.server.terminate(), 0)
        self.assertLess(time.monotonic() - started, 10 * PATIENCE)
        watcher.kill()
        watcher.wait()
        let_go(watcher, reader)
        self.server.start()
        job = self.server.wait_state(job['name'], 'SUCCEEDED', 60)
        self.check_curve(job['name'], steps)


if __name__ == '__main__':
    main()
