#!/usr/bin/env python3
"""A generic client, which has no proto file of ours, through the server's reflection."""
import json
import os
import subprocess
import sys

from normlab_testing import PATIENCE, ServerTest, main, tiny_spec

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'client', 'python', 'examples', 'reflect.py')


class ReflectionTest(ServerTest):

    def reflect(self, *arguments):
        done = subprocess.run([sys.executable, '-B', PROGRAM, self.server.address, *arguments], capture_output=True, text=True,
                              timeout=60 * PATIENCE, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_services_and_methods_are_listed(self):
        listed = self.reflect()
        for service in ('normlab.v1.Jobs', 'normlab.v1.Experiments', 'normlab.v1.Normalization', 'normlab.v1.Server',
                        'grpc.health.v1.Health'):
            self.assertIn(f'{service}\n', listed)
        self.assertIn('  WatchJob(normlab.v1.WatchJobRequest) -> normlab.v1.WatchJobResponse\n', listed)
        self.assertNotIn('normlab.v1.Worker', listed)

    def test_calls_without_a_proto_file(self):
        info = json.loads(self.reflect('normlab.v1.Server/GetServerInfo'))
        self.assertIn('batch', info['normalizations'])
        spec = tiny_spec(steps=3)
        job = json.loads(self.reflect('normlab.v1.Jobs/CreateJob', json.dumps({'job': {'spec': spec}})))
        self.assertEqual(job['state'], 'QUEUED')
        # A stream: the watch to its end.
        watched = self.reflect('normlab.v1.Jobs/WatchJob', json.dumps({'name': job['name']}))
        self.assertIn('"SUCCEEDED"', watched)


if __name__ == '__main__':
    main()
