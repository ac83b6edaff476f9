"""A server with 100,000 jobs: most ended, 10,000 in the queue, one that trains. For the test and the benchmark of scrapes."""
import contextlib
import json
import os
import shutil
import sqlite3
import tempfile
import time
import urllib.request

from normlab_testing import EXIT_OK, Server, long_spec, sample, tiny_spec, write_tiny_images

ENDED = 90_000
QUEUED = 10_000
TERMINAL_STATES = (4, 5, 6, 7)  # of Job.State


def multiply_ended_jobs(database, copies):
    """Copies the one job of a stopped server's database, under other ids and in every terminal state."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        columns = [row[1] for row in connection.execute('PRAGMA table_info(jobs)')]
        values = [{'id': "printf('%026d', n)", 'state': f'CASE n % 4 {" ".join(f"WHEN {i} THEN {s}" for i, s in enumerate(TERMINAL_STATES))} END'}
                  .get(column, f'jobs.{column}') for column in columns if column != 'key']
        connection.execute(
            f'WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < ?) '
            f'INSERT INTO jobs ({", ".join(c for c in columns if c != "key")}) SELECT {", ".join(values)} FROM count, '
            '(SELECT * FROM jobs LIMIT 1) AS jobs', (copies,))
        connection.execute('DELETE FROM job_counts')
        connection.execute('INSERT INTO job_counts (owner, state, jobs) SELECT owner, state, count(*) FROM jobs GROUP BY owner, state')


class ManyJobs:
    """Use it as a context."""

    def __init__(self, *flags):
        self.flags = flags

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix='normlab-many-jobs-')
        self.server = Server(self.folder, '--cores=2', '--queue_limit=20000', *self.flags)
        try:
            write_tiny_images(os.path.join(self.server.data_root, 'tiny'), 600, 100)
            self.server.start()
            self.server.submit(tiny_spec(), '--wait')
            self.fresh = self.server.scrape()
            self.server.terminate()
            multiply_ended_jobs(os.path.join(self.server.data_dir, 'normlab.db'), ENDED - 1)
            self.server.start()
            self.running = self.server.submit(long_spec(threads=2))['name']
            self.server.wait_step(self.running, 10)
            self.server.cli('sweep', '-', '--seeds', str(QUEUED), stdin=json.dumps(tiny_spec(threads=2)), check=EXIT_OK)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.server.stop_everything()
        shutil.rmtree(self.folder, ignore_errors=True)

    def timed_scrape(self):
        """The text, and the seconds that it took from connecting to the last byte."""
        begin = time.perf_counter()
        with urllib.request.urlopen(f'http://{self.server.http}/metrics', timeout=30) as answer:
            text = answer.read().decode()
        return text, time.perf_counter() - begin


def series_of(scrape):
    return {line.rsplit(' ', 1)[0] for line in scrape.splitlines() if line and not line.startswith('#')}


def jobs_in(scrape):
    return int(sample(scrape, 'normlab_jobs'))
