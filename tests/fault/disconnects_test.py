"""A watcher whose connection is cut again and again, while the server is killed again and again under the same job: every
record reaches it once and in order, and the weights are those of an undisturbed run.

NORMLAB_FAULT_CUTS (default 12) and NORMLAB_FAULT_CUT_KILLS (default 3) say how often; the promise is 200 and 50.
"""
import json
import os
import random
import socket
import subprocess
import threading

from normlab_testing import BIN, ServerTest, check_whole, let_go, long_spec, main, read_lines, wait_for

CUTS = int(os.environ.get('NORMLAB_FAULT_CUTS', '12'))
KILLS = int(os.environ.get('NORMLAB_FAULT_CUT_KILLS', '3'))
# What the job has to outlast, in seconds: about twice what an event takes with the pause before the next.
LASTS = 0.5 * CUTS + 2 * KILLS


class Relay:
    """Passes TCP connections on to an address, until they are cut: both ends then see a reset."""

    def __init__(self, target):
        host, port = target.rsplit(':', 1)
        self.target = (host, int(port))
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.address = f'127.0.0.1:{self.listener.getsockname()[1]}'
        self.lock = threading.Lock()
        self.pairs = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self.target)
            except OSError:
                near.close()
                continue
            with self.lock:
                self.pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pass_on(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        """Cuts what is connected; how many connections that were."""
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for end in pair:
                try:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                end.close()
        return len(pairs)

    def close(self):
        self.listener.close()
        self.cut()


class DisconnectsTest(ServerTest):

    def test_every_record_comes_once_whatever_breaks(self):
        spec = long_spec(checkpoint={'every_steps': 1000})
        spec['steps'] = steps = self.server.steps_lasting(LASTS, spec)
        undisturbed = self.server.submit(spec, '--wait')
        job = self.server.submit(spec)['name']
        relay = Relay(self.server.address)
        self.addCleanup(relay.close)
        port = self.server.address.rsplit(':', 1)[1]
        watcher = subprocess.Popen(
            [os.path.join(BIN, 'normlab'), '--server', relay.address, 'watch', job, '--output', 'json'],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        lines = []
        reader = read_lines(watcher.stdout, lines)
        self.addCleanup(watcher.kill)

        events = ['cut'] * CUTS + ['kill'] * KILLS
        random.Random(5).shuffle(events)
        for number, event in enumerate(events):
            # Between events the watcher gets on, so that each of them breaks a stream that lives.
            before = len(lines)
            wait_for(lambda: len(lines) > before + 3 or watcher.poll() is not None, 'records to arrive', 60)
            self.assertIsNone(watcher.poll(), f'the watcher ended at event {number} of {len(events)}: {watcher.returncode}')
            if event == 'cut':
                wait_for(lambda: relay.cut() > 0, 'a connection to cut')
            else:
                self.server.kill()
                self.server.start(f'--listen=127.0.0.1:{port}')
        self.server.wait_state(job, 'SUCCEEDED', 300)
        self.assertEqual(watcher.wait(120), 0, watcher.stderr.read())
        let_go(watcher, reader)

        records = [json.loads(line) for line in lines]
        check_whole(self, records, steps)
        self.assertEqual(records[-1]['state']['state'], 'SUCCEEDED')
        final = self.server.get(job)
        self.assertEqual(final['result']['weightsSha256'], undisturbed['result']['weightsSha256'])
        self.assertEqual(self.server.metrics(job), self.server.metrics(undisturbed['name']))
        mismatches = sum(int(a.get('replayMismatches', 0)) for a in final['attempts'])
        self.assertEqual(mismatches, 0)
        print(f'{CUTS} cuts and {KILLS} kills -9 of the server: {len(records)} records once each, '
              f'{len(final["attempts"])} attempt(s), weights equal to the undisturbed run')


if __name__ == '__main__':
    main()
