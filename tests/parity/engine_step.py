"""The engine, one training step at a time, from state that the caller sends (see tests/parity/parity_step.cc)."""
import fcntl
import json
import os
import struct
import subprocess

import numpy

BIN = os.environ.get('NORMLAB_BIN') or os.path.join(
    os.path.dirname(os.path.abspath(__file__)), '..', '..', 'build', 'release', 'bin')
PIPE_BYTES = 1 << 20


def safetensors_header(tensors):
    header, offset = {}, 0
    for name, values in tensors.items():
        header[name] = {'dtype': 'F32', 'shape': list(values.shape), 'data_offsets': [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header).encode()
    return struct.pack('<Q', len(text)) + text, offset


def decode_safetensors(data):
    """Arrays that share the memory of `data`."""
    size, = struct.unpack_from('<Q', data)
    header = json.loads(bytes(data[8:8 + size]))
    header.pop('__metadata__', None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + size + at for at in entry['data_offsets'])
        if entry['dtype'] == 'F32':
            tensors[name] = numpy.frombuffer(data[begin:end], numpy.float32).reshape(entry['shape'])
    return tensors


class EngineStep:
    """A process of normlab-parity-step for one spec. `parameters` and `state` are the shapes by name, in order."""

    def __init__(self, spec, dataset):
        self._process = subprocess.Popen([os.path.join(BIN, 'normlab-parity-step')], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, bufsize=0)
        for pipe in (self._process.stdin, self._process.stdout):
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._buffer = bytearray()
        request = json.dumps({'spec': spec, 'dataset': dataset}).encode()
        self._send([struct.pack('<Q', len(request)), request])
        description = json.loads(bytes(self._receive()))
        if 'error' in description:
            self.close()
            raise ValueError(description['error'])
        self.parameters = {p['name']: tuple(p['dims']) for p in description['parameters']}
        self.state = {p['name']: tuple(p['dims']) for p in description['state']}
        self.slots = description['slots']
        self.implementations = description['implementations']

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=30)

    def step(self, x, labels, learning_rate, step, tensors):
        """A whole step. `tensors`: parameters, running statistics and "<slot>.<parameter>"; the arrays that come back
        are valid until the next call."""
        return self._request(b'S', {'x': x, 'labels': labels, **self._scalars(learning_rate, step), **tensors})

    def update(self, learning_rate, step, tensors):
        """The optimizer alone: `tensors` has "gradient.<parameter>" too, and no running statistics."""
        return self._request(b'U', {**self._scalars(learning_rate, step), **tensors})

    @staticmethod
    def _scalars(learning_rate, step):
        return {'learning_rate': numpy.array([learning_rate], numpy.float32), 'step': numpy.array([step], numpy.float32)}

    def _request(self, kind, tensors):
        tensors = {name: numpy.ascontiguousarray(values, numpy.float32) for name, values in tensors.items()}
        header, size = safetensors_header(tensors)
        self._send([struct.pack('<Q', 1 + len(header) + size) + kind + header, *tensors.values()])
        reply = self._receive()
        if reply[:1] == b'{':
            raise ValueError(json.loads(bytes(reply))['error'])
        return decode_safetensors(reply)

    def _send(self, pieces):
        for piece in pieces:
            view = memoryview(piece).cast('B') if len(piece) else b''
            while len(view):
                view = view[self._process.stdin.write(view):]

    def _receive(self):
        size, = struct.unpack('<Q', self._read(8))
        return self._read(size)

    def _read(self, size):
        # The engine's replies are as long every time: their memory is used again.
        if len(self._buffer) != size:
            self._buffer = bytearray(size)
        view, filled = memoryview(self._buffer), 0
        while filled < size:
            count = self._process.stdout.readinto(view[filled:])
            if not count:
                raise ConnectionError(f'normlab-parity-step ended with {self._process.wait(timeout=30)}')
            filled += count
        return view
