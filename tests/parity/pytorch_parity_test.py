"""The engine against PyTorch, in f32 with direct convolutions.

Teacher-forced: at each of 100 steps of a PyTorch run the engine starts from PyTorch's weights, running statistics and
optimizer state, and makes the same step. Compared: the loss, the whole gradient (relative l2 over all parameters), the
weights after SGD with momentum (relative l2 over all), running statistics and momentum buffers. Other optimizers: their
update from PyTorch's gradient. Free-running curves stand beside a control, PyTorch against itself with the order of each
batch reversed. Prints the worst values and the time of each net; NORMLAB_LONG_RUNS=1 takes larger batches.

Needs Debian's python3-torch; run by /usr/bin/python3. Options of unittest choose tests: -k resnet20, -k batch, ...
"""
import copy
import math
import os
import sys
import time
import unittest

try:
    import numpy
    import torch
except ImportError as error:
    sys.exit(f'{error}: install python3-torch and python3-numpy (deploy/install-packages test), '
             'and run this with /usr/bin/python3')

from batches import DATA, SIDE, FashionMnist, NoisyColours
from engine_step import EngineStep
from networks import CLASSES, NORMALIZERS, Mlp, ResNet20, Vgg11

THREADS = 2
LONG = bool(os.environ.get('NORMLAB_LONG_RUNS'))
STEPS = 100

# Relative. Sums in another order differ by some 1e-7; layers multiply that.
LOSS_BOUND = 1e-5
GRADIENT_BOUND = 1e-4
WEIGHTS_BOUND = 1e-5
STATISTICS_BOUND = 1e-5
# A ReLU whose input rounds to the other side of 0, or another maximum of a pool, is no error of either side. Where
# normalizers keep millions of inputs close to 0 it happens in many steps: PyTorch misses the bound against itself when its
# convolutions take its other memory layout. That is the control: more misses than one step in 100 are allowed only as
# often as PyTorch has them, with two standard errors of the two rates.
ALLOWED_GRADIENT_MISSES = 1
CONTROL_STEPS = 30
# Of the gradient in a step that missed. One flip of a batch of 4 was seen to move it by 0.03.
LARGEST_FLIP = 0.1
# Of an update from the same gradient: elementwise arithmetic, rounded at other places.
UPDATE_BOUND = 1e-6
# Free-running: our distance from PyTorch over PyTorch's from itself.
DRIFT_RATIO = 3
FREE_STEPS = 30


class Net:
    """A network in both worlds. `shape`: of its inputs; `batch`: examples a step, in CI and in long runs."""

    def __init__(self, name, make, model, shape, batch, long_batch):
        self.name, self.make, self.model, self.shape = name, make, model, shape
        self.batch = long_batch if LONG else batch

    def with_batch(self, batch):
        """The same network with other batches."""
        return Net(self.name, self.make, self.model, self.shape, batch, batch)

    def spec(self, kind, optimizer, **changes):
        return {'model': self.model, 'normalization': {kind: {}}, 'data': {'gaussian_classes': {'dims': self.shape}},
                'threads': THREADS, 'convolution_algorithm': 'DIRECT', 'batch_size': self.batch, 'optimizer': optimizer,
                **changes}

    def data(self):
        return FashionMnist() if self.shape[0] == 1 else NoisyColours(self.shape[1])


HIDDEN = [256, 128, 64]
NETS = [
    Net('mlp', lambda kind: Mlp(SIDE * SIDE, HIDDEN, kind), {'mlp': {'hidden': HIDDEN}}, [1, SIDE, SIDE], 32, 128),
    Net('vgg11', lambda kind: Vgg11(3, kind), {'vgg': {'depth': 11}}, [3, 32, 32], 4, 16),
    Net('resnet20', lambda kind: ResNet20(3, kind), {'resnet': {'depth': 20}}, [3, 32, 32], 4, 16),
]
MLP, VGG11, RESNET20 = NETS
# An example's dense features are one value a channel.
DEGENERATE = {('mlp', 'instance')}
SGD = {'learning_rate': 0.05, 'momentum': 0.9, 'weight_decay': 5e-4}


def sgd_of(model, **changes):
    options = {**SGD, **changes}
    return torch.optim.SGD(model.parameters(), lr=options['learning_rate'], momentum=options['momentum'],
                           weight_decay=options['weight_decay'], nesterov=options.get('nesterov', False))


