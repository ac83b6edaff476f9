#!/usr/bin/python3
"""One training step of the benchmark's networks in PyTorch on the CPU: the peer of normlab-step-bench.

Packages: python3-torch, libopenblas0-pthread (without it PyTorch's matrix products are slow and the comparison unfair).
Prints one JSON line with the median milliseconds of a step (forward, loss, backward, SGD with momentum 0.9) and the
largest memory that the process ever had.
"""
import argparse
import json
import resource
import statistics
import time

import torch
from torch import nn


def normalized(convolution):
    return [convolution, nn.BatchNorm2d(convolution.out_channels)]


def conv(inputs, outputs, kernel=3, stride=1):
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


def vgg16():
    layers, channels = [], 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [*normalized(conv(channels, width)), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))


class Residual(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.branch = nn.Sequential(*normalized(conv(inputs, outputs, 3, stride)), nn.ReLU(inplace=True),
                                    *normalized(conv(outputs, outputs)))
        self.shortcut = nn.Sequential(*(normalized(conv(inputs, outputs, 1, stride)) if stride > 1 else []))
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.activation(self.branch(x) + self.shortcut(x))


def resnet20():
    layers, channels = [*normalized(conv(3, 16)), nn.ReLU(inplace=True)], 16
    for width in (16, 32, 64):
        for i in range(3):
            layers.append(Residual(channels, width, 2 if i == 0 and width > 16 else 1))
            channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def mlp(depth, width, activation):
    layers, features = [], 784
    for _ in range(depth):
        layers += [nn.Linear(features, width, bias=False), nn.BatchNorm1d(width), activation()]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, 10))


NETS = {  # network, input, steps
    'vgg16bn': (vgg16, (128, 3, 32, 32), 8),
    'resnet20': (resnet20, (128, 3, 32, 32), 12),
    'mlp3x100bn': (lambda: mlp(3, 100, nn.Sigmoid), (60, 784), 1000),
    'mlp50x512bn': (lambda: mlp(50, 512, nn.ReLU), (128, 784), 20),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('net', choices=NETS)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--steps', type=int, default=0, help='timed steps; 0: a default of the network')
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument('--bf16', action='store_true', help='autocast to bfloat16')
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)

    make, shape, steps = NETS[arguments.net]
    steps = arguments.steps or steps
    warm_up = max(2, steps // 10)
    net, images, labels = make(), torch.randn(shape), torch.randint(10, (shape[0],))
    if arguments.channels_last and len(shape) == 4:
        net, images = net.to(memory_format=torch.channels_last), images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    loss_function = nn.CrossEntropyLoss()

    seconds = []
    for _ in range(warm_up + steps):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=arguments.bf16):
            outputs = net(images)
        loss = loss_function(outputs.float(), labels)
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    step = statistics.median(seconds[warm_up:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({'framework': f'torch {torch.__version__}', 'net': arguments.net, 'threads': arguments.threads,
                      'precision': 'bf16' if arguments.bf16 else 'f32', 'channels_last': arguments.channels_last,
                      'batch': shape[0], 'step_ms': step * 1e3, 'examples_per_s': shape[0] / step, 'peak_mib': peak,
                      'last_loss': loss.item()}))


if __name__ == '__main__':
    main()
