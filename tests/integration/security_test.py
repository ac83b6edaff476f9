"""Who gets in, what the command line says about it, what a worker can reach, and who can read what lies on the disk."""
import json
import os
import re
import stat
import subprocess
import tempfile
import unittest

from normlab_testing import BIN, EXIT_OK, EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE, PATIENCE, Result, Server, \
    ServerTest, long_spec, main, tiny_spec, wait_for

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')


def run(*arguments, stdin=None, environment=None):
    done = subprocess.run([os.path.join(BIN, 'normlab'), *arguments], input=stdin, capture_output=True, text=True,
                          timeout=60 * PATIENCE, check=False, env={**os.environ, **(environment or {})})
    return Result(done.returncode, done.stdout, done.stderr)


class AccessTest(unittest.TestCase):
    """A server that wants TLS and tokens."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix='normlab-test-')
        self.addCleanup(self.folder.cleanup)
        path = self.folder.name
        self.certificates = os.path.join(path, 'certificates')
        subprocess.run([os.path.join(ROOT, 'deploy/make-certificates'), self.certificates], check=True)
        self.tokens = {}
        lines = []
        for name, role, owner in (('vera', 'viewer', 'vision'), ('sam', 'submitter', 'vision'),
                                  ('lea', 'submitter', 'language')):
            made = run('token', 'new', '--name', name, '--role', role, '--owner', owner, '--output', 'json').json()
            self.tokens[name] = made['token']
            lines.append(made['line'])
        self.tokens_file = os.path.join(path, 'tokens')
        self.write_tokens(lines)
        self.server = Server(path, '--auth=tokens', f'--tokens_file={self.tokens_file}',
                             f'--tls_cert={self.certificates}/server.pem', f'--tls_key={self.certificates}/server.key')
        self.addCleanup(self.server.stop_everything)
        self.server.start()

    def write_tokens(self, lines):
        with open(self.tokens_file + '.new', 'w', encoding='ascii') as file:
            file.write('\n'.join(lines) + '\n')
        os.chmod(self.tokens_file + '.new', 0o600)
        os.rename(self.tokens_file + '.new', self.tokens_file)

    def cli(self, who, *arguments, stdin=None):
        environment = {'NORMLAB_TOKEN': self.tokens[who]} if who else {}
        return run('--server', self.server.address, '--tls-ca', f'{self.certificates}/ca.pem', *arguments, stdin=stdin,
                   environment=environment)

    def test_a_session(self):
        spec = json.dumps({'model': {'mlp': {'hidden': [8]}}, 'data': {'gaussian_classes': {}}, 'steps': 3})
        job = self.cli('sam', 'submit', '-', '--output', 'json', '--wait', stdin=spec)
        self.assertEqual(job.code, EXIT_OK, job)
        name = re.search(r'jobs/[0-9a-z]{20}', job.out).group()
        self.assertEqual(self.cli('vera', 'get', name).code, EXIT_OK)
        self.assertEqual(self.cli('vera', 'get', name, '--output', 'json').json()['owner'], 'vision')
        refused = self.cli('vera', 'submit', '-', stdin=spec)
        self.assertEqual(refused.code, EXIT_REFUSED, refused)
        self.assertIn('submitter', refused.err)
        foreign = self.cli('lea', 'get', name)
        self.assertEqual(foreign.code, EXIT_REFUSED, foreign)
        self.assertIn('there is no job', foreign.err)
        self.assertNotIn(name, self.cli('lea', 'list').out)
        self.assertIn(name, self.cli('vera', 'list').out)
        nobody = self.cli(None, 'list', '--output', 'json')
        self.assertEqual(nobody.code, EXIT_REFUSED, nobody)
        error = json.loads(nobody.err)['error']
        self.assertEqual(error['status'], 'UNAUTHENTICATED')
        self.assertIn('TOKEN_MISSING', nobody.err)
        # A token out of a file.
        path = os.path.join(self.folder.name, 'token')
        with open(path, 'w', encoding='ascii') as file:
            file.write(self.tokens['vera'] + '\n')
        self.assertEqual(self.cli(None, 'list', '--token-file', path).code, EXIT_OK)
        # What is in the log, and what is not.
        log = self.server.log()
        self.assertRegex(log, rf'audit: who=sam owner=vision role=submitter method=CreateJob resource="{name}" .*outcome=OK')
        self.assertRegex(log, r'audit: who=vera owner=vision role=viewer method=CreateJob .*outcome=PERMISSION_DENIED reason=ROLE_TOO_LOW')
        self.assertRegex(log, rf'audit: who=lea owner=language role=submitter method=GetJob resource="{name}" .*outcome=NOT_FOUND reason=JOB_NOT_FOUND')
        self.assertRegex(log, r'audit: who=- owner=- role=none method=ListJobs .*reason=TOKEN_MISSING')
        for token in self.tokens.values():
            self.assertNotIn(token, log)

    def test_a_withdrawn_token(self):
        self.assertEqual(self.cli('vera', 'list').code, EXIT_OK)
        with open(self.tokens_file, encoding='ascii') as file:
            lines = file.read().splitlines()
        self.write_tokens([line for line in lines if 'vera' not in line])
        wait_for(lambda: self.cli('vera', 'list').code == EXIT_REFUSED, 'the token to be unknown')
        self.assertEqual(self.cli('sam', 'list').code, EXIT_OK)
        self.write_tokens(['nonsense'])
        wait_for(lambda: 'normlab_tokens_file_healthy 0' in self.server.scrape(), 'the wrong file to be noticed')
        self.assertEqual(self.cli('sam', 'list').code, EXIT_OK)

    def test_what_the_command_line_says_about_connections(self):
        token = {'NORMLAB_TOKEN': self.tokens['sam']}
        plain = run('--server', '192.0.2.1:7600', 'list', environment=token)
        self.assertEqual(plain.code, EXIT_USAGE, plain)
        self.assertIn('--tls', plain.err)
        url = run('--server', f'http://{self.server.http}', 'list')
        self.assertEqual(url.code, EXIT_USAGE, url)
        self.assertIn('is a URL', url.err)
        http = run('--server', self.server.http, '--retry-for', '0s', 'list')
        self.assertEqual(http.code, EXIT_UNREACHABLE, http)
        self.assertIn('speaks HTTP', http.err)
        stranger = os.path.join(self.folder.name, 'stranger')
        subprocess.run([os.path.join(ROOT, 'deploy/make-certificates'), stranger], check=True)
        untrusted = run('--server', self.server.address, '--tls-ca', f'{stranger}/ca.pem', '--retry-for', '0s', 'list')
        self.assertEqual(untrusted.code, EXIT_UNREACHABLE, untrusted)
        self.assertIn('no TLS connection', untrusted.err)


class ProcessTest(ServerTest):
    """What worker processes have, and what lies on the disk."""

    def descriptors(self, pid):
        folder = f'/proc/{pid}/fd'
        return {int(fd): os.readlink(f'{folder}/{fd}') for fd in os.listdir(folder)}

    def test_a_worker_has_nothing_of_the_servers(self):
        job = self.server.submit(long_spec())
        self.server.wait_step(job['name'], 10)
        [worker] = self.server.worker_pids()
        helpers = [pid for pid in self.server.worker_pids(include_helper=True) if pid != worker]
        self.assertTrue(helpers)
        theirs = self.descriptors(self.server.process.pid)
        shared = {target for target in theirs.values() if re.match(r'(socket|pipe):', target)}
        for pid in (worker, *helpers):
            mine = self.descriptors(pid)
            self.assertEqual(mine[0], '/dev/null')
            for fd, target in mine.items():
                self.assertFalse(target in shared and fd > 2, f'{pid} shares {target} with the server')
                self.assertNotIn('normlab.db', target)
                self.assertNotIn('LOCK', target)
            with open(f'/proc/{pid}/environ', 'rb') as file:
                names = {entry.split(b'=')[0].decode() for entry in file.read().split(b'\0') if entry}
            allowed = r'PATH|LANG|OMP_\w+|GOMP_\w+|[ALUT]\w*SAN_OPTIONS|LLVM_PROFILE_FILE|GCOV_PREFIX\w*|LD_LIBRARY_PATH|' \
                      r'ONEDNN_\w+|DNNL_\w+|GRPC_\w+'
            for name in names:
                self.assertRegex(name, rf'^({allowed})$')
            with open(f'/proc/{pid}/status', encoding='ascii') as file:
                self.assertIn('NoNewPrivs:\t1', file.read())
            with open(f'/proc/{pid}/limits', encoding='ascii') as file:
                limits = file.read()
            self.assertRegex(limits, r'Max core file size +0 +0 ')
            self.assertRegex(limits, r'Max open files +\d{1,4} +\d{1,4} ')
            self.assertRegex(limits, r'Max file size +\d+ +\d+ ')
            with open(f'/proc/{pid}/cmdline', 'rb') as file:
                self.assertEqual(len(file.read().strip(b'\0').split(b'\0')), 2)
        self.server.cli('cancel', job['name'], check=EXIT_OK)

    def test_nobody_else_can_read_the_data_folder(self):
        self.server.submit(tiny_spec(checkpoint={'every_steps': 20}), '--wait')
        self.assertEqual(stat.S_IMODE(os.stat(self.server.data_dir).st_mode), 0o700)
        looked_at = 0
        for folder, _, names in os.walk(self.server.data_dir):
            for name in names:
                path = os.path.join(folder, name)
                mode = stat.S_IMODE(os.lstat(path).st_mode)
                self.assertEqual(mode & 0o077, 0, f'{path} has the mode {mode:o}')
                looked_at += 1
        self.assertGreater(looked_at, 4)
        self.assertTrue(stat.S_ISSOCK(os.stat(f'{self.server.data_dir}/run/worker.sock').st_mode))

    def test_a_port_in_use_is_told_in_our_words_first(self):
        with tempfile.TemporaryDirectory(prefix='normlab-test-') as folder:
            done = subprocess.run(
                [os.path.join(BIN, 'normlabd'), f'--data_dir={folder}', f'--listen={self.server.address}',
                 '--http_listen=127.0.0.1:0'], capture_output=True, text=True, timeout=60 * PATIENCE, check=False)
        self.assertEqual(done.returncode, 1)
        complaints = [line for line in done.stderr.splitlines() if ' I ' not in line]
        self.assertEqual(len(complaints), 1, done.stderr)
        self.assertRegex(complaints[0], r'cannot listen for gRPC on .*in use; choose another --listen')


if __name__ == '__main__':
    main()
