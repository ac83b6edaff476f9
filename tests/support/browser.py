"""Drives a headless Chromium over its DevTools pipe, with nothing but Python's standard library.

A page collects what goes wrong on it (console errors, exceptions, refused scripts) and every request it makes.
"""
import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

PATIENCE = float(os.environ.get('NORMLAB_TEST_PATIENCE', '1'))
FLAGS = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
         '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--hide-scrollbars', '--mute-audio',
         '--remote-debugging-pipe']


class Browser:
    """One Chromium process; use it as a context. Not thread-safe."""

    def __enter__(self):
        program = shutil.which('chromium') or shutil.which('chromium-browser')
        if program is None:
            raise AssertionError('chromium is missing: install the package chromium')
        self.profile = tempfile.mkdtemp(prefix='normlab-browser-')
        to_browser, self.write_fd = os.pipe()
        self.read_fd, from_browser = os.pipe()

        def pass_pipes():  # Chromium reads commands from descriptor 3 and answers on 4
            first, second = os.dup(to_browser), os.dup(from_browser)
            os.dup2(first, 3)
            os.dup2(second, 4)
        # pass_fds keeps 3 and 4 open; what they are is settled in the child.
        self.process = subprocess.Popen(
            [program, *FLAGS, f'--user-data-dir={self.profile}', 'about:blank'], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=pass_pipes, close_fds=False)
        os.close(to_browser)
        os.close(from_browser)
        self.buffer = b''
        self.next_id = 0
        self.events = []
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Exception):
            self.call('Browser.close')
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.write_fd)
        os.close(self.read_fd)
        shutil.rmtree(self.profile, ignore_errors=True)

    def receive(self, deadline):
        """The next message; None when the deadline is over."""
        while b'\0' not in self.buffer:
            ready, _, _ = select.select([self.read_fd], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            data = os.read(self.read_fd, 1 << 20)
            if not data:
                raise AssertionError('the browser ended')
            self.buffer += data
        message, _, self.buffer = self.buffer.partition(b'\0')
        return json.loads(message)

    def call(self, method, session=None, seconds=60, **params):
        self.next_id += 1
        command = {'id': self.next_id, 'method': method, 'params': params}
        if session:
            command['sessionId'] = session
        data = json.dumps(command).encode() + b'\0'
        while data:
            data = data[os.write(self.write_fd, data):]
        deadline = time.monotonic() + seconds * PATIENCE
        while True:
            message = self.receive(deadline)
            if message is None:
                raise AssertionError(f'{method} was not answered within {seconds * PATIENCE:.0f} s')
            if message.get('id') == command['id']:
                if 'error' in message:
                    raise AssertionError(f'{method}: {message["error"]["message"]}')
                return message['result']
            if 'method' in message:
                self.events.append(message)

    def saw(self, method, session, deadline):
        """Whether an event came by now, or comes before the deadline."""
        def is_it(event):
            return event['method'] == method and event.get('sessionId') == session
        while not any(is_it(event) for event in self.events):
            message = self.receive(deadline)
            if message is None:
                return False
            if 'method' in message:
                self.events.append(message)
        return True

    def open(self, path, width=1280, height=900, dark=False, wait='true', seconds=60):
        return Page(self, path, width, height, dark, wait, seconds)


class Page:
    """A file in a tab of its own, loaded and ready (`wait`: a JavaScript expression that becomes true)."""

    def __init__(self, browser, path, width, height, dark, wait, seconds):
        self.browser, self.url = browser, 'file://' + os.path.abspath(path)
        self.target = browser.call('Target.createTarget', url='about:blank')['targetId']
        self.session = browser.call('Target.attachToTarget', targetId=self.target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.call(f'{domain}.enable')
        self.resize(width, height)
        self.call('Emulation.setEmulatedMedia',
                  features=[{'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}])
        self.call('Page.navigate', url=self.url)
        deadline = time.monotonic() + seconds * PATIENCE
        # Questions go before the page's own work: too many of them and it never gets ready.
        while not (self.browser.saw('Page.loadEventFired', self.session, deadline) and self.evaluate(f'!!({wait})')):
            if time.monotonic() > deadline:
                raise AssertionError(f'{path} was not ready within {seconds * PATIENCE:.0f} s; {self.troubles()}')
            time.sleep(0.1)

    def call(self, method, **params):
        return self.browser.call(method, session=self.session, **params)

    def resize(self, width, height):
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def evaluate(self, expression):
        answer = self.call('Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True)
        if 'exceptionDetails' in answer:
            raise AssertionError(f'{expression}: {answer["exceptionDetails"]}')
        return answer['result'].get('value')

    def hover(self, x, y):
        self.call('Input.dispatchMouseEvent', type='mouseMoved', x=x, y=y)

    def _own_events(self):
        return [event for event in self.browser.events if event.get('sessionId') == self.session]

    def troubles(self):
        """Everything that a developer would see as an error or warning."""
        found = []
        for event in self._own_events():
            params = event['params']
            if event['method'] == 'Runtime.exceptionThrown':
                found.append(json.dumps(params['exceptionDetails'])[:500])
            elif event['method'] == 'Runtime.consoleAPICalled' and params['type'] in ('error', 'warning', 'assert'):
                found.append(json.dumps(params['args'])[:500])
            elif event['method'] == 'Log.entryAdded' and params['entry']['level'] in ('error', 'warning'):
                found.append(params['entry']['text'][:500])
        return found

    def requests(self):
        """What was asked for besides the page itself."""
        urls = [event['params']['request']['url'] for event in self._own_events()
                if event['method'] == 'Network.requestWillBeSent']
        return [url for url in urls if url.split('#')[0] not in (self.url, 'about:blank')]

    def screenshot(self, path, whole=True):
        data = self.call('Page.captureScreenshot', captureBeyondViewport=whole, **({'clip': {
            'x': 0, 'y': 0, 'scale': 1, **self.evaluate(
                '({width: document.documentElement.clientWidth, height: document.documentElement.scrollHeight})')}} if whole else {}))
        with open(path, 'wb') as file:
            file.write(base64.b64decode(data['data']))

    def pdf(self):
        return base64.b64decode(self.call('Page.printToPDF', printBackground=False)['data'])

    def close(self):
        self.browser.call('Target.closeTarget', targetId=self.target)
