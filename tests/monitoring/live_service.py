"""A real server under real jobs and a real Prometheus that scrapes it, for the live test of the dashboards and for previews."""
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request

import yaml

import monitoring_files as files
from normlab_testing import (EXIT_OK, EXIT_REFUSED, Server, long_spec, sample, tiny_spec, wait_for, write_tiny_images)

# What Grafana would put for it at this scrape interval: at least four samples.
RATE_INTERVAL = '30s'


def free_port():
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return found.getsockname()[1]


class Prometheus:
    """Debian's Prometheus with our rules, scraping every second."""

    def __init__(self, folder, target):
        self.folder = folder
        with open(os.path.join(files.ROOT, 'deploy', 'prometheus', 'prometheus.yml'), encoding='utf-8') as file:
            config = yaml.safe_load(file)
        config['global'] = {'scrape_interval': '1s', 'scrape_timeout': '1s', 'evaluation_interval': '1s'}
        config['rule_files'] = [os.path.join(files.RULES, '*.yml')]
        config['scrape_configs'][0]['static_configs'][0]['targets'] = [target]
        path = os.path.join(folder, 'prometheus.yml')
        with open(path, 'w', encoding='utf-8') as file:
            yaml.safe_dump(config, file)
        self.address = f'127.0.0.1:{free_port()}'
        self.log = open(os.path.join(folder, 'prometheus.log'), 'wb')
        self.process = subprocess.Popen(
            ['prometheus', f'--config.file={path}', f'--storage.tsdb.path={os.path.join(folder, "tsdb")}',
             f'--web.listen-address={self.address}'], stdout=self.log, stderr=subprocess.STDOUT)
        wait_for(self.ready, 'Prometheus to be ready', 60)

    def ready(self):
        assert self.process.poll() is None, f'Prometheus ended; its log is {self.log.name}'
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f'http://{self.address}/-/ready', timeout=5) as answer:
                return answer.status == 200
        return False

    def get(self, path, **parameters):
        url = f'http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}'
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                body = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f'{parameters.get("query", path)}: {error.read().decode()}') from None
        assert body['status'] == 'success', body
        return body['data']

    def range(self, query, seconds, step=1, end=None):
        """[{metric, values}] of a query over the last seconds."""
        end = time.time() if end is None else end
        return self.get('query_range', query=query, start=end - seconds, end=end, step=step)['result']

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        self.log.close()


def substitute(expr, instance='.+'):
    """What Grafana makes of our variables."""
    return expr.replace('$__rate_interval', RATE_INTERVAL).replace('$instance', instance)


class LiveService:
    """Use it as a context; `train` makes everything happen that the dashboards show."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix='normlab-monitoring-')
        self.server = Server(self.folder, '--stream_write_timeout=3s', '--cores=2')
        write_tiny_images(os.path.join(self.server.data_root, 'tiny'), 600, 100)
        self.followers = []
        self.prometheus = None
        try:
            self.server.start()
            # A worker that outlives a killed server, and a job that waits through it.
            self.survivor = self.server.submit(long_spec(threads=1))['name']
            self.server.wait_step(self.survivor, 50)
            waiting = self.server.submit(long_spec(threads=2))['name']
            self.server.kill()
            self.server.start()
            wait_for(lambda: sample(self.server.scrape(), 'normlab_jobs_recovered_total', how='reconnected') == 1,
                     'the worker to come back')
            self.server.cli('cancel', waiting, check=EXIT_OK)
            self.prometheus = Prometheus(self.folder, self.server.http)
            wait_for(lambda: self.prometheus.get('query', query='normlab_build_info')['result'], 'the first scrape', 60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in self.followers:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.communicate()
        if self.prometheus is not None:
            self.prometheus.stop()
        self.server.stop_everything()
        shutil.rmtree(self.folder, ignore_errors=True)

    def train(self):
        """Some seconds of everything: jobs that wait, end, are cancelled, fail to be submitted; checkpoints; watchers."""
        server = self.server
        self.began = time.time()
        long_job = server.submit(long_spec(threads=1, checkpoint={'every_steps': 200}))['name']
        server.wait_state(long_job, 'RUNNING')
        watch = server.watch(long_job)
        self.followers.append(watch)
        watch.stdout.readline()
        watch.send_signal(signal.SIGSTOP)  # one who does not read
        for seed in range(3):
            server.submit(tiny_spec(seed=seed))
        real = server.submit({'model': {'mlp': {'hidden': [100, 100, 100]}}, 'normalization': {'batch': {}},
                              'data': {'fashion_mnist': {}}, 'batch_size': 60, 'steps': 300})['name']
        server.cli('cancel', self.survivor, check=EXIT_OK)
        server.cli('get', 'jobs/01234567890123456789012345', check=EXIT_REFUSED)
        server.cli('submit', '-', '--output', 'json', stdin='{"model": {}}', check=EXIT_REFUSED)
        server.cli('normalize', '--spec', '{"batch": {}}', '--input', '[[1, 2], [3, 5]]', check=EXIT_OK)
        server.cli('list', check=EXIT_OK)
        server.wait_state(real, 'SUCCEEDED', 120)
        followed = server.cli('watch', real, '--output', 'json', check=EXIT_OK)
        assert followed.out, 'the finished job has records'
        wait_for(lambda: (sample(server.scrape(), 'normlab_checkpoint_duration_seconds_count') or 0) > 0, 'a checkpoint', 60)
        wait_for(lambda: (sample(server.scrape(), 'normlab_jobs', state='SUCCEEDED') or 0) >= 4, 'the short jobs to end', 120)
        self.wait_for_scrape()

    def keep_busy(self, seconds):
        """Short jobs one after the other, for pictures that show more than a moment."""
        end = time.time() + seconds
        seed = 100
        while time.time() < end:
            seed += 1
            self.server.submit(tiny_spec(seed=seed, steps=400), '--wait')
            self.server.cli('list', check=EXIT_OK)
        self.wait_for_scrape()

    def wait_for_scrape(self):
        # Until what happened last was scraped, and the recording rules have seen it.
        done = time.time()
        wait_for(lambda: float((self.prometheus.get(
            'query', query='timestamp(normlab_build_info)')['result'] or [{'value': [0, 0]}])[0]['value'][1]) > done + 3,
                 'Prometheus to have scraped that', 60)
