#!/usr/bin/env python3
"""normlab export, read back by readers that share no code with it."""
import csv
import io
import json
import os
import struct
import subprocess
import tempfile
import time

import crc32c  # Debian's python3-crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from normlab_testing import EXIT_OK, EXIT_REFUSED, EXIT_USAGE, ServerTest, long_spec, main, tiny_spec

# The part of TensorFlow's event.proto and summary.proto that scalars use, written from its documentation.
EVENT_PROTO = '''syntax = "proto3"; package normlab.test;
message Event { double wall_time = 1; int64 step = 2; oneof what { string file_version = 3; Summary summary = 5; } }
message Summary { message Value { string tag = 1; oneof value { float simple_value = 2; } } repeated Value value = 1; }
'''


def masked_crc32c(data):
    """As TensorFlow's record files have it: rotated, and a constant added."""
    crc = crc32c.crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def event_class():
    with tempfile.TemporaryDirectory() as folder:
        with open(f'{folder}/event.proto', 'w', encoding='ascii') as file:
            file.write(EVENT_PROTO)
        subprocess.run(['protoc', f'--proto_path={folder}', f'--descriptor_set_out={folder}/set', 'event.proto'], check=True)
        with open(f'{folder}/set', 'rb') as file:
            files = descriptor_pb2.FileDescriptorSet.FromString(file.read())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(files.file[0])
    return message_factory.MessageFactory(pool).GetPrototype(pool.FindMessageTypeByName('normlab.test.Event'))


def read_events(path):
    """Events of a TFRecord file; every checksum and the exact length are checked."""
    event, events = event_class(), []
    with open(path, 'rb') as file:
        data = file.read()
    at = 0
    while at < len(data):
        length, length_crc = struct.unpack_from('<QI', data, at)
        assert masked_crc32c(data[at:at + 8]) == length_crc, f'the length at {at}'
        body = data[at + 12:at + 12 + length]
        assert len(body) == length, 'cut off'
        (body_crc,) = struct.unpack_from('<I', data, at + 12 + length)
        assert masked_crc32c(body) == body_crc, f'the record at {at}'
        events.append(event.FromString(body))
        at += 16 + length
    return events


def read_safetensors(path):
    with open(path, 'rb') as file:
        data = file.read()
    (size,) = struct.unpack_from('<Q', data)
    header = json.loads(data[8:8 + size])
    header.pop('__metadata__', None)
    tensors, used = {}, 0
    for name, entry in header.items():
        assert entry['dtype'] == 'F32', entry
        first, last = entry['data_offsets']
        tensors[name] = np.frombuffer(data[8 + size + first:8 + size + last], '<f4').reshape(entry['shape'])
        used += last - first
    assert used == len(data) - 8 - size, 'bytes that belong to no tensor'
    return tensors


