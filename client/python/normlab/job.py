"""A job on a server."""
from __future__ import annotations

import contextlib
import hashlib
import os
from typing import Any, BinaryIO, Dict, Iterator, List, Optional, Tuple, Union, overload

from . import metrics as metrics_module
from .connection import Backoff, Connection, is_resumable
from .errors import JobFailed, NormlabError, Unavailable
from .metrics import Series
from .records import TERMINAL, Points, Record, RecordDecoder, StateChange, state_name
from .v1 import job_pb2, jobs_pb2


class Job:
    """A handle: the job's name, and calls about it. `message` is the normlab.v1.Job of the last answer. Thread-safe but for
    `message`, which every call that answers with the job replaces."""

    def __init__(self, connection: Connection, stub: Any, message: job_pb2.Job) -> None:
        self._connection = connection
        self._stub = stub
        self.message = message

    @property
    def name(self) -> str:
        return self.message.name

    @property
    def state(self) -> str:
        """As of the last answer: QUEUED, RUNNING, SUCCEEDED, ..."""
        return state_name(self.message.state)

    @property
    def is_over(self) -> bool:
        return self.state in TERMINAL

    def __repr__(self) -> str:
        return f'<{self.name} {self.state} step {self.message.progress.step}/{self.message.progress.total_steps}>'

    def refresh(self) -> 'Job':
        """Asks for the present state; returns itself."""
        return self._update(self._stub.GetJob, jobs_pb2.GetJobRequest(name=self.name))

    def cancel(self) -> 'Job':
        """Asks for the end: at once when it waits, after the current step when it runs."""
        return self._update(self._stub.CancelJob, jobs_pb2.CancelJobRequest(name=self.name))

    def pause(self) -> 'Job':
        """PAUSED at once when it waits, when its checkpoint is there when it runs."""
        return self._update(self._stub.PauseJob, jobs_pb2.PauseJobRequest(name=self.name))

    def resume(self) -> 'Job':
        """Back into the queue, where its checkpoint lies."""
        return self._update(self._stub.ResumeJob, jobs_pb2.ResumeJobRequest(name=self.name))

    def delete(self, force: bool = False) -> None:
        """Removes it with its records and files. It must have ended or be paused, unless `force`."""
        self._connection.call(self._stub.DeleteJob, jobs_pb2.DeleteJobRequest(name=self.name, force=force))

    def watch(self, after: int = 0) -> Iterator[Record]:
        """Every record after the sequence `after`, in order and exactly once, and live ones to the end of the job.

        Points, StateChange and LogLine objects. When the connection breaks, or the server restarts, it goes on after the
        last record by itself, for Client(reconnect_for=600) seconds. NormlabError: that time is over; the job was deleted;
        `after` is beyond the last record.
        """
        decoder = RecordDecoder(after)
        backoff = Backoff(self._connection.retry_for)
        while True:
            request = jobs_pb2.WatchJobRequest(name=self.name, after_sequence=decoder.last_sequence)
            try:
                for response in self._connection.stream(self._stub.WatchJob, request):
                    # It worked once: now as long as a server may take to be restarted by a person.
                    backoff = Backoff(self._connection.reconnect_for)
                    if response.WhichOneof('event') == 'heartbeat':
                        decoder.check(response.heartbeat)
                        continue
                    for record in decoder.decode(response.records):
                        yield record
                        if isinstance(record, StateChange) and record.state in TERMINAL:
                            return
                # An end without the last record: nothing was left to show, or the server forgot to say why.
                self.refresh()
                if self.is_over and self.message.last_sequence <= decoder.last_sequence:
                    return
                error: NormlabError = Unavailable('the server ended the stream before the job', code='UNAVAILABLE')
            except NormlabError as failure:
                error = failure
            if not is_resumable(error) or not backoff.wait(error):
                raise error

    def wait(self, check: bool = False) -> 'Job':
        """Until it is over; returns itself. With `check`, JobFailed unless it SUCCEEDED."""
        self.refresh()
        if not self.is_over:
            for _ in self.watch(after=self.message.last_sequence):
                pass
            self.refresh()
        if check and self.state != 'SUCCEEDED':
            why = self.message.failure.message or 'see job.message'
            raise JobFailed(f'{self.name} ended as {self.state}: {why}', self.message)
        return self

    @overload
    def metrics(self, series: str, max_points: int = ..., first: Optional[int] = ..., last: Optional[int] = ...) -> Series:
        ...

    @overload
    def metrics(self, series: Union[List[str], Tuple[str, ...]] = ..., max_points: int = ..., first: Optional[int] = ...,
                last: Optional[int] = ...) -> Dict[str, Series]:
        ...

    def metrics(self, series: Union[str, List[str], Tuple[str, ...]] = (), max_points: int = 0,
                first: Optional[int] = None, last: Optional[int] = None) -> Union[Series, Dict[str, Series]]:
        """Stored points as numpy arrays (steps, values): of one series, or of several (none named: all) by name.

        max_points: thinned on the server, keeping the smallest and largest of every bucket; 0: every point. first, last:
        steps, inclusive; a series without points there is empty. NotFound: the job has no such series; the message names
        those that it has.
        """
        names = [series] if isinstance(series, str) else list(series)
        found = metrics_module.read(self._connection, self._stub, self.name, names, max_points, first, last)
        return found[series] if isinstance(series, str) else found

    def points(self, after: int = 0) -> Iterator[Points]:
        """The Points of watch(), without states and log lines."""
        return (record for record in self.watch(after) if isinstance(record, Points))

    def artifacts(self) -> List[jobs_pb2.Artifact]:
        """Files that it left: checkpoints, final weights; the oldest first."""
        request = jobs_pb2.ListArtifactsRequest(parent=self.name)
        return list(self._connection.call(self._stub.ListArtifacts, request).artifacts)

    def download(self, artifact: jobs_pb2.Artifact, path: str) -> str:
        """Writes a file of artifacts() to `path`, which appears when all of it is there and its SHA-256 is right."""
        part = path + '.part'
        try:
            with open(part, 'wb') as file:
                digest = self._download_into(file, artifact.name)
            if digest != artifact.sha256:
                raise NormlabError(f'{artifact.name} came with another SHA-256 than the job wrote; download it again',
                                   code='DATA_LOSS')
            os.replace(part, path)
        except BaseException:  # Ctrl-C too: nothing would ever look for a part
            with contextlib.suppress(FileNotFoundError):
                os.remove(part)
            raise
        return path

    def _download_into(self, file: BinaryIO, name: str) -> str:
        """All of an artifact, across breaks of the connection; returns its SHA-256."""
        digest = hashlib.sha256()
        offset = 0
        backoff = Backoff(self._connection.retry_for)
        while True:
            try:
                request = jobs_pb2.ReadArtifactRequest(name=name, offset=offset)
                for piece in self._connection.stream(self._stub.ReadArtifact, request):
                    backoff.reset()
                    file.write(piece.data)
                    digest.update(piece.data)
                    offset += len(piece.data)
                return digest.hexdigest()
            except NormlabError as error:
                if not is_resumable(error) or not backoff.wait(error):
                    raise

    def _update(self, method: Any, request: Any) -> 'Job':
        self.message = self._connection.call(method, request)
        return self
