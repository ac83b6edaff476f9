"""What a scrape costs does not depend on the number of jobs: the same series, and not too many, in little time."""
import statistics
import unittest

from many_jobs import ENDED, QUEUED, ManyJobs, jobs_in, series_of
from normlab_testing import PATIENCE, main, sample

MOST_SERIES = 1500
MOST_SECONDS = 0.020  # the median: a test may share the machine


class ManyJobsTest(unittest.TestCase):

    def test_a_scrape_of_100000_jobs(self):
        with ManyJobs() as many:
            scrapes = [many.timed_scrape() for _ in range(40)]
            text = scrapes[-1][0]
            self.assertEqual(jobs_in(text), ENDED + QUEUED + 1)
            self.assertEqual(sample(text, 'normlab_queue_depth'), QUEUED)
            self.assertGreater(sample(text, 'normlab_steps_total'), sample(scrapes[0][0], 'normlab_steps_total') - 1)
            self.assertEqual(series_of(text), series_of(many.fresh), 'the series are those of a server with one job')
            self.assertLessEqual(len(series_of(text)), MOST_SERIES)
            seconds = statistics.median(seconds for _, seconds in scrapes)
            print(f'{len(series_of(text))} series, {len(text)} bytes, median {1000 * seconds:.1f} ms, '
                  f'slowest {1000 * max(s for _, s in scrapes):.1f} ms')
            self.assertLessEqual(seconds, MOST_SECONDS * PATIENCE)


if __name__ == '__main__':
    main()
