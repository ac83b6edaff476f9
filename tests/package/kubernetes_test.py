"""The Kubernetes manifests, as far as they can be checked without a cluster: that they are well-formed, fit together and
each other, and ask for no rights; and that the rules in them are those that Prometheus reads.
"""
import glob
import os
import subprocess
import unittest

import yaml

FOLDER = os.path.realpath(os.path.join(os.path.dirname(__file__), '..', '..', 'deploy', 'kubernetes'))
NORMLABD = os.path.join(os.environ.get('NORMLAB_BIN', 'build/release/bin'), 'normlabd')


class NoDuplicates(yaml.SafeLoader):
    """YAML's own loader takes the last of two equal keys."""


def _mapping(loader, node):
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.constructor.ConstructorError(None, None, f'{twice} twice', node.start_mark)
    return loader.construct_mapping(node, deep=True)


NoDuplicates.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load(name):
    with open(os.path.join(FOLDER, name), encoding='utf-8') as file:
        return yaml.load(file, NoDuplicates)


class KubernetesTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.all = {name: load(name) for name in load('kustomization.yaml')['resources']}
        cls.stateful_set = cls.all['statefulset.yaml']
        cls.pod = cls.stateful_set['spec']['template']
        cls.container = cls.pod['spec']['containers'][0]

    def test_every_manifest_is_in_the_kustomization_and_whole(self):
        files = {os.path.basename(path) for path in glob.glob(f'{FOLDER}/*.yaml')} - {'kustomization.yaml'}
        self.assertEqual(files, set(self.all))
        kinds = {'namespace.yaml': ('v1', 'Namespace'), 'service.yaml': ('v1', 'Service'),
                 'statefulset.yaml': ('apps/v1', 'StatefulSet'),
                 'poddisruptionbudget.yaml': ('policy/v1', 'PodDisruptionBudget'),
                 'networkpolicy.yaml': ('networking.k8s.io/v1', 'NetworkPolicy'),
                 'servicemonitor.yaml': ('monitoring.coreos.com/v1', 'ServiceMonitor'),
                 'prometheusrule.yaml': ('monitoring.coreos.com/v1', 'PrometheusRule')}
        for name, manifest in self.all.items():
            self.assertEqual((manifest['apiVersion'], manifest['kind']), kinds[name])
            self.assertEqual(manifest['metadata']['name'], 'normlab')

    def test_selectors_and_ports_meet(self):
        labels = self.pod['metadata']['labels']
        for selector in (self.stateful_set['spec']['selector']['matchLabels'], self.all['service.yaml']['spec']['selector'],
                         self.all['poddisruptionbudget.yaml']['spec']['selector']['matchLabels'],
                         self.all['networkpolicy.yaml']['spec']['podSelector']['matchLabels']):
            self.assertTrue(selector.items() <= labels.items(), selector)
        self.assertTrue(self.all['servicemonitor.yaml']['spec']['selector']['matchLabels'].items()
                        <= self.all['service.yaml']['metadata']['labels'].items())
        self.assertEqual(self.stateful_set['spec']['serviceName'], self.all['service.yaml']['metadata']['name'])
        ports = {port['name']: port['containerPort'] for port in self.container['ports']}
        for port in self.all['service.yaml']['spec']['ports']:
            self.assertIn(port['targetPort'], ports)
        service_ports = {port['name'] for port in self.all['service.yaml']['spec']['ports']}
        for endpoint in self.all['servicemonitor.yaml']['spec']['endpoints']:
            self.assertIn(endpoint['port'], service_ports)
        for probe in ('startupProbe', 'readinessProbe', 'livenessProbe'):
            self.assertIn(self.container[probe]['httpGet']['port'], ports)
        allowed = {port['port'] for rule in self.all['networkpolicy.yaml']['spec']['ingress'] for port in rule['ports']}
        self.assertEqual(allowed, set(ports.values()))
        self.assertEqual(self.all['networkpolicy.yaml']['spec']['egress'], [])

    def test_one_replica_with_a_volume_and_a_minute_to_end(self):
        spec = self.stateful_set['spec']
        self.assertEqual(spec['replicas'], 1)
        self.assertEqual(self.pod['spec']['terminationGracePeriodSeconds'], 60)
        mounts = {mount['name']: mount['mountPath'] for mount in self.container['volumeMounts']}
        volumes = {volume['name'] for volume in self.pod['spec']['volumes']}
        claims = {claim['metadata']['name'] for claim in spec['volumeClaimTemplates']}
        self.assertEqual(set(mounts), volumes | claims)
        self.assertEqual(mounts['data'], '/var/lib/normlab')
        resources = self.container['resources']
        self.assertEqual(resources['requests'], resources['limits'], 'guaranteed')

    def test_no_rights(self):
        pod, container = self.pod['spec']['securityContext'], self.container['securityContext']
        self.assertTrue(pod['runAsNonRoot'])
        self.assertEqual((pod['runAsUser'], pod['runAsGroup'], pod['fsGroup']), (7600, 7600, 7600))
        self.assertEqual(pod['seccompProfile'], {'type': 'RuntimeDefault'})
        self.assertEqual(container, {'allowPrivilegeEscalation': False, 'readOnlyRootFilesystem': True,
                                     'capabilities': {'drop': ['ALL']}})
        self.assertFalse(self.pod['spec']['automountServiceAccountToken'])
        with open(f'{FOLDER}/../docker/Dockerfile', encoding='utf-8') as file:
            self.assertIn('USER 7600:7600', file.read())

    def test_the_server_knows_the_flags(self):
        known = subprocess.run([NORMLABD, '--help'], capture_output=True, text=True, check=True).stdout
        compose = os.path.join(FOLDER, '..', 'compose')
        arguments = list(self.container['args'])
        for name in ('docker-compose.yml', 'docker-compose.tls.yml'):
            with open(os.path.join(compose, name), encoding='utf-8') as file:
                arguments += yaml.load(file, NoDuplicates)['services']['normlab']['command']
        with open(os.path.join(FOLDER, '..', 'systemd', 'normlabd.conf'), encoding='utf-8') as file:
            arguments += [line.strip().lstrip('#') for line in file if line.lstrip('#').startswith('--')]
        self.assertGreater(len(arguments), 15)
        for argument in arguments:
            self.assertIn(f'\n  {argument.split("=")[0]}=', known)

    def test_the_rules_are_those_of_prometheus(self):
        checked = subprocess.run([f'{FOLDER}/make-prometheusrule', '--check'], capture_output=True, text=True, check=False)
        self.assertEqual((checked.returncode, checked.stderr), (0, ''))


if __name__ == '__main__':
    unittest.main(verbosity=2)
