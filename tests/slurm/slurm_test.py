"""Normlab's jobs on a real Slurm of two nodes (two_nodes.py): sweeps, nodes that die, restarts, bad input."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
import normlab_testing as nt  # noqa: E402  (after the path)
import two_nodes  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
SLURM = None  # set by run.py, or by setUpModule
_own = None


def setUpModule():
    global SLURM, _own
    if SLURM is not None:
        return
    reason = two_nodes.why_not()
    if reason is not None:
        raise unittest.SkipTest(f'did not run: {reason}')
    _own = two_nodes.TwoNodes(tempfile.mkdtemp(prefix='normlab-slurm-'))
    SLURM = _own.__enter__()


def tearDownModule():
    if _own is not None:
        _own.__exit__(None, None, None)


def exact_spec(**changes):
    """Some seconds of training whose numbers are the same wherever it runs, with a checkpoint every so often."""
    spec = {'model': {'mlp': {'hidden': [256, 256, 256]}}, 'steps': 3000, 'threads': 1,
            'convolution_algorithm': 'DIRECT', 'checkpoint': {'every_steps': 200}}
    spec.update(changes)
    return nt.tiny_spec(**spec)


class SlurmTest(unittest.TestCase):
    FLAGS = ()
    TLS = False

    def setUp(self):
        self._local = None
        self.folder = tempfile.mkdtemp(prefix='normlab-test-')
        self.addCleanup(self._clean_up)
        self.port = two_nodes.free_ports(1)
        self.server = nt.Server(self.folder, *self.slurm_flags(), *self.FLAGS)
        if self.TLS:
            self.server.client_flags = ['--tls-ca', os.path.join(self.folder, 'tls', 'ca.pem')]
        nt.write_tiny_images(os.path.join(self.server.data_root, 'tiny'), 600, 100)

    def slurm_flags(self):
        flags = ['--executor=slurm', f'--slurm_bin={SLURM.bin}', '--slurm_poll=500ms',
                 f'--worker_listen=127.0.0.1:{self.port}']
        if self.TLS:
            tls = os.path.join(self.folder, 'tls')
            subprocess.run([os.path.join(HERE, '..', '..', 'deploy', 'make-certificates'), tls], check=True,
                           capture_output=True)
            flags += [f'--tls_cert={tls}/server.pem', f'--tls_key={tls}/server.key', f'--worker_ca={tls}/ca.pem']
        return flags

    def _clean_up(self):
        SLURM.run('scancel', '--user=root', check=False)
        nt.ServerTest._clean_up(self)

    # ---- What tests ask.

    def slurm_job(self, name, attempt=1):
        """Slurm's record of an attempt that is there."""
        job = name.split('/')[1]
        pattern = re.compile(rf'normlab-[0-9a-f]+-{job}-{attempt}$')

        def found():
            return next((one for one in SLURM.jobs().values() if pattern.match(one['name'])), None)
        return nt.wait_for(found, f'a Slurm job of {name} attempt {attempt}')

    def worker_pid(self, name):
        """The process of a running job, by its attempt folder."""
        def found():
            for pid in self.server.worker_pids():
                if name.split('/')[1] in os.readlink(f'/proc/{pid}/cwd'):
                    return pid
            return None
        return nt.wait_for(found, f'the worker of {name}')

    def steps_lasting(self, seconds):
        """Of exact_spec, on this machine."""
        return self.local().steps_lasting(seconds, exact_spec())

    def weights(self, name):
        return self.server.get(name)['result']['weightsSha256']

    def weights_of_local_run(self, spec):
        """Of an undisturbed run by a server without Slurm."""
        name = self.local().submit(spec)['name']
        return self._local.wait_state(name, 'SUCCEEDED', 120)['result']['weightsSha256']

    def local(self):
        """A server without Slurm."""
        if self._local is None:
            folder = os.path.join(self.folder, 'local')
            os.makedirs(folder)
            self._local = nt.Server(folder)
            self.addCleanup(self._local.stop_everything)
            nt.write_tiny_images(os.path.join(self._local.data_root, 'tiny'), 600, 100)
            self._local.start()
        return self._local

    def logs(self, name):
        return self.server.cli('logs', name).out


