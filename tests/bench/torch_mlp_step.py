#!/usr/bin/python3
"""One training step of the 784-100-100-100-10 sigmoid net with batch norm in PyTorch: the peer of normlab-step-bench.

Packages: python3-torch, libopenblas0-pthread (without it PyTorch's matrix products are slow and the comparison unfair).
Prints one JSON line with the median milliseconds of a step: forward, loss, backward, SGD with momentum 0.9, batch 60.
"""
import argparse
import json
import statistics
import time

import torch
from torch import nn

BATCH, WIDTH = 60, 100


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--steps', type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)

    layers, features = [], 784
    for _ in range(3):
        layers += [nn.Linear(features, WIDTH, bias=False), nn.BatchNorm1d(WIDTH), nn.Sigmoid()]
        features = WIDTH
    net = nn.Sequential(*layers, nn.Linear(features, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    loss_function = nn.CrossEntropyLoss()
    images, labels = torch.rand(BATCH, 784), torch.randint(10, (BATCH,))

    seconds = []
    for _ in range(20 + arguments.steps):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = loss_function(net(images), labels)
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    step = statistics.median(seconds[20:])
    print(json.dumps({'framework': f'torch {torch.__version__}', 'net': 'mlp3x100bn', 'threads': arguments.threads,
                      'batch': BATCH, 'step_ms': step * 1e3, 'examples_per_s': BATCH / step}))


if __name__ == '__main__':
    main()
