"""The image in a real Docker engine: built from the Debian package, small, without root, rights or a writable root; health,
limits, signals; compose with Prometheus; jobs from outside; a restart in the middle of training that costs nothing.
"""
import glob
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import unittest
import urllib.parse
import urllib.request

import product
from docker_engine import run
from product import IMAGE, ROOT
from normlab_testing import BIN, PATIENCE, wait_for

MOST_MEGABYTES = 250
GRACE_SECONDS = 60
HARDENED = ('--read-only', '--cap-drop=ALL', '--security-opt=no-new-privileges', '--tmpfs=/tmp')
PROMETHEUS = '''FROM debian:bookworm-slim
RUN apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends prometheus && rm -rf /var/lib/apt/lists/*
RUN install -d -o nobody /prometheus
USER nobody
ENTRYPOINT ["/usr/bin/prometheus"]
'''
engine = None


def setUpModule():
    global engine
    engine = product.engine()


class ImageTest(unittest.TestCase):

    def in_image(self, *command, flags=()):
        return engine.docker('run', '--rm', '--network=none', *HARDENED, *flags, '--entrypoint', command[0], IMAGE, *command[1:])

    def start(self, *flags, arguments=()):
        container = engine.docker('run', '-d', *HARDENED, '--network=none', *flags, IMAGE, *arguments).stdout.strip()
        self.addCleanup(lambda: engine.docker('rm', '-f', '-v', container, check=False))
        return container

    def wait_healthy(self, container):
        wait_for(lambda: engine.inspect(container)['State']['Health']['Status'] == 'healthy', 'the container to be healthy', 60)

    def test_what_is_in_it(self):
        image = engine.inspect(IMAGE)
        megabytes = image['Size'] / 1e6
        print(f'the image has {megabytes:.0f} MB')
        self.assertLessEqual(megabytes, MOST_MEGABYTES)
        config = image['Config']
        self.assertEqual((config['User'], config['StopSignal']), ('7600:7600', 'SIGTERM'))
        self.assertEqual(config['Entrypoint'][:3], ['/usr/bin/tini', '--', '/usr/bin/normlabd'])
        self.assertEqual(config['Healthcheck']['Test'][:3], ['CMD', '/usr/bin/normlabd', '--healthcheck'])
        sbom = json.loads(self.in_image('cat', '/usr/share/doc/normlab/packages.spdx.json').stdout)
        installed = self.in_image('dpkg-query', '-W', '-f', '${Package}\\t${Version}\\n').stdout.split('\n')
        listed = [f"{package['name']}\t{package['versionInfo']}" for package in sbom['packages']]
        self.assertEqual(sorted(listed), sorted(line for line in installed if line))
        self.assertEqual(sbom['spdxVersion'], 'SPDX-2.3')
        names = [package['name'] for package in sbom['packages']]
        missing = self.in_image('sh', '-c', 'for p; do [ -e /usr/share/doc/$p/copyright ] || echo $p; done', 'sh', *names)
        self.assertEqual(missing.stdout.split(), [], 'every package has its licence inside')
        self.assertEqual(self.in_image('id', '-u').stdout.strip(), '7600')

    def test_limits_health_orphans_and_a_clean_end(self):
        container = self.start('--cpus=1', '--memory=1g')
        self.wait_healthy(container)

        def inside(*command):
            return engine.docker('exec', container, *command).stdout
        status = dict(line.split(':\t', 1) for line in inside('cat', '/proc/self/status').splitlines() if ':\t' in line)
        self.assertEqual(status['CapEff'].strip(), '0' * 16)
        self.assertEqual(status['CapBnd'].strip(), '0' * 16)
        self.assertEqual(status['NoNewPrivs'].strip(), '1')
        self.assertIn('Read-only', engine.docker('exec', container, 'touch', '/etc/x', check=False).stderr)
        info = json.loads(inside('normlab', 'version', '--output', 'json'))
        server = info.get('server', info)
        print('GetServerInfo of a container with one processor and 1 GiB:', server.get('cores'), server.get('memoryBytes'))
        self.assertEqual(int(server['cores']), 1)
        self.assertEqual(int(server['memoryBytes']), (1 << 30) // 10 * 9)
        # What nobody waits for is reaped by process 1.
        inside('sh', '-c', '(sleep 0.1 &) ; exit 0')

        def zombies():
            states = inside('sh', '-c', 'cat /proc/[0-9]*/stat').splitlines()
            return [line for line in states if line.rsplit(')', 1)[1].split()[0] == 'Z' or '(sleep)' in line]
        wait_for(lambda: not zombies(), 'the orphan to be reaped', 20)
        began = time.monotonic()
        engine.docker('stop', '-t', str(GRACE_SECONDS), container)
        seconds = time.monotonic() - began
        self.assertLess(seconds, GRACE_SECONDS)
        state = engine.inspect(container)['State']
        self.assertEqual((state['ExitCode'], state['OOMKilled']), (0, False))
        print(f'docker stop took {seconds:.1f} s')


class ComposeTest(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='normlab-compose-')
        self.addCleanup(lambda: shutil.rmtree(self.folder, ignore_errors=True))
        self.secrets = f'{self.folder}/secrets'
        os.makedirs(self.secrets)
        if engine.docker('image', 'inspect', 'normlab-test-prometheus', check=False).returncode != 0:
            engine.docker('build', '--network=host', '-q', '-t', 'normlab-test-prometheus', '-', input=PROMETHEUS, seconds=600)

    def up(self, project, *arguments, **environment):
        self.environment = engine.environment(
            COMPOSE_PROJECT_NAME=project, NORMLAB_SECRETS=self.secrets, NORMLAB_PORT='0', PROMETHEUS_PORT='0', NORMLAB_TLS_PORT='0',
            PROMETHEUS_IMAGE='normlab-test-prometheus', **environment)
        self.addCleanup(lambda: run('/usr/bin/docker-compose', '-f', f'{ROOT}/deploy/compose/docker-compose.yml', 'down', '-v', '-t', '5',
                                    env=self.environment, check=False))
        done = run(f'{ROOT}/deploy/compose/up', *arguments, env=self.environment)
        self.container = self.compose('ps', '-q', 'normlab').strip()
        return done.stdout

    def compose(self, *arguments):
        return run('/usr/bin/docker-compose', '-f', f'{ROOT}/deploy/compose/docker-compose.yml', *arguments, env=self.environment).stdout

    def port(self, container, port):
        return engine.docker('port', container, port).stdout.split()[0].rsplit(':', 1)[1]

    def cli(self, *arguments, stdin=None, check=0, seconds=180):
        done = subprocess.run([f'{BIN}/normlab', *self.connection, *arguments], input=stdin, capture_output=True, text=True,
                              timeout=seconds * PATIENCE, check=False)
        if check is not None and done.returncode != check:
            raise AssertionError(f'normlab {arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}\n'
                                 + engine.docker('logs', self.container, check=False).stderr[-3000:])
        return done.stdout

    def get(self, name):
        return json.loads(self.cli('get', name, '--output', 'json'))

    def test_server_and_prometheus_jobs_from_outside_and_a_restart_in_the_middle(self):
        said = self.up('normlab-test', 'normlab', 'prometheus')
        self.assertIn('normlabd is ready', said)
        server = '127.0.0.1:' + self.port(self.container, '7600/tcp')
        self.connection = ['--server', server, '--token-file', f'{self.secrets}/token.admin']
        without = subprocess.run([f'{BIN}/normlab', '--server', server, 'list'], capture_output=True, text=True, check=False)
        self.assertNotEqual(without.returncode, 0, 'nobody gets in without a token')
        self.assertTrue(engine.inspect(self.container)['HostConfig']['ReadonlyRootfs'])

        # A job from outside, followed to its end.
        def train(spec):
            name = json.loads(self.cli('submit', '-', '--output', 'json', stdin=json.dumps(spec)))['name']
            records = [json.loads(line) for line in self.cli('watch', name, '--output', 'json').splitlines()]
            self.assertEqual([int(r['sequence']) for r in records], list(range(1, len(records) + 1)))
            job = self.get(name)
            self.assertEqual(job['state'], 'SUCCEEDED')
            return job
        spec, undisturbed, jobs = product.trained_undisturbed(train)

        # The same again, with the container restarted in the middle of it.
        job = json.loads(self.cli('submit', '-', '--output', 'json', stdin=json.dumps(spec)))['name']
        wait_for(lambda: int(self.get(job).get('progress', {}).get('step', 0)) >= spec['steps'] // 6, 'the middle of training', 60)
        began = time.monotonic()
        engine.docker('restart', '-t', str(GRACE_SECONDS), self.container)
        seconds = time.monotonic() - began
        print(f'docker restart in mid-training took {seconds:.1f} s')
        self.assertLess(seconds, GRACE_SECONDS)
        self.connection[1] = '127.0.0.1:' + self.port(self.container, '7600/tcp')
        wait_for(lambda: engine.inspect(self.container)['State']['Health']['Status'] == 'healthy', 'health after the restart', 60)
        wait_for(lambda: self.get(job)['state'] == 'SUCCEEDED', 'the job to end', 120)
        resumed = self.get(job)
        self.assertEqual(len(resumed['attempts']), 2)
        self.assertEqual(resumed['attempts'][0]['failure']['reason'], 'SERVER_DRAINED')
        self.assertGreaterEqual(int(resumed['attempts'][1]['startStep']), spec['steps'] // 6)
        self.assertEqual([a.get('replayMismatches', '0') for a in resumed['attempts']], ['0', '0'])
        self.assertEqual(resumed['result']['weightsSha256'], undisturbed['result']['weightsSha256'])
        self.assertEqual(self.cli('metrics', job, '--format', 'csv'), self.cli('metrics', undisturbed['name'], '--format', 'csv'))

        # Prometheus scrapes it under its name in the network.
        prometheus = self.compose('ps', '-q', 'prometheus').strip()
        base = 'http://127.0.0.1:' + self.port(prometheus, '9090/tcp')

        def query(expression):
            with urllib.request.urlopen(f'{base}/api/v1/query?' + urllib.parse.urlencode({'query': expression}), timeout=10) as answer:
                return json.load(answer)['data']['result']

        def scraped():
            try:
                ready = urllib.request.urlopen(f'{base}/-/ready', timeout=10)
            except OSError:
                return False  # it is starting
            ready.close()
            result = query('normlab_jobs{state="SUCCEEDED"}')
            return result and float(result[0]['value'][1]) == jobs + 1
        wait_for(scraped, 'Prometheus to have scraped the server', 60)
        with urllib.request.urlopen(f'{base}/api/v1/rules', timeout=10) as answer:
            groups = json.load(answer)['data']['groups']
        rules = [rule for group in groups for rule in group['rules']]
        if glob.glob(f'{ROOT}/deploy/prometheus/rules/*.yml'):
            self.assertGreaterEqual(sum(rule['type'] == 'alerting' for rule in rules), 12, 'the rules are loaded')
        print(f'Prometheus scrapes the server and has {len(rules)} rules')

        began = time.monotonic()
        self.compose('stop', 'normlab')
        self.assertLess(time.monotonic() - began, GRACE_SECONDS)
        self.assertEqual(engine.inspect(self.container)['State']['ExitCode'], 0)

    def test_tls(self):
        said = self.up('normlab-test-tls', '--tls', '127.0.0.1', 'normlab')
        self.assertIn('--tls-ca', said)
        ports = engine.docker('port', self.container, '7600/tcp').stdout.split()
        public = [place for place in ports if place.startswith('0.0.0.0:')][0].rsplit(':', 1)[1]
        self.connection = ['--server', f'127.0.0.1:{public}', '--tls-ca', f'{self.secrets}/ca.pem',
                           '--token-file', f'{self.secrets}/token.admin']
        self.assertIn('normlabd', self.cli('version'))
        plain = subprocess.run([f'{BIN}/normlab', '--server', f'127.0.0.1:{public}', '--token-file', f'{self.secrets}/token.admin', 'list'],
                               capture_output=True, text=True, check=False)
        self.assertNotEqual(plain.returncode, 0, 'no plaintext')

    def test_what_compose_mounts_for_grafana_is_there(self):
        text = run('/usr/bin/docker-compose', '-f', f'{ROOT}/deploy/compose/docker-compose.yml', 'config',
                   env=engine.environment(NORMLAB_SECRETS=self.secrets)).stdout
        self.assertIn('grafana', text)
        for mounted in re.findall(r'(/\S*deploy/(?:grafana|prometheus|compose)/?\S*?):', text):
            with self.subTest(mounted):
                self.assertTrue(os.path.exists(mounted), mounted)
