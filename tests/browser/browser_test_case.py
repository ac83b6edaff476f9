"""What every report must keep in a real browser. NORMLAB_SCREENSHOTS=FOLDER keeps pictures of all pages."""
import contextlib
import os
import tempfile
import unittest

from browser import Browser

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

# Cells of tables whose text runs over their edge into the next one.
SPILLS = """
Array.from(document.querySelectorAll('td, th')).filter(function (cell) {
  if (!cell.firstChild) { return false; }
  var range = document.createRange();
  range.selectNodeContents(cell);
  var text = range.getBoundingClientRect();
  return text.width > 0 && text.right > cell.getBoundingClientRect().right + 1;
}).map(function (cell) { return cell.textContent.trim().slice(0, 60); })
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
        self.assertEqual(page.evaluate(SPILLS), [])
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
