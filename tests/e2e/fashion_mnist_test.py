"""The claims of the README on all of Fashion-MNIST (Debian package dataset-fashion-mnist)."""
import os

from normlab_testing import ServerTest, main, sample, wait_for

DATA = '/usr/share/datasets/fashion-mnist'


def sigmoid_net(**changes):
    """Ioffe and Szegedy's net: 3 x 100 sigmoid, batch 60, plain SGD at 0.1, one epoch."""
    spec = {
        'model': {'mlp': {'hidden': [100, 100, 100], 'activation': 'SIGMOID'}},
        'normalization': {'batch': {}},
        'data': {'fashion_mnist': {}, 'scaling': 'UNIT'},
        'initializer': {'pytorch_default': {}},
        'optimizer': {'sgd': {'learning_rate': 0.1}},
        'batch_size': 60, 'epochs': 1, 'seed': 1, 'threads': 1,
    }
    return {**spec, **changes}


class FashionMnistTest(ServerTest):

    def setUp(self):
        self.assertTrue(os.path.isdir(DATA), f'{DATA} is missing: install the package dataset-fashion-mnist')
        super().setUp()

    def accuracy(self, spec):
        job = self.server.submit(spec, '--wait')
        self.assertEqual(job['state'], 'SUCCEEDED')
        final = job['result']['finalMetrics']
        print(f"{list(spec['normalization'])[0]:6} {list(spec['initializer'])[0]:16} "
              f"test accuracy {final['test/accuracy']:.4f} in {job['result']['trainingSeconds']:.1f} s")
        return final['test/accuracy']

    def test_batch_norm_trains_the_sigmoid_net_where_none_does_not(self):
        with_bn = self.accuracy(sigmoid_net())
        without = self.accuracy(sigmoid_net(normalization={'none': {}}))
        self.assertGreater(with_bn, 0.75)
        self.assertLess(without, 0.15)

    def test_glorot_lets_it_learn_without_batch_norm_only_later(self):
        glorot = {'initializer': {'glorot_uniform': {}}, 'normalization': {'none': {}}}
        one = self.accuracy(sigmoid_net(**glorot))
        ten = self.accuracy(sigmoid_net(**glorot, epochs=10))
        self.assertGreater(ten, 0.5)
        self.assertGreater(ten, one)

    def test_the_quickstart_job(self):
        path = os.path.join(os.path.dirname(__file__), '..', '..', 'deploy', 'quickstart.yaml')
        job = self.server.cli('submit', path, '--wait', '--output', 'json', '--set', f'threads={self.server.cores()}', check=0).json()
        final = job['result']['finalMetrics']
        print(f"test accuracy {final['test/accuracy']:.4f} in {job['result']['trainingSeconds']:.1f} s")
        self.assertGreater(final['test/accuracy'], 0.85)
        self.assertLess(job['result']['trainingSeconds'], 60)
        wait_for(lambda: sample(self.server.scrape(), 'normlab_steps_total') == int(job['result']['steps']), 'its steps to be counted')


if __name__ == '__main__':
    main()
