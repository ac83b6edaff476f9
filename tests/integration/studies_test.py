"""Studies against a real server: smoke presets from start to report, interruptions, and what is refused."""
import json
import os
import signal
import subprocess

from normlab_testing import BIN, ENDLESS, EXIT_OK, EXIT_REFUSED, PATIENCE, ServerTest, long_spec, main, wait_for

# The tiny data set in place of Fashion-MNIST, where a study reads images at all.
TINY = ('--set', 'data.fashion_mnist.path=tiny', '--set', 'data.train_limit=400', '--set', 'data.test_limit=100')


class StudiesTest(ServerTest):

    def study(self, *arguments, check=EXIT_OK, seconds=120):
        return self.server.cli('study', *arguments, check=check, seconds=seconds)

    def experiments(self):
        return self.server.cli('experiment', 'list', '--output', 'json', check=EXIT_OK).json().get('experiments', [])

    def report_path(self, name='report.html'):
        return os.path.join(self.folder, name)

    def test_all_studies_are_listed_and_described_without_a_server(self):
        listed = json.loads(self.study('list', '--output', 'json').out)['studies']
        self.assertEqual([study['name'] for study in listed],
                         ['affine', 'three-modes', 'covariate-shift', 'landscape', 'explosion', 'learning-rate', 'three-factors', 'normalizers',
                          'sync-batch'])
        for study in listed:
            self.assertEqual([preset['name'] for preset in study['presets']], ['smoke', 'quick', 'paper'])
            text = self.study('describe', study['name']).out
            self.assertIn('predicted', text)
            self.assertIn(study['title'], text)

    def test_a_smoke_run_is_judged_and_reported_and_found_again(self):
        path = self.report_path()
        result = self.study('run', 'affine', '--preset', 'smoke', *TINY, '-o', path, '--output', 'json').json()
        study = result['studies'][0]
        self.assertEqual(study['study'], 'affine')
        self.assertEqual(len(study['experiments']), 2)
        # Two seeds decide nothing, whatever they show.
        self.assertEqual({claim['verdict'] for claim in study['claims']}, {'inconclusive'})
        for claim in study['claims']:
            self.assertIn('too few seeds: 2', claim['reason'])
            self.assertIn('value', claim)
        with open(path, encoding='utf-8') as file:
            page = file.read()
        self.assertIn('What gamma and beta are for', page)
        self.assertIn('normlab study run affine --preset smoke', page)
        # The same command finds the run; --again makes another one.
        before = len(self.experiments())
        again = self.study('run', 'affine', '--preset', 'smoke', *TINY, '-o', path)
        self.assertIn('finished before', again.out)
        self.assertEqual(len(self.experiments()), before)
        anew = self.study('run', 'affine', '--preset', 'smoke', *TINY, '-o', path, '--again', '--output', 'json').json()
        self.assertEqual(len(self.experiments()), before + 2)
        # Equal runs give equal numbers.
        self.assertEqual(anew['studies'][0]['claims'], study['claims'])
        # Its report, by name and by experiment.
        by_name = self.study('report', 'affine', '--output', 'json').json()
        self.assertEqual(by_name['studies'][0]['claims'], study['claims'])
        by_experiment = self.study('report', study['experiments'][0], '--output', 'json').json()
        self.assertEqual(by_experiment['studies'][0]['experiments'], study['experiments'])
        markdown = self.study('report', 'affine', '--format', 'md', '-o', '-').out
        self.assertIn('inconclusive', markdown.lower())
        # Jobs carry the labels.
        jobs = self.server.cli('list', '--filter', 'labels.study=affine', '--output', 'json', check=EXIT_OK).json()['jobs']
        self.assertEqual({job['labels']['preset'] for job in jobs}, {'smoke'})

    def test_enough_seeds_of_the_exploding_net_agree_with_theory_about_the_skips(self):
        result = self.study('run', 'explosion', '--preset', 'smoke', *TINY, '--seeds', '5', '-o', self.report_path(), '--output', 'json').json()
        claims = {claim['id']: claim for claim in result['studies'][0]['claims']}
        # 30 layers of width 128: growth without skips 1.49^29 = 10^5, polynomial with them.
        # That is close to the threshold of 10^3, which is meant for 40 layers.
        self.assertGreater(claims['skips']['value'], 10 ** 2.5, claims['skips'])
        self.assertEqual(claims['skips']['unit'], 'times')
        self.assertEqual(claims['skips']['seeds'], 5)
        self.assertNotEqual(claims['skips']['verdict'], 'not supported', claims['skips'])

    def test_every_smoke_preset_ends_and_reports(self):
        for name in ('three-modes', 'covariate-shift', 'landscape', 'learning-rate', 'three-factors', 'normalizers', 'sync-batch'):
            with self.subTest(name):
                path = self.report_path(f'{name}.html')
                result = self.study('run', name, '--preset', 'smoke', *TINY, '-o', path, '--output', 'json', seconds=300).json()
                study = result['studies'][0]
                self.assertTrue(study['claims'])
                self.assertEqual({claim['verdict'] for claim in study['claims']}, {'inconclusive'})
                self.assertGreater(os.path.getsize(path), 10_000)

    def test_an_interrupted_run_goes_on_and_starts_nothing_twice(self):
        command = ['study', 'run', 'explosion', '--preset', 'smoke', *TINY, '-o', self.report_path()]
        # Has all cores, so that the study is under way until this ends.
        holder = self.server.submit(long_spec(threads=self.server.cores()))['name']
        self.server.wait_step(holder, 1)
        process = subprocess.Popen([os.path.join(BIN, 'normlab'), '--server', self.server.address, *command],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: len(self.experiments()) == 3, 'the experiments of the study')
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30 * PATIENCE)
        self.assertEqual(process.returncode, 130, error)
        self.assertIn('normlab study run explosion --preset smoke', error)
        # A report meanwhile: everything is open, and it says so.
        open_yet = self.study('report', 'explosion', '--output', 'json').json()['studies'][0]
        self.assertTrue(any('QUEUED' in warning for warning in open_yet['warnings']), open_yet['warnings'])
        self.assertEqual({claim['verdict'] for claim in open_yet['claims']}, {'inconclusive'})
        self.server.cli('cancel', holder, check=EXIT_OK)
        wait_for(lambda: any(set(experiment['counts']) - {'queued'} for experiment in self.experiments()), 'one of its jobs to run')
        done = self.server.cli(*command, seconds=300, check=EXIT_OK)
        self.assertRegex(done.out, 'It was (started|finished) before')
        self.assertEqual(len(self.experiments()), 3)

    def test_failed_and_diverged_jobs_are_named(self):
        result = self.study('run', 'learning-rate', '--preset', 'smoke', *TINY, '-o', self.report_path(), '--output', 'json', '--set',
                            'time_limit=3600s').json()
        self.assertTrue(any('diverged' in warning for warning in result['studies'][0]['warnings']), result['studies'][0]['warnings'])
        # A cancelled part: not judged, and the next run is another one.
        self.study('run', 'affine', '--preset', 'smoke', *TINY, '--set', f'nets:steps={ENDLESS}', '--no-wait')
        experiment = next(e for e in self.experiments() if e['labels'].get('study') == 'affine' and e['labels']['part'] == 'nets')
        self.server.cli('experiment', 'cancel', experiment['name'], check=EXIT_OK)
        report = self.study('report', experiment['name'], '--output', 'json').json()['studies'][0]
        self.assertTrue(any('CANCELLED' in warning for warning in report['warnings']), report['warnings'])

    def test_bad_input_is_refused_with_the_nearest_name(self):
        for arguments, expected in (
                (('run', 'landscap'), 'did you mean landscape'),
                (('run', 'landscape', '--preset', 'quik'), 'did you mean quick'),
                (('run', 'landscape', '--set', 'model.vgg.dept=11'), 'depth'),
                (('run', 'landscape', '--set', 'lineer:steps=1'), 'did you mean linear'),
                (('run', 'learning-rate', '--set', 'initializer.scale=2'), 'axis scale'),
                (('describe', 'afine'), 'did you mean affine'),
                (('report', 'explosion'), 'normlab study run explosion'),
                # Data of the wrong shape: ten numbers are no image for a VGG.
                (('run', 'landscape', '--preset', 'smoke', '--set', 'vgg:data=linear_regression'), 'vgg'),
                # A probe on a layer that is not there.
                (('run', 'landscape', '--preset', 'smoke', *TINY, '--set', 'vgg:probes=[{landscape: {}}, {gradient_norms: {}, layers: [nothing]}]'),
                 'probes[1].layers'),
        ):
            with self.subTest(arguments):
                result = self.study(*arguments, check=EXIT_REFUSED)
                self.assertIn(expected, result.err)
        self.assertEqual(self.experiments(), [])

    def test_validate_only_starts_nothing(self):
        result = self.study('run', '--all', '--preset', 'smoke', '--validate-only')
        self.assertEqual(result.out.count('; valid'), 8, result.out)
        self.assertEqual(self.experiments(), [])


if __name__ == '__main__':
    main()
