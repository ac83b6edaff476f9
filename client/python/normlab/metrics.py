"""Stored points as numpy arrays."""
from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import numpy.typing as npt

from .connection import Backoff, Connection, is_resumable
from .errors import NormlabError
from .v1 import jobs_pb2


class Series(NamedTuple):
    """Points of one series: steps (int64, rising) and values (float64), of the same length."""
    steps: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


def read(connection: Connection, stub: Any, name: str, series: Sequence[str], max_points: int, first: Optional[int],
         last: Optional[int]) -> Dict[str, Series]:
    """Every series that was asked for, in the order of the answer. A break is mended without a point coming twice.

    One that has no points from `first` to `last` is empty; one that the job does not have at all is NotFound.
    """
    request = jobs_pb2.ReadMetricsRequest(name=name, series=list(series), max_points=max_points)
    if first is not None:
        request.from_step = first
    if last is not None:
        request.to_step = last
    steps: Dict[str, List[npt.NDArray[np.int64]]] = {}
    values: Dict[str, List[npt.NDArray[np.float64]]] = {}
    backoff = Backoff(connection.retry_for)
    while True:
        try:
            for part in connection.stream(stub.ReadMetrics, request):
                backoff.reset()
                steps.setdefault(part.series, []).append(np.array(part.steps, np.int64))
                values.setdefault(part.series, []).append(np.array(part.values, np.float64))
                request.position = part.position
            break
        except NormlabError as error:
            if not is_resumable(error) or not backoff.wait(error):
                raise
            if steps and not request.position:  # a server without positions: begin anew
                steps.clear()
                values.clear()
    found = {name: Series(np.concatenate(steps[name]), np.concatenate(values[name])) for name in steps}
    for wanted in series:
        found.setdefault(wanted, Series(np.zeros(0, np.int64), np.zeros(0, np.float64)))
    return found
