"""Jobs of several processes (data_parallel), through a real server and real MPI: to the end, killed, paused, refused."""
import json
import os
import shutil
import signal
import tempfile

from normlab_testing import BIN, ENDLESS, EXIT_OK, EXIT_REFUSED, ServerTest, is_alive, main, tiny_spec, wait_for

# Ranks wait for each other, so they get on slowly where other programs want the processors too.
MOST_SECONDS = 240


def ranks_spec(ranks=2, group=None, **changes):
    parallel = {'ranks': ranks, 'statistics_group': group or ranks}
    return tiny_spec(**{'data_parallel': parallel, **changes})


def checked_spec(**changes):
    """Training on two ranks, with checkpoints to go on from."""
    return ranks_spec(**{'model': {'mlp': {'hidden': [120, 120]}}, 'steps': ENDLESS,
                         'optimizer': {'sgd': {'learning_rate': 0.1, 'momentum': 0.9}},
                         'evaluation': {'every_steps': 1000}, 'checkpoint': {'every_steps': 250}, **changes})


class RanksTest(ServerTest):
    # On any machine, with four ranks too.
    FLAGS = ('--cores=4', '--pin=false')

    def lasting_spec(self, **changes):
        """Some seconds of it on any machine, and a dozen checkpoints."""
        steps = self.server.steps_lasting(3, checked_spec())
        return checked_spec(steps=steps, checkpoint={'every_steps': steps // 12}, **changes)

    def wait_no_ranks(self):
        wait_for(lambda: not self.server.rank_pids(), 'all ranks to be gone')

    def parent(self, pid):
        with open(f'/proc/{pid}/stat', encoding='ascii', errors='replace') as file:
            return int(file.read().rsplit(')', 1)[1].split()[1])

    def test_a_job_of_two_ranks_is_the_job_of_one(self):
        first = self.server.submit(ranks_spec(), '--wait')
        self.assertEqual(first['state'], 'SUCCEEDED', self.server.log())
        self.assertEqual(first['estimate']['cores'], 2)
        second = self.server.submit(ranks_spec(), '--wait')
        self.assertEqual(first['result']['weightsSha256'], second['result']['weightsSha256'])
        self.assertEqual(self.server.metrics(first['name']), self.server.metrics(second['name']))
        alone = self.server.submit(tiny_spec(), '--wait')
        points = self.server.metrics(first['name'])
        for series, values in self.server.metrics(alone['name']).items():
            self.assertEqual([step for step, _ in values], [step for step, _ in points[series]], series)
            for (step, one), (_, two) in zip(values, points[series]):
                self.assertAlmostEqual(float(one), float(two), delta=1e-4, msg=f'{series} at step {step}')
        log = self.server.cli('logs', first['name'], check=EXIT_OK).out
        self.assertIn('on 2 ranks of 1 thread', log)
        self.wait_no_ranks()

    def test_four_ranks_with_statistics_of_their_own_and_of_pairs(self):
        jobs = [self.server.submit(ranks_spec(4, group), '--wait') for group in (1, 2, 4)]
        self.assertEqual([job['state'] for job in jobs], ['SUCCEEDED'] * 3, self.server.log())
        self.assertEqual(len({job['result']['weightsSha256'] for job in jobs}), 3)

    def test_a_killed_rank_ends_the_attempt_and_the_job_goes_on(self):
        spec = self.lasting_spec(max_retries=2)
        undisturbed = self.server.submit(spec, '--wait')
        self.assertEqual(undisturbed['state'], 'SUCCEEDED', self.server.log())
        job = self.server.submit(spec)
        name = job['name']
        self.server.wait_step(name, spec['steps'] // 10, MOST_SECONDS)
        ranks = self.server.rank_pids()
        self.assertEqual(len(ranks), 2)
        os.kill(ranks[1], signal.SIGKILL)
        wait_for(lambda: len(self.server.get(name)['attempts']) == 2, 'a second attempt')
        attempt = self.server.get(name)['attempts'][0]
        self.assertIn('signal 9', attempt['failure']['message'])
        wait_for(lambda: not any(map(is_alive, ranks)), 'the other rank to be gone')
        # Who starts the ranks, too.
        self.server.wait_step(name, spec['steps'] // 3, MOST_SECONDS)
        ranks = wait_for(lambda: len(self.server.rank_pids()) == 2 and self.server.rank_pids(), 'new ranks')
        os.kill(self.parent(ranks[0]), signal.SIGKILL)
        wait_for(lambda: not any(map(is_alive, ranks)), 'ranks to end with their launcher')
        job = self.server.wait_state(name, 'SUCCEEDED', MOST_SECONDS)
        self.assertEqual(len(job['attempts']), 3)
        self.assertGreater(int(job['attempts'][2]['startStep']), 0)
        self.assertEqual(job['result']['weightsSha256'], undisturbed['result']['weightsSha256'])
        self.assertEqual([a.get('replayMismatches', '0') for a in job['attempts']], ['0'] * 3)

    def test_pause_resume_and_cancel(self):
        spec = self.lasting_spec()
        undisturbed = self.server.submit(spec, '--wait')
        name = self.server.submit(spec)['name']
        self.server.wait_step(name, spec['steps'] // 10, MOST_SECONDS)
        self.server.cli('pause', name, check=EXIT_OK)
        self.server.wait_state(name, 'PAUSED')
        self.wait_no_ranks()
        self.server.cli('resume', name, check=EXIT_OK)
        job = self.server.wait_state(name, 'SUCCEEDED', MOST_SECONDS)
        self.assertEqual(job['result']['weightsSha256'], undisturbed['result']['weightsSha256'])
        name = self.server.submit(checked_spec())['name']
        self.server.wait_step(name, 100)
        self.server.cli('cancel', name, check=EXIT_OK)
        self.server.wait_state(name, 'CANCELLED')
        self.wait_no_ranks()

    def test_mistakes_are_refused_on_their_field(self):
        for parallel, field, says in (
                ({'ranks': 21}, 'data_parallel.ranks', 'use at most 20'),
                ({'ranks': 4, 'statistics_group': 3}, 'data_parallel.statistics_group', 'does not divide'),
                ({'ranks': 5}, 'data_parallel.ranks', 'use at most 4')):
            refused = self.server.cli('submit', '-', stdin=json.dumps(tiny_spec(data_parallel=parallel)),
                                      check=EXIT_REFUSED)
            self.assertIn(field, refused.err)
            self.assertIn(says, refused.err)


class NoMpiTest(ServerTest):

    def setUp(self):
        # The worker is in a folder without its sibling.
        self.workers = tempfile.mkdtemp(prefix='normlab-test-')
        self.addCleanup(shutil.rmtree, self.workers)
        os.symlink(os.path.realpath(os.path.join(BIN, 'normlab-worker')), f'{self.workers}/normlab-worker')
        self.FLAGS = ('--pin=false', '--cores=2', f'--worker_binary={self.workers}/normlab-worker')
        super().setUp()

    def test_what_to_install_is_said(self):
        refused = self.server.cli('submit', '-', stdin=json.dumps(ranks_spec()), check=EXIT_REFUSED)
        self.assertIn('data_parallel.ranks', refused.err)
        self.assertIn('install normlab-worker-mpi', refused.err)


if __name__ == '__main__':
    main()
