"""What a service manager is told (systemd's sd_notify protocol): that the server is ready, lives, ends; and that a server
whose work hangs says nothing any more. A disk that never answers is what makes it hang here.
"""
import os
import socket
import subprocess
import threading
import time

from normlab_testing import BIN, PATIENCE, Server, ServerTest, main, tiny_spec, wait_for

# Calls to the disk do not return while the file HANG_FILE is there.
SLOW_DISK = r'''
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>
static int flush(const char* name, int fd) {
  const char* file = getenv("HANG_FILE");
  while (file != NULL && access(file, F_OK) == 0) usleep(5000);
  return ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
}
int fsync(int fd) { return flush("fsync", fd); }
int fdatasync(int fd) { return flush("fdatasync", fd); }
'''
WATCHDOG_SECONDS = 0.8


class Listener:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, path):
        self.messages = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                message = self.socket.recv(4096)
            except OSError:
                return
            self.messages.append((time.monotonic(), message.decode()))

    def times(self, what):
        return [when for when, message in self.messages if what in message.split('\n')]


class Stalls:
    """How long this machine lets a process wait that only sleeps; use it as a context."""
    STEP = 0.01

    def __enter__(self):
        self.longest, self.over = 0.0, threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def _run(self):
        before = time.monotonic()
        while not self.over.wait(self.STEP):
            now = time.monotonic()
            self.longest, before = max(self.longest, now - before - self.STEP), now


class ServiceManagerTest(ServerTest):

    def setUp(self):
        # The server is started by each test, with its own environment.
        start, Server.start = Server.start, lambda server: server
        try:
            super().setUp()
        finally:
            Server.start = start
        self.listener = Listener(f'{self.folder}/notify')
        self.addCleanup(self.listener.socket.close)

    def start(self, **environment):
        environment = {'NOTIFY_SOCKET': f'{self.folder}/notify', **environment}
        old = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        try:
            self.server.start()
        finally:
            for name, value in old.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def test_ready_alive_stopping(self):
        self.start(WATCHDOG_USEC=str(int(WATCHDOG_SECONDS * 1e6)))
        wait_for(lambda: self.listener.times('READY=1'), 'READY=1')
        self.assertIn('STATUS=Taking jobs on ' + self.server.address, self.listener.messages[0][1])
        with Stalls() as stalls:
            wait_for(lambda: len(self.listener.times('WATCHDOG=1')) >= 8, 'WATCHDOG=1')
            # Under load, and while a worker runs, as well.
            self.assertEqual(self.server.submit(tiny_spec(), '--wait')['state'], 'SUCCEEDED')
        pings = self.listener.times('WATCHDOG=1')
        longest = max(b - a for a, b in zip(pings, pings[1:]))
        # But for what this machine stood still for everybody: the server sleeps, checks its disk and pings, three waits.
        self.assertLess(longest, WATCHDOG_SECONDS * PATIENCE + 3 * stalls.longest, 'no gap that systemd would take for a hang')
        self.assertEqual(self.server.terminate(), 0)
        wait_for(lambda: self.listener.times('STOPPING=1'), 'STOPPING=1')

    def test_without_a_watchdog_nothing_is_said_in_between(self):
        self.start()
        wait_for(lambda: self.listener.times('READY=1'), 'READY=1')
        self.assertEqual(self.server.terminate(), 0)
        wait_for(lambda: self.listener.times('STOPPING=1'), 'STOPPING=1')
        self.assertEqual(len(self.listener.messages), 2)

    def test_a_server_that_hangs_is_silent_until_it_goes_on(self):
        library, hang = f'{self.folder}/slow_disk.so', f'{self.folder}/hang'
        with open(f'{self.folder}/slow_disk.c', 'w', encoding='ascii') as file:
            file.write(SLOW_DISK)
        subprocess.run(['cc', '-shared', '-fPIC', '-O1', '-o', library, f'{self.folder}/slow_disk.c', '-ldl'], check=True)
        self.start(WATCHDOG_USEC=str(int(WATCHDOG_SECONDS * 1e6)), LD_PRELOAD=library, HANG_FILE=hang)
        wait_for(lambda: len(self.listener.times('WATCHDOG=1')) >= 3, 'WATCHDOG=1')
        with open(hang, 'w', encoding='ascii'):
            pass
        # The commit of this job does not end, and with it the database's writer.
        submitting = subprocess.Popen(
            [os.path.join(BIN, 'normlab'), '--server', self.server.address, 'submit', '-'], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
        self.addCleanup(submitting.wait)
        self.addCleanup(submitting.kill)
        submitting.stdin.write('{"model": {"mlp": {"hidden": [8]}}, "data": {"fashion_mnist": {"path": "tiny"}}, "steps": 5}')
        submitting.stdin.close()
        wait_for(lambda: 'no answer within' in self.server.log(), 'the server to notice')
        self.assertIn("from: the database's writer", self.server.log())
        said = len(self.listener.times('WATCHDOG=1'))
        # Three times as long as systemd would wait.
        silent_until = time.monotonic() + 3 * WATCHDOG_SECONDS
        wait_for(lambda: time.monotonic() > silent_until, 'silence')
        self.assertEqual(len(self.listener.times('WATCHDOG=1')), said)
        os.remove(hang)
        wait_for(lambda: len(self.listener.times('WATCHDOG=1')) > said, 'WATCHDOG=1 again')
        self.assertEqual(submitting.wait(30 * PATIENCE), 0)
        self.assertEqual(self.server.terminate(), 0)


if __name__ == '__main__':
    main()
