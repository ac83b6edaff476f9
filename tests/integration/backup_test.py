"""Backup of a data folder while the server runs under load, and restore: every job and curve equal up to the moment of
the backup, a running job goes on from its checkpoint, and the original notices nothing.
"""
import json
import os
import shutil
import stat
import subprocess

from normlab_testing import BIN, EXIT_OK, PATIENCE, Server, ServerTest, is_alive, main, tiny_spec, wait_for


def back_up(server, target, *flags, check=0):
    done = subprocess.run([os.path.join(BIN, 'normlabd'), f'--data_dir={server.data_dir}', f'--backup={target}', *flags],
                          capture_output=True, text=True, timeout=120 * PATIENCE, check=False)
    if done.returncode != check:
        raise AssertionError(f'exit {done.returncode}: {done.stdout}{done.stderr}')
    return done.stdout + done.stderr


class BackupTest(ServerTest):
    FLAGS = ('--cores=2', '--pin=false')

    def restored(self, backup):
        """A server on a copy of the backup, as an operator would put it in place."""
        folder = os.path.join(self.folder, 'restored')
        server = Server(folder, *self.FLAGS)
        shutil.copytree(os.path.join(self.server.data_root, 'tiny'), os.path.join(server.data_root, 'tiny'))
        shutil.copytree(backup, server.data_dir)
        self.addCleanup(server.stop_everything)
        return server.start()

    def test_backup_under_load_and_restore(self):
        spec = tiny_spec(model={'mlp': {'hidden': [120, 80]}}, checkpoint={'every_steps': 250},
                         optimizer={'sgd': {'learning_rate': 0.1, 'momentum': 0.9}}, evaluation={'every_steps': 2000})
        spec['steps'] = self.server.steps_lasting(4, spec)  # longer than the backup and the copy's start take
        done = [self.server.submit(tiny_spec(seed=seed, labels={'kind': 'done'}), '--wait') for seed in range(3)]
        running = self.server.submit(spec)['name']
        waiting = self.server.submit(tiny_spec(threads=2, priority=-5))['name']
        self.server.wait_step(running, 300)
        wait_for(lambda: int(self.server.get(running)['attempts'][-1].get('checkpointStep', 0)) > 0, 'a checkpoint')
        workers = self.server.worker_pids()
        self.assertEqual(len(workers), 1)
        before = self.server.get(running)

        backup = os.path.join(self.folder, 'backup')
        said = back_up(self.server, backup)
        print(said.strip())
        after = self.server.get(running)
        self.assertIn('5 jobs', said)
        self.assertEqual(stat.S_IMODE(os.stat(backup).st_mode), 0o700)
        with open(os.path.join(backup, 'BACKUP'), encoding='utf-8') as file:
            self.assertEqual(json.load(file)['jobs'], 5)
        self.assertEqual(sorted(os.listdir(backup)), ['BACKUP', 'datasets', 'normlab.db', 'work'])

        copy = self.restored(backup)
        self.assertTrue(is_alive(workers[0]), 'the original\'s worker is none of the copy\'s business')
        for job in done:
            self.assertEqual(copy.get(job['name']), self.server.get(job['name']))
            self.assertEqual(copy.records(job['name']), self.server.records(job['name']))
            self.assertEqual(copy.metrics(job['name']), self.server.metrics(job['name']))
            listed = copy.cli('artifacts', job['name'], '--output', 'json', check=EXIT_OK).out
            self.assertEqual(listed, self.server.cli('artifacts', job['name'], '--output', 'json', check=EXIT_OK).out)
            weights = os.path.join(copy.folder, 'final.safetensors')
            copy.cli('artifacts', job['name'], '--download', 'final.safetensors', '-o', weights, check=EXIT_OK)
            self.assertGreater(os.path.getsize(weights), 1000)
            os.remove(weights)

        # Both come to the same end: the original undisturbed, the copy from the checkpoint in the backup.
        original = self.server.wait_state(running, 'SUCCEEDED', 120)
        resumed = copy.wait_state(running, 'SUCCEEDED', 180)
        self.assertEqual(len(original['attempts']), 1, 'the backup disturbed nobody')
        self.assertEqual(len(resumed['attempts']), 2)
        self.assertGreaterEqual(int(resumed['attempts'][1]['startStep']), int(before['attempts'][0]['checkpointStep']))
        self.assertLessEqual(int(resumed['attempts'][1]['startStep']), int(after['progress']['step']))
        self.assertEqual([a.get('replayMismatches', '0') for a in resumed['attempts']], ['0', '0'])
        self.assertEqual(resumed['result']['weightsSha256'], original['result']['weightsSha256'])
        self.assertEqual(copy.metrics(running), self.server.metrics(running))
        copy.wait_state(waiting, 'SUCCEEDED', 60)

    def test_what_is_refused(self):
        self.assertIn('--data_dir', back_up(Server(os.path.join(self.folder, 'none')), f'{self.folder}/x', check=1))
        os.makedirs(f'{self.folder}/there')
        self.assertIn('is there already', back_up(self.server, f'{self.folder}/there', check=1))
        self.assertFalse(os.path.exists(f'{self.folder}/x'))
        # Of a work folder that is mistyped or not mounted, no checkpoint would be in the copy.
        os.makedirs(f'{self.folder}/unmounted')
        for work, why in (('mistyped', 'is not there'), ('unmounted', 'is not the one')):
            said = back_up(self.server, f'{self.folder}/x', f'--work_dir={self.folder}/{work}', check=1)
            self.assertIn(why, said)
            self.assertIn('--work_dir', said)
        self.assertFalse(os.path.exists(f'{self.folder}/mistyped'))
        self.assertEqual(os.listdir(f'{self.folder}/unmounted'), [])
        self.assertFalse(os.path.exists(f'{self.folder}/x'))
        # A server that is stopped can be copied as well.
        self.server.submit(tiny_spec(), '--wait')
        self.assertEqual(self.server.terminate(), 0)
        self.assertIn('1 jobs', back_up(self.server, f'{self.folder}/x'))
        self.server.start()


if __name__ == '__main__':
    main()
