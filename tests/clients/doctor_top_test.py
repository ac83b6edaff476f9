#!/usr/bin/env python3
"""normlab doctor and top against real servers: well, ill, with TLS; on a terminal and in a pipe."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import tempfile
import termios
import time
import unittest

from normlab_testing import (BIN, EXIT_OK, EXIT_REFUSED, EXIT_UNREACHABLE, PATIENCE, Server, ServerTest, is_alive, long_spec, main,
                             wait_for)

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')


def findings(result):
    """{check: finding} of doctor's JSON."""
    return {finding['check']: finding for finding in result.json()['checks']}


class DoctorTest(ServerTest):

    def doctor(self, *arguments, check=EXIT_OK):
        return self.server.cli('doctor', '--output', 'json', *arguments, check=check)

    def test_a_server_that_is_well(self):
        answer = self.doctor()
        found = findings(answer)
        self.assertEqual(set(found), {'connection', 'encryption', 'caller', 'health', 'version', 'clock', 'data disk', 'work disk',
                                      'capacity', 'engine', 'worker', 'data sets'})
        self.assertNotEqual(answer.json()['result'], 'PROBLEM', answer)
        for check in ('connection', 'encryption', 'caller', 'health', 'version', 'clock', 'worker'):
            self.assertEqual(found[check]['level'], 'OK', found[check])
        info = self.server.cli('version', '--output', 'json', check=EXIT_OK).json()['server']
        size = r'\d[\d.]* [KMGT]?i?B'
        messages = {
            'connection': rf'{self.server.address} answers in \d+\.\d ms',
            'encryption': 'none, and none needed: the server is this machine',
            'caller': 'you are ADMIN of the owner local',
            'health': 'takes calls',
            'version': rf'client and server are {re.escape(info["version"])} and know the same kinds of everything',
            'clock': "the server's clock and this one differ by less than the call took",
            'data disk': rf'{size} of {size} free \(\d+%\), for the database',
            'work disk': rf'{size} of {size} free \(\d+%\), for checkpoints and decoded data sets',
            'capacity': rf'0 of {info["cores"]} cores and 0 B of {size} are taken; 0 jobs run, 0 wait',
            'engine': rf'oneDNN {re.escape(info["onednnVersion"])} for {re.escape(info["isa"])}',
            'worker': r'a process of the engine starts and computes \(.+\)',
            'data sets': r'.*(mnist|cifar).*',
        }
        self.assertEqual(set(messages), set(found))
        for check, message in messages.items():
            self.assertRegex(found[check]['message'], rf'^{message}$', check)
        # Nothing was stored.
        self.assertEqual(self.server.cli('list', '--output', 'json').json()['jobs'], [])
        # The same as lines for people: each check's, in the same order, and what to do below it.
        lines = self.server.cli('doctor', check=EXIT_OK).out.splitlines()
        for finding in answer.json()['checks']:
            level, check, message = finding['level'].lower(), finding['check'], messages[finding['check']]
            self.assertRegex(lines.pop(0), rf'^{level} +{check} +{message}$')
            if finding.get('advice'):
                self.assertRegex(lines.pop(0), rf'^ +-> {re.escape(finding["advice"])}$')
        self.assertRegex(lines.pop(0), r'^(All is well\.|0 problems, \d warnings?\.)$')
        self.assertEqual(lines, [])

    def test_no_server(self):
        self.server.terminate()
        answer = self.doctor(check=EXIT_UNREACHABLE)
        self.assertEqual(answer.json()['result'], 'PROBLEM')
        self.assertIn('start normlabd', findings(answer)['connection']['message'])

    def test_a_worker_that_does_not_start(self):
        self.server.terminate()
        broken = os.path.join(self.folder, 'broken-worker')
        with open(broken, 'w', encoding='ascii') as file:
            file.write('#!/bin/sh\nexit 1\n')
        os.chmod(broken, 0o755)
        self.server.start(f'--worker_binary={broken}')
        found = findings(self.doctor('--timeout', '30s', check=EXIT_REFUSED))
        self.assertEqual(found['engine']['level'], 'PROBLEM')
        self.assertIn('helper.log', found['engine']['advice'])
        self.assertEqual(found['worker']['level'], 'PROBLEM')

    def test_data_sets_that_are_there_are_named(self):
        os.rename(os.path.join(self.server.data_root, 'tiny'), os.path.join(self.server.data_root, 'fashion-mnist'))
        finding = findings(self.doctor())['data sets']
        self.assertEqual(finding['level'], 'OK')
        # The server's own folder comes before that of Debian's package, whose set is a hundred times as large.
        self.assertRegex(finding['message'], rf'^fashion_mnist \({self.TRAIN} \+ {self.TEST}\); not below '
                                             rf'{self.server.data_root}, /usr/share/datasets: mnist, cifar10, cifar100$')