class SweepTest(SlurmTest):
    TLS = True

    def test_a_sweep_runs_through_slurm_to_its_end(self):
        SLURM.wait_nodes('IDLE', seconds=240)
        self.server.start()
        cells = 12
        specification = nt.tiny_spec()
        earlier = max(SLURM.jobs(), default=0)
        made = self.server.cli(
            'sweep', '-', '--axis', 'normalization=none,batch,layer', '--axis', 'optimizer.sgd.learning_rate=0.01,0.1',
            '--seeds', '2', '--output', 'json', stdin=json.dumps(specification), check=0).json()
        experiment = made['name']

        def ended():
            jobs = self.server.cli('list', '--filter', f'experiment={experiment}', '--page-size', '100', '--output',
                                   'json', check=0).json()['jobs']
            self.assertEqual(len(jobs), cells)
            return jobs if all(job['state'] == 'SUCCEEDED' for job in jobs) else None
        jobs = nt.wait_for(ended, f'{experiment} to end', 90)
        ids = {job['name'].split('/')[1] for job in jobs}
        names = [one['name'] for one in SLURM.jobs().values()]
        # Each once, alone or in an array, and on both nodes.
        for job in jobs:
            self.assertEqual(len(self.server.get(job['name'])['attempts']), 1)
        alone = [name for name in names if name.startswith('normlab-') and name.rsplit('-', 2)[1] in ids]
        self.assertEqual(len(alone), len(set(alone)))
        nodes = {one['nodes'] for one in SLURM.jobs().values() if one['job_id'] > earlier}
        self.assertEqual(nodes, {'n1', 'n2'})
        # Over TLS; the assignments are gone, and so are the lists of arrays once Slurm has forgotten them.
        self.assertIn('over TLS', self.server.log())
        left = [os.path.join(path, name) for path, _, files in os.walk(self.server.data_dir) for name in files
                if name == 'assignment']
        self.assertEqual(left, [])


class NodeTest(SlurmTest):
    def test_a_dead_node_costs_nothing_but_time(self):
        self.server.start()
        spec = exact_spec(steps=self.steps_lasting(6), checkpoint={'every_steps': 500})
        name = self.server.submit(spec)['name']
        self.server.wait_step(name, 1000)
        node = self.slurm_job(name)['nodes']
        zombie = self.worker_pid(name)
        os.kill(zombie, signal.SIGSTOP)  # so that it is there, and not done, when its successor runs
        SLURM.kill(node)
        try:
            self.assertTrue(nt.is_alive(zombie), 'the node died, its processes did not')

            def replaced():
                attempts = self.server.get(name)['attempts']
                return attempts if len(attempts) == 2 and attempts[1].get('state') == 'RUNNING' else None
            attempts = nt.wait_for(replaced, f'another attempt of {name}', 90)
            self.assertEqual(attempts[0]['failure']['reason'], 'NODE_FAILED')
            self.assertIn('NODE_FAIL', attempts[0]['failure']['message'])
            os.kill(zombie, signal.SIGCONT)
            nt.wait_for(lambda: not nt.is_alive(zombie), 'the zombie to be refused and end', 60)
            self.assertGreaterEqual(nt.sample(self.server.scrape(), 'normlab_fenced_reports_total'), 1)
            job = self.server.wait_state(name, 'SUCCEEDED', 120)
            self.assertEqual(len(job['attempts']), 2)
            self.assertGreater(int(job['attempts'][1].get('startStep', 0)), 0)
            self.assertEqual(self.weights(name), self.weights_of_local_run(spec))
        finally:
            SLURM.start_node(node)
            # What it still has of the first attempt it completes some time.
            SLURM.wait_nodes(('IDLE', 'COMPLETING'), [node])


