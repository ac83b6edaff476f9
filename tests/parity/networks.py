"""The engine's models in PyTorch, with the engine's names for parameters and running statistics."""
import torch
from torch import nn
from torch.nn import functional

CLASSES = 10
NORMALIZERS = ('none', 'batch', 'layer', 'group', 'instance')
# What a normalizer is called in the engine's mlp and resnet, where a number follows.
PREFIX = {'none': None, 'batch': 'bn', 'layer': 'ln', 'group': 'gn', 'instance': 'in'}
# The engine pads smaller images to this size for vgg and resnet.
IMAGE_SIDE = 32


def padded(x):
    margin = (IMAGE_SIDE - x.shape[-1]) // 2
    return functional.pad(x, (margin,) * 4) if margin > 0 else x


def default_groups(channels, area):
    """The largest divisor of the channels up to 32 with at least 2 channels and 8 values a group; else 1."""
    for groups in range(32, 1, -1):
        per_group = channels // groups
        if channels % groups == 0 and per_group >= 2 and per_group * area >= 8:
            return groups
    return 1


def normalizer(kind, channels, side=None):
    """`side`: of the image; None for dense features."""
    area = 1 if side is None else side * side
    if kind == 'batch':
        return nn.BatchNorm1d(channels) if side is None else nn.BatchNorm2d(channels)
    if kind == 'group':
        return nn.GroupNorm(default_groups(channels, area), channels)
    if kind == 'layer':
        return nn.LayerNorm(channels) if side is None else nn.GroupNorm(1, channels)
    if kind == 'instance':
        assert area > 1, 'instance norm needs an image'
        return nn.InstanceNorm2d(channels, affine=True)
    raise ValueError(kind)


class Mlp(nn.Module):

    def __init__(self, inputs, hidden, kind):
        super().__init__()
        self.layers = []
        for i, width in enumerate(hidden, 1):
            linear = nn.Linear(inputs, width, bias=kind == 'none')
            norm = nn.Identity() if kind == 'none' else normalizer(kind, width)
            self.add_module(f'fc{i}', linear)
            if kind != 'none':
                self.add_module(f'{PREFIX[kind]}{i}', norm)
            self.layers.append((linear, norm))
            inputs = width
        self.head = nn.Linear(inputs, CLASSES)

    def forward(self, x):
        x = x.flatten(1)
        for linear, norm in self.layers:
            x = torch.relu(norm(linear(x)))
        return self.head(x)


class Vgg11(nn.Module):
    PLAN = (64, 'M', 128, 'M', 256, 256, 'M', 512, 512, 'M', 512, 512, 'M')

    def __init__(self, channels, kind, width=1.0):
        super().__init__()
        layers, side = [], 32
        for item in self.PLAN:
            if item == 'M':
                layers.append(nn.MaxPool2d(2))
                side //= 2
                continue
            out = max(1, round(item * width))
            layers.append(nn.Conv2d(channels, out, 3, padding=1, bias=kind == 'none'))
            if kind != 'none':
                layers.append(normalizer(kind, out, side))
            layers.append(nn.ReLU())
            channels = out
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, CLASSES)

    def forward(self, x):
        return self.classifier(self.features(padded(x)).flatten(1))


class Block(nn.Module):

    def __init__(self, channels, out, stride, kind, side):
        super().__init__()
        self.kind = kind
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=kind == 'none')
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=kind == 'none')
        self.shortcut = nn.Identity()
        if stride != 1 or channels != out:
            projection = [nn.Conv2d(channels, out, 1, stride, bias=kind == 'none')]
            self.shortcut = nn.Sequential(*projection, *([] if kind == 'none' else [normalizer(kind, out, side)]))
        if kind != 'none':
            for i in (1, 2):
                self.add_module(f'{PREFIX[kind]}{i}', normalizer(kind, out, side))

    def normalize(self, i, x):
        return x if self.kind == 'none' else getattr(self, f'{PREFIX[self.kind]}{i}')(x)

    def forward(self, x):
        y = torch.relu(self.normalize(1, self.conv1(x)))
        return torch.relu(self.normalize(2, self.conv2(y)) + self.shortcut(x))


class ResNet20(nn.Module):

    def __init__(self, channels, kind, width=1.0):
        super().__init__()
        widths = [max(1, round(c * width)) for c in (16, 32, 64)]
        self.kind = kind
        self.conv1 = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=kind == 'none')
        if kind != 'none':
            self.add_module(f'{PREFIX[kind]}1', normalizer(kind, widths[0], 32))
        before, side = widths[0], 32
        for stage, out in enumerate(widths, 1):
            blocks = []
            for k in range(3):
                stride = 2 if stage > 1 and k == 0 else 1
                side //= stride
                blocks.append(Block(before, out, stride, kind, side))
                before = out
            self.add_module(f'layer{stage}', nn.Sequential(*blocks))
        self.fc = nn.Linear(before, CLASSES)

    def forward(self, x):
        x = self.conv1(padded(x))
        if self.kind != 'none':
            x = getattr(self, f'{PREFIX[self.kind]}1')(x)
        x = self.layer3(self.layer2(self.layer1(torch.relu(x))))
        return self.fc(x.mean((2, 3)))
