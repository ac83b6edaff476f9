"""The channel: addresses, TLS, tokens, and calls that are repeated while a server restarts."""
from __future__ import annotations

import ipaddress
import random
import time
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple

import grpc

from .errors import NormlabError, Unavailable, from_grpc

_MAX_SENT = 64 << 20  # what the server takes
_MAX_RECEIVED = 160 << 20  # a normalized tensor with its gradients
_OPTIONS: List[Tuple[str, Any]] = [
    ('grpc.max_send_message_length', _MAX_SENT), ('grpc.max_receive_message_length', _MAX_RECEIVED),
    ('grpc.max_metadata_size', 64 << 10),  # error details of a spec with many mistakes
    # gRPC's own waits between connection attempts grow to two minutes.
    ('grpc.initial_reconnect_backoff_ms', 100), ('grpc.min_reconnect_backoff_ms', 5000),
    ('grpc.max_reconnect_backoff_ms', 1000),
    # Repeating is ours: it honours RetryInfo.
    ('grpc.enable_retries', 0),
    # A frozen server or a pulled cable ends a stream instead of letting it wait for ever.
    ('grpc.keepalive_time_ms', 10_000), ('grpc.keepalive_timeout_ms', 10_000), ('grpc.http2.max_pings_without_data', 0),
]


def is_local(server: str) -> bool:
    """Whether an address is on this machine for certain."""
    if server.startswith('unix:'):
        return True
    host = server.rsplit(':', 1)[0].strip('[]')
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == 'localhost'


class Backoff:
    """Delays between tries: growing from 0.1 to 1 s with jitter, or as the server asks; for `give_up_after` seconds."""

    def __init__(self, give_up_after: float) -> None:
        self._give_up_after = give_up_after
        self._failures = 0
        self._first = 0.0

    def reset(self) -> None:
        """Something worked: all of the time is there again."""
        self._failures = 0

    def wait(self, error: NormlabError) -> bool:
        """Sleeps before another try; False: the time is over."""
        now = time.monotonic()
        if self._failures == 0:
            self._first = now
        delay = min(0.1 * 1.6 ** min(self._failures, 30), 1.0) * random.uniform(0.8, 1.0)
        delay = max(delay, min(error.retry_after or 0.0, 30.0))
        if now + delay > self._first + self._give_up_after:
            return False
        self._failures += 1
        time.sleep(delay)
        return True


def is_transient(error: NormlabError) -> bool:
    """Whether a call that ended so may succeed when it is made again."""
    return error.code in ('UNAVAILABLE', 'CANCELLED')


def is_overload(error: NormlabError) -> bool:
    """Whether the server had no room for the call at the moment and says when to come back. A full queue may last."""
    return error.reason in ('OVERLOADED', 'RATE_LIMITED') and error.retry_after is not None


def is_resumable(error: NormlabError) -> bool:
    """Whether a stream that ended so is worth opening again: lost, drained, or cut off because its reader was slow."""
    return is_transient(error) or error.code == 'ABORTED' or (
        error.code == 'RESOURCE_EXHAUSTED' and error.retry_after is not None)


class Connection:
    """A channel with the caller's token. Thread-safe."""

    def __init__(self, server: str, token: Optional[str], ca: Optional[str], certificate: Optional[str], key: Optional[str],
                 tls: bool, timeout: float, retry_for: float, reconnect_for: float) -> None:
        encrypted = tls or ca is not None or certificate is not None
        if token and not encrypted and not is_local(server):
            raise ValueError(f'the token was not sent to {server}: without TLS everybody on the way could read it; '
                             'give ca=FILE or tls=True, or go through a tunnel to this machine')
        if (certificate is None) != (key is None):
            raise ValueError('certificate and key belong together: give both')
        options = list(_OPTIONS)
        if is_local(server):
            options.append(('grpc.enable_http_proxy', 0))
        if encrypted:
            credentials = grpc.ssl_channel_credentials(_read(ca), _read(key), _read(certificate))
            self.channel = grpc.secure_channel(server, credentials, options)
        else:
            self.channel = grpc.insecure_channel(server, options)
        self.server = server
        self.retry_for = retry_for
        self.reconnect_for = reconnect_for
        self._timeout = timeout
        self._metadata: Sequence[Tuple[str, str]] = (('authorization', f'Bearer {token}'),) if token else ()

    def call(self, method: Callable[..., Any], request: Any) -> Any:
        """A unary call, repeated while the server is away or overloaded for at most retry_for seconds. Raises NormlabError."""
        backoff = Backoff(self.retry_for)
        while True:
            try:
                return method(request, timeout=self._timeout, metadata=self._metadata)
            except grpc.RpcError as error:
                failure = self.explain(error)
                if not (is_transient(failure) or is_overload(failure)) or not backoff.wait(failure):
                    raise failure from None

    def stream(self, method: Callable[..., Any], request: Any) -> Iterator[Any]:
        """A server stream; closing the iterator cancels it. Raises NormlabError."""
        call = method(request, metadata=self._metadata)
        try:
            yield from call
        except grpc.RpcError as error:
            raise self.explain(error) from None
        finally:
            call.cancel()

    def explain(self, error: grpc.RpcError) -> NormlabError:
        failure = from_grpc(error)
        if failure.code == 'UNAVAILABLE' and not failure.reason:
            return Unavailable(f'no answer from a server at {self.server} ({failure.message}); start normlabd, or give its '
                               'address: Client("HOST:PORT")', code=failure.code)
        return failure


def _read(path: Optional[str]) -> Optional[bytes]:
    if path is None:
        return None
    with open(path, 'rb') as file:
        return file.read()
