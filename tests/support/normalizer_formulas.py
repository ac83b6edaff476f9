"""Every normalizer by its formula, in double precision and plain Python, and arrays as the command line has them.

Gradients are central differences of the formulas, so nothing is derived twice.
"""
import math
import random
import struct


def nested(values, dims):
    if len(dims) == 1:
        return list(values)
    step = len(values) // dims[0]
    return [nested(values[i * step:(i + 1) * step], dims[1:]) for i in range(dims[0])]


def flat(array):
    if not isinstance(array, list):
        return [float(array)]
    return [value for part in array for value in flat(part)]


def dims_of(array):
    dims = []
    while isinstance(array, list):
        dims.append(len(array))
        array = array[0]
    return dims


def float32(value):
    return struct.unpack('<f', struct.pack('<f', value))[0]


def numbers(count, seed):
    rng = random.Random(seed)
    return [float32(rng.gauss(0.3, 1.0)) for _ in range(count)]


class Shape:
    """Activations [N, C, area] in C order."""

    def __init__(self, dims):
        self.n, self.c = dims[0], dims[1]
        self.area = math.prod(dims[2:])

    def places(self, examples, channels):
        return [(n * self.c + c) * self.area + p for n in examples for c in channels for p in range(self.area)]

    def per_channel(self, parts=1):
        step = self.n // parts
        return [self.places(range(i * step, (i + 1) * step), [c]) for i in range(parts) for c in range(self.c)]

    def per_example(self, groups):
        step = self.c // groups
        return [self.places([n], range(g * step, (g + 1) * step)) for n in range(self.n) for g in range(groups)]

    def channel(self, place):
        return place // self.area % self.c


def deviation(epsilon):
    return lambda values, mean: math.sqrt(sum((v - mean) ** 2 for v in values) / len(values) + epsilon)


def root_mean_square(epsilon):
    return lambda values, mean: math.sqrt(sum(v * v for v in values) / len(values) + epsilon)


def normalize_sets(sets, x, scale, centred=True):
    y = [0.0] * len(x)
    for places in sets:
        values = [x[p] for p in places]
        mean = sum(values) / len(values)
        s = scale(values, mean)
        for p in places:
            y[p] = (x[p] - (mean if centred else 0.0)) / s
    return y


def affine(shape, xh, weight, bias):
    return [weight[shape.channel(p)] * v + bias[shape.channel(p)] for p, v in enumerate(xh)]


def formula(kind, shape, x, parameters):
    """What `kind` with its default settings (groups 2, ghost size 2 where it has them) makes of x in training."""
    weight = parameters.get('weight', [1.0] * shape.c)
    bias = parameters.get('bias', [0.0] * shape.c)
    batch = shape.per_channel()
    if kind == 'none':
        return x
    if kind in ('batch', 'noisy_batch'):
        xh = normalize_sets(batch, x, deviation(1e-5))
    elif kind == 'ghost_batch':
        xh = normalize_sets(shape.per_channel(shape.n // 2), x, deviation(1e-5))
    elif kind in ('layer', 'group', 'instance'):
        groups = {'layer': 1, 'group': 2, 'instance': shape.c}[kind]
        xh = normalize_sets(shape.per_example(groups), x, deviation(1e-5))
    elif kind == 'rms':
        xh = normalize_sets(shape.per_example(1), x, root_mean_square(1e-5), centred=False)
    elif kind == 'filter_response':
        y = affine(shape, normalize_sets(shape.per_example(shape.c), x, root_mean_square(1e-6), centred=False), weight, bias)
        return [max(v, parameters['tau'][shape.channel(p)]) for p, v in enumerate(y)]
    elif kind == 'l1_batch':
        xh = normalize_sets(batch, x, lambda values, _: sum(map(abs, values)) / len(values) + 1e-5)
    elif kind == 'l2_batch':
        xh = normalize_sets(batch, x, root_mean_square(1e-5))
    elif kind == 'linf_batch':
        xh = normalize_sets(batch, x, lambda values, _: max(map(abs, values)) + 1e-5)
    elif kind == 'mean_only_batch':
        xh = normalize_sets(batch, x, lambda *_: 1.0)
    elif kind == 'dyt':
        xh = [math.tanh(parameters['alpha'][0] * v) for v in x]
    elif kind == 'frozen_batch':
        xh = [(v - parameters['running_mean'][shape.channel(p)])
              / math.sqrt(parameters['running_var'][shape.channel(p)] + 1e-5) for p, v in enumerate(x)]
    else:
        raise AssertionError(f'no formula for {kind}')
    return affine(shape, xh, weight, bias)


def weight_formula(kind, outputs, v, parameters):
    rows = [v[i * len(v) // outputs:(i + 1) * len(v) // outputs] for i in range(outputs)]
    if kind == 'weight':
        return [g * value / math.sqrt(sum(w * w for w in row))
                for g, row in zip(parameters['weight_g'], rows) for value in row]
    result = []
    for row in rows:
        mean = sum(row) / len(row)
        std = math.sqrt(sum((w - mean) ** 2 for w in row) / (len(row) - 1))
        result += [(w - mean) / (std + 1e-5) for w in row]
    return result


def central_difference(function, at, d_y, step=1e-5):
    gradient = []
    for i in range(len(at)):
        up, down = list(at), list(at)
        up[i] += step
        down[i] -= step
        gradient.append(sum(g * (a - b) for g, a, b in zip(d_y, function(up), function(down))) / (2 * step))
    return gradient


def write_npy(path, dims, values, kind='<f4'):
    shape = '(' + ', '.join(map(str, dims)) + (',)' if len(dims) == 1 else ')')
    header = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (kind, shape)
    header += ' ' * (-(10 + len(header) + 1) % 64) + '\n'
    with open(path, 'wb') as file:
        file.write(b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header.encode())
        file.write(values if isinstance(values, bytes) else struct.pack(f'<{len(values)}{"f" if kind == "<f4" else "d"}', *values))


def read_npy(path):
    with open(path, 'rb') as file:
        data = file.read()
    assert data[:8] == b'\x93NUMPY\x01\x00', path
    length = struct.unpack('<H', data[8:10])[0]
    header = data[10:10 + length].decode()
    dims = [int(size) for size in header.split('(')[1].split(')')[0].split(',') if size.strip()]
    return dims, data[10 + length:]