def parameters_of(model):
    return {name: p.detach().numpy() for name, p in model.named_parameters()}


def statistics_of(model):
    return {name: b.numpy() for name, b in model.named_buffers() if not name.endswith('num_batches_tracked')}


def optimizer_state_of(model, optimizer, slots):
    """PyTorch's state by the engine's names; zeros where it has none yet."""
    state = {}
    for name, p in model.named_parameters():
        for slot in slots:
            value = optimizer.state[p].get(slot)
            state[f'{slot}.{name}'] = numpy.zeros(p.shape, numpy.float32) if value is None else value.numpy()
    return state


def copied(tensors):
    return {name: values.copy() for name, values in tensors.items()}


def distance(ours, theirs):
    """l2 of the difference over l2 of `theirs`, over all tensors of `theirs`, in double."""
    difference = norm = 0.0
    for name, b in theirs.items():
        a = ours[name].astype(numpy.float64).ravel()
        b = b.astype(numpy.float64).ravel()
        difference += float(numpy.dot(a - b, a - b))
        norm += float(numpy.dot(b, b))
    return math.sqrt(difference / norm) if norm > 0 else math.sqrt(difference)


def backward(model, x, labels):
    model.zero_grad(set_to_none=True)
    loss = torch.nn.functional.cross_entropy(model(x), labels)
    loss.backward()
    return loss.item()


def start(net, kind, optimizer, **changes):
    """The same network here and there, refused when names or shapes differ."""
    torch.manual_seed(1)
    model = net.make(kind).train()
    engine = EngineStep(net.spec(kind, optimizer, **changes),
                        {'channels': net.shape[0], 'height': net.shape[1], 'width': net.shape[2], 'classes': CLASSES})
    for what, ours, theirs in (('parameters', engine.parameters, parameters_of(model)),
                               ('running statistics', engine.state, statistics_of(model))):
        shapes = {name: values.shape for name, values in theirs.items()}
        if ours != shapes:
            engine.close()
            raise AssertionError(f'{what} of {net.name} with {kind} differ:\nengine  {ours}\nPyTorch {shapes}')
    return model, engine


class Worst:
    """The worst value of each comparison, and how many steps missed the gradient's bound. What follows from a gradient
    that missed, the update, is not counted again."""

    def __init__(self):
        self.values = {name: 0.0 for name in ('loss', 'gradient', 'weights', 'statistics', 'momentum')}
        self.steps = self.misses = self.control_steps = self.control_misses = 0

    def add(self, **values):
        self.steps += 1
        if values['gradient'] > GRADIENT_BOUND:
            self.misses += 1
            del values['weights'], values['momentum']
        for name, value in values.items():
            self.values[name] = max(self.values[name], value) if math.isfinite(value) else math.inf

    def add_control(self, gradient):
        self.control_steps += 1
        self.control_misses += gradient > GRADIENT_BOUND

    def allowed_misses(self):
        if self.control_steps == 0:
            return ALLOWED_GRADIENT_MISSES
        rate = self.control_misses / self.control_steps
        error = math.sqrt(rate * (1 - rate) * (1 / self.control_steps + 1 / self.steps))
        return max(ALLOWED_GRADIENT_MISSES, math.floor((rate + 2 * error) * self.steps))

    def __str__(self):
        text = ' '.join(f'{name} {value:.1e}' for name, value in self.values.items()) + f' missed {self.misses}'
        return text + (f', PyTorch itself {self.control_misses} of {self.control_steps}' if self.control_steps else '')


def teacher_forced(net, kind, data, steps=STEPS, engine_sgd=SGD, control_steps=0, **changes):
    worst = Worst()
    model, engine = start(net, kind, {'sgd': engine_sgd}, **changes)
    optimizer = sgd_of(model)
    with engine:
        for step in range(steps):
            x, labels = data.batch(step, net.batch)
            ours = engine.step(x.numpy(), labels.numpy(), SGD['learning_rate'], step,
                               {**parameters_of(model), **statistics_of(model),
                                **optimizer_state_of(model, optimizer, engine.slots)})
            other = copy.deepcopy(model) if step < control_steps else None
            loss = backward(model, x, labels)
            gradient = {f'gradient.{name}': p.grad.numpy() for name, p in model.named_parameters()}
            if other is not None:
                backward(other.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last), labels)
                worst.add_control(distance({f'gradient.{name}': p.grad.numpy() for name, p in other.named_parameters()},
                                           gradient))
            optimizer.step()
            momentum = optimizer_state_of(model, optimizer, engine.slots)
            worst.add(loss=abs(float(ours['loss'][0]) - loss) / loss, gradient=distance(ours, gradient),
                      weights=distance(ours, parameters_of(model)), statistics=distance(ours, statistics_of(model)),
                      momentum=distance(ours, momentum))
    return worst


