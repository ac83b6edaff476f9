"""Records of a job, decoded from the batches of a stream."""
from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Dict, Iterator, List, Union

from .errors import ProtocolError
from .v1 import job_pb2, records_pb2

TERMINAL = frozenset(('SUCCEEDED', 'DIVERGED', 'FAILED', 'CANCELLED'))


@dataclass(frozen=True)
class Points:
    """What was measured at one step: values by series. elapsed: seconds of training in the attempt; 0 where unknown."""
    sequence: int
    step: int
    values: Dict[str, float]
    elapsed: float


@dataclass(frozen=True)
class StateChange:
    """The job is in another state ('RUNNING'). reason: a FailureReason ('OUT_OF_MEMORY'), else empty."""
    sequence: int
    state: str
    message: str
    reason: str
    attempt: int
    time: datetime


@dataclass(frozen=True)
class LogLine:
    """A line of the job's log; severity: INFO, WARNING or ERROR."""
    sequence: int
    severity: str
    text: str
    attempt: int
    time: datetime


Record = Union[Points, StateChange, LogLine]


def state_name(state: int) -> str:
    """RUNNING and the like; a number for a state that this version does not know."""
    return str(job_pb2.Job.State.Name(state)) if state in job_pb2.Job.State.values() else str(state)


class RecordDecoder:
    """Turns batches into records, and checks that no sequence is missing or comes twice, across reconnections too."""

    def __init__(self, after: int) -> None:
        self.last_sequence = after
        self._names: Dict[int, str] = {}

    def check(self, heartbeat: Any) -> None:
        """A heartbeat says that everything up to its sequence was sent."""
        if heartbeat.sequence > self.last_sequence:
            raise ProtocolError(f'the server says it sent records up to {heartbeat.sequence}, but the last one that came is '
                                f'{self.last_sequence}; please report this', code='INTERNAL')

    def decode(self, batch: records_pb2.RecordBatch) -> Iterator[Record]:
        if batch.first_sequence != self.last_sequence + 1:
            raise ProtocolError(f'record {batch.first_sequence} came after record {self.last_sequence}; please report this',
                                code='INTERNAL')
        for series in batch.new_series:
            self._names[series.id] = series.name
        for segment in batch.segments:
            kind = segment.WhichOneof('kind')
            if kind == 'metrics':
                yield from self._points(segment.metrics)
            elif kind == 'state':
                state = segment.state
                self.last_sequence += 1
                reason = job_pb2.FailureReason.Kind.Name(state.failure_reason) if state.failure_reason else ''
                yield StateChange(self.last_sequence, state_name(state.state), state.message, reason, state.attempt,
                                  _time(state.time))
            elif kind == 'log':
                log = segment.log
                self.last_sequence += 1
                yield LogLine(self.last_sequence, records_pb2.LogLine.Severity.Name(log.severity), log.text, log.attempt,
                              _time(log.time))
            else:
                raise ProtocolError('the server sent a kind of record that this version does not know; install the same '
                                    'version on both sides', code='INTERNAL')

    def _points(self, block: records_pb2.MetricBlock) -> Iterator[Points]:
        width = len(block.series)
        if len(block.values) != width * len(block.steps):
            raise ProtocolError('a block of points has the wrong size; please report this', code='INTERNAL')
        names: List[str] = [self._names[series] for series in block.series]
        for row, step in enumerate(block.steps):
            self.last_sequence += 1
            values = dict(zip(names, block.values[row * width:(row + 1) * width]))
            elapsed = block.elapsed_us[row] / 1e6 if row < len(block.elapsed_us) else 0.0
            yield Points(self.last_sequence, step, values, elapsed)


def _time(timestamp: Any) -> datetime:
    return datetime.fromtimestamp(timestamp.seconds + timestamp.nanos / 1e9, timezone.utc)
