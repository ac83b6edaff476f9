"""The smoke preset of every study on a real server: its report in a real browser, in light and dark, on desk and phone."""
import json
import os
import subprocess
import time

import browser_test_case
from browser_test_case import DRAWN
from normlab_testing import BIN, PATIENCE, ServerTest, main

# Of a smoke preset. Promised are 20 s on two cores that do nothing else, which study_test.cc holds the plans to.
MOST_SECONDS = 60


class StudyReportTest(ServerTest, browser_test_case.BrowserTest):

    def check_study(self, name):
        path = os.path.join(self.folder, name + '.html')
        started = time.monotonic()
        self.server.cli('study', 'run', name, '--preset', 'smoke', '-o', path, check=0, seconds=300)
        seconds = time.monotonic() - started
        print(f'{name}: {seconds:.1f} s')
        self.assertLess(seconds, MOST_SECONDS * PATIENCE)
        page = self.browser.open(path, wait=DRAWN)
        claims = page.evaluate('document.querySelectorAll(".claims tbody tr").length')
        self.assertGreater(claims, 0)
        self.assertEqual(page.evaluate('document.querySelectorAll("td .verdict").length'), claims)
        charts = page.evaluate('document.querySelectorAll("figure.chart").length')
        self.assertGreater(charts, 0)
        page.close()
        self.check_everywhere(path, 'study-' + name, charts)
        # The same from the run that is there.
        again = os.path.join(self.folder, name + '-again.html')
        self.server.cli('report', name, '-o', again, check=0)
        page = self.browser.open(again, wait=DRAWN)
        self.assertEqual(page.evaluate('document.querySelectorAll(".claims tbody tr").length'), claims)


def add(name):
    setattr(StudyReportTest, 'test_' + name.replace('-', '_'), lambda self: self.check_study(name))


# All that there are.
LISTED = json.loads(subprocess.run([os.path.join(BIN, 'normlab'), 'study', 'list', '--output', 'json'], capture_output=True,
                                   text=True, check=True).stdout)
for study in LISTED['studies']:
    add(study['name'])

if __name__ == '__main__':
    main()
