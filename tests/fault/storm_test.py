"""Jobs of several kinds are submitted, paused, resumed, cancelled and watched while server and workers are killed at random
moments. At the end no job is stuck, no acknowledged point is lost, every curve and every watcher's stream is whole, and the
weights are those of an undisturbed run.

NORMLAB_FAULT_ROUNDS (default 8) says how many kills; the promise is 500. NORMLAB_FAULT_SEED chooses another storm.
"""
import json
import os
import random
import signal
import time

from normlab_testing import (EXIT_OK, EXIT_REFUSED, PATIENCE, ServerTest, check_sequences, check_whole, is_alive, let_go, main,
                             read_lines, sample, tiny_spec, trained_steps, wait_for)

ROUNDS = int(os.environ.get('NORMLAB_FAULT_ROUNDS', '8'))
SEED = int(os.environ.get('NORMLAB_FAULT_SEED', '11'))
SECONDS = 1.0  # of a job that nobody disturbs
LIVE = 5
TERMINAL = ('SUCCEEDED', 'DIVERGED', 'FAILED', 'CANCELLED')

# What differs in a checkpoint: normalizer's state, optimizer's state, evaluation, the interval.
KINDS = [
    {'model': {'mlp': {'hidden': [64, 48]}}, 'optimizer': {'sgd': {'learning_rate': 0.1, 'momentum': 0.9}},
     'checkpoint': {'every_steps': 200}, 'evaluation': {'every_steps': 500}},
    {'model': {'mlp': {'hidden': [48]}}, 'normalization': {'layer': {}}, 'optimizer': {'adam': {}},
     'checkpoint': {'every_steps': 350}},
    {'model': {'mlp': {'hidden': [40, 30]}}, 'normalization': {'noisy_batch': {}},
     'checkpoint': {'every_time': '1s'}, 'evaluation': {'every_steps': 900}},
]


class StormTest(ServerTest):

    def setUp(self):
        super().setUp()
        self.rng = random.Random(SEED)
        self.steps = self.server.steps_lasting(SECONDS, tiny_spec(**KINDS[0]))
        self.kinds = {}  # job -> kind
        self.cancelled = set()
        self.watchers = []  # (process, lines, reader thread)
        self.flags = (f"--listen=127.0.0.1:{self.server.address.rsplit(':', 1)[1]}",)
        self.addCleanup(self.end_watchers)

    def end_watchers(self):
        for process, _, reader in self.watchers:
            if process.poll() is None:
                process.kill()
                process.wait()
            let_go(process, reader)

    def jobs(self):
        return self.server.cli('list', '--all', '--output', 'json', check=EXIT_OK).json().get('jobs', [])

    def spec_of(self, kind):
        return tiny_spec(steps=self.steps, max_retries=100, **KINDS[kind])

    def submit(self):
        kind = self.rng.randrange(len(KINDS))
        name = self.server.submit(self.spec_of(kind))['name']
        self.kinds[name] = kind
        if self.rng.random() < 0.3:
            process, lines = self.server.watch(name), []
            self.watchers.append((process, lines, read_lines(process.stdout, lines)))

    def verb(self, verb, name):
        """A verb that a job's own end may have come before."""
        result = self.server.cli(verb, name)
        self.assertIn(result.code, (EXIT_OK, EXIT_REFUSED), result)
        return result.code == EXIT_OK

    def act(self):
        """Something that people do."""
        live = [job for job in self.jobs() if job['state'] not in TERMINAL]
        while len(live) < LIVE:
            self.submit()
            live.append(None)
        live = [job for job in live if job]
        if live:
            job = self.rng.choice(live)
            choice = self.rng.random()
            if choice < 0.35:
                self.verb('pause', job['name'])
            elif choice < 0.45 and self.verb('cancel', job['name']):
                self.cancelled.add(job['name'])
        for job in live:
            if job['state'] == 'PAUSED' and self.rng.random() < 0.7:
                self.verb('resume', job['name'])

    def kill(self):
        what = self.rng.choice(['server', 'worker', 'both'])
        workers = self.server.worker_pids()
        if what != 'server' and workers:
            os.kill(self.rng.choice(workers), signal.SIGKILL)
        if what != 'worker':
            self.server.kill()
            if what == 'both':
                for pid in workers:
                    if is_alive(pid):
                        os.kill(pid, signal.SIGKILL)
            self.server.start(*self.flags)

    def check_truth(self):
        """Within 10 s nobody claims to run without a process that does."""
        def truthful():
            running = [job for job in self.jobs() if job['state'] == 'RUNNING']
            return len(running) <= len(self.server.worker_pids())
        wait_for(truthful, 'every job that says it runs to have a worker', 10)

    def test_a_storm_of_kills(self):
        expected = []
        for kind in range(len(KINDS)):
            job = self.server.submit(self.spec_of(kind), '--wait')
            self.assertEqual(job['state'], 'SUCCEEDED')
            expected.append((job['result']['weightsSha256'], self.server.metrics(job['name'])))
        for _ in range(ROUNDS):
            self.act()
            running = [job['name'] for job in self.jobs() if job['state'] == 'RUNNING']
            witness = self.rng.choice(running) if running else None
            acknowledged = self.server.metrics(witness, '--series', 'train/loss') if witness and int(
                self.server.get(witness).get('progress', {}).get('step', 0)) > 0 else {}
            time.sleep(self.rng.random() * 0.4)  # the moment of the kill, not a bound
            self.kill()
            if acknowledged:
                now = self.server.metrics(witness, '--series', 'train/loss')
                points = acknowledged['train/loss']
                self.assertEqual(now['train/loss'][:len(points)], points, witness)
            self.check_truth()

        def settled():
            states = {job['name']: job['state'] for job in self.jobs()}
            for name, state in states.items():
                if state == 'PAUSED':
                    self.verb('resume', name)
            return all(state in TERMINAL for state in states.values())
        wait_for(settled, 'every job to end', 120 + ROUNDS)
        endings = {}
        for name, kind in self.kinds.items():
            job = self.server.get(name)
            endings[job['state']] = endings.get(job['state'], 0) + 1
            self.assertEqual([a.get('replayMismatches', '0') for a in job.get('attempts', [])],
                             ['0'] * len(job.get('attempts', [])), name)
            records = self.server.records(name)
            check_whole(self, records, len(trained_steps(records)))
            if name in self.cancelled and job['state'] == 'CANCELLED':
                continue
            self.assertEqual(job['state'], 'SUCCEEDED', job)
            self.assertEqual(job['result']['weightsSha256'], expected[kind][0], name)
            self.assertEqual(self.server.metrics(name), expected[kind][1], name)
        for process, lines, reader in self.watchers:
            process.wait(60 * PATIENCE)
            reader.join()
            records = [json.loads(line) for line in lines]
            check_sequences(self, records)
            self.assertIn(records[-1]['state']['state'], TERMINAL)
        self.assertIsNotNone(sample(self.server.scrape(), 'normlab_fenced_reports_total'))
        wait_for(lambda: not self.server.worker_pids(), 'every worker to be gone')
        print(f'{ROUNDS} kills, {len(self.kinds)} jobs: {endings}, {len(self.watchers)} watchers')


if __name__ == '__main__':
    main()
