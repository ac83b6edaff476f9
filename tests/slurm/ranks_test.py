"""Jobs of several processes (data_parallel.ranks) on the nodes of a real Slurm: one job of as many tasks, by srun and PMIx."""
import contextlib
import json
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import slurm_test  # noqa: E402  (after the path)
from slurm_test import nt  # noqa: E402

setUpModule, tearDownModule = slurm_test.setUpModule, slurm_test.tearDownModule


def environment(pid):
    with open(f'/proc/{pid}/environ', 'rb') as file:
        return dict(entry.split('=', 1) for entry in file.read().decode(errors='replace').split('\0') if '=' in entry)


def ranks_spec(**changes):
    """Two processes, on two nodes whatever there is room for; what they exchange takes longer than what they compute."""
    return slurm_test.exact_spec(model={'mlp': {'hidden': [48, 32]}}, steps=4000, checkpoint={'every_steps': 100},
                                 data_parallel={'ranks': 2, 'statistics_group': 2}, slurm={'partition': 'spread'}, **changes)


def is_mapped(segment):
    """Whether it is in use: by the ranks of somebody else on this machine."""
    for pid in filter(str.isdigit, os.listdir('/proc')):
        with contextlib.suppress(OSError), open(f'/proc/{pid}/maps', encoding='utf-8', errors='replace') as file:
            if segment in file.read():
                return True
    return False