class TeacherForcedTest(unittest.TestCase):
    """A method for each net and normalizer is added below."""

    @classmethod
    def setUpClass(cls):
        cls.data = {net.name: net.data() for net in NETS}

    def check(self, net, kind):
        begin = time.monotonic()
        controlled = net is not MLP and kind != 'none'
        worst = teacher_forced(net, kind, self.data[net.name], control_steps=CONTROL_STEPS if controlled else 0)
        print(f'{net.name:9} {kind:9} batch {net.batch:3} {STEPS} steps, worst: {worst}'
              f' ({time.monotonic() - begin:.1f} s)', flush=True)
        self.assertLessEqual(worst.values['loss'], LOSS_BOUND)
        self.assertLessEqual(worst.misses, worst.allowed_misses())
        self.assertLessEqual(worst.values['gradient'], LARGEST_FLIP)
        self.assertLessEqual(worst.values['momentum'], GRADIENT_BOUND)
        self.assertLessEqual(worst.values['weights'], WEIGHTS_BOUND)
        self.assertLessEqual(worst.values['statistics'], STATISTICS_BOUND)

    def test_another_epsilon_or_momentum_would_be_noticed(self):
        epsilon = teacher_forced(MLP, 'batch', self.data['mlp'], steps=2, normalization={'batch': {'epsilon': 1e-3}})
        self.assertEqual(epsilon.misses, 2)
        self.assertGreater(epsilon.values['loss'], LOSS_BOUND)
        rate = teacher_forced(MLP, 'batch', self.data['mlp'], steps=2,
                              normalization={'batch': {'running_update_rate': 0.11}})
        self.assertEqual(rate.misses, 0)
        self.assertGreater(rate.values['statistics'], STATISTICS_BOUND)
        momentum = teacher_forced(MLP, 'batch', self.data['mlp'], steps=5, engine_sgd={**SGD, 'momentum': 0.8})
        self.assertEqual(momentum.misses, 0)
        self.assertGreater(momentum.values['weights'], WEIGHTS_BOUND)


def add_methods():
    for net in NETS:
        for kind in NORMALIZERS:
            if (net.name, kind) in DEGENERATE:
                continue

            def method(self, net=net, kind=kind):
                self.check(net, kind)
            setattr(TeacherForcedTest, f'test_{net.name}_{kind}', method)


add_methods()


class OptimizerTest(unittest.TestCase):
    """The update of an MLP with batch norm from PyTorch's own gradient, along PyTorch's run."""

    OPTIMIZERS = {
        'sgd': ({'momentum': 0.9, 'weight_decay': 1e-3, 'nesterov': True, 'learning_rate': 0.05}, sgd_of),
        'adam': ({'learning_rate': 1e-3, 'weight_decay': 1e-3},
                 lambda model, learning_rate, **options: torch.optim.Adam(
                     model.parameters(), lr=learning_rate, **options)),
        'adamw': ({'learning_rate': 1e-3, 'weight_decay': 1e-2},
                  lambda model, learning_rate, **options: torch.optim.AdamW(
                      model.parameters(), lr=learning_rate, **options)),
        'rmsprop': ({'learning_rate': 1e-3, 'momentum': 0.9, 'centered': True, 'weight_decay': 1e-3},
                    lambda model, learning_rate, **options: torch.optim.RMSprop(
                        model.parameters(), lr=learning_rate, **options)),
    }

    def check(self, kind):
        data = FashionMnist(4096)
        options, make = self.OPTIMIZERS[kind]
        model, engine = start(MLP, 'batch', {kind: options})
        optimizer = make(model, **options)
        worst = worst_state = moved = 0.0
        with engine:
            self.assertTrue(engine.slots)
            for step in range(STEPS):
                x, labels = data.batch(step, MLP.batch)
                backward(model, x, labels)
                before = copied(parameters_of(model))
                ours = engine.update(options['learning_rate'], step,
                                     {**before, **optimizer_state_of(model, optimizer, engine.slots),
                                      **{f'gradient.{name}': p.grad.numpy() for name, p in model.named_parameters()}})
                optimizer.step()
                worst = max(worst, distance(ours, parameters_of(model)))
                worst_state = max(worst_state, distance(ours, optimizer_state_of(model, optimizer, engine.slots)))
                moved = max(moved, distance(before, parameters_of(model)))
        print(f'{kind:9} {STEPS} updates from the same gradient, worst: weights {worst:.1e} state {worst_state:.1e}'
              f' (an update is {moved:.1e})')
        self.assertLessEqual(worst, UPDATE_BOUND)
        self.assertLessEqual(worst_state, UPDATE_BOUND)
        self.assertGreater(moved, 100 * UPDATE_BOUND, 'the bound could not tell an update from none')

    def test_sgd_nesterov(self):
        self.check('sgd')

    def test_adam(self):
        self.check('adam')

    def test_adamw(self):
        self.check('adamw')

    def test_rmsprop(self):
        self.check('rmsprop')


