"""What the tests of the whole product share: a server of their own, the command line, and small data sets.

Only Python's standard library; programs are taken from NORMLAB_BIN (ctest sets it). Nothing sleeps for a bound: waits are
for conditions, with deadlines.
"""
import contextlib
import gzip
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request

BIN = os.environ.get('NORMLAB_BIN') or os.path.join(
    os.path.dirname(os.path.abspath(__file__)), '..', '..', 'build', 'release', 'bin')
# Sanitized programs are several times slower; every deadline is stretched by this.
PATIENCE = float(os.environ.get('NORMLAB_TEST_PATIENCE', '1'))

# Steps that no machine does while a test runs.
ENDLESS = 2_000_000

# The exit code of a test that did not run, for ctest.
SKIPPED = 77

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE, EXIT_REFUSED, EXIT_CANCELLED, EXIT_DIVERGED = range(7)


def wait_for(condition, what, seconds=30.0):
    """Polls until `condition` returns something true, and returns that; fails naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f'waited {seconds * PATIENCE:.0f} s in vain for {what}')
        time.sleep(0.01)


def is_alive(pid):
    try:
        with open(f'/proc/{pid}/stat', encoding='ascii', errors='replace') as file:
            return file.read().rsplit(')', 1)[1].split()[0] not in 'ZX'
    except OSError:
        return False


def processor_seconds(pid):
    """That a process has used so far."""
    with open(f'/proc/{pid}/stat', encoding='ascii', errors='replace') as file:
        user, system = file.read().rsplit(')', 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf('SC_CLK_TCK')


def write_idx(path, magic, dims, payload):
    data = struct.pack('>I', magic) + b''.join(struct.pack('>I', d) for d in dims) + payload
    opener = gzip.open if path.endswith('.gz') else open
    with opener(path, 'wb') as file:
        file.write(data)


def write_tiny_images(folder, train=200, test=50, seed=1, suffix='.gz'):
    """A data set in Fashion-MNIST's format that can be learned: each class lights its own stripe, under noise."""
    os.makedirs(folder, exist_ok=True)
    rng = random.Random(seed)
    for prefix, count in (('train', train), ('t10k', test)):
        pixels, labels = bytearray(), bytearray()
        for _ in range(count):
            label = rng.randrange(10)
            labels.append(label)
            image = bytearray(rng.randbytes(28 * 28))
            for i, value in enumerate(image):
                image[i] = value // 3
            for row in range(2 + 2 * label, 5 + 2 * label):
                for column in range(4, 24):
                    image[28 * row + column] = 255 - image[28 * row + column]
            pixels += image
        write_idx(f'{folder}/{prefix}-images-idx3-ubyte{suffix}', 0x803, (count, 28, 28), bytes(pixels))
        write_idx(f'{folder}/{prefix}-labels-idx1-ubyte{suffix}', 0x801, (count,), bytes(labels))