class DoctorTlsTest(unittest.TestCase):

    def test_certificate_and_role(self):
        with tempfile.TemporaryDirectory(prefix='normlab-test-') as folder:
            certificates = os.path.join(folder, 'certificates')
            subprocess.run([os.path.join(ROOT, 'deploy/make-certificates'), certificates], check=True, capture_output=True)
            made = subprocess.run([f'{BIN}/normlab', 'token', 'new', '--name', 'vera', '--role', 'viewer', '--owner', 'vision',
                                   '--output', 'json'], capture_output=True, text=True, check=True)
            made = json.loads(made.stdout)
            token, line = made['token'], made['line']
            tokens = os.path.join(folder, 'tokens')
            with open(tokens, 'w', encoding='ascii') as file:
                file.write(line + '\n')
            os.chmod(tokens, 0o600)
            token_file = os.path.join(folder, 'token')
            with open(token_file, 'w', encoding='ascii') as file:
                file.write(token + '\n')
            os.chmod(token_file, 0o644)
            server = Server(folder, '--auth=tokens', f'--tokens_file={tokens}', f'--tls_cert={certificates}/server.pem',
                            f'--tls_key={certificates}/server.key')
            try:
                server.start()
                answer = server.cli('doctor', '--output', 'json', '--tls-ca', f'{certificates}/ca.pem', '--token-file', token_file,
                                    check=EXIT_OK)
                found = findings(answer)
                self.assertRegex(found['certificate']['message'], r'of the server \(.*\) is valid until 20\d\d-')
                self.assertEqual(found['token']['level'], 'WARNING')
                self.assertIn('chmod 600', found['token']['advice'])
                self.assertIn('VIEWER of the owner vision', found['caller']['message'])
                for check in ('worker', 'data sets'):
                    self.assertEqual(found[check]['level'], 'WARNING')
            finally:
                server.stop_everything()


