"""The examples that the engine and PyTorch are compared on."""
import gzip
import struct

import numpy
import torch

from networks import CLASSES

DATA = '/usr/share/datasets/fashion-mnist'
SIDE = 28


class FashionMnist:
    """Batches of standardized images in an order of our own."""

    def __init__(self, count=8192):
        folder = DATA + '/train-'
        with gzip.open(folder + 'images-idx3-ubyte.gz') as file:
            magic, total, rows, columns = struct.unpack('>4I', file.read(16))
            assert (magic, rows, columns) == (2051, SIDE, SIDE) and total >= count
            pixels = numpy.frombuffer(file.read(count * SIDE * SIDE), numpy.uint8)
        with gzip.open(folder + 'labels-idx1-ubyte.gz') as file:
            file.read(8)
            self.labels = numpy.frombuffer(file.read(count), numpy.uint8).astype(numpy.int64)
        values = pixels.astype(numpy.float32).reshape(count, 1, SIDE, SIDE)
        self.images = (values - values.mean()) / values.std()
        self.order = numpy.random.default_rng(0).permutation(count)

    def batch(self, step, size):
        at = self.order[numpy.arange(step * size, (step + 1) * size) % len(self.order)]
        return torch.from_numpy(self.images[at].copy()), torch.from_numpy(self.labels[at].copy())


class NoisyColours:
    """A random colour image for each class, under noise. No two places of an image are alike: in the black margins of
    real ones hundreds of ReLUs have one and the same input, and when that rounds to the other side of 0 they all flip."""

    def __init__(self, side=32):
        self.means = numpy.random.default_rng(0).standard_normal((CLASSES, 3, side, side), numpy.float32)

    def batch(self, step, size):
        random = numpy.random.default_rng([1, step])
        labels = random.integers(0, CLASSES, size)
        images = 0.5 * self.means[labels] + random.standard_normal((size, *self.means.shape[1:]), numpy.float32)
        return torch.from_numpy(images), torch.from_numpy(labels)