class Result:
    """A finished command."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def json(self):
        return json.loads(self.out)

    def json_lines(self):
        return [json.loads(line) for line in self.out.splitlines() if line.strip()]

    def __repr__(self):
        return f'exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}'


class Server:
    """A real normlabd on free ports with a data folder of its own."""

    def __init__(self, folder, *flags):
        self.folder = folder
        self.flags = list(flags)
        self.data_dir = os.path.join(folder, 'data')
        self.data_root = os.path.join(folder, 'datasets')
        self.log_path = os.path.join(folder, 'normlabd.log')
        os.makedirs(self.data_root, exist_ok=True)
        self.process = None
        self.address = None
        self.client_flags = []  # of the connection, before the command
        self.http = None

    def start(self, *more_flags, wait=True):
        port_file = os.path.join(self.folder, 'ports')
        with contextlib.suppress(FileNotFoundError):
            os.remove(port_file)
        log = open(self.log_path, 'ab')
        self.process = subprocess.Popen(
            [os.path.join(BIN, 'normlabd'), f'--data_dir={self.data_dir}', '--listen=127.0.0.1:0',
             '--http_listen=127.0.0.1:0', f'--data_roots={self.data_root},/usr/share/datasets',
             f'--port_file={port_file}', *self.flags, *more_flags],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        log.close()
        if wait:
            def ready():
                if self.process.poll() is not None:
                    raise AssertionError(f'normlabd ended with {self.process.returncode}:\n{self.log()}')
                return os.path.exists(port_file)
            wait_for(ready, 'normlabd to listen')
            with open(port_file, encoding='ascii') as file:
                ports = dict(line.strip().split('=', 1) for line in file)
            self.address, self.http = ports['grpc'], ports['http']
        return self

    def log(self):
        with open(self.log_path, encoding='utf-8', errors='replace') as file:
            return file.read()

    def peak_memory(self):
        """Bytes that the server's process has had resident at most."""
        with open(f'/proc/{self.process.pid}/status', encoding='ascii') as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith('VmHWM'))

    def kill(self):
        """kill -9, as a power cut would."""
        self.process.kill()
        self.process.wait()

    def terminate(self, seconds=30):
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds * PATIENCE)

    def stop_everything(self):
        """Ends the server and every worker that it left behind, by pid."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20 * PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in self.worker_pids(include_helper=True):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def worker_pids(self, include_helper=False):
        """Processes of normlab-worker whose output goes to this server's data folder, so never another test's."""
        found = []
        for entry in os.listdir('/proc'):
            if not entry.isdigit():
                continue
            try:
                with open(f'/proc/{entry}/cmdline', 'rb') as file:
                    arguments = file.read().split(b'\0')
                if not arguments[0].endswith(b'normlab-worker'):
                    continue
                if b'--helper' in arguments and not include_helper:
                    continue
                output = os.readlink(f'/proc/{entry}/fd/1')
            except OSError:
                continue
            if (output.startswith(self.data_dir) or output == self.log_path) and is_alive(int(entry)):
                found.append(int(entry))
        return found

    def rank_pids(self):
        """Processes of jobs that have several (data_parallel) and work in this server's data folder."""
        found = []
        for entry in os.listdir('/proc'):
            if not entry.isdigit():
                continue
            with contextlib.suppress(OSError):
                with open(f'/proc/{entry}/cmdline', 'rb') as file:
                    program = file.read().split(b'\0')[0]
                if program.endswith(b'normlab-worker-mpi') and is_alive(int(entry)) and \
                        os.readlink(f'/proc/{entry}/cwd').startswith(os.path.realpath(self.data_dir)):
                    found.append(int(entry))
        return sorted(found)

    def training_pids(self):
        return self.worker_pids() + self.rank_pids()

    def cli(self, *arguments, stdin=None, seconds=120, check=None):
        """Runs the command line against this server. check: the exit code that it must have."""
        done = subprocess.run(
            [os.path.join(BIN, 'normlab'), '--server', self.address, *self.client_flags, *arguments], input=stdin,
            capture_output=True, text=True, timeout=seconds * PATIENCE, check=False)
        result = Result(done.returncode, done.stdout, done.stderr)
        if check is not None and result.code != check:
            raise AssertionError(f'normlab {" ".join(arguments)}: wanted exit {check}, got {result!r}\n{self.log()[-3000:]}')
        return result

    def submit(self, spec, *arguments, check=EXIT_OK):
        """Submits a spec given as a dict and returns the job as a dict."""
        return self.cli('submit', '-', '--output', 'json', *arguments, stdin=json.dumps(spec), check=check).json()

    def get(self, name):
        return self.cli('get', name, '--output', 'json', check=EXIT_OK).json()

    def wait_state(self, name, states, seconds=60):
        states = [states] if isinstance(states, str) else states

        def reached():
            job = self.get(name)
            return job if job['state'] in states else None
        return wait_for(reached, f'{name} to be {"/".join(states)} (it is {self.get(name)["state"]})', seconds)

    def wait_step(self, name, step, seconds=60):
        """Waits until the job has reached the step; returns the one it is at."""
        def reached():
            at = int(self.get(name).get('progress', {}).get('step', 0))
            return at if at >= step else None
        return wait_for(reached, f'{name} to reach step {step}', seconds)

    def wait_reason(self, name, text):
        """Waits until the job says that it waits for `text`. A busy server leaves the reason out now and then."""
        wait_for(lambda: text in self.get(name).get('queueReason', ''), f'{name} to say {text!r} ({self.get(name)})')

    def steps_lasting(self, seconds, spec):
        """How many steps of the spec, of one thread a process, take so many seconds here, measured by training it for a moment.

        For jobs that must be under way while something happens to them, and still come to an end: whatever number of steps
        one writes down, some machine has done them before. What counts is the time that the processor gives to the worker,
        so that they last as long when the machine has more to do now than later. No other job may run.
        """
        job = self.submit({**spec, 'steps': ENDLESS})['name']
        self.wait_step(job, 50, 120)
        worker = self.training_pids()[0]

        def next_report():
            """(step, processor seconds) just after a report. They come some tenths of a second apart, and say where the job was."""
            step = self.wait_step(job, self.wait_step(job, 0) + 1)
            return step, processor_seconds(worker)
        first, since = next_report()
        wait_for(lambda: processor_seconds(worker) > since + 0.4, 'some tenths of a second of training', 120)
        last, until = next_report()
        rate = (last - first) / (until - since)
        self.cli('cancel', job, check=EXIT_OK)
        self.wait_state(job, 'CANCELLED')
        self.cli('delete', job, check=EXIT_OK)
        return max(1000, int(seconds * rate))

    def cores(self):
        """That the server gives to jobs."""
        return self.cli('version', '--output', 'json', check=EXIT_OK).json()['server']['cores']

    def watch(self, name, after=0):
        """A `watch --output json` process whose lines can be read as they come."""
        return subprocess.Popen(
            [os.path.join(BIN, 'normlab'), '--server', self.address, 'watch', name, '--after', str(after),
             '--output', 'json'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def records(self, name, after=0):
        """Every record of a terminal job, read with `watch`."""
        return self.cli('watch', name, '--after', str(after), '--output', 'json').json_lines()

    def metrics(self, name, *arguments):
        """{series: [(step, value as printed), ...]} of `normlab metrics --format csv`."""
        lines = self.cli('metrics', name, '--format', 'csv', *arguments, check=EXIT_OK).out.splitlines()
        names = lines[0].split(',')[1:]
        points = {series: [] for series in names}
        for line in lines[1:]:
            step, *values = line.split(',')
            for series, value in zip(names, values):
                if value:
                    points[series].append((int(step), value))
        return points

    def scrape(self):
        with urllib.request.urlopen(f'http://{self.http}/metrics', timeout=10 * PATIENCE) as answer:
            return answer.read().decode()


def sample(scrape, name, **labels):
    """Sum of the samples of one metric whose labels contain these."""
    total, found = 0.0, False
    for line in scrape.splitlines():
        if line.startswith('#') or not line.startswith(name):
            continue
        series, value = line.rsplit(' ', 1)
        bare, _, rest = series.partition('{')
        if bare == name and all(f'{k}="{v}"' in rest for k, v in labels.items()):
            total += float(value)
            found = True
    return total if found else None


class ServerTest(unittest.TestCase):
    """A test case with a fresh, started server and a tiny data set at `tiny` below its data root."""
    FLAGS = ()
    TRAIN, TEST = 600, 100

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='normlab-test-')
        self.addCleanup(self._clean_up)
        self.server = Server(self.folder, *self.FLAGS)
        write_tiny_images(os.path.join(self.server.data_root, 'tiny'), self.TRAIN, self.TEST)
        self.server.start()

    def _clean_up(self):
        self.server.stop_everything()
        # unittest has no public word for whether this very test has failed.
        result = self._outcome.result
        failed = any(test is self or getattr(test, 'test_case', None) is self for test, _ in result.failures + result.errors)
        if (failed or os.environ.get('NORMLAB_TEST_KEEP')) and os.path.exists(self.server.log_path):
            print(f'--- end of the log of the server of {self.id()}\n{self.server.log()[-4000:]}', file=sys.stderr)
        if not os.environ.get('NORMLAB_TEST_KEEP'):
            shutil.rmtree(self.folder, ignore_errors=True)


def tiny_spec(**changes):
    """A net that trains in well under a second, on the tiny data set."""
    spec = {
        'model': {'mlp': {'hidden': [24, 16]}},
        'normalization': {'batch': {}},
        'data': {'fashion_mnist': {'path': 'tiny'}},
        'optimizer': {'sgd': {'learning_rate': 0.1}},
        'batch_size': 20, 'steps': 60, 'seed': 1,
    }
    spec.update(changes)
    return {key: value for key, value in spec.items() if value is not None}


def long_spec(**changes):
    """A net whose training lasts until somebody ends it; several hundred steps a second."""
    changes = {'model': {'mlp': {'hidden': [256, 256, 256]}}, 'steps': ENDLESS, **changes}
    return tiny_spec(**changes)


def read_lines(stream, into):
    """Collects the lines of a process in a thread, so that it never blocks on a full pipe."""
    def run():
        for line in stream:
            into.append(line)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def let_go(process, reader):
    """Of a process that has ended: takes the last of its lines, and closes its pipes."""
    reader.join()
    process.stdout.close()
    process.stderr.close()


def check_sequences(test, records):
    """Sequences 1..n, none missing and none twice."""
    test.assertEqual([int(r['sequence']) for r in records], list(range(1, len(records) + 1)))


def trained_steps(records):
    return [int(r['metrics']['step']) for r in records if 'metrics' in r and 'train/loss' in r['metrics']['values']]


def check_whole(test, records, steps):
    """Every record once and in order, steps 0..steps-1 of the loss once each, the terminal state last."""
    check_sequences(test, records)
    test.assertEqual(trained_steps(records), list(range(steps)))
    test.assertIn('state', records[-1])


def main():
    """Runs the tests of the script. A test whose outside need is absent says so; with one of those the whole counts as skipped."""
    result = unittest.main(verbosity=2, exit=False).result
    for _, reason in result.skipped:
        print(reason)
    sys.exit(1 if not result.wasSuccessful() else SKIPPED if result.skipped else 0)
