"""The one engine that all tests of this folder use, with the product's image built in it."""
import atexit
import os
import signal
import sys
import time

from docker_engine import Engine, EngineMissing

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '..', '..'))
IMAGE = 'normlab:latest'
# Training with everything that a checkpoint has to hold.
SPEC = {
    'model': {'mlp': {'hidden': [200, 200, 200]}}, 'normalization': {'batch': {}},
    'data': {'fashion_mnist': {}, 'train_limit': 6000, 'test_limit': 1000},
    'optimizer': {'sgd': {'learning_rate': 0.05, 'momentum': 0.9}}, 'batch_size': 60, 'steps': 9000, 'seed': 3, 'threads': 1,
    'checkpoint': {'every_steps': 500}, 'evaluation': {'every_steps': 3000},
}
# What the container's end in the middle of that takes, and some.
LEAST_SECONDS = 3
_engine = None


def trained_undisturbed(train):
    """SPEC with enough steps for this machine, the job that it became, and how many jobs were made to find that out.

    `train` submits a spec and returns the job at its end.
    """
    spec, jobs = dict(SPEC), 0
    while True:
        job, jobs = train(spec), jobs + 1
        seconds = job['result']['trainingSeconds']
        if seconds >= LEAST_SECONDS:
            return spec, job, jobs
        spec['steps'] = int(spec['steps'] * 1.5 * LEAST_SECONDS / seconds)


def engine():
    global _engine
    if _engine is not None:
        return _engine
    folder = os.path.join(ROOT, 'build', 'docker')
    os.makedirs(folder, exist_ok=True)
    starting = Engine(folder)
    atexit.register(starting.stop)
    # Also when the time of the stage is over.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        starting.start()
    except EngineMissing as why:
        print(f'did not run: no Docker engine can be started here: {why}', file=sys.stderr)
        starting.stop()
        os._exit(77)
    started = time.monotonic()
    starting.import_root(os.environ['NORMLAB_DEBIAN_ROOT'], 'debian:bookworm-slim')
    # The network of the host: proxies and names are those of this machine.
    starting.docker('build', '--network=host', '-q', '-f', f'{ROOT}/deploy/docker/Dockerfile', '-t', IMAGE, '--build-arg', 'PACKAGE=given',
                    '--build-arg', 'DEB=' + os.path.relpath(os.environ['NORMLAB_DEB'], ROOT), ROOT, seconds=600)
    print(f'the image is built in {time.monotonic() - started:.0f} s')
    _engine = starting
    return _engine
