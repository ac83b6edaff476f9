"""The way in."""
from __future__ import annotations

import os
import uuid
from typing import Any, Iterator, Mapping, Optional, Sequence, Union

from . import normalize as normalize_module
from . import specs
from .connection import Connection
from .experiment import Experiment
from .job import Job
from .normalize import Normalized
from .specs import SpecSource
from .v1 import (experiments_pb2, experiments_pb2_grpc, job_pb2, jobs_pb2, jobs_pb2_grpc, normalization_pb2,
                 normalization_pb2_grpc, spec_pb2)

DEFAULT_SERVER = '127.0.0.1:7600'


class Client:
    """A connection to a server. Thread-safe; close it, or use it as a context manager.

    server: HOST:PORT; default NORMLAB_SERVER, then 127.0.0.1:7600. token: default NORMLAB_TOKEN; never sent in plaintext to
    another machine. ca: PEM file of the authority to trust, which means TLS; tls=True trusts those of the system.
    certificate, key: of this client, for servers that ask for one. timeout: seconds for one try of a call; retry_for:
    seconds for which calls are repeated while the server is away; reconnect_for: the same for a stream that worked once.

    Every method raises NormlabError: InvalidArgument with `violations`, NotFound, PermissionDenied, Unavailable, ...
    """

    def __init__(self, server: Optional[str] = None, token: Optional[str] = None, ca: Optional[str] = None,
                 certificate: Optional[str] = None, key: Optional[str] = None, tls: bool = False, timeout: float = 60.0,
                 retry_for: float = 3.0, reconnect_for: float = 600.0) -> None:
        self._connection = Connection(server or os.environ.get('NORMLAB_SERVER') or DEFAULT_SERVER,
                                      token or os.environ.get('NORMLAB_TOKEN'), ca, certificate, key, tls, timeout, retry_for,
                                      reconnect_for)
        channel = self._connection.channel
        self._jobs = jobs_pb2_grpc.JobsStub(channel)
        self._server = jobs_pb2_grpc.ServerStub(channel)
        self._experiments = experiments_pb2_grpc.ExperimentsStub(channel)
        self._normalization = normalization_pb2_grpc.NormalizationStub(channel)

    def __enter__(self) -> 'Client':
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection and what still runs on it."""
        self._connection.channel.close()

    def info(self) -> jobs_pb2.ServerInfo:
        """Version, instruction set, cores, memory, disks, kinds of everything, and who the server takes the caller for."""
        return self._connection.call(self._server.GetServerInfo,  # type: ignore[no-any-return]
                                     jobs_pb2.GetServerInfoRequest())

    def submit(self, spec: SpecSource, request_id: Optional[str] = None) -> Job:
        """Stores a job; when this returns it is on the server's disk. `spec`: a dict, a file's path, or a JobSpec.

        A repeated call with the same request_id gives the same job; without one a fresh id makes repetitions of this call
        harmless.
        """
        return self._create(spec, request_id, validate_only=False)

    def validate(self, spec: SpecSource) -> job_pb2.Job:
        """Checks everything, data files included, and answers with the job as it would be, every default written out."""
        return self._create(spec, None, validate_only=True).message

    def job(self, name: str) -> Job:
        """The job jobs/ID or ID."""
        request = jobs_pb2.GetJobRequest(name=name if name.startswith('jobs/') else f'jobs/{name}')
        return Job(self._connection, self._jobs, self._connection.call(self._jobs.GetJob, request))

    def jobs(self, filter: str = '', page_size: int = 0) -> Iterator[Job]:  # pylint: disable=redefined-builtin
        """All jobs that match (state=RUNNING AND labels.study=explosion ...), the newest first; read page by page."""
        request = jobs_pb2.ListJobsRequest(filter=filter, page_size=page_size)
        while True:
            page = self._connection.call(self._jobs.ListJobs, request)
            for message in page.jobs:
                yield Job(self._connection, self._jobs, message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def submit_experiment(self, base: SpecSource, axes: Mapping[str, Sequence[Any]], seeds: Union[int, Sequence[int]] = (),
                          display_name: str = '', request_id: Optional[str] = None) -> Experiment:
        """Stores an experiment and all its jobs: every combination of the axes' values, with every seed.

        axes: field path to values, for example {'normalization': ['none', 'batch'], 'optimizer.sgd.learning_rate': [0.1, 1]};
        the name of a member of a oneof selects it with its defaults. seeds: a list, or how many (1, 2, ...).
        """
        numbers = list(range(1, seeds + 1)) if isinstance(seeds, int) else list(seeds)
        design = experiments_pb2.Design(
            axes=[experiments_pb2.Axis(field=field, values=[_axis_value(value) for value in values])
                  for field, values in axes.items()], seeds=numbers)
        experiment = experiments_pb2.Experiment(base=specs.load(base), design=design, display_name=display_name)
        request = experiments_pb2.CreateExperimentRequest(experiment=experiment, request_id=request_id or str(uuid.uuid4()))
        message = self._connection.call(self._experiments.CreateExperiment, request)
        return Experiment(self._connection, self._experiments, self._jobs, message)

    def experiment(self, name: str) -> Experiment:
        """The experiment experiments/ID or ID."""
        full = name if name.startswith('experiments/') else f'experiments/{name}'
        message = self._connection.call(self._experiments.GetExperiment, experiments_pb2.GetExperimentRequest(name=full))
        return Experiment(self._connection, self._experiments, self._jobs, message)

    def experiments(self) -> Iterator[Experiment]:
        """All experiments, the newest first, without cells (refresh() brings them)."""
        request = experiments_pb2.ListExperimentsRequest()
        while True:
            page = self._connection.call(self._experiments.ListExperiments, request)
            for message in page.experiments:
                yield Experiment(self._connection, self._experiments, self._jobs, message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def normalize(self, normalizer: Union[str, Mapping[str, Any]], array: Any, output_gradient: Optional[Any] = None,
                  parameters: Optional[Mapping[str, Any]] = None, inference: bool = False, seed: int = 0,
                  step: int = 0) -> Normalized:
        """Applies a normalizer ('batch', {'group': {'groups': 4}}) to an array [N, D] or [N, C, H, W], computed in float32.

        output_gradient: of a loss, in the output's shape; then gradients are computed too. parameters: what the normalizer
        has, by name (weight, bias, running_mean, ...); those left out have their initial values.
        """
        kind = {normalizer: {}} if isinstance(normalizer, str) else normalizer
        statistics = normalization_pb2.Statistics.INFERENCE if inference else normalization_pb2.Statistics.TRAINING
        request = normalization_pb2.NormalizeRequest(
            normalizer=specs.bind(kind, spec_pb2.Normalizer(), 'the normalizer'),
            input=normalize_module.to_tensor(array), statistics=statistics, seed=seed, step=step)
        if output_gradient is not None:
            request.output_gradient.CopyFrom(normalize_module.to_tensor(output_gradient))
        for name, value in (parameters or {}).items():
            request.parameters[name].CopyFrom(normalize_module.to_tensor(value))
        return normalize_module.from_response(self._connection.call(self._normalization.Normalize, request))

    def _create(self, spec: SpecSource, request_id: Optional[str], validate_only: bool) -> Job:
        request = jobs_pb2.CreateJobRequest(job=job_pb2.Job(spec=specs.load(spec)), validate_only=validate_only,
                                            request_id=request_id or str(uuid.uuid4()))
        return Job(self._connection, self._jobs, self._connection.call(self._jobs.CreateJob, request))


def _axis_value(value: Any) -> str:
    """As the contract wants it: text as it is, anything else as JSON."""
    import json
    return value if isinstance(value, str) else json.dumps(value)
