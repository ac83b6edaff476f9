"""Client of Normlab: submit, watch and read normalization experiments.

    import normlab
    client = normlab.Client()                       # NORMLAB_SERVER, else 127.0.0.1:7600
    job = client.submit({'model': {'mlp': {}}, 'normalization': {'batch': {}}, 'data': {'fashion_mnist': {}}})
    for event in job.watch():
        print(event)
    steps, loss = job.metrics('train/loss')

Messages are those of proto/normlab/v1 (normlab.v1.job_pb2.Job, ...); arrays are numpy's.
"""
from .client import Client
from .errors import (FieldViolation, InvalidArgument, JobFailed, NormlabError, NotFound, PermissionDenied, ProtocolError,
                     Unavailable)
from .experiment import Experiment
from .job import Job
from .metrics import Series
from .normalize import Normalized
from .records import LogLine, Points, Record, StateChange

__version__ = '0.1.0'
__all__ = ['Client', 'Experiment', 'FieldViolation', 'InvalidArgument', 'Job', 'JobFailed', 'LogLine', 'NormlabError',
           'Normalized', 'NotFound', 'PermissionDenied', 'Points', 'ProtocolError', 'Record', 'Series', 'StateChange',
           'Unavailable']
