"""Reports in a real browser: of made-up numbers with every kind of chart, of hostile names, of very many points, and of real
jobs in every state. NORMLAB_SCREENSHOTS=FOLDER keeps pictures of all pages.
"""
import json
import os
import re
import signal
import subprocess

import browser_test_case
from browser import PATIENCE
from browser_test_case import DRAWN
from normlab_testing import BIN, ServerTest, long_spec, main, tiny_spec, wait_for

SAMPLE = os.path.join(BIN, '..', 'tests', 'report_sample')


def sample(kind, form, path):
    subprocess.run([SAMPLE, kind, form, path], check=True, timeout=60 * PATIENCE)


class SampleReportTest(browser_test_case.BrowserTest):

    def setUp(self):
        self.path = os.path.join(self.folder, 'sample.html')
        sample('sample', 'html', self.path)

    def test_every_chart_is_drawn_in_light_and_dark_on_desk_and_phone(self):
        self.check_everywhere(self.path, 'sample', 8)

    def test_dark_is_dark(self):
        page = self.browser.open(self.path, dark=True, wait=DRAWN)
        red, green, blue = map(int, re.findall(r'\d+', page.evaluate('getComputedStyle(document.body).backgroundColor'))[:3])
        self.assertLess(red + green + blue, 150)
        # Lines are of the dark theme too, without having been drawn again.
        line = page.evaluate('getComputedStyle(document.querySelector(".mark-line path")).stroke')
        light = self.browser.open(self.path, dark=False, wait=DRAWN)
        self.assertNotEqual(line, light.evaluate('getComputedStyle(document.querySelector(".mark-line path")).stroke'))

    def test_a_window_that_shrinks_keeps_everything_in_sight(self):
        page = self.browser.open(self.path, width=1280, wait=DRAWN)
        page.resize(390, 800)
        wait_for(lambda: page.evaluate('document.querySelector(".plot svg").getBoundingClientRect().width') < 390, 'charts to shrink')
        self.check_page(page, 'sample-shrunk', 8)

    def test_claims_stand_before_charts_and_every_verdict_is_as_prominent(self):
        page = self.browser.open(self.path, wait=DRAWN)
        tops = page.evaluate('''[document.querySelector("#claims"), document.querySelector("figure")].map(
            function (e) { return e.getBoundingClientRect().top; })''')
        self.assertLess(tops[0], tops[1])
        self.assertLess(tops[0], 900, 'the claims begin on the first screen')
        looks = page.evaluate('''Array.from(document.querySelectorAll("td .verdict")).map(function (e) {
            var s = getComputedStyle(e); return [s.fontSize, s.fontWeight, Math.round(e.getBoundingClientRect().height)].join(); })''')
        self.assertEqual(len(looks), 3)
        self.assertEqual(len(set(looks)), 1)

    def test_it_prints(self):
        for dark in (False, True):
            page = self.browser.open(self.path, dark=dark, wait=DRAWN)
            pdf = page.pdf()
            self.assertTrue(pdf.startswith(b'%PDF'))
            self.assertGreaterEqual(len(re.findall(rb'/Type\s*/Page\b', pdf)), 3)
            self.assertEqual(page.troubles(), [])
            # On paper dark is light: the variables that colours come from change with the medium.
            page.call('Emulation.setEmulatedMedia', media='print',
                      features=[{'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}])
            self.assertEqual(page.evaluate('getComputedStyle(document.body).backgroundColor'), 'rgb(255, 255, 255)')

    def test_pointing_at_a_symbol_explains_it(self):
        page = self.browser.open(self.path, height=2000, wait=DRAWN)
        x, y = page.evaluate('''(function () {
            var box = document.querySelector("#chart-loss .role-mark.mark-symbol path").getBoundingClientRect();
            return [box.left + box.width / 2, box.top + box.height / 2]; })()''')
        page.hover(x - 40, y - 40)
        page.hover(x, y)
        text = wait_for(lambda: page.evaluate('(function (t) { return t.hidden ? "" : t.textContent; })(document.querySelector(".tip"))'), 'a tip')
        self.assertRegex(text, r'batch norm\nstep \d+: [\d.]+ \[[\d.]+, [\d.]+\]')


class HardReportTest(browser_test_case.BrowserTest):

    def test_hostile_names_are_text(self):
        path = os.path.join(self.folder, 'hostile.html')
        sample('hostile', 'html', path)
        self.check_everywhere(path, 'hostile', 3)
        page = self.browser.open(path, wait=DRAWN)
        title = page.evaluate('document.title')
        self.assertTrue(title.startswith('</script><script>'), title)
        self.assertEqual(page.evaluate('document.querySelectorAll("img, iframe, object, link").length'), 0)
        self.assertEqual(page.evaluate('document.querySelector("h1").textContent'), title)
        self.assertEqual(page.evaluate('document.scripts.length'), 5, 'Vega, ours, three charts')

    def test_two_hundred_lines_of_two_thousand_points_are_quick(self):
        path = os.path.join(self.folder, 'big.html')
        sample('big', 'html', path)
        self.assertLess(os.path.getsize(path), 3_500_000)
        page = self.browser.open(path, wait=DRAWN, seconds=20)
        self.check_page(page, 'big', 1)
        self.assertEqual(page.evaluate('document.querySelectorAll(".mark-line path").length'), 200)


class RealReportTest(ServerTest, browser_test_case.BrowserTest):
    """Jobs that succeeded, diverged, failed and still run, on a real server."""

    def test_jobs_in_every_state(self):
        probes = [{'every': 20, 'landscape': {}}, {'every': 20, 'gradient_norms': {}}]
        names = []
        for seed in (1, 2, 3):
            for normalization in ({'batch': {}}, {'none': {}}):
                spec = tiny_spec(seed=seed, normalization=normalization, probes=probes)
                names.append(self.server.submit(spec, '--wait')['name'])
        diverged = tiny_spec(optimizer={'sgd': {'learning_rate': 1e9}}, normalization={'none': {}}, steps=200)
        names.append(self.server.submit(diverged, '--wait', check=6)['name'])
        failed = self.server.submit(long_spec(display_name='<b>"failed"</b>'))['name']
        self.server.wait_step(failed, 50)
        for pid in self.server.worker_pids():
            os.kill(pid, signal.SIGKILL)
        self.server.wait_state(failed, 'FAILED')
        running = self.server.submit(long_spec(seed=9))['name']
        self.server.wait_step(running, 50)
        names += [failed, running]

        path = os.path.join(self.folder, 'real.html')
        self.server.cli('report', *names, '-o', path, '--baseline', names[0], check=0)
        page = self.browser.open(path, wait=DRAWN)
        warnings = page.evaluate('document.querySelector(".warnings").textContent')
        for words in ('diverged at step', 'failed at step', 'WORKER_CRASHED', 'still runs, at step'):
            self.assertIn(words, warnings)
        charts = page.evaluate('document.querySelectorAll("figure.chart").length')
        self.assertGreaterEqual(charts, 8)
        page.close()
        self.check_everywhere(path, 'real', charts)
        self.server.cli('cancel', running, check=0)

        # The other forms hold the same jobs.
        text = self.server.cli('report', *names, '--format', 'md', '-o', '-', check=0).out
        self.assertIn('## Final values', text)
        folder = os.path.join(self.folder, 'numbers')
        self.server.cli('report', *names, '--format', 'csv', '-o', folder, check=0)
        with open(os.path.join(folder, 'jobs.csv'), encoding='utf-8') as file:
            self.assertEqual(len(file.read().splitlines()), 1 + len(names))
        with open(os.path.join(folder, 'train-loss.csv'), encoding='utf-8') as file:
            rows = file.read().splitlines()
        self.assertEqual(rows[0], 'series,facet,x,y,low,high,text')
        svg = os.path.join(self.folder, 'charts')
        self.server.cli('report', *names, '--format', 'svg', '-o', svg, '--series', 'train/loss,test/accuracy', check=0)
        with open(os.path.join(svg, 'train-loss.svg'), encoding='utf-8') as file:
            picture = file.read()
        self.assertTrue(picture.startswith('<svg'))
        self.assertNotIn('var(--', picture)
        self.assertIn('mark-line', picture)

    def test_an_experiment_and_one_under_way(self):
        sweep = json.dumps(tiny_spec())
        self.server.cli('sweep', '-', '--axis', 'normalization=batch,none', '--axis', 'optimizer.sgd.learning_rate=0.01,0.1,1e9',
                        '--seeds', '2', '--wait', stdin=sweep)
        listed = self.server.cli('experiment', 'list', '--output', 'json', check=0).json()
        name = listed['experiments'][0]['name']
        path = os.path.join(self.folder, 'experiment.html')
        self.server.cli('report', name, '-o', path, '--baseline', '0', check=0)
        page = self.browser.open(path, wait=DRAWN)
        self.assertEqual(page.evaluate('document.querySelectorAll("#chart-map-test-accuracy .mark-rect path").length'), 6)
        self.assertEqual(page.evaluate('document.querySelectorAll("#table-final tbody tr").length'), 6)
        self.assertEqual(page.evaluate('document.querySelectorAll("#table-jobs tbody tr").length'), 12)
        self.assertIn('diverged', page.evaluate('document.querySelector(".warnings").textContent'))
        self.assertIn('normlab sweep base.yaml', page.evaluate('document.querySelector(".repeat").textContent'))
        charts = page.evaluate('document.querySelectorAll("figure.chart").length')
        page.close()
        self.check_everywhere(path, 'experiment', charts)
        # The bare id is enough, and a second name too much.
        self.server.cli('report', name.split('/')[1], '-o', path, check=0)
        self.assertEqual(self.server.cli('report', name, name).code, 2)

    def test_what_cannot_be_reported_is_refused(self):
        missing = self.server.cli('report', 'jobs/nosuchjob')
        self.assertEqual(missing.code, 4)
        job = self.server.submit(tiny_spec(), '--wait')['name']
        wrong = self.server.cli('report', job, '--baseline', 'nobody', '-o', os.path.join(self.folder, 'x.html'))
        self.assertEqual(wrong.code, 2, wrong)
        self.assertIn('--baseline', wrong.err)
        series = self.server.cli('report', job, '--series', 'train/loss,nosuch/*', '-o', os.path.join(self.folder, 'x.html'))
        self.assertEqual(series.code, 2, series)
        self.assertIn('no job here has a series "nosuch/*"', series.err)
        preset = self.server.cli('report', job, '--preset', 'smoke', '-o', os.path.join(self.folder, 'x.html'))
        self.assertEqual(preset.code, 2, preset)
        self.assertFalse(os.path.exists(os.path.join(self.folder, 'x.html')))
        self.assertEqual(self.server.cli('report', job, '--format', 'pdf').code, 2)
        self.assertEqual(self.server.cli('report', job, '--format', 'svg', '-o', '-').code, 2)
        nowhere = self.server.cli('report', job, '-o', os.path.join(self.folder, 'no', 'such', 'r.html'))
        self.assertNotEqual(nowhere.code, 0)
        self.assertIn(os.path.join('no', 'such', 'r.html'), nowhere.err)
        self.assertNotIn('.tmp', nowhere.err)
        # Before anything is run.
        experiments = lambda: self.server.cli('experiment', 'list', '--output', 'json', check=0).json()['experiments']
        before = len(experiments())
        early = self.server.cli('study', 'run', 'affine', '--preset', 'smoke', '-o', '/nonexistent/x.html')
        self.assertNotEqual(early.code, 0)
        self.assertIn('cannot write /nonexistent/x.html', early.err)
        self.assertEqual(len(experiments()), before)


if __name__ == '__main__':
    main()
