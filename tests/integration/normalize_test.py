"""Normalization.Normalize through server and command line, against the formulas of normalizer_formulas.py.

Gradients are compared with central differences of those formulas, so nothing is derived twice.
"""
import json
import math
import os
import signal
import struct
import subprocess
import threading

from normalizer_formulas import (nested, flat, dims_of, float32, numbers, Shape, deviation, normalize_sets, formula,
                                 weight_formula, central_difference, write_npy, read_npy)
from normlab_testing import (BIN, EXIT_OK, EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE, ServerTest, is_alive, main, sample,
                             tiny_spec, wait_for)

# The engine works in float32 on numbers of size 1 in sets of at most 100.
TOLERANCE = 2e-5
# Central differences in double: truncation 1e-10, cancellation 1e-16 / 1e-5; then float32 as above.
GRADIENT_TOLERANCE = 1e-4


class NormalizeTest(ServerTest):
    TRAIN, TEST = 60, 20

    def normalize(self, spec, array, *more, check=EXIT_OK):
        return self.server.cli('normalize', '--spec', spec if isinstance(spec, str) else json.dumps(spec), '--input',
                               array if isinstance(array, str) else json.dumps(array), *more, check=check)

    def assert_near(self, actual, expected, tolerance, what):
        actual = flat(actual)
        self.assertEqual(len(actual), len(expected), what)
        largest = max(1.0, max(map(abs, expected)))
        for i, (a, e) in enumerate(zip(actual, expected)):
            self.assertLess(abs(a - e), tolerance * largest, f'{what} at {i}: {a} instead of {e}')

    def helper_pid(self):
        """The process that computes for Normalize, not the one that looks at data."""
        found = [pid for pid in self.server.worker_pids(include_helper=True)
                 if os.readlink(f'/proc/{pid}/fd/1').endswith('/normalizer.log')]
        self.assertEqual(len(found), 1, 'the helper process of Normalize')
        return found[0]

    def check_kind(self, spec, dims, parameters):
        kind = next(iter(spec))
        shape = Shape(dims)
        x, d_y = numbers(math.prod(dims), 1), numbers(math.prod(dims), 2)
        arguments = ['--output-gradient', json.dumps(nested(d_y, dims))]
        for name, values in parameters.items():
            arguments += ['--parameter', f'{name}={json.dumps(values)}']
        result = self.normalize(spec, nested(x, dims), *arguments).json()
        self.assertEqual(dims_of(result['output']), dims)
        self.assertTrue(result['implementation'])
        self.assert_near(result['output'], formula(kind, shape, x, parameters), TOLERANCE, f'{kind} {dims} output')
        self.assert_near(result['input_gradient'],
                         central_difference(lambda at: formula(kind, shape, at, parameters), x, d_y),
                         GRADIENT_TOLERANCE, f'{kind} {dims} input_gradient')
        trained = set(parameters) - {'running_mean', 'running_var'}
        self.assertEqual(set(result['parameter_gradients']), trained, kind)
        for name in trained:
            expected = central_difference(lambda at, n=name: formula(kind, shape, x, {**parameters, n: at}),
                                          parameters[name], d_y)
            self.assert_near(result['parameter_gradients'][name], expected, GRADIENT_TOLERANCE, f'{kind} {dims} {name}')
        return result

    def test_every_kind_on_features_and_images(self):
        kinds = self.server.cli('version', '--output', 'json').json()['server']['normalizations']
        settings = {'ghost_batch': {'ghost_size': 2}, 'group': {'groups': 2},
                    'noisy_batch': {'mean_range': 0, 'deviation_range': 1, 'mean_jitter': 0, 'deviation_jitter': 0}}
        seen = set()
        for kind in kinds:
            spec = {kind: settings.get(kind, {})}
            if kind in ('fixup', 'skip_init'):
                self.assertIn(f'normalizer.{kind}', self.normalize(spec, [[1, 2], [3, 5]], check=EXIT_REFUSED).err)
                continue
            seen.add(kind)
            if kind in ('weight', 'weight_standardization', 'batch_renorm'):
                continue  # below
            for dims in ([6, 4], [4, 6, 3, 5]):
                if kind == 'instance' and len(dims) == 2:
                    continue  # sets of one value
                channels = dims[1]
                parameters = {} if kind == 'none' else {'weight': numbers(channels, 3), 'bias': numbers(channels, 4)}
                if kind in ('rms', 'mean_only_batch'):
                    parameters.pop('bias' if kind == 'rms' else 'weight')
                if kind == 'filter_response':
                    parameters['tau'] = numbers(channels, 5)
                if kind == 'dyt':
                    parameters['alpha'] = [0.7]
                if kind == 'frozen_batch':
                    parameters['running_mean'] = numbers(channels, 6)
                    parameters['running_var'] = [abs(v) + 0.1 for v in numbers(channels, 7)]
                self.check_kind(spec, dims, parameters)
        self.assertEqual(len(seen), len(kinds) - 2)
        self.assertGreaterEqual(len(seen), 18, seen)

    def test_weights(self):
        for dims in ([3, 5], [4, 3, 2, 3]):
            v, d_w = numbers(math.prod(dims), 1), numbers(math.prod(dims), 2)
            for kind, parameters in (('weight', {'weight_g': numbers(dims[0], 3)}), ('weight_standardization', {})):
                arguments = ['--output-gradient', json.dumps(nested(d_w, dims))]
                for name, values in parameters.items():
                    arguments += ['--parameter', f'{name}={json.dumps(values)}']
                result = self.normalize(kind, nested(v, dims), *arguments).json()
                self.assert_near(result['output'], weight_formula(kind, dims[0], v, parameters), TOLERANCE, kind)
                self.assert_near(result['input_gradient'],
                                 central_difference(lambda at, k=kind, d=dims[0], p=parameters: weight_formula(k, d, at, p),
                                                    v, d_w),
                                 GRADIENT_TOLERANCE, f'{kind} gradient')
                for name, values in parameters.items():
                    self.assert_near(result['parameter_gradients'][name],
                                     central_difference(lambda at, k=kind, d=dims[0], n=name:
                                                        weight_formula(k, d, v, {n: at}), values, d_w),
                                     GRADIENT_TOLERANCE, f'{kind} {name}')
            self.assertEqual(dims_of(self.normalize('weight', nested(v, dims)).json()['output']), dims)
            self.assert_near(self.normalize('weight', nested(v, dims)).json()['output'], v, TOLERANCE, 'gains start at |v|')

    def test_batch_renorm_corrects_towards_the_running_statistics(self):
        dims = [5, 3]
        shape, x, d_y = Shape(dims), numbers(15, 1), numbers(15, 2)
        mean_run, var_run = numbers(3, 3), [abs(v) + 0.5 for v in numbers(3, 4)]
        result = self.normalize('batch_renorm', nested(x, dims), '--output-gradient', json.dumps(nested(d_y, dims)),
                                '--parameter', f'running_mean={json.dumps(mean_run)}',
                                '--parameter', f'running_var={json.dumps(var_run)}').json()
        corrections = []
        for c, places in enumerate(shape.per_channel()):
            values = [x[p] for p in places]
            mean = sum(values) / len(values)
            s, s_run = deviation(1e-5)(values, mean), math.sqrt(var_run[c] + 1e-5)
            corrections.append((min(max(s / s_run, 1 / 3), 3), min(max((mean - mean_run[c]) / s_run, -5), 5)))

        def function(at):  # no gradient goes through r and d
            xh = normalize_sets(shape.per_channel(), at, deviation(1e-5))
            return [v * corrections[i % 3][0] + corrections[i % 3][1] for i, v in enumerate(xh)]
        self.assert_near(result['output'], function(x), TOLERANCE, 'batch_renorm')
        self.assert_near(result['input_gradient'], central_difference(function, x, d_y), GRADIENT_TOLERANCE, 'batch_renorm')

    def test_noise_follows_from_seed_and_step(self):
        x = nested(numbers(40, 1), [8, 5])
        first = self.normalize('noisy_batch', x, '--seed', '3', '--step', '2').json()
        self.assertEqual(first, self.normalize('noisy_batch', x, '--seed', '3', '--step', '2').json())
        for other in (['--seed', '4', '--step', '2'], ['--seed', '3', '--step', '1']):
            self.assertNotEqual(first['output'], self.normalize('noisy_batch', x, *other).json()['output'])
        quiet = self.normalize('noisy_batch', x, '--inference').json()
        self.assertEqual(quiet['output'], self.normalize('batch', x, '--inference').json()['output'])

    def test_the_column_of_the_readme(self):
        result = self.normalize('{batch: {}}', '[[-1.5], [-0.5], [0.5], [1.5]]').json()
        self.assertEqual(result['statistics']['mean'], [0])
        self.assertEqual(result['statistics']['var'], [1.25])
        self.assert_near(result['statistics']['running_var'], [0.9 + 0.1 * 1.25 * 4 / 3], TOLERANCE, 'running_var')
        self.assert_near(result['output'], [v / math.sqrt(1.25 + 1e-5) for v in (-1.5, -0.5, 0.5, 1.5)], TOLERANCE, 'y')
        self.assertNotIn('input_gradient', result)

    def test_inference_uses_running_statistics(self):
        result = self.normalize('batch', [[1, 2], [3, 5], [0, -1]], '--inference', '--parameter', 'running_mean=[1, 0]',
                                '--parameter', 'running_var=[4, 9]').json()
        self.assert_near(result['output'], [0, 2 / 3, 1, 5 / 3, -0.5, -1 / 3], TOLERANCE, 'inference')
        self.assertEqual(result['statistics'], {'running_mean': [1, 0], 'running_var': [4, 9]})

    def test_inference_gradients_take_running_statistics_for_constants(self):
        dims = [3, 4]
        x, d_y = numbers(12, 1), numbers(12, 2)
        parameters = {'weight': numbers(4, 3), 'bias': numbers(4, 4), 'running_mean': numbers(4, 6)}
        running = [abs(v) + 0.5 for v in numbers(4, 7)]
        divisors = {'batch': lambda v: math.sqrt(v + 1e-5), 'noisy_batch': lambda v: math.sqrt(v + 1e-5),
                    'batch_renorm': lambda v: math.sqrt(v + 1e-5), 'ghost_batch': lambda v: math.sqrt(v + 1e-5),
                    'frozen_batch': lambda v: math.sqrt(v + 1e-5), 'l1_batch': lambda v: v + 1e-5,
                    'l2_batch': lambda v: math.sqrt(v * v + 1e-5), 'linf_batch': lambda v: v + 1e-5,
                    'mean_only_batch': lambda v: 1.0}
        for kind, divisor in divisors.items():
            given = dict(parameters)
            if kind == 'mean_only_batch':
                del given['weight']
            else:
                given['running_scale' if kind[0] == 'l' else 'running_var'] = running
            arguments = ['--inference', '--output-gradient', json.dumps(nested(d_y, dims))]
            for name, values in given.items():
                arguments += ['--parameter', f'{name}={json.dumps(values)}']
            result = self.normalize(kind, nested(x, dims), *arguments).json()

            def function(at, p, d=divisor):
                return [p.get('weight', [1.0] * 4)[i % 4] * (v - p['running_mean'][i % 4]) / d(running[i % 4]) + p['bias'][i % 4]
                        for i, v in enumerate(at)]
            self.assert_near(result['output'], function(x, given), TOLERANCE, kind)
            self.assert_near(result['input_gradient'], central_difference(lambda at: function(at, given), x, d_y),
                             GRADIENT_TOLERANCE, kind)
            for name in set(given) & {'weight', 'bias'}:
                self.assert_near(result['parameter_gradients'][name],
                                 central_difference(lambda at, n=name: function(x, {**given, n: at}), given[name], d_y),
                                 GRADIENT_TOLERANCE, f'{kind} {name}')

    def test_digits_of_features_far_from_zero(self):
        """What docs/numerics.md says of a mean of 1000 and a deviation of 1."""
        dims = [16, 5, 6, 6]
        x = [float32(1000 + value) for value in numbers(16 * 5 * 36, 7)]
        expected = formula('batch', Shape(dims), x, {'weight': [1] * 5, 'bias': [0] * 5})
        path = os.path.join(self.folder, 'far.npy')
        write_npy(path, dims, x)
        for spec, tolerance in (('batch', 1e-3), ({'ghost_batch': {'ghost_size': 16}}, 1e-6)):
            result = self.server.cli('normalize', '--spec', spec if isinstance(spec, str) else json.dumps(spec), '--input',
                                     path, check=EXIT_OK).json()
            for actual, wanted in zip(flat(result['output']), expected):
                self.assertAlmostEqual(actual, wanted, delta=tolerance, msg=str(spec))

    def test_npy_in_and_out(self):
        path = os.path.join(self.folder, 'x.npy')
        x = numbers(3 * 4, 1)
        write_npy(path, [3, 4], x, '<f8')
        folder = os.path.join(self.folder, 'out')
        done = self.normalize('batch', path, '--output-gradient', path, '-o', folder)
        self.assertEqual(done.out, '')
        printed = self.normalize('batch', path, '--output-gradient', path).json()
        for name, array in (('output', printed['output']), ('input_gradient', printed['input_gradient']),
                            ('parameter_gradients.weight', printed['parameter_gradients']['weight']),
                            ('statistics.var', printed['statistics']['var'])):
            dims, data = read_npy(os.path.join(folder, name + '.npy'))
            self.assertEqual(dims, dims_of(array), name)
            self.assertEqual(list(struct.unpack(f'<{len(data) // 4}f', data)), [float32(v) for v in flat(array)],
                             f'{name}: what is printed reads back as the same float')
        spec = os.path.join(self.folder, 'norm.yaml')
        with open(spec, 'w', encoding='utf-8') as file:
            file.write('batch:\n  epsilon: -1\n')
        refused = self.normalize(spec, path, check=EXIT_REFUSED)
        self.assertIn(f'{spec}:2:12: normalizer.batch.epsilon', refused.err)

    def test_bad_input_is_named(self):
        column = '[[1], [2]]'
        for spec, array, more, code, expected in (
                ('batch', '[1, 2]', [], EXIT_REFUSED, 'input.dims'),
                ('batch', '[[1, 2]]', [], EXIT_REFUSED, 'one value per channel'),
                ('batch', '[[1, 2], [3]]', [], EXIT_REFUSED, 'at [1] has a list of 1'),
                ('batch', '[[]]', [], EXIT_REFUSED, 'input.dims'),
                ('batch', '/no/such.npy', [], EXIT_REFUSED, 'No such file'),
                ('bacth', column, [], EXIT_REFUSED, 'bacth'),
                ('{bacth: {}}', column, [], EXIT_REFUSED, 'did you mean batch'),
                ('{batch: {epsilon: -1}}', column, [], EXIT_REFUSED, 'normalizer.batch.epsilon'),
                ('{batch: {}, layer: {}}', column, [], EXIT_REFUSED, 'normalizer'),
                ('batch', column, ['--output-gradient', '[[1, 2]]'], EXIT_REFUSED, 'output_gradient.dims'),
                ('batch', column, ['--parameter', 'gamma=[1]'], EXIT_REFUSED, 'parameters[gamma]'),
                ('batch', column, ['--parameter', 'weight=[1, 2]'], EXIT_REFUSED, 'parameters[weight].dims'),
                ('batch', column, ['--parameter', 'weight'], EXIT_USAGE, 'NAME=ARRAY'),
                ('batch', column, ['--step', '-1'], EXIT_REFUSED, 'step'),
                ('instance', column, [], EXIT_REFUSED, 'input.dims'),
                ('{group: {groups: 2}}', '[[1, 2, 3]]', [], EXIT_REFUSED, 'normalizer.group'),
                ('{ghost_batch: {ghost_size: 2}}', '[[1], [2], [3]]', [], EXIT_REFUSED, 'normalizer.ghost_batch'),
                ('fixup', column, [], EXIT_REFUSED, 'normalizer.fixup'),
                ('none', column, ['--parameter', 'weight=[1]'], EXIT_REFUSED, 'parameters[weight]'),
                ('batch', '-', ['--output-gradient', '-'], EXIT_USAGE, 'standard input')):
            refused = self.normalize(spec, array, *more, check=code)
            self.assertIn(expected, refused.err, (spec, array, more))
        # What is not finite is no mistake.
        self.assertEqual(flat(self.normalize('none', '[["NaN", 1], ["-Infinity", 2]]').json()['output'])[1], 1)

    def test_tensors_up_to_16_mib(self):
        rows, columns = 524288, 8
        largest = os.path.join(self.folder, 'largest.npy')
        # Every column is +-1 in turn: mean 0, variance 1.
        write_npy(largest, [rows, columns], struct.pack(f'<{2 * columns}f', *([1.0] * columns + [-1.0] * columns)) * (rows // 2))
        folder = os.path.join(self.folder, 'out')
        self.normalize('{batch: {epsilon: 0}}', largest, '--output-gradient', largest, '-o', folder)
        dims, data = read_npy(os.path.join(folder, 'output.npy'))
        self.assertEqual(dims, [rows, columns])
        with open(largest, 'rb') as file:
            self.assertEqual(data, file.read()[-len(data):], 'numbers of mean 0 and variance 1 stay what they are')
        dims, data = read_npy(os.path.join(folder, 'parameter_gradients.weight.npy'))
        self.assertEqual(list(struct.unpack('<8f', data)), [float(rows)] * columns)
        write_npy(largest, [rows + 1, columns], bytes(4 * columns * (rows + 1)))
        refused = self.normalize('batch', largest, '--output', 'json', check=EXIT_REFUSED)
        error = json.loads(refused.err)['error']
        self.assertEqual(error['status'], 'RESOURCE_EXHAUSTED')
        self.assertIn('input', error['message'])

    def call_in_background(self):
        before = sample(self.server.scrape(), 'grpc_server_msg_received_total', grpc_method='Normalize')
        process = subprocess.Popen([os.path.join(BIN, 'normlab'), '--server', self.server.address, 'normalize', '--spec', 'batch',
                                    '--input', '[[1], [2]]', '--output', 'json'],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: sample(self.server.scrape(), 'grpc_server_msg_received_total', grpc_method='Normalize') > before,
                 'the request to arrive')
        return process

    def test_a_crash_is_told_to_its_caller_only(self):
        self.normalize('batch', '[[1], [2]]')
        pid = self.helper_pid()
        os.kill(pid, signal.SIGSTOP)  # so that the request is under way when it is killed
        victim = self.call_in_background()
        os.kill(pid, signal.SIGKILL)
        _, err = victim.communicate(timeout=60)
        self.assertEqual(victim.returncode, EXIT_REFUSED, err)
        error = json.loads(err)['error']
        self.assertEqual(error['status'], 'INTERNAL')
        self.assertIn('signal 9', error['message'])
        self.normalize('batch', '[[1], [2]]')
        self.assertNotEqual(self.helper_pid(), pid)
        self.assertTrue(is_alive(self.server.process.pid))

    def test_a_stuck_helper_is_replaced_and_delays_no_job(self):
        self.normalize('batch', '[[1], [2]]')
        pid = self.helper_pid()
        os.kill(pid, signal.SIGSTOP)
        victim = self.call_in_background()
        # A data set that nobody has looked at yet.
        job = self.server.submit(tiny_spec(steps=2), '--wait')
        self.assertEqual(job['state'], 'SUCCEEDED')
        self.assertIsNone(victim.poll(), 'the job did not wait for the tensor')
        _, err = victim.communicate(timeout=60)
        self.assertEqual(victim.returncode, EXIT_UNREACHABLE, err)
        error = json.loads(err)['error']
        self.assertEqual(error['status'], 'DEADLINE_EXCEEDED')
        self.assertIn('10s', error['message'])
        self.normalize('batch', '[[1], [2]]')
        self.assertNotEqual(self.helper_pid(), pid)

    def test_eight_clients_at_once_get_their_own_answers(self):
        failures = []

        def client(number):
            for call in range(4):
                x = numbers(7 * (number + 2), 100 * number + call)
                dims = [7, number + 2]
                try:
                    result = self.normalize('batch', nested(x, dims)).json()
                    self.assert_near(result['output'], formula('batch', Shape(dims), x, {}), TOLERANCE, f'client {number}')
                except AssertionError as failure:
                    failures.append(failure)
        threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        scrape = self.server.scrape()
        self.assertEqual(sample(scrape, 'grpc_server_handled_total', grpc_method='Normalize', grpc_code='OK'), 32)


if __name__ == '__main__':
    main()