class TopTest(ServerTest):
    FLAGS = ('--cores=1', '--pin=false')

    def test_in_a_pipe_and_as_json(self):
        running = self.server.submit(long_spec(display_name='a long one'))['name']
        waiting = self.server.submit(long_spec(model={'mlp': {'hidden': [64]}}))['name']
        self.server.wait_step(running, 300)
        text = self.server.cli('top', check=EXIT_OK).out
        lines = text.splitlines()
        self.assertRegex(lines[0], r'^normlab top - .* 1 running, 1 waiting$')
        self.assertRegex(lines[1], r'^cores 1/1, memory .* free, work disk .* free$')
        self.assertEqual(lines[3].split()[:9], ['JOB', 'STATE', 'STEP', 'DONE', 'STEPS/S', 'ETA', 'LOSS', 'CORES', 'MEMORY'])
        self.assertRegex(lines[4], rf'^{running} +RUNNING +\d+/2000000 +0% +[\d.]+ +[\d:]+ +[\d.e-]+ +1 +\d+ MiB +[\d:]+ +local +mlp ')
        self.assertRegex(lines[5], rf'^{waiting} +QUEUED +0/2000000 +0% +- +- +- +1 ')
        self.assertNotIn('\x1b', text)
        samples = self.server.cli('top', '-n', '2', '-d', '0.1', '--output', 'json', check=EXIT_OK).json_lines()
        self.assertEqual([[job['name'] for job in sample['jobs']] for sample in samples], [[running, waiting]] * 2)
        self.assertEqual(samples[0]['server']['runningJobs'], '1')
        self.assertEqual(len(samples[0]['server']['disks']), 2)
        sorted_by_model = self.server.cli('top', '--sort', 'memory', check=EXIT_OK).out.splitlines()[4:]
        self.assertTrue(sorted_by_model[0].startswith(running))
        self.server.cli('cancel', waiting, check=EXIT_OK)
        self.assertNotIn(waiting, self.server.cli('top').out)
        self.assertIn(waiting, self.server.cli('top', '--all').out)
        self.server.cli('cancel', running, check=EXIT_OK)

    def terminal(self, *arguments, rows=0):
        """(process, master, slave, settings of the terminal before) of a top on a terminal of its own."""
        master, slave = pty.openpty()
        if rows:
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('HHHH', rows, 120, 0, 0))
        before = termios.tcgetattr(slave)
        environment = dict(os.environ, TERM='xterm', LC_ALL='C.UTF-8')
        process = subprocess.Popen([f'{BIN}/normlab', '--server', self.server.address, 'top', '-d', '0.2', *arguments], stdin=slave,
                                   stdout=slave, stderr=slave, env=environment, start_new_session=True)
        return process, master, slave, before

    def read_until(self, master, text):
        seen, deadline = '', time.monotonic() + 30 * PATIENCE
        while text not in seen:
            ready, _, _ = select.select([master], [], [], max(0.0, deadline - time.monotonic()))
            self.assertTrue(ready, f'no {text!r} in {seen!r}')
            seen += os.read(master, 65536).decode()
        return seen

    def test_on_a_terminal_it_gives_everything_back(self):
        job = self.server.submit(long_spec())['name']
        self.server.wait_step(job, 10)
        enter, leave = '\x1b[?1049h', '\x1b[?25h\x1b[?1049l'
        for end in ('q', signal.SIGINT, signal.SIGTERM):
            process, master, slave, before = self.terminal()
            try:
                seen = self.read_until(master, 'RUNNING')
                self.assertIn(enter, seen)
                wait_for(lambda: not termios.tcgetattr(slave)[3] & termios.ICANON, 'keys without Enter')
                self.read_until(master, 'sorted by state')
                os.write(master, b'l')
                self.read_until(master, 'sorted by loss')
                if end == 'q':
                    os.write(master, b'q')
                else:
                    process.send_signal(end)
                self.read_until(master, leave)
                self.assertEqual(process.wait(20 * PATIENCE), 0 if end == 'q' else 130)
                self.assertEqual(termios.tcgetattr(slave), before)
            finally:
                process.kill()
                process.wait()
                os.close(master)
                os.close(slave)
        self.server.cli('cancel', job, check=EXIT_OK)

    def test_a_full_terminal_keeps_its_titles_and_its_hint(self):
        jobs, height = 30, 24
        name = self.server.cli('sweep', '-', '--axis', 'normalization=none', '--seeds', str(jobs), '--output', 'json',
                               stdin=json.dumps(long_spec(seed=None)), check=EXIT_OK).json()['name']
        process, master, slave, _ = self.terminal(rows=height)
        try:
            seen = self.read_until(master, 'sorted by state')
            frame = seen[:seen.index('sorted by state')]
            frame = frame[frame.rindex('\x1b[H'):]
            self.assertIn('normlab top - ', frame)
            self.assertIn('STEPS/S', frame)
            self.assertEqual(len(re.findall(r'jobs/\w{20}', frame)), height - 5)
        finally:
            process.kill()
            process.wait()
            os.close(master)
            os.close(slave)
        self.server.cli('experiment', 'cancel', name, check=EXIT_OK)

    def test_a_server_that_goes_away_and_comes_back(self):
        process, master, slave, _ = self.terminal()
        try:
            self.read_until(master, 'no job waits or runs')
            self.server.kill()
            self.read_until(master, 'trying to get it back')
            self.server.start(f'--listen={self.server.address}', f'--http_listen={self.server.http}')
            self.read_until(master, 'q quits')
            self.assertTrue(is_alive(process.pid))
        finally:
            process.kill()
            process.wait()
            os.close(master)
            os.close(slave)

    def test_no_server_is_an_error_at_once(self):
        self.server.terminate()
        self.assertEqual(self.server.cli('top', '--retry-for', '0s').code, EXIT_UNREACHABLE)


if __name__ == '__main__':
    main()