class RestartTest(SlurmTest):
    def test_restarts_of_controller_and_server_change_nothing(self):
        self.server.start()
        running = self.server.submit(nt.long_spec())['name']
        self.server.wait_step(running, 500)
        # Slurm's controller, which knows that the job runs.
        SLURM.save(self.slurm_job(running)['job_id'])
        SLURM.kill('slurmctld')
        try:
            nt.wait_for(lambda: nt.sample(self.server.scrape(), 'normlab_executor_healthy') == 0, 'the metric to say so')
            at = self.server.wait_step(running, 0)
            self.server.wait_step(running, at + 300)
            waiting = self.server.submit(nt.tiny_spec())['name']
            nt.wait_for(lambda: 'Unable to contact slurm controller' in self.server.get(waiting).get('queueReason', ''),
                        "the reason of the job that waits, in Slurm's words", 60)
        finally:
            SLURM.start_controller()
        nt.wait_for(lambda: nt.sample(self.server.scrape(), 'normlab_executor_healthy') == 1, 'Slurm to be back', 60)
        self.server.wait_state(waiting, 'SUCCEEDED', 120)
        # The server.
        self.server.kill()
        self.server.start()
        at = self.server.wait_step(running, 0)
        self.server.wait_step(running, at + 300)
        # And in an orderly way, with a job that waits in Slurm.
        hold = SLURM.run('sbatch', '--parsable', '--hold', '--wrap', 'true', '--output=/dev/null').stdout.strip()
        self.assertEqual(self.server.terminate(), 0)
        self.server.start()
        at = self.server.wait_step(running, 0)
        self.server.wait_step(running, at + 300)
        attempts = self.server.get(running)['attempts']
        self.assertEqual(len(attempts), 1, attempts)
        self.server.cli('cancel', running, check=0)
        self.server.wait_state(running, 'CANCELLED')
        SLURM.run('scancel', hold)


    def test_a_controller_that_forgets_that_a_job_runs_costs_no_retry(self):
        self.server.start()
        spec = exact_spec(steps=self.steps_lasting(8), checkpoint={'every_steps': 500})
        name = self.server.submit(spec)['name']
        self.server.wait_state(name, 'RUNNING')
        # Mostly before it has written that down: then it starts the job a second time.
        SLURM.kill('slurmctld')
        SLURM.start_controller()
        job = self.server.wait_state(name, 'SUCCEEDED', 180)
        for attempt in job['attempts'][:-1]:
            self.assertEqual(attempt['failure']['reason'], 'NODE_FAILED')
            self.assertIn('a second time', attempt['failure']['message'])
        self.assertEqual(self.weights(name), self.weights_of_local_run(spec))