class ExportTest(ServerTest):

    def export(self, *arguments, check=EXIT_OK):
        return self.server.cli('export', *arguments, check=check)

    def experiment(self):
        return self.server.cli('sweep', '-', '--axis', 'normalization=none,batch', '--axis',
                               'optimizer.sgd.learning_rate=0.1,0.5', '--seeds', '2', '--wait', '--output', 'json',
                               stdin=json.dumps(tiny_spec(steps=12, seed=None)), check=EXIT_OK).json()['name']

    def test_csv_and_json_lines_have_every_point_of_an_experiment(self):
        name = self.experiment()
        path = os.path.join(self.folder, 'points.csv')
        done = self.export(name, '-o', path)
        self.assertIn('8 jobs', done.err)
        with open(path, encoding='ascii', newline='') as file:
            rows = list(csv.DictReader(file))
        self.assertEqual(list(rows[0]), ['job', 'experiment', 'cell', 'normalization', 'optimizer.sgd.learning_rate', 'seed',
                                         'state', 'series', 'step', 'wall_time', 'value'])
        cells = {(row['cell'], row['normalization'], row['optimizer.sgd.learning_rate']) for row in rows}
        self.assertEqual(cells, {('0', 'none', '0.1'), ('1', 'none', '0.5'), ('2', 'batch', '0.1'), ('3', 'batch', '0.5')})
        self.assertEqual({row['seed'] for row in rows}, {'1', '2'})
        jobs = sorted({row['job'] for row in rows})
        self.assertEqual(len(jobs), 8)
        for job in jobs:
            exported = {}
            for row in rows:
                if row['job'] == job:
                    exported.setdefault(row['series'], []).append((int(row['step']), row['value']))
            self.assertEqual(exported, self.server.metrics(job))  # as text: the same digits
        now = time.time()
        self.assertTrue(all(now - 600 < float(row['wall_time']) <= now for row in rows))
        lines = [json.loads(line) for line in self.export(name, '--format', 'jsonl', '--series', 'test/*').out.splitlines()]
        self.assertEqual({line['series'] for line in lines}, {'test/loss', 'test/accuracy'})
        wanted = [(row['job'], row['step'], float(row['value'])) for row in rows if row['series'].startswith('test/')]
        self.assertEqual([(line['job'], line['step'], line['value']) for line in lines], wanted)
        self.assertEqual(lines[0]['axes'], {'normalization': 'none', 'optimizer.sgd.learning_rate': '0.1'})

    def test_tensorboard_files_are_read_back(self):
        job = self.server.submit(tiny_spec(steps=50), '--wait')['name']
        runs = os.path.join(self.folder, 'runs')
        self.export(job, '--format', 'tensorboard', '-o', runs)
        self.export(job, '--format', 'tensorboard', '-o', runs)  # replaces it
        [file] = os.listdir(f'{runs}/{job.split("/")[1]}')
        self.assertIn('tfevents', file)
        events = read_events(f'{runs}/{job.split("/")[1]}/{file}')
        self.assertEqual(events[0].file_version, 'brain.Event:2')
        points = {}
        for event in events[1:]:
            for value in event.summary.value:
                points.setdefault(value.tag, []).append((event.step, value.simple_value))
        for series, stored in self.server.metrics(job).items():
            self.assertEqual(points[series], [(step, float(np.float32(float(value)))) for step, value in stored], series)
        times = [event.wall_time for event in events]
        self.assertEqual(times, sorted(times))
        self.assertLess(time.time() - times[-1], 600)
        name = self.experiment()
        self.export(name, '--format', 'tensorboard', '-o', runs, '--series', 'train/loss')
        root = f'{runs}/{name.split("/")[1]}'
        self.assertEqual(sorted(os.listdir(root)), ['0,normalization=none,learning_rate=0.1', '1,normalization=none,learning_rate=0.5',
                                                    '2,normalization=batch,learning_rate=0.1', '3,normalization=batch,learning_rate=0.5'])
        self.assertEqual(sorted(os.listdir(f'{root}/2,normalization=batch,learning_rate=0.1')), ['seed=1', 'seed=2'])

    def test_weights_are_read_back(self):
        job = self.server.submit(tiny_spec(), '--wait')['name']
        path = os.path.join(self.folder, 'weights.safetensors')
        self.export(job, '--format', 'safetensors', '-o', path)
        tensors = read_safetensors(path)
        self.assertEqual(tensors['fc1.weight'].shape, (24, 784))
        self.assertEqual(tensors['head.weight'].shape, (10, 16))
        self.assertTrue(all(np.isfinite(tensor).all() for tensor in tensors.values()))
        self.assertGreater(tensors['bn1.running_var'].min(), 0)
        name = self.experiment()
        folder = os.path.join(self.folder, 'weights')
        self.export(name, '--format', 'safetensors', '-o', folder)
        found = [name for _, _, names in os.walk(folder) for name in names]
        self.assertEqual(sorted(found), ['seed=1.safetensors'] * 4 + ['seed=2.safetensors'] * 4)
        self.assertEqual(self.export(name, '--format', 'safetensors', '-o', path, check=EXIT_REFUSED).code, EXIT_REFUSED)

    def test_a_running_job_gives_the_beginning_of_a_later_export(self):
        job = self.server.submit(long_spec())['name']
        self.server.wait_step(job, 200)
        first = self.export(job).out
        # As many lines as the first had steps, and some: whatever it has done by then, it goes on.
        self.server.wait_step(job, first.count('\n') + 200)
        second = self.export(job).out
        self.server.cli('cancel', job, check=EXIT_OK)
        self.assertGreater(first.count('\n'), 200)
        self.assertGreater(len(second), len(first))
        self.assertTrue(second.startswith(first))

    def test_mistakes(self):
        job = self.server.submit(tiny_spec(steps=2), '--wait')['name']
        unknown = self.export(job, '--format', 'parquet', check=EXIT_USAGE)
        for known in ('csv', 'jsonl', 'tensorboard', 'safetensors'):
            self.assertIn(known, unknown.err)
        self.assertIn('-o FOLDER', self.export(job, '--format', 'tensorboard', check=EXIT_USAGE).err)
        self.export('jobs/' + 'a' * 20, check=EXIT_REFUSED)
        missing = self.export(job, '-o', '/proc/no/such.csv', check=EXIT_REFUSED)
        self.assertIn('another place', missing.err)
        rows = list(csv.reader(io.StringIO(self.export(job).out)))
        self.assertEqual({len(row) for row in rows}, {9})


if __name__ == '__main__':
    main()
