"""What can go wrong, with the server's reason, the wrong fields and when to try again."""
from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Type

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


@dataclass(frozen=True)
class FieldViolation:
    """A wrong field of a spec or a request: its path, what is wrong and what to write instead."""
    field: str
    description: str


class NormlabError(Exception):
    """An error of the service or of the way to it.

    code: gRPC's name of the kind of error ('NOT_FOUND'); reason: the constant of docs/errors.md ('JOB_NOT_FOUND'; empty when
    it is not the server's); metadata: facts that belong to it; violations: every wrong field; retry_after: seconds after
    which trying again makes sense, or None.
    """

    def __init__(self, message: str, code: str = 'UNKNOWN', reason: str = '', metadata: Optional[Dict[str, str]] = None,
                 violations: Optional[List[FieldViolation]] = None, retry_after: Optional[float] = None) -> None:
        lines = [message] + [f'  {v.field}: {v.description}' for v in violations or [] if v.description not in message]
        super().__init__('\n'.join(lines))
        self.message = message
        self.code = code
        self.reason = reason
        self.metadata = metadata or {}
        self.violations = violations or []
        self.retry_after = retry_after


class InvalidArgument(NormlabError):
    """A spec or request is wrong; `violations` lists every field."""


class NotFound(NormlabError):
    """There is no such job, series, experiment or file, for this caller."""


class PermissionDenied(NormlabError):
    """The token is missing or unknown, or its role may not do this."""


class Unavailable(NormlabError):
    """No server, or it did not answer in time."""


class ProtocolError(NormlabError):
    """The server broke its own contract: a record is missing or came twice. A bug worth reporting."""


class JobFailed(NormlabError):
    """A job that was waited for did not succeed; `job` is its last state."""

    def __init__(self, message: str, job: Any) -> None:
        super().__init__(message, code='JOB_FAILED', reason=str(job.State.Name(job.state)))
        self.job = job


_CLASSES: Dict[str, Type[NormlabError]] = {
    'INVALID_ARGUMENT': InvalidArgument, 'OUT_OF_RANGE': InvalidArgument, 'NOT_FOUND': NotFound,
    'PERMISSION_DENIED': PermissionDenied, 'UNAUTHENTICATED': PermissionDenied, 'UNAVAILABLE': Unavailable,
    'DEADLINE_EXCEEDED': Unavailable,
}


def _load_details() -> Dict[str, Any]:
    """google.rpc's messages in a pool of their own, so that another package's copies are in nobody's way."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'error_details.binpb')
    with open(path, 'rb') as file:
        files = descriptor_pb2.FileDescriptorSet.FromString(file.read())
    pool = descriptor_pool.DescriptorPool()
    for one in files.file:
        pool.Add(one)
    names = ('Status', 'ErrorInfo', 'BadRequest', 'RetryInfo')
    descriptors = {name: pool.FindMessageTypeByName(f'google.rpc.{name}') for name in names}
    if hasattr(message_factory, 'GetMessageClass'):
        return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in descriptors.items()}
    factory = message_factory.MessageFactory(pool)
    return {name: factory.GetPrototype(descriptor) for name, descriptor in descriptors.items()}


_DETAILS = _load_details()


def from_grpc(error: grpc.RpcError) -> NormlabError:
    """The exception for a failed call, with the google.rpc.Status of its trailers."""
    code = error.code().name
    arguments: Dict[str, Any] = {'code': code}
    for key, value in error.trailing_metadata() or ():
        if key != 'grpc-status-details-bin':
            continue
        for detail in _DETAILS['Status'].FromString(value).details:
            name = detail.type_url.rsplit('.', 1)[-1]
            if name not in _DETAILS:
                continue
            message = _DETAILS[name].FromString(detail.value)
            if name == 'ErrorInfo':
                arguments['reason'] = message.reason
                arguments['metadata'] = dict(message.metadata)
            elif name == 'BadRequest':
                arguments['violations'] = [FieldViolation(v.field, v.description) for v in message.field_violations]
            elif name == 'RetryInfo':
                arguments['retry_after'] = message.retry_delay.seconds + message.retry_delay.nanos / 1e9
    return _CLASSES.get(code, NormlabError)(error.details() or code, **arguments)
