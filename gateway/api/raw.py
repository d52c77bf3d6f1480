"""The bare ASGI floor of the hot routes: key check, bounded body, errors in one shape, client departure.

No framework stands between these routes and the server, because it would cost more than all our own work.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from time import perf_counter, time
from typing import Any

from msgspec import Struct

from gateway.admission.keys import Keyring, KeyStoreUnavailable
from gateway.admission.rules import Caller
from gateway.errors import (
    BodyTimeout,
    BodyTooLarge,
    ClientLeft,
    Forbidden,
    GatewayError,
    InvalidKey,
    InvalidRequest,
    MethodNotAllowed,
    MissingKey,
    Overloaded,
)
from gateway.incoming import Incoming
from gateway.ledger.base import Ledger
from gateway.ledger.record import Record
from gateway.observe import Observer
from gateway.wire.reply import CLIENT_LEFT, Reply
from gateway.wire.sse import event

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
SSE = (b"content-type", b"text/event-stream; charset=utf-8")
WATCH_AFTER_S = 0.05
SEND_STALL_S = 60.0
OWN_FAULT = "The gateway failed; the request id finds it in the log."


def new_request_id(at: float) -> str:
    """An id that no other request has: 44 bits of milliseconds, then 52 of chance.

    Younger ones sort behind older ones, so that the ledger's index of them grows at its end; at random places each
    row would cost a page of its own. `at` is in Unix seconds.
    """
    return f"req_{int(at * 1000):011x}{os.urandom(7).hex():.13}"


class RawRoute:
    """One POST route: subclasses answer `handle`; everything around it is the same for all.

    `envelope` is the type that its bodies are read into, for the API's description.
    """

    envelope: type[Struct] | None = None

    def __init__(
        self, *, name: str, keyring: Keyring, ledger: Ledger, observer: Observer, max_body: int, body_timeout_s: float
    ) -> None:
        self._name = name
        self._keyring = keyring
        self._ledger = ledger
        self._observer = observer
        self._max_body = max_body
        self._body_timeout_s = body_timeout_s

    async def handle(self, incoming: Incoming) -> Reply | bytes:
        """Answer; a `Reply` logs itself, `bytes` are a JSON body that this class logs."""
        raise NotImplementedError

    def error_body(self, error: GatewayError, request_id: str) -> bytes:
        """An error in the shape of this route's dialect; OpenAI's unless a subclass says otherwise."""
        return error.body()

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """The last event of a stream that broke."""
        return event(error.body())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        at = time()
        record = Record(id=new_request_id(at), at=at, route=self._name)
        departure = Departure(receive)
        try:
            reply = await self._admit(scope, receive, departure, record, started)
            if isinstance(reply, bytes):
                self._log(record, started, 200)
                await send_body(send, 200, reply, [JSON, _id(record)])
            else:
                await self._send_reply(send, reply, record)
        except asyncio.CancelledError:
            await self._cancelled(send, departure, record, started)
        except ClientLeft as error:
            self._log(record, started, error.status, error.code)
        except GatewayError as error:
            self._log(record, started, error.http_status, error.detail()["code"])
            await self._send_error(send, error, record)
        except Exception as error:
            log.exception("request %s failed inside the gateway", record.id)
            self._log(record, started, 500, "internal_error", fault=error)
            await self._send_error(send, GatewayError(OWN_FAULT), record)
        finally:
            departure.stop()

    async def _send_error(self, send: Send, error: GatewayError, record: Record) -> None:
        await send_error(send, error, record.id, self.error_body(error, record.id))

    async def _admit(
        self, scope: Scope, receive: Receive, departure: Departure, record: Record, started: float
    ) -> Reply | bytes:
        if scope["method"] != "POST":
            raise MethodNotAllowed(f"Use POST, not {scope['method']}.")
        caller = await authenticate(scope, self._keyring)
        record.key_id, record.team_id, record.organisation_id = caller.key_id, caller.team_id, caller.organisation_id
        body = await read_body(scope, receive, self._max_body, self._body_timeout_s)
        departure.watch()
        headers = dict(scope["headers"])
        passed_on = self._observer.begin(record, headers)
        return await self.handle(Incoming(body, caller, record, started, headers, passed_on))

    async def _cancelled(self, send: Send, departure: Departure, record: Record, started: float) -> None:
        """The client left, or the server stops and has no more patience."""
        if departure.left:
            self._log(record, started, ClientLeft.status, ClientLeft.code)
            return
        stopping = Overloaded("The gateway is shutting down.", retry_after_s=1.0)
        unanswered = record.total_ms is None
        self._log(record, started, stopping.status, "shutting_down")
        if unanswered:
            await self._send_error(send, stopping, record)

    def _log(
        self, record: Record, started: float, status: int, code: str | None = None, fault: Exception | None = None
    ) -> None:
        """Log a request that has no reply of its own; one that has was logged when its frames ended."""
        if record.total_ms is not None:
            return
        record.status, record.error_code = status, code
        if fault is not None:
            record.reason = type(fault).__name__
        record.total_ms = (perf_counter() - started) * 1000
        self._observer.answered(record)
        self._ledger.put(record)

    async def _send_reply(self, send: Send, reply: Reply, record: Record) -> None:
        headers = [_id(record), *reply.headers]
        if not reply.stream:
            frames = [frame async for frame in reply.frames]
            await send_body(send, reply.status, b"".join(frames), [JSON, *headers])
            return
        head = [SSE, (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"), *headers]
        try:
            events = aiter(reply.frames)
            first = await anext(events, b"")  # frames that have begun are settled and logged however they end
            await send({"type": "http.response.start", "status": reply.status, "headers": head})
            await self._stream(send, first, events, record)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await reply.frames.aclose()

    async def _stream(self, send: Send, frame: bytes, frames: AsyncIterator[bytes], record: Record) -> None:
        """The frames; once the status line has left, the only honest end of a failure is an error event."""
        clock = _SendClock(SEND_STALL_S)
        try:
            while frame:
                clock.sending = True
                await send({"type": "http.response.body", "body": frame, "more_body": True})
                clock.sending = False
                clock.sent += 1
                frame = await anext(frames, b"")
        except GatewayError as error:
            await send({"type": "http.response.body", "body": self.error_event(error, record.id), "more_body": True})
        except Exception:
            log.exception("request %s failed inside the gateway while streaming", record.id)
            last = self.error_event(GatewayError(OWN_FAULT), record.id)
            await send({"type": "http.response.body", "body": last, "more_body": True})
        finally:
            clock.stop()


class Departure:
    """Cancels the request's task when the client hangs up; looks only at requests that take a while."""

    __slots__ = ("_receive", "_task", "_timer", "_watcher", "left")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.left = False

    def watch(self) -> None:
        """Begin; the body must have been read to its end."""
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(loop)
        self._timer = loop.call_later(WATCH_AFTER_S, self._start)

    def stop(self) -> None:
        """Nothing is cancelled any more."""
        self._task = None
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _start(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._task is not None:
            self.left = True
            self._task.cancel(CLIENT_LEFT)


async def authenticate(scope: Scope, keyring: Keyring) -> Caller:
    """The caller behind `Authorization: Bearer`, or `x-api-key`; raises 401 or 503."""
    token = ""
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, rest = value.partition(b" ")
            token = rest.strip().decode("latin-1") if kind.lower() == b"bearer" else token
        elif name == b"x-api-key":
            token = token or value.strip().decode("latin-1")
    if not token:
        raise MissingKey("No API key given: send 'Authorization: Bearer <key>'.")
    try:
        caller = await keyring.authenticate(token)
    except KeyStoreUnavailable as error:
        raise Overloaded("Keys can't be checked just now; try again shortly.", retry_after_s=1.0) from error
    if caller is None:
        raise InvalidKey("The API key is unknown, expired or revoked.")
    return caller


async def read_body(scope: Scope, receive: Receive, limit: int, timeout_s: float) -> bytes:
    """The whole body, bounded in bytes and seconds."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise BodyTooLarge(f"The body has {int(value)} bytes; at most {limit} are accepted.")
        if name == b"content-encoding" and value.lower() not in (b"", b"identity"):
            raise InvalidRequest("Compressed bodies are not accepted; send it uncompressed.", param="Content-Encoding")
    clock = _BodyClock(timeout_s)
    try:
        first = await _next(receive)
        body: bytes = first.get("body", b"")
        if first.get("more_body"):
            body = await _rest(body, receive, limit)
    except asyncio.CancelledError:
        raise clock.verdict() from None
    finally:
        clock.stop()
    if len(body) > limit:
        raise BodyTooLarge(f"The body has {len(body)} bytes; at most {limit} are accepted.")
    return body


async def _rest(first: bytes, receive: Receive, limit: int) -> bytes:
    parts, size = [first], len(first)
    more = True
    while more:
        message = await _next(receive)
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > limit:
            raise BodyTooLarge(f"The body is larger than {limit} bytes.")
        more = message.get("more_body", False)
    return b"".join(parts)


async def _next(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientLeft("The client left before its body was complete.")
    return message


class _BodyClock:
    """Bounds the time of a body; does what `asyncio.timeout` does at a third of its cost, which each request pays."""

    __slots__ = ("_expired", "_task", "_timer")

    def __init__(self, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(loop)
        self._expired = False
        self._timer = loop.call_later(timeout_s, self._expire)

    def verdict(self) -> BaseException:
        """What a cancellation meant: our own time-out, or somebody else's wish."""
        if self._expired and self._task is not None and self._task.uncancel() == 0:
            return BodyTimeout("The body did not arrive in time.")
        return asyncio.CancelledError()

    def stop(self) -> None:
        """The body is here."""
        self._timer.cancel()

    def _expire(self) -> None:
        self._expired = True
        if self._task is not None:
            self._task.cancel()


class _SendClock:
    """Gives up on a client that takes nothing for a minute: one look now and then instead of a timer for each frame."""

    __slots__ = ("_loop", "_seen", "_stall_s", "_task", "_timer", "sending", "sent")

    def __init__(self, stall_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(self._loop)
        self._stall_s = stall_s
        self.sending = False
        self.sent = 0
        self._seen = -1
        self._timer = self._loop.call_later(stall_s, self._look)

    def stop(self) -> None:
        """The stream has ended."""
        self._timer.cancel()

    def _look(self) -> None:
        if self.sending and self._seen == self.sent and self._task is not None:
            self._task.cancel(CLIENT_LEFT)
            return
        self._seen = self.sent
        self._timer = self._loop.call_later(self._stall_s, self._look)


async def send_body(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """One complete response."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_error(send: Send, error: GatewayError, request_id: str, body: bytes | None = None) -> None:
    """An error, in OpenAI's shape unless `body` has another."""
    # The official SDKs read this before they decide by status whether to try again.
    again = b"true" if error.retry_may_help else b"false"
    headers: Headers = [JSON, (b"x-request-id", request_id.encode()), (b"x-should-retry", again)]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(max(1, round(error.retry_after_s))).encode()))
    if isinstance(error, (MissingKey, InvalidKey)):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, (BodyTooLarge, BodyTimeout, Forbidden)):
        headers.append((b"connection", b"close"))
    headers.extend(error.headers)
    await send_body(send, error.http_status, body or error.body(), headers)


def _id(record: Record) -> tuple[bytes, bytes]:
    return (b"x-request-id", record.id.encode())