class ControlTest(SlurmTest):
    def setUp(self):
        super().setUp()
        self.server.start()

    def test_a_job_that_waits_in_slurm_says_so_and_can_be_cancelled(self):
        SLURM.run('sbatch', '--parsable', '--exclusive', '--nodes=2', '--wrap', 'sleep 600', '--output=/dev/null')
        name = self.server.submit(nt.tiny_spec())['name']
        nt.wait_for(lambda: re.search(r'waits in Slurm: (Resources|Priority)',
                                      self.server.get(name).get('queueReason', '')), "Slurm's reason")
        self.assertEqual(self.server.get(name)['state'], 'STARTING')
        record = self.slurm_job(name)
        # A restart does not change that.
        self.server.kill()
        self.server.start()
        nt.wait_for(lambda: 'waits in Slurm' in self.server.get(name).get('queueReason', ''), 'the reason again')
        self.assertEqual(len(self.server.get(name)['attempts']), 1)
        self.server.cli('cancel', name, check=0)
        self.server.wait_state(name, 'CANCELLED')
        nt.wait_for(lambda: SLURM.jobs()[record['job_id']]['job_state'] == 'CANCELLED', 'Slurm to have it cancelled')

    def test_one_of_a_sweep_that_waits_is_cancelled_and_the_others_run(self):
        blocker = SLURM.run('sbatch', '--parsable', '--exclusive', '--nodes=2', '--wrap', 'sleep 600',
                            '--output=/dev/null').stdout.strip()
        made = self.server.cli('sweep', '-', '--seeds', '4', '--output', 'json', stdin=json.dumps(nt.tiny_spec()), check=0)
        experiment = made.json()['name']

        def jobs():
            return self.server.cli('list', '--filter', f'experiment={experiment}', '--output', 'json', check=0).json()['jobs']
        nt.wait_for(lambda: sum('waits in Slurm' in job.get('queueReason', '') for job in jobs()) == 4, 'all to wait in Slurm')
        names = [job['name'] for job in jobs()]
        self.server.cli('cancel', names[1], check=0)
        self.server.cli('pause', names[2], check=0)
        self.server.wait_state(names[1], 'CANCELLED')
        self.server.wait_state(names[2], 'PAUSED')
        SLURM.run('scancel', blocker)
        for name in (names[0], names[3]):
            self.assertEqual(len(self.server.wait_state(name, 'SUCCEEDED', 90)['attempts']), 1)
        self.server.cli('resume', names[2], check=0)
        self.server.wait_state(names[2], 'SUCCEEDED', 90)
        # What never ran has left no secret.
        left = [path for path, _, files in os.walk(self.server.data_dir) if 'assignment' in files]
        self.assertEqual(left, [])

    def test_running_jobs_pause_go_on_and_are_cancelled(self):
        spec = exact_spec(steps=self.steps_lasting(5))
        name = self.server.submit(spec)['name']
        self.server.wait_step(name, 500)
        self.server.cli('pause', name, check=0)
        self.server.wait_state(name, 'PAUSED')
        self.server.cli('resume', name, check=0)
        job = self.server.wait_state(name, 'SUCCEEDED', 120)
        self.assertEqual(len(job['attempts']), 2)
        endless = self.server.submit(nt.long_spec())['name']
        self.server.wait_step(endless, 100)
        self.server.cli('cancel', endless, check=0)
        self.server.wait_state(endless, 'CANCELLED')
        self.assertEqual(self.weights(name), self.weights_of_local_run(spec))

    def test_an_early_signal_makes_a_checkpoint_and_another_attempt(self):
        spec = exact_spec(steps=self.steps_lasting(5), checkpoint={})
        name = self.server.submit(spec)['name']
        self.server.wait_step(name, 1000)
        # What --signal=B:USR1@60 does before a time limit.
        SLURM.run('scancel', '--signal=USR1', '--batch', str(self.slurm_job(name)['job_id']))
        job = self.server.wait_state(name, 'SUCCEEDED', 120)
        first, second = job['attempts']
        self.assertEqual(first['failure']['reason'], 'PREEMPTED')
        self.assertGreaterEqual(int(second['startStep']), 1000)
        self.assertEqual(second['startStep'], first['checkpointStep'])
        self.assertEqual(self.weights(name), self.weights_of_local_run(spec))

    def test_what_others_cancel_or_preempt_goes_on_in_another_attempt(self):
        name = self.server.submit(exact_spec(steps=self.steps_lasting(8)))['name']
        self.server.wait_step(name, 500)
        SLURM.run('scancel', str(self.slurm_job(name)['job_id']))
        nt.wait_for(lambda: len(self.server.get(name)['attempts']) == 2, 'a second attempt')
        self.server.wait_step(name, 1000)
        SLURM.run('sbatch', '--partition=urgent', '--exclusive', '--nodes=2', '--wrap', 'sleep 1', '--output=/dev/null')
        job = self.server.wait_state(name, 'SUCCEEDED', 120)
        reasons = [attempt.get('failure', {}).get('reason') for attempt in job['attempts']]
        self.assertEqual(reasons, ['PREEMPTED', 'PREEMPTED', None], job['attempts'])
        self.assertIn('CANCELLED', job['attempts'][0]['failure']['message'])
        self.assertIn('PREEMPTED', job['attempts'][1]['failure']['message'])

    def test_a_killed_worker_is_a_crash_and_names_slurms_job(self):
        name = self.server.submit(nt.long_spec())['name']
        self.server.wait_step(name, 50)
        record = self.slurm_job(name)
        os.kill(self.worker_pid(name), signal.SIGSEGV)
        failure = self.server.wait_state(name, 'FAILED')['failure']
        self.assertEqual(failure['reason'], 'WORKER_CRASHED')
        self.assertIn(f'Slurm job {record["job_id"]} on {record["nodes"]}', failure['message'])


