"""Bad input, each kind answered with every violation, its field path and a hint, and costing nobody else anything."""
import gzip
import json
import os
import shutil
import struct

from normlab_testing import EXIT_OK, EXIT_REFUSED, ServerTest, main, tiny_spec, write_idx, write_tiny_images


class BadInputTest(ServerTest):
    TRAIN, TEST = 121, 20

    def tearDown(self):
        # Whatever was sent, the server still serves.
        job = self.server.submit(tiny_spec(steps=2), '--wait')
        self.assertEqual(job['state'], 'SUCCEEDED')

    def refuse(self, spec, *expected, raw=None):
        result = self.server.cli('submit', '-', stdin=raw if raw is not None else json.dumps(spec))
        self.assertEqual(result.code, EXIT_REFUSED, result)
        for text in expected:
            self.assertIn(text, result.err)
        return result.err

    def test_all_violations_come_at_once(self):
        spec = tiny_spec(model={'mlp': {'hidden': [10, -3, 0]}}, batch_size=0,
                         optimizer={'sgd': {'learning_rate': 'NaN', 'momentum': 1.5}}, steps=-1, threads=0)
        self.refuse(spec, 'model.mlp.hidden[1]', 'model.mlp.hidden[2]', 'batch_size', 'optimizer.sgd.learning_rate',
                    'optimizer.sgd.momentum', 'steps', 'threads')

    def test_unknown_names(self):
        self.refuse(tiny_spec(model={'mlp': {'activation': 'RELUU'}}), 'model.mlp.activation', 'RELU')
        self.refuse(tiny_spec(model={'mlp': {'activation': 99}}), 'model.mlp.activation', 'RELU')
        self.refuse(tiny_spec(modle={}), 'modle', 'model')

    def test_missing_parts(self):
        self.refuse({'data': {'fashion_mnist': {'path': 'tiny'}}}, 'model')
        self.refuse({'model': {'mlp': {}}}, 'data')
        self.refuse(tiny_spec(normalization={'none': {}, 'batch': {}}), 'normalization')

    def test_files_that_are_not_there_or_not_allowed(self):
        self.refuse(tiny_spec(data={'fashion_mnist': {'path': 'nowhere'}}), 'data.fashion_mnist.path', 'nowhere')
        for path in ('../../../../etc', '/etc', '/proc/self', 'tiny/../..', ''.join(['a'] * 5000), 'a\u0000b'):
            self.refuse(tiny_spec(data={'fashion_mnist': {'path': path}}), 'data.fashion_mnist.path')
        os.symlink('/etc', os.path.join(self.server.data_root, 'escape'))
        self.refuse(tiny_spec(data={'fashion_mnist': {'path': 'escape'}}), 'data.fashion_mnist.path')

    def corrupt(self, change, *expected):
        folder = os.path.join(self.server.data_root, 'corrupt')
        write_tiny_images(folder, 30, 10, suffix='')
        change(folder)
        self.refuse(tiny_spec(data={'fashion_mnist': {'path': 'corrupt'}}), 'data.fashion_mnist.path', *expected)

    def test_corrupt_idx_files(self):
        def truncate(folder):
            os.truncate(f'{folder}/train-images-idx3-ubyte', 1000)

        def no_header(folder):
            os.truncate(f'{folder}/train-images-idx3-ubyte', 3)

        def trailing(folder):
            with open(f'{folder}/t10k-images-idx3-ubyte', 'ab') as file:
                file.write(b'extra')

        def wrong_magic(folder):
            with open(f'{folder}/train-labels-idx1-ubyte', 'r+b') as file:
                file.write(struct.pack('>I', 0xdeadbeef))

        def wrong_count(folder):
            write_idx(f'{folder}/train-labels-idx1-ubyte', 0x801, (29,), bytes(29))

        def huge_count(folder):
            write_idx(f'{folder}/train-images-idx3-ubyte', 0x803, (0xffffffff, 0xffffffff, 0xffffffff), b'xx')

        def label_out_of_range(folder):
            write_idx(f'{folder}/train-labels-idx1-ubyte', 0x801, (30,), bytes(29) + b'\x0a')

        def other_shape(folder):
            write_idx(f'{folder}/train-images-idx3-ubyte', 0x803, (30, 27, 28), bytes(30 * 27 * 28))

        def empty(folder):
            write_idx(f'{folder}/train-images-idx3-ubyte', 0x803, (0, 28, 28), b'')
            write_idx(f'{folder}/train-labels-idx1-ubyte', 0x801, (0,), b'')

        self.corrupt(truncate, 'train-images-idx3-ubyte')
        self.corrupt(no_header, 'train-images-idx3-ubyte')
        self.corrupt(trailing, 't10k-images-idx3-ubyte')
        self.corrupt(wrong_magic, 'train-labels-idx1-ubyte', '0xdeadbeef', '0x00000801')
        self.corrupt(wrong_count, '29', '30')
        self.corrupt(huge_count, 'train-images-idx3-ubyte')
        self.corrupt(label_out_of_range, 'train-labels-idx1-ubyte', '10')
        self.corrupt(other_shape, '27')
        self.corrupt(empty, 'train-images-idx3-ubyte')

    def test_bad_gzip(self):
        folder = os.path.join(self.server.data_root, 'zipped')
        path = f'{folder}/train-images-idx3-ubyte.gz'
        spec = tiny_spec(data={'fashion_mnist': {'path': 'zipped'}})
        write_tiny_images(folder, 30, 10)
        with open(path, 'rb') as file:
            good = file.read()
        for bad in (b'not gzip at all', good[:len(good) // 2], good[:-8] + b'\0' * 8, good[:50] + b'\xff' * 50 + good[100:]):
            with open(path, 'wb') as file:
                file.write(bad)
            self.refuse(spec, 'data.fashion_mnist.path', 'train-images-idx3-ubyte')
        # A bomb: far more than the header promises.
        with gzip.open(path, 'wb') as file:
            file.write(struct.pack('>IIII', 0x803, 30, 28, 28))
            for _ in range(64):
                file.write(bytes(1 << 20))
        self.refuse(spec, 'data.fashion_mnist.path', 'train-images-idx3-ubyte')
        # Mended files are looked at anew.
        with open(path, 'wb') as file:
            file.write(good)
        self.server.submit({**spec, 'steps': 1}, '--wait')

    def test_a_kernel_larger_than_its_image(self):
        model = {'cnn': {'blocks': [{'channels': 4, 'pooling': {'window': 4}}, {'channels': 4, 'kernel': 9, 'padding': 0}]}}
        self.refuse(tiny_spec(model=model), 'model.cnn.blocks[1].kernel', '7x7')
        model = {'cnn': {'blocks': [{'channels': 4, 'pooling': {'window': 29}}]}}
        self.refuse(tiny_spec(model=model), 'model.cnn.blocks[0].pooling')

    def test_a_kept_last_batch_of_one(self):
        # 121 examples in batches of 20 leave one.
        spec = tiny_spec(data={'fashion_mnist': {'path': 'tiny'}, 'last_batch': 'KEEP'})
        self.refuse(spec, 'data.last_batch')
        self.refuse(tiny_spec(batch_size=1), 'batch_size')
        self.server.submit({**spec, 'normalization': {'none': {}}}, '--wait')

    def test_a_batch_larger_than_the_data(self):
        self.refuse(tiny_spec(batch_size=1000), 'batch_size', '121')

    def test_absurd_sizes_are_refused_with_numbers(self):
        text = self.refuse(tiny_spec(model={'mlp': {'hidden': [2_000_000, 2_000_000]}}), 'model.mlp.hidden')
        self.refuse(tiny_spec(model={'mlp': {'hidden': [60000, 60000, 60000]}}), 'GiB')
        self.refuse(tiny_spec(threads=1000), 'threads')
        self.assertTrue(text)

    def test_weights_that_do_not_fit_the_network(self):
        """At once, before there is a job, and saying so once."""
        job = self.server.submit(tiny_spec(steps=1), '--wait')
        work = os.path.join(self.server.data_dir, 'work', job['name'], 'attempt-1', 'final')
        shutil.copy(os.path.join(work, 'model.safetensors'), os.path.join(self.server.data_root, 'w.safetensors'))
        weights = {'path': 'w.safetensors'}
        other = {'mlp': {'hidden': [25, 16]}}
        text = self.refuse(tiny_spec(model=other, initial_weights=weights), 'initial_weights.path', 'fc1.weight',
                           '24x784', '25x784')
        self.assertEqual(text.count('24x784'), 1, text)
        ignore = ['fc1.*', 'bn1.*', 'fc2.weight', 'hed.*']
        job = self.server.submit(tiny_spec(model=other, initial_weights={**weights, 'ignore': ignore}, steps=1), '--wait')
        self.assertIn('hed.*', ' '.join(job['warnings']))

    def test_unreadable_spec_files_name_line_and_column(self):
        self.assertRegex(self.refuse(None, raw='{"model": {"mlp": {}},\n "data": [}'), r':2:\d+')
        self.assertRegex(self.refuse(None, raw='model:\n  mlp: {}\n bad indentation: [\n'), r':\d+:\d+')
        self.assertRegex(self.refuse(None, raw='model:\n  mlp:\n    widht: 3\ndata: {fashion_mnist: {}}\n'), r':3:5.*widht')
        self.assertRegex(self.refuse(None, raw='batch_size: 1\nbatch_size: 2\n'), r':2:1.*batch_size')
        path = os.path.join(self.folder, 'spec.textproto')
        with open(path, 'w', encoding='utf-8') as file:
            file.write('model { mlp { } }\ndata { fashion_mnst { } }\n')
        result = self.server.cli('submit', path)
        self.assertEqual(result.code, EXIT_REFUSED, result)
        self.assertRegex(result.err, r'spec\.textproto:2:\d+')

    def test_hostile_text(self):
        self.refuse(None, raw='{' * 100_000)
        self.refuse(None, raw='a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n')
        self.refuse(None, raw='\x00\x01\x02')
        self.refuse(None, raw='')
        self.refuse(tiny_spec(display_name='x' * 201), 'display_name')
        self.refuse(tiny_spec(labels={'UPPER': 'x'}), 'labels')

    def test_validate_tells_the_same(self):
        result = self.server.cli('validate', '-', stdin=json.dumps(tiny_spec(batch_size=-1)))
        self.assertEqual(result.code, EXIT_REFUSED)
        self.assertIn('batch_size', result.err)
        self.server.cli('validate', '-', stdin=json.dumps(tiny_spec()), check=EXIT_OK)


class WithoutAvx512Test(ServerTest):
    """A server whose processor has no AVX-512, as oneDNN is told."""

    def setUp(self):
        os.environ['ONEDNN_MAX_CPU_ISA'] = 'AVX2'
        self.addCleanup(os.environ.pop, 'ONEDNN_MAX_CPU_ISA')
        super().setUp()

    def test_bf16_is_refused_when_the_job_is_submitted(self):
        result = self.server.cli('submit', '-', stdin=json.dumps(tiny_spec(precision='BF16')))
        self.assertEqual(result.code, EXIT_REFUSED, result)
        self.assertIn('precision', result.err)
        self.assertIn('AVX2', result.err)
        self.server.submit(tiny_spec(steps=2), '--wait')


if __name__ == '__main__':
    main()
