"""A Docker engine of one's own: its data, sockets and network are below one folder, and nothing of it is left behind."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile

from normlab_testing import PATIENCE, wait_for


class EngineMissing(Exception):
    """No engine can run here."""


def run(*arguments, check=True, seconds=300, **options):
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=seconds * PATIENCE, check=False, **options)
    if check and done.returncode != 0:
        raise AssertionError(f'{" ".join(arguments)}: exit {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}')
    return done


class Engine:
    """Starts dockerd; stop() ends it by its process id and takes away its bridge and firewall rules."""

    def __init__(self, folder):
        self.folder = folder
        # A socket's path must be short.
        self.run_folder = tempfile.mkdtemp(prefix='nld-')
        self.socket = f'{self.run_folder}/s'
        self.log_path = f'{folder}/dockerd.log'
        self.process = None
        self.forwarding = {}
        self.firewall = {}
        # What a killed run would leave behind: said in a file, so that the next one can take it away.
        self.state_path = f'{folder}/engine.json'
        self._clean_up_after_another()
        self.had_bridge = os.path.exists('/sys/class/net/docker0')

    @staticmethod
    def _save_firewall():
        """{table: rules}, of the tables that can be read: no other may be written."""
        saved = {table: run('iptables-save', '-t', table, check=False) for table in ('filter', 'nat')}
        return {table: done.stdout for table, done in saved.items() if done.returncode == 0}

    def _clean_up_after_another(self):
        try:
            with open(self.state_path, encoding='utf-8') as file:
                state = json.load(file)
        except (OSError, ValueError):
            return
        with contextlib.suppress(OSError), open(f"/proc/{state['pid']}/comm", encoding='utf-8') as file:
            if file.read().strip() == 'dockerd':
                return  # it runs
        self._put_back(state['run_folder'], state['firewall'], state['forwarding'])
        shutil.rmtree(state['run_folder'], ignore_errors=True)

    def environment(self, **more):
        # Debian's own client: others may lack what builds images.
        return {**os.environ, 'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'DOCKER_HOST': f'unix://{self.socket}', 'DOCKER_BUILDKIT': '1', 'COMPOSE_DOCKER_CLI_BUILD': '1',
                'DOCKER_CONFIG': f'{self.run_folder}/config', **more}

    def start(self):
        if self.had_bridge:
            raise EngineMissing('there is a docker0 bridge already: an engine runs on this machine')
        os.makedirs(f'{self.folder}/data', exist_ok=True)
        self.firewall = self._save_firewall()
        for path in ('/proc/sys/net/ipv4/ip_forward',):
            with open(path, encoding='ascii') as file:
                self.forwarding[path] = file.read()
        log = open(self.log_path, 'wb')
        # --data-root below the checkout: the layers of an earlier run are used again.
        self.process = subprocess.Popen(
            ['dockerd', '-H', f'unix://{self.socket}', '--data-root', f'{self.folder}/data', '--exec-root',
             f'{self.run_folder}/exec', '-p', f'{self.run_folder}/pid', '--log-level', 'warn'],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        log.close()
        with open(self.state_path, 'w', encoding='utf-8') as file:
            json.dump({'pid': self.process.pid, 'run_folder': self.run_folder, 'firewall': self.firewall, 'forwarding': self.forwarding}, file)

        def ready():
            if self.process.poll() is not None:
                raise EngineMissing('dockerd ended: ' + self.log()[-500:].strip().replace('\n', ' | '))
            return self.docker('version', check=False).returncode == 0
        wait_for(ready, 'dockerd to answer', 60)
        return self

    def log(self):
        with open(self.log_path, encoding='utf-8', errors='replace') as file:
            return file.read()

    def docker(self, *arguments, **options):
        return run('/usr/bin/docker', *arguments, env=self.environment(), **options)

    def inspect(self, what):
        return json.loads(self.docker('inspect', what).stdout)[0]

    def import_root(self, root, name):
        """Makes an image of a folder, unless it is there."""
        if self.docker('image', 'inspect', name, check=False).returncode == 0:
            return
        with subprocess.Popen(['tar', '-C', root, '--one-file-system', '-c', '.'], stdout=subprocess.PIPE) as tar:
            self.docker('import', '-', name, stdin=tar.stdout)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            ids = self.docker('ps', '-aq', check=False).stdout.split()
            if ids:
                self.docker('rm', '-f', '-v', *ids, check=False)
            for network in self.docker('network', 'ls', '-q', '--filter', 'type=custom', check=False).stdout.split():
                self.docker('network', 'rm', network, check=False)
            for volume in self.docker('volume', 'ls', '-q', check=False).stdout.split():
                self.docker('volume', 'rm', volume, check=False)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60 * PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process is not None:
            self._put_back(self.run_folder, self.firewall, self.forwarding)
        shutil.rmtree(self.run_folder, ignore_errors=True)

    def _put_back(self, run_folder, firewall, forwarding):
        """Takes an engine's network and mounts away, once it has ended."""
        run('ip', 'link', 'delete', 'docker0', check=False)
        for table, rules in firewall.items():
            # Its chains stay otherwise.
            run('iptables-restore', '-T', table, input=rules if rules.strip() else self._empty(table), check=False)
        for path, value in forwarding.items():
            with contextlib.suppress(OSError), open(path, 'w', encoding='ascii') as file:
                file.write(value)
        self._unmount(run_folder)
        with contextlib.suppress(OSError):
            os.remove(self.state_path)

    @staticmethod
    def _empty(table):
        chains = {'filter': ('INPUT', 'FORWARD', 'OUTPUT'), 'nat': ('PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING')}[table]
        return '\n'.join([f'*{table}', *(f':{chain} ACCEPT [0:0]' for chain in chains), 'COMMIT', ''])

    def _unmount(self, run_folder):
        with open('/proc/self/mounts', encoding='utf-8') as file:
            places = [line.split()[1] for line in file]
        for place in reversed(places):
            if place.startswith((f'{self.folder}/', f'{run_folder}/')):
                run('umount', '-l', place, check=False)
