#!/usr/bin/env python3
"""mypy (strict) on the Python package and on code that uses it."""
import os
import subprocess
import sys
import tempfile
import unittest

from normlab_testing import SKIPPED, main

PACKAGE = os.environ['NORMLAB_PYTHON']
USE = '''
import normlab
client = normlab.Client('127.0.0.1:7600')
job = client.submit({'model': {'mlp': {}}})
for record in job.watch():
    if isinstance(record, normlab.Points):
        loss: float = record.values['train/loss']
steps, values = job.metrics('train/loss')
total: float = float(values.sum())
both = job.metrics(['train/loss', 'test/loss'])
print(both['test/loss'].steps.max())
'''


class TypingTest(unittest.TestCase):

    def mypy(self, *arguments):
        return subprocess.run(['/usr/bin/mypy', '--python-executable', '/usr/bin/python3', '--cache-dir', self.cache,
                               '--config-file', f'{PACKAGE}/pyproject.toml', *arguments], cwd=PACKAGE, capture_output=True,
                              text=True, check=False)

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix='normlab-test-')
        self.addCleanup(folder.cleanup)
        self.cache = folder.name

    def test_the_package_and_its_use_are_typed(self):
        done = self.mypy('normlab')
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        done = self.mypy('-c', USE)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        # And mypy would have seen a mistake.
        done = self.mypy('-c', USE + '\nwrong: int = job.name\n')
        self.assertIn('Incompatible types', done.stdout)


if __name__ == '__main__':
    if not os.path.exists('/usr/bin/mypy'):
        print('did not run: mypy is not installed (apt-get install mypy)')
        sys.exit(SKIPPED)
    main()
