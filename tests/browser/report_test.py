"""Reports in a real browser: of made-up numbers with every kind of chart, of hostile names, of very many points, and of real
jobs in every state. NORMLAB_SCREENSHOTS=FOLDER keeps pictures of all pages.
"""
import contextlib
import os
import re
import signal
import subprocess
import tempfile
import unittest

from browser import PATIENCE, Browser
from normlab_testing import BIN, ServerTest, long_spec, main, tiny_spec, wait_for

SAMPLE = os.path.join(BIN, '..', 'tests', 'report_sample')
SCREENSHOTS = os.environ.get('NORMLAB_SCREENSHOTS')
DRAWN = 'document.documentElement.getAttribute("data-drawn") === "true"'

# What is wrong with each chart: nothing, when all is well. Marks must have an extent; no text may be cut off.
CHARTS = """
Array.from(document.querySelectorAll('figure.chart')).map(function (figure) {
  var svg = figure.querySelector('.plot svg');
  if (!svg) { return figure.id + ': no picture'; }
  var frame = svg.getBoundingClientRect();
  if (frame.width < 100 || frame.height < 80) { return figure.id + ': ' + frame.width + ' x ' + frame.height; }
  var marks = Array.from(svg.querySelectorAll('.role-mark.mark-line path, .role-mark.mark-symbol path, .role-mark.mark-rect path, .role-mark.mark-rule line'));
  var seen = marks.filter(function (mark) { var box = mark.getBoundingClientRect(); return box.width + box.height > 1; });
  if (seen.length === 0) { return figure.id + ': no mark of ' + marks.length + ' can be seen'; }
  var cut = Array.from(svg.querySelectorAll('text')).filter(function (text) {
    var box = text.getBoundingClientRect();
    return text.textContent && +getComputedStyle(text).opacity > 0 && box.width > 0 &&
        (box.left < frame.left - 2 || box.right > frame.right + 2 || box.bottom > frame.bottom + 2 || box.top < frame.top - 2);
  });
  if (cut.length) { return figure.id + ': text is cut off: ' + cut.map(function (t) { return t.textContent; }).join(' | '); }
  if (!figure.querySelector('.plot').getAttribute('aria-label')) { return figure.id + ': no description'; }
  return '';
}).filter(Boolean)
"""

# Elements that make the page wider than the window.
OVERFLOW = """
(function () {
  var width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) { return []; }
  return Array.from(document.querySelectorAll('body *')).filter(function (element) {
    return element.getBoundingClientRect().right > width + 1 && !element.closest('.scroll, pre');
  }).map(function (element) { return element.tagName + '.' + element.className + ' ' + element.textContent.slice(0, 40); })
      .concat(['page: ' + document.documentElement.scrollWidth + ' > ' + width]);
})()
"""

# Contrast (WCAG 2) of every kind of text against what lies behind it, the least of each kind that is below 4.5.
CONTRAST = """
(function () {
  function rgb(text) { var m = text.match(/[0-9.]+/g); return m && m.length >= 3 && (m.length < 4 || +m[3] > 0.99) ? m.slice(0, 3).map(Number) : null; }
  function luminance(c) { var l = c.map(function (v) { v /= 255; return v <= 0.03928 ? v / 12.92 : Math.pow((v + 0.055) / 1.055, 2.4); });
    return 0.2126 * l[0] + 0.7152 * l[1] + 0.0722 * l[2]; }
  function behind(element) { for (; element; element = element.parentElement) {
    var color = rgb(getComputedStyle(element).backgroundColor); if (color) { return color; } } return [255, 255, 255]; }
  var found = [];
  document.querySelectorAll('h1, h2, p, li, td, th, .verdict, .small, figcaption, summary, .plot .role-axis text').forEach(function (element) {
    var style = getComputedStyle(element), svg = element instanceof SVGElement;
    var color = rgb(svg ? style.fill : style.color); if (!color || !element.textContent.trim()) { return; }
    var a = luminance(color), b = luminance(behind(svg ? element.closest('.plot') : element));
    var ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) { found.push(element.tagName + ' ' + element.className + ' ' + ratio.toFixed(2)); }
  });
  return Array.from(new Set(found));
})()
"""


def sample(kind, form, path):
    subprocess.run([SAMPLE, kind, form, path], check=True, timeout=60 * PATIENCE)


class BrowserTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.stack = contextlib.ExitStack()
        cls.addClassCleanup(cls.stack.close)
        cls.folder = cls.stack.enter_context(tempfile.TemporaryDirectory(prefix='normlab-report-'))
        cls.browser = cls.stack.enter_context(Browser())

    def check_page(self, page, name, charts):
        self.assertEqual(page.evaluate('document.querySelectorAll("figure.chart").length'), charts)
        self.assertEqual(page.evaluate(CHARTS), [])
        self.assertEqual(page.evaluate(OVERFLOW), [])
        self.assertEqual(page.evaluate(CONTRAST), [])
        self.assertEqual(page.troubles(), [])
        self.assertEqual(page.requests(), [], 'a report is complete in itself')
        if SCREENSHOTS:
            os.makedirs(SCREENSHOTS, exist_ok=True)
            page.screenshot(os.path.join(SCREENSHOTS, name + '.png'))

    def check_everywhere(self, path, name, charts):
        for width in (1280, 390):
            for dark in (False, True):
                with self.subTest(width=width, dark=dark):
                    page = self.browser.open(path, width=width, dark=dark, wait=DRAWN)
                    self.check_page(page, f'{name}-{width}{"-dark" if dark else ""}', charts)
                    page.close()


class SampleReportTest(BrowserTest):

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


class HardReportTest(BrowserTest):

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


class RealReportTest(ServerTest, BrowserTest):
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
        self.server.cli('report', *names, '-o', path, '--baseline', '1', check=0)
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

    def test_what_cannot_be_reported_is_refused(self):
        missing = self.server.cli('report', 'jobs/nosuchjob')
        self.assertEqual(missing.code, 4)
        job = self.server.submit(tiny_spec(), '--wait')['name']
        wrong = self.server.cli('report', job, '--baseline', 'nobody', '-o', os.path.join(self.folder, 'x.html'))
        self.assertEqual(wrong.code, 2, wrong)
        self.assertIn('--baseline', wrong.err)
        self.assertEqual(self.server.cli('report', job, '--format', 'pdf').code, 2)
        self.assertEqual(self.server.cli('report', job, '--format', 'svg', '-o', '-').code, 2)
        nowhere = self.server.cli('report', job, '-o', os.path.join(self.folder, 'no', 'such', 'r.html'))
        self.assertNotEqual(nowhere.code, 0)
        self.assertIn('no/such', nowhere.err)


del BrowserTest  # a base, not a test

if __name__ == '__main__':
    main()
