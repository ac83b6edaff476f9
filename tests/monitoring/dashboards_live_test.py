"""Every query of every dashboard against a real Prometheus with our rules, which scrapes a real server under real jobs: it
succeeds, answers something, and not only zeros but for what should stay at zero. The alerts, too, are looked at: nothing of
what the jobs do is worth waking anybody.
"""
import math
import time
import unittest

import monitoring_files as files
from live_service import LiveService, substitute
from normlab_testing import main

# Things that should not happen, or do not within a minute: their panels answer zero, never nothing.
MAY_BE_ZERO = {
    'Server faults': 'no call failed through our fault',
    'Calls refused': 'the server has no tokens',
    'Error budget of submissions': 'no submission failed through our fault',
    'Streams cut off': 'the transport may have taken what the reader did not read',
    'Furthest behind': 'likewise',
    'Failed in the last hour': 'no job failed',
    'Replay mismatches': 'there is no bug',
    'Late reports refused': 'no worker came late',
    'Last report': 'reports come within the millisecond',
}


class DashboardsLiveTest(unittest.TestCase):

    def test_every_panel_shows_something(self):
        with LiveService() as live:
            live.train()
            # All of it, however long this machine took.
            seconds, now = time.time() - live.began, time.time()
            checked = 0
            for uid, dashboard in files.dashboards().items():
                for panel in files.panels(dashboard):
                    numbers = []
                    for target in panel['targets']:
                        where = f'{uid} "{panel["title"]}" {target["refId"]}: {target["expr"]}'
                        with self.subTest(where):
                            series = live.prometheus.range(substitute(target['expr']), seconds, end=now)
                            values = [float(value) for one in series for _, value in one['values']]
                            self.assertTrue(values, f'{where} answers nothing')
                            self.assertTrue(any(map(math.isfinite, values)), f'{where} answers {values[:3]} only')
                            numbers += values
                            checked += 1
                    with self.subTest(panel=panel['title']):
                        self.assertTrue(any(number > 0 and math.isfinite(number) for number in numbers)
                                        or panel['title'] in MAY_BE_ZERO, f'{uid} "{panel["title"]}" shows zeros only')
            self.assertGreater(checked, 70)
            print(f'{checked} queries of {len(files.dashboards())} dashboards answered')
            alerts = live.prometheus.get('alerts')['alerts']
            self.assertEqual([alert['labels']['alertname'] for alert in alerts if alert['state'] == 'firing'], [])
            health = [rule for group in live.prometheus.get('rules')['groups'] for rule in group['rules']]
            self.assertGreater(len(health), 30)
            self.assertEqual([(rule['name'], rule.get('lastError')) for rule in health if rule['health'] != 'ok'], [])


if __name__ == '__main__':
    main()
