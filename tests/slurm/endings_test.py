"""Ends of attempts that only a real Slurm brings about: its limits of time and memory, records that it forgets, data that is gone
when at last a worker runs.
"""
import glob
import os
import re
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import slurm_test  # noqa: E402  (after the path)
import two_nodes  # noqa: E402
from slurm_test import nt  # noqa: E402

setUpModule, tearDownModule = slurm_test.setUpModule, slurm_test.tearDownModule


# A worker that Slurm's early signal, which goes to the script, does not reach.
DEAF_WORKER = """\
#!/bin/sh
[ "$1" = --helper ] && exec {worker} "$@"
trap '' USR1
{worker} "$@" &
wait
"""


class EndingsTest(slurm_test.SlurmTest):
    def test_the_time_limit_ends_a_worker_that_has_no_time_for_a_checkpoint(self):
        slurm = slurm_test.SLURM
        deaf = os.path.join(self.folder, 'normlab-worker')
        with open(deaf, 'w', encoding='ascii') as file:
            file.write(DEAF_WORKER.format(worker=os.path.join(os.path.abspath(nt.BIN), 'normlab-worker')))
        os.chmod(deaf, 0o755)
        self.server.start(f'--worker_binary={deaf}')
        name = self.server.submit(nt.long_spec(slurm={'time_limit': '3600s'}))['name']
        self.server.wait_step(name, 100)
        record = self.slurm_job(name)
        # Limits are whole minutes; when one ends is known to the second, and looked at twice a minute.
        soon = time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(time.time() + 1))
        slurm.run('scontrol', 'update', f'JobId={record["job_id"]}', f'EndTime={soon}')
        failure = self.server.wait_state(name, 'FAILED', 120)['failure']
        self.assertEqual(failure['reason'], 'TIME_LIMIT_EXCEEDED')
        self.assertIn(f'Slurm job {record["job_id"]} on {record["nodes"]}: TIMEOUT', failure['message'])
        self.assertIn('slurm.time_limit', failure['message'])

    def test_records_that_slurm_has_forgotten_meanwhile(self):
        slurm = slurm_test.SLURM
        self.server.start()
        before = slurm.reconfigure(min_job_age=2)
        try:
            crashed = self.server.submit(nt.long_spec())['name']
            done = self.server.submit(slurm_test.exact_spec(steps=self.steps_lasting(8)))['name']
            for name in (crashed, done):
                self.server.wait_step(name, 100)
            records = {name: self.slurm_job(name) for name in (crashed, done)}
            pids = {name: self.worker_pid(name) for name in (crashed, done)}
            self.server.kill()
            os.kill(pids[crashed], signal.SIGSEGV)
            # Cancelled by somebody, while there is no server that could be told.
            slurm.run('scancel', str(records[done]['job_id']))

            def forgotten():
                known = slurm.jobs()
                return not any(record['job_id'] in known for record in records.values())
            nt.wait_for(forgotten, 'Slurm to forget both', 120)
            self.server.start()
            failure = self.server.wait_state(crashed, 'FAILED', 60)['failure']
            self.assertEqual(failure['reason'], 'WORKER_CRASHED')
            self.assertIn(f'signal 11 (Segmentation fault; Slurm job {records[crashed]["job_id"]}', failure['message'])
            job = self.server.wait_state(done, 'SUCCEEDED', 120)
            self.assertEqual(job['attempts'][0]['failure']['reason'], 'PREEMPTED')
            self.assertRegex(job['attempts'][0]['failure']['message'], rf'Slurm job {records[done]["job_id"]} .*CANCELLED')
        finally:
            slurm.reconfigure(**before)

    def test_data_that_is_gone_when_a_worker_starts_is_made_again(self):
        slurm = slurm_test.SLURM
        self.server.start()
        blocker = slurm.run('sbatch', '--parsable', '--exclusive', '--nodes=2', '--wrap', 'exec sleep 600',
                            '--output=/dev/null').stdout.strip()
        specs = [nt.tiny_spec(), nt.tiny_spec(threads=1, data_parallel={'ranks': 2}, slurm={'partition': 'spread'})]
        names = [self.server.submit(spec)['name'] for spec in specs]
        for name in names:
            self.server.wait_reason(name, 'waits in Slurm')
        files = glob.glob(os.path.join(self.server.data_dir, 'work', 'cache', '*.nldata')) or glob.glob(
            os.path.join(self.server.data_dir, '**', '*.nldata'), recursive=True)
        self.assertEqual(len(files), 1)
        os.remove(files[0])
        first = {name: self.slurm_job(name)['job_id'] for name in names}
        slurm.run('scancel', blocker)
        for name in names:
            job = self.server.wait_state(name, 'SUCCEEDED', 120)
            self.assertEqual(len(job['attempts']), 1, 'what never began does not count')
        # The first of them found nothing; when the second looked there may have been something again.
        codes = {name: slurm.run('scontrol', '--oneliner', 'show', 'job', str(job)).stdout for name, job in first.items()}
        again = [name for name, text in codes.items() if re.search(r'ExitCode=88:0', text)]
        self.assertTrue(again, codes)
        self.assertIn('could not use the decoded data set', self.server.log())


# Workers that take more memory than they said: the only process, and the second of two.
GREEDY = 'import os; every = []\nwhile True: every.append(os.urandom(1 << 20))'
GREEDY_WORKERS = {
    'normlab-worker': """\
#!/bin/sh
[ "$1" = --helper ] && exec {worker} "$@"
exec /usr/bin/python3 -c '{greedy}'
""",
    'normlab-worker-mpi': """\
#!/bin/sh
trap 'exit 4' TERM
[ "$SLURM_PROCID" = 1 ] && exec /usr/bin/python3 -c '{greedy}'
while :; do sleep 0.1; done
"""}


class MemoryTest(slurm_test.SlurmTest):
    """On a Slurm of its own, which holds jobs to their memory."""

    def setUp(self):
        reason = two_nodes.why_no_cgroups()
        if reason is not None:
            self.skipTest(f'did not run: {reason}')
        cluster = two_nodes.TwoNodes(tempfile.mkdtemp(prefix='normlab-slurm-'), cgroups=True)
        self.addCleanup(shutil.rmtree, cluster.folder, ignore_errors=True)
        self.addCleanup(setattr, slurm_test, 'SLURM', slurm_test.SLURM)
        slurm_test.SLURM = self.enterContext(cluster)
        super().setUp()

    def test_too_much_memory_is_told_as_such(self):
        for name, text in GREEDY_WORKERS.items():
            path = os.path.join(self.folder, name)
            with open(path, 'w', encoding='ascii') as file:
                file.write(text.format(worker=os.path.join(os.path.abspath(nt.BIN), 'normlab-worker'), greedy=GREEDY))
            os.chmod(path, 0o755)
        self.server.start(f'--worker_binary={self.folder}/normlab-worker')
        names = [self.server.submit(spec)['name'] for spec in (
            nt.tiny_spec(), nt.tiny_spec(threads=1, data_parallel={'ranks': 2}, slurm={'partition': 'spread'}))]
        for name in names:
            failure = self.server.wait_state(name, 'FAILED', 120)['failure']
            self.assertEqual(failure['reason'], 'OUT_OF_MEMORY', failure)
            self.assertIn('Slurm job', failure['message'])


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(1))
    nt.main()
