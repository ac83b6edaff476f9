#!/usr/bin/python3
"""Prints torch_reference.h: what torch.optim and torch.optim.lr_scheduler compute, for the tests of this folder.

Usage: engine/optim/torch_reference.py | clang-format-14 > engine/optim/torch_reference.h   (needs python3-torch)
"""
import warnings

import torch

warnings.filterwarnings('ignore')
torch.set_num_threads(1)

STEPS = 5
# Two tensors of odd sizes; the gradient of sum a/2 (w - c)^2, so that it depends on every earlier update.
WEIGHT = [0.5, -1.25, 2.0, 0.125, -0.75, 3.0, -0.0625]
BIAS = [1.5, -0.25, 0.75]
WEIGHT_CURVATURE = [1.0, 0.25, 2.0, 4.0, 0.5, 1.5, 8.0]
BIAS_CURVATURE = [3.0, 0.125, 1.0]
CENTRE = 0.375

OPTIMIZERS = {
    'kSgd': (torch.optim.SGD, dict(lr=0.1)),
    'kSgdDecay': (torch.optim.SGD, dict(lr=0.1, weight_decay=0.05)),
    'kMomentum': (torch.optim.SGD, dict(lr=0.05, momentum=0.9)),
    'kMomentumDecay': (torch.optim.SGD, dict(lr=0.05, momentum=0.9, weight_decay=0.05)),
    'kNesterov': (torch.optim.SGD, dict(lr=0.05, momentum=0.8, weight_decay=0.05, nesterov=True)),
    'kAdam': (torch.optim.Adam, dict(lr=0.1)),
    'kAdamDecay': (torch.optim.Adam, dict(lr=0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.05)),
    'kAdamW': (torch.optim.AdamW, dict(lr=0.1, weight_decay=0.05)),
    'kRmsProp': (torch.optim.RMSprop, dict(lr=0.01)),
    'kRmsPropMomentum': (torch.optim.RMSprop, dict(lr=0.01, alpha=0.9, momentum=0.7, weight_decay=0.05)),
    'kRmsPropCentered': (torch.optim.RMSprop, dict(lr=0.01, alpha=0.9, eps=1e-4, centered=True)),
    'kRmsPropAll': (torch.optim.RMSprop,
                    dict(lr=0.01, alpha=0.95, momentum=0.5, centered=True, weight_decay=0.05)),
}
# The same with clipping, or without decay of the bias.
VARIANTS = {
    'kMomentumClipNorm': ('kMomentumDecay', lambda ps: torch.nn.utils.clip_grad_norm_(ps, 2.0), False),
    'kMomentumClipValue': ('kMomentumDecay', lambda ps: torch.nn.utils.clip_grad_value_(ps, 0.75), False),
    'kMomentumWeightsOnly': ('kMomentumDecay', None, True),
    'kAdamWeightsOnly': ('kAdamDecay', None, True),
    'kAdamWWeightsOnly': ('kAdamW', None, True),
    'kRmsPropWeightsOnly': ('kRmsPropAll', None, True),
}


def number(value):
    return repr(float(value))


def run(kind, arguments, clip, weights_only):
    weight = torch.nn.Parameter(torch.tensor(WEIGHT))
    bias = torch.nn.Parameter(torch.tensor(BIAS))
    groups = [{'params': [weight]}, {'params': [bias]}]
    if weights_only:
        groups[1]['weight_decay'] = 0.0
    optimizer = kind(groups, foreach=False, **arguments)
    rows = []
    for _ in range(STEPS):
        weight.grad = torch.tensor(WEIGHT_CURVATURE) * (weight.detach() - CENTRE)
        bias.grad = torch.tensor(BIAS_CURVATURE) * (bias.detach() - CENTRE)
        if clip is not None:
            clip([weight, bias])
        optimizer.step()
        rows.append([float(x) for x in weight.detach()] + [float(x) for x in bias.detach()])
    return rows


def array(name, values):
    print(f'inline constexpr double {name}[] = {{{", ".join(number(v) for v in values)}}};')


def print_trajectories():
    runs = {name: run(kind, arguments, None, False) for name, (kind, arguments) in OPTIMIZERS.items()}
    for name, (base, clip, weights_only) in VARIANTS.items():
        runs[name] = run(*OPTIMIZERS[base], clip, weights_only)
    for name, rows in runs.items():
        print(f'inline constexpr Trajectory {name} = {{{{')
        for row in rows:
            print('    {' + ', '.join(number(v) for v in row) + '},')
        print('}};')


def rates(make, steps, lr=0.5):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make(optimizer)
    values = [optimizer.param_groups[0]['lr']]
    for _ in range(steps - 1):
        optimizer.step()
        scheduler.step()
        values.append(optimizer.param_groups[0]['lr'])
    return values


def print_schedules():
    s = torch.optim.lr_scheduler
    array('kStepRates', rates(lambda o: s.MultiStepLR(o, [2, 3, 7], gamma=0.3), 9))
    array('kCosineRates', rates(lambda o: s.CosineAnnealingLR(o, T_max=11, eta_min=0.5 * 0.2), 11))

    def one_cycle(steps, **arguments):
        return rates(lambda o: s.OneCycleLR(o, max_lr=0.5, total_steps=steps, cycle_momentum=False, **arguments), steps)

    array('kOneCycleRates', one_cycle(20))
    array('kOneCycleOddRates', one_cycle(12, pct_start=0.45, div_factor=4, final_div_factor=10))
    array('kOneCycleNoWarmupRates', one_cycle(6, pct_start=0.0))
    array('kOneCycleAllWarmupRates', one_cycle(6, pct_start=1.0))
    array('kOneCycleShortRates', one_cycle(2))


def main():
    print('#pragma once')
    print()
    print(f'// Made by torch_reference.py with torch {torch.__version__}; do not edit.')
    print('namespace normlab::engine::torch_reference {')
    print()
    print(f'inline constexpr int kSteps = {STEPS};')
    print(f'inline constexpr int kWeights = {len(WEIGHT)};')
    print(f'inline constexpr int kBiases = {len(BIAS)};')
    print('// Parameters after each step, weights first.')
    print('struct Trajectory {')
    print('  double values[kSteps][kWeights + kBiases];')
    print('};')
    array('kStart', WEIGHT + BIAS)
    array('kCurvature', WEIGHT_CURVATURE + BIAS_CURVATURE)
    print(f'inline constexpr double kCentre = {number(CENTRE)};')
    print()
    print_trajectories()
    print()
    print('// Learning rates of the first steps, the optimizer\'s being 0.5.')
    print_schedules()
    print()
    print('}  // namespace normlab::engine::torch_reference')


main()
