"""What the machine lacks costs no job: a full disk, a work folder or a data set that is not mounted, a lost database.

The first two need a file system of their own, mounted in a mount namespace of this process; where that is not allowed the
tests say that they did not run.
"""
import ctypes
import os
import subprocess
import tempfile
import urllib.error
import urllib.request

from normlab_testing import (EXIT_OK, EXIT_REFUSED, Server, ServerTest, long_spec, main, sample, tiny_spec, wait_for,
                             write_tiny_images)

CLONE_NEWNS = 0x00020000


def own_mounts():
    """Gives this process, and what it starts, mounts that nobody else sees. Why not, else None."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        return os.strerror(ctypes.get_errno())
    done = subprocess.run(['mount', '--make-rprivate', '/'], capture_output=True, text=True)
    return done.stderr if done.returncode else None


WHY_NO_MOUNTS = own_mounts()


class MachineTest(ServerTest):
    TRAIN, TEST = 200, 50

    def setUp(self):
        """Without starting the server."""
        self.folder = tempfile.mkdtemp(prefix='normlab-test-')
        self.addCleanup(self._clean_up)
        self.mount_point = os.path.join(self.folder, 'mnt')
        os.mkdir(self.mount_point)
        self.server = Server(self.folder, '--pin=false', '--cores=2')
        write_tiny_images(os.path.join(self.server.data_root, 'tiny'), self.TRAIN, self.TEST)

    def mount(self, *arguments):
        if WHY_NO_MOUNTS:
            self.skipTest(f'did not run: a file system cannot be mounted here ({WHY_NO_MOUNTS}); run it as root with CAP_SYS_ADMIN')
        subprocess.run(['mount', *arguments, self.mount_point], check=True)
        self.addCleanup(subprocess.run, ['umount', '-l', self.mount_point], stderr=subprocess.DEVNULL)
        self.server.flags.append(f'--work_dir={self.mount_point}/work')

    def readyz(self):
        try:
            with urllib.request.urlopen(f'http://{self.server.http}/readyz', timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def states(self, jobs):
        return {self.server.get(job['name'])['state'] for job in jobs}

    def test_a_full_work_folder(self):
        self.mount('-t', 'tmpfs', '-o', 'size=80m', 'none')
        self.server.start()
        running = [self.server.submit(long_spec(checkpoint={'every_steps': 200})) for _ in range(2)]
        waiting = [self.server.submit(tiny_spec(seed=i)) for i in range(6)]
        for job in running:
            self.server.wait_step(job['name'], 500)
        self.assertEqual(self.readyz()[0], 200)
        ballast = os.path.join(self.mount_point, 'ballast')
        with open(ballast, 'wb', buffering=0) as file:
            try:
                while True:
                    file.write(b'b' * 65536)
            except OSError:
                pass
        for job in running:
            wait_for(lambda name=job['name']: 'could not be written' in self.server.cli('logs', name).out, 'the failed checkpoint')
        code, why = self.readyz()
        self.assertEqual(code, 503)
        self.assertIn('is full', why)
        # Prometheus sees both the reason and what comes of it (a busy machine may answer a scrape with what was seen before).
        wait_for(lambda: sample(self.server.scrape(), 'normlab_ready') == 0, 'the metric of readiness')
        self.assertEqual(sample(self.server.scrape(), 'normlab_work_disk_size_bytes'), 80 << 20)
        # A checkpoint that was half there when the disk became full has been removed since.
        self.assertLess(sample(self.server.scrape(), 'normlab_work_disk_free_bytes'), 4 << 20)
        # A core is free, but nobody is sent into the trap.
        self.server.cli('cancel', running[1]['name'], check=EXIT_OK)
        self.server.wait_state(running[1]['name'], 'CANCELLED')
        self.server.wait_reason(waiting[0]['name'], 'is full')
        before = self.server.get(running[0]['name'])
        self.assertEqual(before['state'], 'RUNNING')
        step = int(before['progress']['step'])
        self.server.wait_step(running[0]['name'], step + 100)
        self.assertEqual(self.states(waiting), {'QUEUED'})
        os.remove(ballast)
        wait_for(lambda: sample(self.server.scrape(), 'normlab_ready') == 1, 'the metric of readiness')
        for job in waiting:
            self.server.wait_state(job['name'], 'SUCCEEDED', 60)
        wait_for(lambda: int(self.server.get(running[0]['name'])['attempts'][0].get('checkpointStep', 0)) > step,
                 'a checkpoint of a later step', 60)
        self.assertEqual(self.readyz()[0], 200)
        self.assertEqual(len(self.server.get(running[0]['name'])['attempts']), 1)

    def test_a_work_folder_that_is_not_mounted(self):
        disk = os.path.join(self.folder, 'disk')
        os.mkdir(disk)
        self.mount('--bind', disk)
        self.server.start()
        paused = self.server.submit(long_spec())
        self.server.wait_step(paused['name'], 300)
        self.server.cli('pause', paused['name'], check=EXIT_OK)
        self.server.wait_state(paused['name'], 'PAUSED')
        self.assertEqual(self.server.terminate(), 0)
        subprocess.run(['umount', '-l', self.mount_point], check=True)
        self.server.start()
        # It belongs to root as a rule, and the server could not write there if it wanted to.
        self.assertEqual(os.listdir(self.mount_point), [], 'a start makes nothing in a mount point without its disk')
        self.server.cli('resume', paused['name'], check=EXIT_OK)
        fresh = self.server.submit(tiny_spec())
        self.server.wait_reason(fresh['name'], 'mounted')
        code, why = self.readyz()
        self.assertEqual(code, 503)
        self.assertIn('mounted', why)
        self.assertEqual(self.states([paused, fresh]), {'QUEUED'})
        self.assertIn('no job is started', self.server.cli('doctor', check=EXIT_REFUSED).out)
        self.assertFalse(os.path.exists(f'{self.mount_point}/work/jobs'))
        subprocess.run(['mount', '--bind', disk, self.mount_point], check=True)
        self.server.wait_state(fresh['name'], 'SUCCEEDED', 60)
        second = wait_for(lambda: self.server.get(paused['name'])['attempts'][1:], 'the paused job to go on', 60)[0]
        self.assertGreaterEqual(int(second['startStep']), 300)
        self.server.wait_step(paused['name'], int(second['startStep']) + 10)
        self.server.cli('cancel', paused['name'], check=EXIT_OK)
        self.assertEqual(self.readyz()[0], 200)

    def test_a_data_set_that_is_not_there_at_a_start(self):
        self.server.flags.append('--cores=1')
        self.server.start()
        long = self.server.submit(long_spec(checkpoint={'every_steps': 100}))
        self.server.wait_step(long['name'], 300)
        waiting = [self.server.submit(tiny_spec(seed=i)) for i in range(8)]
        self.assertEqual(self.server.terminate(), 0)
        tiny = os.path.join(self.server.data_root, 'tiny')
        os.rename(tiny, tiny + '.away')
        self.server.start()
        for job in [long, *waiting]:
            self.server.wait_reason(job['name'], 'tiny does not exist')
        self.assertEqual(self.states([long, *waiting]), {'QUEUED'})
        os.rename(tiny + '.away', tiny)
        # At once, for who does not want to wait for the next try.
        for job in [long, *waiting]:
            self.server.cli('pause', job['name'])
            self.server.cli('resume', job['name'])
        job = wait_for(lambda: (lambda j: j if j['state'] == 'RUNNING' else None)(self.server.get(long['name'])), 'it to go on')
        self.assertGreaterEqual(int(job['attempts'][-1]['startStep']), 100)
        self.server.cli('cancel', long['name'], check=EXIT_OK)
        for job in waiting:
            self.server.wait_state(job['name'], 'SUCCEEDED', 60)

    def test_a_lost_database_is_not_made_anew(self):
        self.server.start()
        job = self.server.submit(tiny_spec(), '--wait')
        self.assertEqual(self.server.terminate(), 0)
        database = os.path.join(self.server.data_dir, 'normlab.db')
        os.rename(database, database + '.away')
        for make_empty in (False, True):
            if make_empty:
                open(database, 'w', encoding='ascii').close()
            self.server.start(wait=False)
            self.assertEqual(self.server.process.wait(30), 1)
            self.assertIn('was the database lost?', self.server.log())
        os.rename(database + '.away', database)
        self.server.start()
        self.assertEqual(self.server.get(job['name'])['state'], 'SUCCEEDED')
        self.assertEqual(self.server.terminate(), 0)
        os.remove(database)
        self.server.start('--accept_new_database')
        self.assertEqual(self.server.submit(tiny_spec(), '--wait')['state'], 'SUCCEEDED')


if __name__ == '__main__':
    main()
