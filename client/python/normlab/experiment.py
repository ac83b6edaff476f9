"""An experiment on a server: many jobs, one for every cell of a design and every seed."""
from __future__ import annotations

from typing import Any, Callable, Iterable, Iterator, List, Optional, Sequence

from .connection import Backoff, Connection, is_resumable
from .errors import NormlabError, Unavailable
from .job import Job
from .v1 import experiments_pb2, jobs_pb2


class Experiment:
    """A handle; `message` is the normlab.v1.Experiment of the last answer."""

    def __init__(self, connection: Connection, stub: Any, jobs_stub: Any, message: experiments_pb2.Experiment) -> None:
        self._connection = connection
        self._stub = stub
        self._jobs_stub = jobs_stub
        self.message = message

    @property
    def name(self) -> str:
        return self.message.name

    @property
    def is_over(self) -> bool:
        """Whether no job waits, runs or is paused, as of the last answer."""
        counts = self.message.counts
        return counts.queued + counts.running + counts.paused == 0

    def __repr__(self) -> str:
        return f'<{self.name} {len(self.message.cells)} cells, {"over" if self.is_over else "under way"}>'

    def refresh(self) -> 'Experiment':
        self.message = self._connection.call(self._stub.GetExperiment, experiments_pb2.GetExperimentRequest(name=self.name))
        return self

    def cancel(self) -> 'Experiment':
        """Asks for the end of every job that has not ended."""
        self.message = self._connection.call(self._stub.CancelExperiment,
                                             experiments_pb2.CancelExperimentRequest(name=self.name))
        return self

    def pause(self) -> int:
        """Pauses every job that waits or runs, the last one first; returns how many. Once more does no harm."""
        return self._ask(reversed(self.jobs()), lambda job: job.state in ('QUEUED', 'STARTING', 'RUNNING') and not (
            job.message.HasField('pause_request_time') or job.message.HasField('cancel_request_time')), Job.pause)

    def resume(self) -> int:
        """Takes every pause back, of the first job first; returns how many."""
        return self._ask(self.jobs(), lambda job: job.state == 'PAUSED' or job.message.HasField('pause_request_time'),
                         Job.resume)

    def _ask(self, jobs: Iterable[Job], applies: Callable[[Job], bool], verb: Callable[[Job], Job]) -> int:
        asked = 0
        for job in jobs:
            try:
                if applies(job):
                    verb(job)
                    asked += 1
            except NormlabError as error:
                if error.code not in ('FAILED_PRECONDITION', 'NOT_FOUND'):  # it went on since it was looked at
                    raise
        self.refresh()
        return asked

    def delete(self, force: bool = False) -> None:
        """Removes it with all its jobs, which must have ended unless `force`."""
        self._connection.call(self._stub.DeleteExperiment,
                              experiments_pb2.DeleteExperimentRequest(name=self.name, force=force))

    def watch(self) -> Iterator[experiments_pb2.Experiment]:
        """The experiment each time that jobs began or ended, at most once a second, to the end of the last one."""
        backoff = Backoff(self._connection.retry_for)
        while True:
            try:
                request = experiments_pb2.WatchExperimentRequest(name=self.name)
                for message in self._connection.stream(self._stub.WatchExperiment, request):
                    backoff = Backoff(self._connection.reconnect_for)
                    changed = message.counts != self.message.counts
                    self.message = message
                    if changed or self.is_over:
                        yield message
                    if self.is_over:
                        return
                if self.refresh().is_over:
                    return
                error: NormlabError = Unavailable('the server ended the stream before the experiment', code='UNAVAILABLE')
            except NormlabError as failure:
                error = failure
            if not is_resumable(error) or not backoff.wait(error):
                raise error

    def wait(self) -> 'Experiment':
        """Until no job waits, runs or is paused; returns itself."""
        for _ in self.watch():
            pass
        return self.refresh()

    def jobs(self) -> List[Job]:
        """All its jobs that still exist, in the order of cells and seeds."""
        found = []
        for cell in self.message.cells:
            for name in cell.jobs:
                try:
                    message = self._connection.call(self._jobs_stub.GetJob, jobs_pb2.GetJobRequest(name=name))
                    found.append(Job(self._connection, self._jobs_stub, message))
                except NormlabError as error:
                    if error.code != 'NOT_FOUND':  # deleted since
                        raise
        return found

    def summary(self, series: Sequence[str] = (), baseline: Optional[int] = None,
                confidence: float = 0.95) -> experiments_pb2.ExperimentSummary:
        """Means, Student's t intervals and differences to the cell `baseline`, paired by seed."""
        request = experiments_pb2.SummarizeExperimentRequest(name=self.name, series=list(series), confidence=confidence)
        if baseline is not None:
            request.baseline = baseline
        return self._connection.call(self._stub.SummarizeExperiment, request)  # type: ignore[no-any-return]