class BadInputTest(SlurmTest):
    def normlabd(self, *flags):
        return subprocess.run(
            [os.path.join(nt.BIN, 'normlabd'), f'--data_dir={self.folder}/other', '--listen=127.0.0.1:0',
             '--http_listen=127.0.0.1:0', *flags], capture_output=True, text=True, timeout=60, check=False)

    def test_slurm_absent_at_the_start(self):
        refused = self.normlabd('--executor=slurm', '--slurm_bin=/no/such/folder', f'--worker_listen=127.0.0.1:{self.port}')
        self.assertNotEqual(refused.returncode, 0)
        self.assertRegex(refused.stderr, r'Slurm does not answer: .*scontrol')
        down = os.path.join(self.folder, 'down')
        os.makedirs(down)
        with open(f'{down}/scontrol', 'w', encoding='ascii') as file:
            file.write('#!/bin/sh\necho "slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)" >&2\n'
                       'exit 1\n')
        os.chmod(f'{down}/scontrol', 0o755)
        refused = self.normlabd('--executor=slurm', f'--slurm_bin={down}', f'--worker_listen=127.0.0.1:{self.port}')
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn('Unable to contact slurm controller', refused.stderr)
        self.assertIn('start slurmctld', refused.stderr)

    def test_wrong_flags(self):
        for flags, words in ((['--executor=cloud'], 'local or slurm'), (['--executor=slurm'], '--worker_listen=HOST:PORT'),
                             (['--executor=slurm', '--worker_listen=127.0.0.1:0'], 'not 0'),
                             (['--executor=slurm', '--worker_listen=0.0.0.0:7602'], '--worker_address'),
                             (['--executor=slurm', '--worker_listen=0.0.0.0:7602', '--worker_address=a:7602'], '--tls_cert'),
                             (['--slurm_partition=work'], '--executor=slurm')):
            refused = self.normlabd(*flags)
            self.assertNotEqual(refused.returncode, 0, flags)
            self.assertIn(words, refused.stderr, flags)

    def test_a_wrong_partition_fails_the_job_with_slurms_words(self):
        self.server.start('--slurm_partition=nowhere')
        job = self.server.wait_state(self.server.submit(nt.tiny_spec())['name'], 'FAILED')
        self.assertEqual(job['failure']['reason'], 'SUBMISSION_REFUSED')
        self.assertIn('nvalid partition', job['failure']['message'])
        self.assertEqual(len(job['attempts']), 1)

    def test_an_unreachable_server_ends_the_attempt_with_its_log(self):
        # Nobody listens there.
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            self.server.start(f'--worker_address=127.0.0.1:{free.getsockname()[1]}', '--hello_timeout=3s')
            job = self.server.wait_state(self.server.submit(nt.tiny_spec())['name'], 'FAILED', 60)
        self.assertEqual(job['failure']['reason'], 'WORKER_START_FAILED')
        self.assertIn('did not say hello within 3s', job['failure']['message'])
        self.assertIn('no connection to the server', job['failure']['message'])


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(1))
    nt.main()
