"""Followers over restarts of the server, and files of jobs."""
import hashlib
import json
import os
import subprocess

from normlab_testing import (BIN, EXIT_OK, EXIT_REFUSED, ServerTest, check_whole, let_go, main, read_lines, tiny_spec,
                             wait_for)


class FollowTest(ServerTest):

    def follow(self, *arguments):
        process = subprocess.Popen([os.path.join(BIN, 'normlab'), '--server', self.server.address, *arguments],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        lines = []
        return process, lines, read_lines(process.stdout, lines)

    def test_every_kind_of_follower_survives_a_killed_and_a_drained_server(self):
        steps = self.server.steps_lasting(4, tiny_spec())  # longer than both restarts take
        job = self.server.submit(tiny_spec(steps=steps))['name']
        followers = {
            'watch': self.follow('watch', job, '--output', 'json'),
            'metrics': self.follow('metrics', job, '--follow', '--format', 'csv', '--series', 'train/loss'),
            'logs': self.follow('logs', job, '--follow', '--output', 'json'),
        }
        address = self.server.address
        # Who never reached the server gives up soon.
        wait_for(lambda: all(lines for _, lines, _ in followers.values()), 'every follower to get something')
        for end in (self.server.kill, self.server.terminate):
            before = len(followers['watch'][1])
            wait_for(lambda: len(followers['watch'][1]) > before + 100, 'records to arrive')
            end()
            # On the same port, where the followers look for it.
            self.server.start('--listen=' + address)
        self.server.wait_state(job, 'SUCCEEDED', 240)
        for what, (process, lines, reader) in followers.items():
            self.assertEqual(process.wait(120), EXIT_OK, f'{what}: {process.stderr.read()}')
            let_go(process, reader)
        records = [json.loads(line) for line in followers['watch'][1]]
        check_whole(self, records, steps)
        self.assertEqual(records[-1]['state']['state'], 'SUCCEEDED')
        rows = [line.split(',') for line in followers['metrics'][1]]
        self.assertEqual(rows[0], ['step', 'train/loss\n'])
        self.assertEqual([int(row[0]) for row in rows[1:]], list(range(steps)))
        logged = [int(json.loads(line)['sequence']) for line in followers['logs'][1]]
        self.assertEqual(logged, [int(r['sequence']) for r in records if 'log' in r])
        # What was followed is what is stored, at full resolution and thinned.
        stored = self.server.metrics(job, '--series', 'train/loss')['train/loss']
        self.assertEqual([[str(step), value + '\n'] for step, value in stored], rows[1:])
        thinned = self.server.metrics(job, '--series', 'train/loss', '--max-points', '100')['train/loss']
        self.assertLessEqual(len(thinned), 100)
        self.assertLessEqual(set(thinned), set(stored))
        values = [float(value) for _, value in stored]
        self.assertIn(min(values), [float(value) for _, value in thinned])
        self.assertIn(max(values), [float(value) for _, value in thinned])

    def test_files_of_a_job_are_listed_and_fetched_again_where_it_stopped(self):
        job = self.server.submit(tiny_spec(steps=50, checkpoint={'everySteps': 20}), '--wait')['name']
        listed = self.server.cli('artifacts', job, '--output', 'json', check=EXIT_OK).json()['artifacts']
        names = [artifact['fileName'] for artifact in listed]
        self.assertIn('final.safetensors', names)
        self.assertIn('checkpoint-40.safetensors', names)
        final = listed[names.index('final.safetensors')]
        target = os.path.join(self.server.folder, 'weights')
        command = ('artifacts', job, '--download', 'final.safetensors', '-o', target)
        self.server.cli(*command, check=EXIT_OK)
        with open(target, 'rb') as file:
            whole = file.read()
        self.assertEqual(hashlib.sha256(whole).hexdigest(), final['sha256'])
        self.assertEqual(len(whole), int(final['bytes']))
        # Half of it is there from a download that broke off.
        os.remove(target)
        with open(target + '.part', 'wb') as file:
            file.write(whole[:len(whole) // 2])
        self.server.cli(*command, check=EXIT_OK)
        with open(target, 'rb') as file:
            self.assertEqual(file.read(), whole)
        self.assertFalse(os.path.exists(target + '.part'))
        # What is there is of something else: refused, and the next time it works.
        os.remove(target)
        with open(target + '.part', 'wb') as file:
            file.write(b'y' * 10)
        wrong = self.server.cli(*command)
        self.assertEqual(wrong.code, EXIT_REFUSED, wrong)
        self.assertIn('SHA-256', wrong.err)
        self.assertFalse(os.path.exists(target))
        self.server.cli(*command, check=EXIT_OK)
        # Somebody removed the file behind the server's back.
        os.remove(os.path.join(self.server.data_dir, 'work', job, 'attempt-1', 'final', 'model.safetensors'))
        os.remove(target)
        gone = self.server.cli(*command)
        self.assertEqual(gone.code, EXIT_REFUSED, gone)
        self.assertIn('run the job again', gone.err)
        self.assertFalse(os.path.exists(target))


if __name__ == '__main__':
    main()