class FreeRunningTest(unittest.TestCase):
    """Rounding grows along a run until curves of equal code part; ours may part from PyTorch's no faster than 3 times as
    fast as PyTorch's own, when only the order of the sums over a batch changes."""

    def losses_of_pytorch(self, net, data, reverse):
        torch.manual_seed(1)
        model = net.make('batch').train()
        optimizer = sgd_of(model)
        losses = []
        for step in range(FREE_STEPS):
            x, labels = data.batch(step, net.batch)
            losses.append(backward(model, x.flip(0), labels.flip(0)) if reverse else backward(model, x, labels))
            optimizer.step()
        return losses

    def losses_of_engine(self, net, data):
        model, engine = start(net, 'batch', {'sgd': SGD})
        tensors = {**copied(parameters_of(model)), **copied(statistics_of(model)),
                   **optimizer_state_of(model, sgd_of(model), engine.slots)}
        losses = []
        with engine:
            for step in range(FREE_STEPS):
                x, labels = data.batch(step, net.batch)
                reply = engine.step(x.numpy(), labels.numpy(), SGD['learning_rate'], step, tensors)
                losses.append(float(reply['loss'][0]))
                tensors = copied({name: reply[name] for name in tensors})
        return losses

    def check(self, net):
        data = net.data()
        theirs = self.losses_of_pytorch(net, data, reverse=False)
        control = self.losses_of_pytorch(net, data, reverse=True)
        ours = self.losses_of_engine(net, data)
        # One float rounding is the least that can be told. The mean of logarithms weighs the beginning, where both are
        # small, like the end: it is the speed of growth that is compared.
        def drift(losses):
            return [abs(a - b) / b + 1e-7 for a, b in zip(losses, theirs)]
        print(f'{net.name} with batch norm, free-running, SGD {SGD}:\n'
              'step  PyTorch    engine     reversed   drift of the engine  of the control')
        for step, (t, o, c, d, e) in enumerate(zip(theirs, ours, control, drift(ours), drift(control))):
            print(f'{step:4}  {t:.6f}  {o:.6f}  {c:.6f}  {d:.1e}              {e:.1e}')
        ratio = math.exp(sum(math.log(a / b) for a, b in zip(drift(ours), drift(control))) / FREE_STEPS)
        print(f'{net.name}: the engine drifts {ratio:.2f} times as fast as the control (at most {DRIFT_RATIO})',
              flush=True)
        self.assertLessEqual(ratio, DRIFT_RATIO)
        self.assertLess(theirs[-1], theirs[0], 'the run must learn something')

    def test_mlp(self):
        self.check(MLP)

    def test_resnet20(self):
        # Of 4 examples batch norm learns nothing at this learning rate, in either library.
        self.check(RESNET20.with_batch(32))


if __name__ == '__main__':
    if not os.path.isdir(DATA):
        sys.exit(f'{DATA} is missing: install the package dataset-fashion-mnist')
    torch.set_num_threads(THREADS)
    print(f'PyTorch {torch.__version__}, {THREADS} threads; data: Fashion-MNIST for the mlp, random colour '
          'images for the others; layer norm on images is GroupNorm(1, C).\n'
          'Left out: ' + ', '.join(f'{net} with {kind}' for net, kind in sorted(DEGENERATE)) +
          ' (a set of one value)', flush=True)
    unittest.main(verbosity=1)
