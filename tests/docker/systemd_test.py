"""The Debian package under a real systemd, which runs as process 1 of a container: the unit with all its hardening, an
upgrade in the middle of training, the watchdog's pings, a kill, stopping, removing.
"""
import json
import os
import time
import unittest

import product
from normlab_testing import wait_for

IMAGE = 'normlab-test-systemd'
DOCKERFILE = '''FROM debian:bookworm-slim
RUN apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends systemd systemd-sysv dbus dataset-fashion-mnist adduser
COPY *.deb /root/
RUN DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends /root/normlab_*.deb && apt-get purge -y -q normlab && rm -rf /var/lib/normlab
RUN systemctl mask systemd-resolved systemd-udevd systemd-logind getty.target console-getty.service || true
STOPSIGNAL SIGRTMIN+3
ENTRYPOINT ["/lib/systemd/systemd"]
'''
# What systemd needs to be process 1, and to take rights and folders away from services. (Not --privileged: that wants every
# right there is, which a machine of CI may lack itself.)
RIGHTS = ('--cap-add=SYS_ADMIN', '--cap-add=NET_ADMIN', '--cap-add=SYS_NICE', '--cap-add=SYS_PTRACE',
          '--security-opt=seccomp=unconfined', '--security-opt=apparmor=unconfined', '--cgroupns=host',
          '-v', '/sys/fs/cgroup:/sys/fs/cgroup:rw', '-e', 'container=docker')


class SystemdTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.engine = product.engine()
        folder = os.path.dirname(os.environ['NORMLAB_DEB'])
        with open(f'{folder}/Dockerfile.systemd', 'w', encoding='ascii') as file:
            file.write(DOCKERFILE)
        with open(f'{folder}/Dockerfile.systemd.dockerignore', 'w', encoding='ascii') as file:
            file.write('*\n!*.deb\n')
        cls.engine.docker('build', '--network=host', '-q', '-f', f'{folder}/Dockerfile.systemd', '-t', IMAGE, folder, seconds=600)
        cls.container = cls.engine.docker(
            'run', '-d', *RIGHTS, '--network=none', '--tmpfs=/run', '--tmpfs=/run/lock', '--tmpfs=/tmp:exec', IMAGE).stdout.strip()
        cls.addClassCleanup(lambda: cls.engine.docker('rm', '-f', '-v', cls.container, check=False))
        wait_for(lambda: cls.inside('systemctl', 'is-system-running', check=False).strip() in ('running', 'degraded'),
                 'systemd to have started: ' + cls.engine.docker('logs', cls.container, check=False).stdout[-500:], 60)

    @classmethod
    def inside(cls, *command, check=True, **options):
        return cls.engine.docker('exec', *(['-i'] if 'input' in options else []), cls.container, *command, check=check, **options).stdout

    def show(self, name):
        return self.inside('systemctl', 'show', '-p', name, '--value', 'normlabd').strip()

    def install(self, *flags):
        self.inside('sh', '-c', 'DEBIAN_FRONTEND=noninteractive dpkg -i ' + ' '.join(flags) + ' /root/normlab_*.deb')
        self.wait_active()

    def wait_active(self):
        wait_for(lambda: self.inside('systemctl', 'is-active', 'normlabd', check=False).strip() == 'active',
                 'the service to be active: ' + self.inside('journalctl', '-u', 'normlabd', '-n', '20', '--no-pager', check=False), 60)

    def get(self, job):
        return json.loads(self.inside('normlab', 'get', job, '--output', 'json'))

    def test_the_life_of_the_service(self):
        self.install()
        self.assertTrue(self.show('StatusText').startswith('Taking jobs on 127.0.0.1:7600'), self.show('StatusText'))
        self.assertEqual((self.show('User'), self.show('NoNewPrivileges'), self.show('NRestarts')), ('normlab', 'yes', '0'))
        pid = self.show('MainPID')
        status = dict(line.split(':\t', 1) for line in self.inside('cat', f'/proc/{pid}/status').splitlines() if ':\t' in line)
        self.assertEqual(status['CapBnd'].strip(), '0' * 16)
        self.assertEqual(status['Seccomp'].strip(), '2')
        self.assertEqual(status['Uid'].split()[0], self.inside('id', '-u', 'normlab').strip())

        # Trains, computes and is upgraded in the middle, under all that the unit forbids.
        self.assertIn('"output"', self.inside('normlab', 'normalize', '--spec', 'batch', '--input', '[[1], [2], [4]]'))
        spec, undisturbed, jobs = product.trained_undisturbed(lambda spec: json.loads(
            self.inside('normlab', 'submit', '-', '--wait', '--output', 'json', input=json.dumps(spec))))
        job = json.loads(self.inside('normlab', 'submit', '-', '--output', 'json', input=json.dumps(spec)))['name']
        wait_for(lambda: int(self.get(job).get('progress', {}).get('step', 0)) >= spec['steps'] // 9, 'the middle of training', 60)
        began = time.monotonic()
        self.install()
        print(f'an upgrade in mid-training took {time.monotonic() - began:.1f} s')
        self.assertNotEqual(self.show('MainPID'), pid)
        wait_for(lambda: self.get(job)['state'] == 'SUCCEEDED', 'the job to end', 120)
        resumed = self.get(job)
        self.assertEqual([a.get('failure', {}).get('reason') for a in resumed['attempts']], ['SERVER_DRAINED', None])
        self.assertEqual(resumed['result']['weightsSha256'], undisturbed['result']['weightsSha256'])

        # The watchdog is told that the server lives.
        first = self.show('WatchdogTimestampMonotonic')
        self.assertNotEqual(first, '0')
        wait_for(lambda: self.show('WatchdogTimestampMonotonic') != first, 'a sign of life', 45)

        # A backup as docs/operations.md has it, while the service runs.
        self.inside('install', '-d', '-o', 'normlab', '-g', 'normlab', '/var/backups/normlab')
        said = self.inside('runuser', '-u', 'normlab', '--', 'normlabd', '--flagfile=/etc/normlab/normlabd.conf',
                           '--backup=/var/backups/normlab/copy')
        self.assertIn(f'{jobs + 1} jobs', said)

        # Killed, it comes back; restored from the backup, it has the jobs.
        self.inside('systemctl', 'kill', '-s', 'SIGKILL', 'normlabd')
        wait_for(lambda: self.show('NRestarts') == '1', 'systemd to start it again', 30)
        self.wait_active()
        self.inside('sh', '-ec', 'systemctl stop normlabd; mv /var/lib/normlab /var/lib/normlab.old; '
                    'cp -a /var/backups/normlab/copy /var/lib/normlab; chown -R normlab: /var/lib/normlab; systemctl start normlabd')
        self.assertEqual(self.get(job)['result']['weightsSha256'], undisturbed['result']['weightsSha256'])

        # It ends within its minute, cleanly.
        began = time.monotonic()
        self.inside('systemctl', 'stop', 'normlabd')
        print(f'systemctl stop took {time.monotonic() - began:.1f} s')
        self.assertEqual((self.show('Result'), self.show('ExecMainStatus')), ('success', '0'))
        self.inside('systemctl', 'start', 'normlabd')
        self.inside('dpkg', '--remove', 'normlab')
        self.assertEqual(self.inside('sh', '-c', 'pgrep normlabd || cat /proc/[0-9]*/comm | grep -c normlabd || true').strip(), '0')
        self.inside('test', '-e', '/var/lib/normlab/normlab.db')