class RanksTest(slurm_test.SlurmTest):
    TLS = True

    def setUp(self):
        super().setUp()
        # Programs of its own, so that they can be taken away.
        self.programs = os.path.join(self.folder, 'bin')
        os.makedirs(self.programs)
        for name in ('normlab-worker', 'normlab-worker-mpi'):
            os.symlink(os.path.join(os.path.abspath(nt.BIN), name), os.path.join(self.programs, name))
        self.server.flags.append(f'--worker_binary={self.programs}/normlab-worker')

    def ranks(self, name):
        """{rank: pid} of the processes of a running job."""
        def found():
            pids = {}
            for pid in filter(str.isdigit, os.listdir('/proc')):
                try:
                    with open(f'/proc/{pid}/comm', encoding='ascii') as file:
                        is_rank = file.read().strip() == 'normlab-rank'
                    if is_rank and name.split('/')[1] in os.readlink(f'/proc/{pid}/cwd') and nt.is_alive(int(pid)):
                        pids[int(environment(pid)['SLURM_PROCID'])] = int(pid)
                except OSError:
                    continue
            return pids if len(pids) == 2 else None
        return nt.wait_for(found, f'the ranks of {name}', 60)

    def hold(self, name, step):
        """Waits until it has trained so far, and stops it there: all wait for the last rank. The ranks."""
        self.server.wait_step(name, step, 120)
        ranks = self.ranks(name)
        os.kill(ranks[1], signal.SIGSTOP)
        return ranks

    def attempt(self, name, number):
        def found():
            attempts = self.server.get(name).get('attempts', [])
            return attempts[number - 1] if len(attempts) >= number else None
        return nt.wait_for(found, f'attempt {number} of {name}', 90)

    def test_two_ranks_on_two_nodes_are_the_run_of_one_machine(self):
        self.server.start()
        before = set(os.listdir('/dev/shm'))
        name = self.server.submit(ranks_spec(max_retries=1))['name']
        ranks = self.hold(name, 150)
        self.assertEqual([environment(ranks[i])['SLURMD_NODENAME'] for i in (0, 1)], ['n1', 'n2'])
        record = self.slurm_job(name)
        self.assertEqual((record['tasks'], record['nodes']), (2, 'n[1-2]'))
        self.assertIn(f'Slurm job {record["job_id"]} on n[1-2]', self.attempt(name, 1)['placement'])
        # One rank dies: all end, and the job goes on from its last checkpoint.
        os.kill(ranks[1], signal.SIGKILL)
        failure = nt.wait_for(lambda: self.attempt(name, 1).get('failure'), 'the end of the first attempt', 60)
        self.assertEqual(failure['reason'], 'WORKER_CRASHED')
        self.assertIn('signal 9 of a process', failure['message'])
        nt.wait_for(lambda: not any(map(nt.is_alive, ranks.values())), 'the other rank to end', 60)
        second = self.attempt(name, 2)
        self.assertGreaterEqual(int(second['startStep']), 100)
        # A pause reaches rank 0, and stops all of them at the same step.
        ranks = self.hold(name, int(second['startStep']) + 100)
        self.server.cli('pause', name, check=0)
        os.kill(ranks[1], signal.SIGCONT)
        self.server.wait_state(name, 'PAUSED')
        self.server.cli('resume', name, check=0)
        # And so does the signal that Slurm sends before a time limit.
        third = self.attempt(name, 3)
        self.assertEqual(third['startStep'], self.attempt(name, 2)['checkpointStep'])
        ranks = self.hold(name, int(third['startStep']) + 100)
        slurm_test.SLURM.run('scancel', '--signal=USR1', '--batch', str(self.slurm_job(name, 3)['job_id']))
        os.kill(ranks[1], signal.SIGCONT)
        job = self.server.wait_state(name, 'SUCCEEDED', 120)
        self.assertEqual([one.get('failure', {}).get('reason') for one in job['attempts']],
                         ['WORKER_CRASHED', 'PAUSED', 'PREEMPTED', None], job['attempts'])
        self.assertEqual(job['attempts'][3]['startStep'], job['attempts'][2]['checkpointStep'])
        # Sums are made in the order of ranks, wherever these are.
        spec = ranks_spec()
        del spec['slurm']
        self.assertEqual(self.weights(name), self.weights_of_local_run(spec))
        self.assertEqual({one for one in os.listdir('/dev/shm') if 'vader' in one and not is_mapped(one)} - before, set())

    def test_a_sweep_of_ranks_is_an_array(self):
        self.server.start()
        # While this one is handed over the others come, and go together.
        first = self.server.submit(nt.tiny_spec())['name']
        spec = nt.tiny_spec(threads=1, data_parallel={'ranks': 2})
        made = self.server.cli('sweep', '-', '--axis', 'optimizer.sgd.learning_rate=0.01,0.1,0.2,0.3', '--output', 'json',
                               stdin=json.dumps(spec), check=0).json()

        def ended():
            jobs = self.server.cli('list', '--filter', f'experiment={made["name"]}', '--output', 'json', check=0).json()['jobs']
            return jobs if all(job['state'] not in ('QUEUED', 'STARTING', 'RUNNING') for job in jobs) else None
        jobs = nt.wait_for(ended, 'the sweep to end', 120)
        self.assertEqual([job['state'] for job in jobs], ['SUCCEEDED'] * 4)
        self.server.wait_state(first, 'SUCCEEDED')
        for job in jobs:
            self.assertEqual(len(self.server.get(job['name'])['attempts']), 1)

    def test_what_is_missing_fails_the_job_with_words(self):
        self.server.start('--slurm_mpi=telepathy')
        failure = self.server.wait_state(self.server.submit(ranks_spec())['name'], 'FAILED')['failure']
        self.assertIn('telepathy', failure['message'], 'in the words of srun')
        self.assertEqual(self.server.terminate(), 0)
        self.server.start()
        os.remove(f'{self.programs}/normlab-worker-mpi')
        failure = self.server.wait_state(self.server.submit(ranks_spec())['name'], 'FAILED')['failure']
        self.assertEqual(failure['reason'], 'WORKER_START_FAILED')
        self.assertRegex(failure['message'], rf'the node n[12] has no {self.programs}/normlab-worker-mpi')
        self.assertIn('install normlab-worker-mpi', failure['message'])
        # Jobs of one process are not concerned.
        self.server.wait_state(self.server.submit(nt.tiny_spec())['name'], 'SUCCEEDED')
        # A server that has none itself says so at once.
        self.assertEqual(self.server.terminate(), 0)
        self.server.start()
        refused = self.server.cli('submit', '-', stdin=json.dumps(ranks_spec()))
        self.assertEqual(refused.code, nt.EXIT_REFUSED, refused)
        self.assertIn('data_parallel.ranks', refused.err)
        self.assertIn('normlab-worker-mpi', refused.err)


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(1))
    nt.main()
