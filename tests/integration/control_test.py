"""Pause, resume, update, delete, drain, quotas and the queue, through the command line and real processes."""
import datetime
import json
import os
import time

from normlab_testing import (ENDLESS, EXIT_OK, EXIT_REFUSED, EXIT_USAGE, PATIENCE, ServerTest, check_sequences, check_whole, let_go,
                             long_spec, main, read_lines, tiny_spec, wait_for)


def seconds_between(first, second):
    """Of two timestamps in protobuf's JSON form."""
    def parse(text):
        whole, _, fraction = text.rstrip('Z').partition('.')
        moment = datetime.datetime.strptime(whole, '%Y-%m-%dT%H:%M:%S')
        return moment, float('0.' + (fraction or '0'))
    (a, a_rest), (b, b_rest) = parse(first), parse(second)
    return (b - a).total_seconds() + b_rest - a_rest


def checked_spec(**changes):
    """Training with every kind of state that a checkpoint has to hold."""
    return tiny_spec(**{'model': {'mlp': {'hidden': [200, 200]}},
                        'optimizer': {'sgd': {'learning_rate': 0.1, 'momentum': 0.9, 'weight_decay': 1e-4}},
                        'evaluation': {'every_steps': 1000}, **changes})


class ControlTest(ServerTest):

    def verb(self, *arguments, check=EXIT_OK):
        return self.server.cli(*arguments, '--output', 'json', check=check)

    def lasting_spec(self):
        """Some seconds of it on any machine."""
        return checked_spec(steps=self.server.steps_lasting(4, checked_spec()))

    def check_curve(self, name, steps):
        check_whole(self, self.server.records(name), steps)

    def test_a_paused_job_rests_and_goes_on_bit_for_bit(self):
        spec = self.lasting_spec()
        undisturbed = self.server.submit(spec, '--wait')
        job = self.server.submit(spec)
        name = job['name']
        watcher, lines = self.server.watch(name), []
        reader = read_lines(watcher.stdout, lines)
        pauses = 0
        for step in (spec['steps'] // 20, spec['steps'] // 3):
            self.server.wait_step(name, step)
            asked = self.verb('pause', name).json()
            self.assertTrue('pauseRequestTime' in asked or asked['state'] == 'PAUSED', asked)
            paused = self.server.wait_state(name, 'PAUSED')
            pauses += 1
            self.assertNotIn('pauseRequestTime', paused)
            attempt = paused['attempts'][-1]
            self.assertEqual(attempt['failure']['reason'], 'PAUSED')
            self.assertGreater(attempt['coreSeconds'], 0)
            self.assertEqual(attempt['checkpointStep'], paused['progress']['step'])
            wait_for(lambda: not self.server.worker_pids(), 'the worker to be gone')
            # Its cores are others' now.
            self.assertEqual(self.server.submit(tiny_spec(steps=5), '--wait')['state'], 'SUCCEEDED')
            self.verb('pause', name)
            self.assertEqual(self.verb('resume', name).json()['state'], 'QUEUED')
        job = self.server.wait_state(name, 'SUCCEEDED', 120)
        self.assertEqual(len(job['attempts']), pauses + 1)
        self.assertEqual(job['attempts'][1]['startStep'], job['attempts'][0]['checkpointStep'])
        self.assertEqual([a.get('replayMismatches', '0') for a in job['attempts']], ['0'] * 3)
        self.assertEqual(job['result']['weightsSha256'], undisturbed['result']['weightsSha256'])
        self.assertEqual(self.server.metrics(name), self.server.metrics(undisturbed['name']))
        self.check_curve(name, spec['steps'])
        # The watcher saw all of it on the way.
        self.assertEqual(watcher.wait(60 * PATIENCE), 0)
        let_go(watcher, reader)
        records = [json.loads(line) for line in lines]
        check_sequences(self, records)
        states = [record['state']['state'] for record in records if 'state' in record]
        self.assertEqual(states.count('PAUSED'), 2)

    def test_what_cannot_be_is_refused(self):
        done = self.server.submit(tiny_spec(), '--wait')['name']
        for verb in ('pause', 'resume', 'cancel'):
            self.verb(verb, done, check=EXIT_REFUSED)
        running = self.server.submit(long_spec())['name']
        self.server.wait_step(running, 1)
        self.verb('resume', running, check=EXIT_REFUSED)
        self.verb('delete', running, check=EXIT_REFUSED)
        self.verb('cancel', running)
        self.server.wait_state(running, 'CANCELLED')

    def test_a_cancelled_job_ends_within_a_step_and_100_ms(self):
        """By the server's own records: from the committed wish to the committed end."""
        # A step of this net is some milliseconds. One of some, as other processes share the machine.
        bound, took = (0.1 + 0.02) * PATIENCE, []
        while len(took) < 8 and not any(seconds < bound for seconds in took):
            name = self.server.submit(long_spec())['name']
            self.server.wait_step(name, 200)
            self.verb('cancel', name)
            self.server.wait_state(name, 'CANCELLED')
            records = self.server.records(name)
            asked = next(r['log']['time'] for r in records if 'cancellation requested' in r.get('log', {}).get('text', ''))
            ended = records[-1]['state']['time']
            took.append(seconds_between(asked, ended))
        print('cancelled after', ' '.join(f'{1000 * t:.0f} ms' for t in took))
        self.assertLess(min(took), bound)

    def test_update_changes_labels_name_and_priority(self):
        cores = self.server.cores()
        self.server.submit(long_spec(threads=cores))
        early = self.server.submit(tiny_spec(threads=cores, labels={'study': 'a'}))['name']
        late = self.server.submit(tiny_spec(threads=cores, steps=10))['name']
        updated = self.verb('update', late, '--set', 'priority=50', '--set', 'labels.study=b', '--set',
                            'display_name=late one').json()
        self.assertEqual((updated['priority'], updated['labels'], updated['displayName']), (50, {'study': 'b'}, 'late one'))
        found = self.verb('list', '--filter', 'labels.study=b').json()['jobs']
        self.assertEqual([j['name'] for j in found], [late])
        self.verb('update', early, '--unset', 'labels.study')
        self.assertEqual(self.server.get(early).get('labels', {}), {})
        self.verb('update', early, '--set', 'priority=1000', check=EXIT_REFUSED)
        self.verb('update', early, '--set', 'steps=5', check=EXIT_USAGE)
        # The queue follows at once: the later one is next.
        self.server.wait_reason(late, '0 jobs before it')
        self.server.wait_reason(early, '1 job before it')

    def test_the_command_line_says_what_a_job_waits_for(self):
        cores = self.server.cores()
        self.server.submit(long_spec(threads=cores))
        name = self.server.submit(tiny_spec())['name']
        expected = f'waits for 1 core: 0 of {cores} free, 0 jobs before it'
        for command in (('get', name), ('list',)):
            wait_for(lambda command=command: expected in self.server.cli(*command, check=EXIT_OK).out, f'{command} to say why')
        for job in self.server.cli('list', '--output', 'json').json()['jobs']:
            self.server.cli('cancel', job['name'], check=EXIT_OK)

    def test_delete_removes_records_and_files_and_ends_watchers(self):
        done = self.server.submit(tiny_spec(steps=500), '--wait')['name']
        folder = os.path.join(self.server.data_dir, 'work', done)
        self.assertTrue(os.path.isdir(folder))
        self.verb('delete', done)
        self.assertEqual(self.server.cli('get', done).code, EXIT_REFUSED)
        self.assertEqual(self.server.cli('metrics', done).code, EXIT_REFUSED)
        self.assertEqual(self.server.cli('list', '--output', 'json').json().get('jobs', []), [])
        wait_for(lambda: not os.path.exists(folder), 'its files to be gone')
        self.verb('delete', done, check=EXIT_REFUSED)
        self.verb('delete', done, '--allow-missing')

        running = self.server.submit(long_spec())['name']
        self.server.wait_step(running, 10)
        watcher, lines = self.server.watch(running), []
        reader = read_lines(watcher.stdout, lines)
        wait_for(lambda: len(lines) > 5, 'records to arrive')
        self.verb('delete', '--force', running)
        self.assertEqual(self.server.cli('get', running).code, EXIT_REFUSED)
        # It saw the end, or that there is nothing to see any more.
        self.assertNotEqual(watcher.wait(20 * PATIENCE), 0)
        let_go(watcher, reader)
        wait_for(lambda: not self.server.worker_pids(), 'the worker to be gone')
        wait_for(lambda: not os.path.exists(os.path.join(self.server.data_dir, 'work', running)), 'its files to be gone')

    def test_a_deletion_is_finished_after_a_crash(self):
        done = self.server.submit(tiny_spec(steps=20_000), '--wait')['name']
        self.verb('delete', done)
        self.server.kill()
        self.server.start()
        self.assertEqual(self.server.cli('get', done).code, EXIT_REFUSED)
        wait_for(lambda: not os.path.exists(os.path.join(self.server.data_dir, 'work', done)), 'its files to be gone')

    def test_sigterm_drains_and_jobs_go_on_from_there(self):
        spec = self.lasting_spec()
        undisturbed = self.server.submit(spec, '--wait')
        job = self.server.submit(spec)['name']
        paused = self.server.submit(long_spec())['name']
        self.server.wait_step(paused, 1)
        self.verb('pause', paused)
        self.server.wait_state(paused, 'PAUSED')
        self.server.wait_step(job, spec['steps'] // 10)
        started = time.monotonic()
        self.assertEqual(self.server.terminate(), 0)
        print(f'drained in {time.monotonic() - started:.2f} s')
        self.assertLess(time.monotonic() - started, 10 * PATIENCE)
        self.assertEqual(self.server.worker_pids(), [])
        self.server.start()
        job = self.server.wait_state(job, 'SUCCEEDED', 60)
        self.assertEqual(len(job['attempts']), 2)
        first, second = job['attempts']
        self.assertEqual(first['failure']['reason'], 'SERVER_DRAINED')
        self.assertEqual(second['startStep'], first['checkpointStep'])
        self.assertEqual([a.get('replayMismatches', '0') for a in job['attempts']], ['0'] * 2)
        self.assertEqual(job['result']['weightsSha256'], undisturbed['result']['weightsSha256'])
        self.check_curve(job['name'], spec['steps'])
        self.assertEqual(self.server.get(paused)['state'], 'PAUSED')
        self.verb('delete', paused)

    def test_checkpoints_by_time_save_what_a_crash_would_cost(self):
        job = self.server.submit(checked_spec(steps=ENDLESS, checkpoint={'every_time': '1s'}, max_retries=1))['name']
        wait_for(lambda: int(self.server.get(job)['attempts'][-1].get('checkpointStep', 0)) > 0
                 if 'attempts' in self.server.get(job) else False, 'a checkpoint by time')
        pid = wait_for(self.server.worker_pids, 'the worker')[0]
        os.kill(pid, 9)
        attempt = wait_for(lambda: self.server.get(job)['attempts'][1:], 'a second attempt')[0]
        self.assertGreater(int(attempt.get('startStep', 0)), 0)
        self.verb('cancel', job)
        self.server.wait_state(job, 'CANCELLED', 30)


class BoundedServerTest(ServerTest):
    FLAGS = ('--queue_limit=2', '--owner_max_cores=1', '--owner_weight', 'ann=2', '--owner_weight=local=1')

    def test_the_queue_and_the_quota(self):
        running = self.server.submit(long_spec())['name']
        self.server.wait_step(running, 1)
        held = self.server.submit(tiny_spec())['name']
        second = self.server.submit(tiny_spec())['name']
        refused = self.server.cli('submit', '-', '--retry-for', '0s', stdin=json.dumps(tiny_spec()))
        self.assertEqual(refused.code, EXIT_REFUSED, refused)
        self.assertIn('the queue has no room for 1 job: 2 of at most 2 wait already', refused.err)
        if self.server.cores() > 1:
            self.server.wait_reason(held, 'waits for the quota of owner local: 1 of 1 core in use')
        self.server.cli('cancel', running, check=EXIT_OK)
        for name in (held, second):
            self.server.wait_state(name, 'SUCCEEDED')


if __name__ == '__main__':
    main()
