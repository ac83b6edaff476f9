"""Watching: every record exactly once and in order, whatever happens to the watcher."""
import json
import os
import signal

from normlab_testing import (EXIT_OK, EXIT_REFUSED, PATIENCE, ServerTest, check_whole, let_go, long_spec, main, read_lines,
                             tiny_spec, wait_for)


class StreamsTest(ServerTest):

    def test_a_watcher_that_is_killed_again_and_again_sees_every_step_once(self):
        steps = 30_000
        job = self.server.submit(tiny_spec(steps=steps))
        seen, kills = [], 0
        while True:
            after = int(seen[-1]['sequence']) if seen else 0
            watcher, lines = self.server.watch(job['name'], after), []
            reader = read_lines(watcher.stdout, lines)
            wait_for(lambda: len(lines) > 500 or watcher.poll() is not None, 'records to arrive')
            if kills < 10:
                watcher.send_signal(signal.SIGKILL)
                kills += 1
            watcher.wait()
            let_go(watcher, reader)
            # A line cut short by the kill was not received: it comes again.
            if lines and not lines[-1].endswith('\n'):
                lines.pop()
            seen += [json.loads(line) for line in lines]
            if watcher.returncode == 0:
                break
        self.assertGreaterEqual(kills, 1)
        check_whole(self, seen, steps)
        self.assertEqual(seen[-1]['state']['state'], 'SUCCEEDED')

    def test_a_watcher_in_the_middle_of_a_batch_gets_the_rest(self):
        job = self.server.submit(tiny_spec(steps=300), '--wait')
        whole = self.server.records(job['name'])
        check_whole(self, whole, 300)
        for after in (1, 2, 57, 203, len(whole) - 1):
            self.assertEqual(self.server.records(job['name'], after), whole[after:])
        # At the end there is nothing more; beyond it is an error that names the end.
        self.assertEqual(self.server.records(job['name'], len(whole)), [])
        beyond = self.server.cli('watch', job['name'], '--after', str(len(whole) + 1))
        self.assertEqual(beyond.code, EXIT_REFUSED, beyond)
        self.assertIn(str(len(whole)), beyond.err)

    def test_a_stopped_watcher_costs_the_training_nothing_and_misses_nothing(self):
        steps = 40_000
        job = self.server.submit(tiny_spec(steps=steps))
        watcher, lines = self.server.watch(job['name']), []
        reader = read_lines(watcher.stdout, lines)
        wait_for(lambda: len(lines) > 10, 'records to arrive')
        watcher.send_signal(signal.SIGSTOP)
        self.server.wait_state(job['name'], 'SUCCEEDED', 120)
        watcher.send_signal(signal.SIGCONT)
        self.assertEqual(watcher.wait(120), 0)
        let_go(watcher, reader)
        check_whole(self, [json.loads(line) for line in lines], steps)

    def test_many_watchers_see_the_same(self):
        job = self.server.submit(tiny_spec(steps=5000))
        watchers = []
        for _ in range(5):
            watcher, lines = self.server.watch(job['name']), []
            watchers.append((watcher, lines, read_lines(watcher.stdout, lines)))
        for watcher, lines, reader in watchers:
            self.assertEqual(watcher.wait(120), 0)
            let_go(watcher, reader)
            self.assertEqual(lines, watchers[0][1])
        check_whole(self, [json.loads(line) for line in watchers[0][1]], 5000)

    def test_watching_in_a_pipe_prints_plain_lines(self):
        job = self.server.submit(tiny_spec())
        result = self.server.cli('watch', job['name'], check=EXIT_OK)
        self.assertNotIn('\x1b', result.out)
        self.assertIn('SUCCEEDED', result.out)

    def test_interrupting_a_watcher_leaves_the_job_running(self):
        job = self.server.submit(long_spec())
        watcher, lines = self.server.watch(job['name']), []
        reader = read_lines(watcher.stdout, lines)
        wait_for(lambda: len(lines) > 10, 'records to arrive')
        watcher.send_signal(signal.SIGINT)
        self.assertEqual(watcher.wait(30 * PATIENCE), 130)
        self.assertIn('--after', watcher.stderr.read())
        let_go(watcher, reader)
        self.assertEqual(self.server.get(job['name'])['state'], 'RUNNING')
        self.server.cli('cancel', job['name'], check=EXIT_OK)
        self.assertTrue(os.path.exists(self.server.data_dir))


if __name__ == '__main__':
    main()
