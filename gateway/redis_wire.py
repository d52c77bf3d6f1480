"""One connection to Redis: commands out, replies in, in order, and the errors of both. Decides nothing.

Nothing it says carries the password.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hiredis import ProtocolError, Reader, ReplyError, pack_command

from gateway.redis_url import RedisAddress

Argument = bytes | str | int | float

_NOTHING: Final = object()
# Redis is there but does not serve us: it loads its data, has lost its primary, or became a replica itself.
_AWAY_CODES: Final = frozenset({"LOADING", "MASTERDOWN", "CLUSTERDOWN", "READONLY", "NOAUTH"})


class RedisUnavailable(OSError):
    """Redis did not answer in time, or is known to be away.

    Nobody knows whether a command was run, but where `asked` is False it was not even sent.
    """

    asked: bool = True


class RedisRefused(RedisUnavailable):
    """Redis answered with an error; `code` is its first word."""

    def __init__(self, message: str) -> None:
        super().__init__(message[:200])
        self.code = message.partition(" ")[0]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Arguments in Redis' wire form, so that those which never change are encoded once."""

    count: int
    wire: bytes


def packed(arguments: Sequence[Argument]) -> bytes:
    command: bytes = pack_command(tuple(arguments))  # type: ignore[arg-type] # its stub knows one argument only
    return command


def encoded(arguments: Sequence[Argument]) -> Encoded:
    """Encode arguments for `Script.run`."""
    if not arguments:
        return Encoded(0, b"")
    command = packed(arguments)
    return Encoded(len(arguments), command[command.index(b"\n") + 1 :])


Pending = deque[tuple[float, asyncio.Future[Any]]]


class Wire(asyncio.Protocol):
    """One connection: bytes out, replies in, in order."""

    def __init__(self) -> None:
        self.pending: Pending = deque()
        self.on_lost: Callable[[str], None] | None = None
        self.on_away: Callable[[str], None] | None = None
        self._transport: asyncio.Transport | None = None
        self._reader = Reader(notEnoughData=_NOTHING)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def write(self, commands: Sequence[bytes]) -> None:
        if self._transport is not None:
            self._transport.write(commands[0] if len(commands) == 1 else b"".join(commands))

    def data_received(self, data: bytes) -> None:
        pending, gets = self.pending, self._reader.gets
        try:
            self._reader.feed(data)
            while (reply := gets()) is not _NOTHING:
                _, future = pending.popleft()
                if future.done():
                    continue
                if isinstance(reply, ReplyError):
                    self._refused(future, str(reply))
                else:
                    future.set_result(reply)
        except (ProtocolError, IndexError):
            self._end("it does not speak Redis' protocol")

    def connection_lost(self, error: Exception | None) -> None:
        self._end("connection closed" if error is None else reason_of(error))

    def abandon(self) -> None:
        """Close without another word to anybody."""
        self.on_lost = self.on_away = None
        if self._transport is not None:
            self._transport.abort()

    async def greet(self, address: RedisAddress) -> None:
        """Introduce ourselves; see that it answers. Raises `RedisRefused`."""
        commands = _greetings(address)
        loop = asyncio.get_running_loop()
        replies: list[asyncio.Future[Any]] = [loop.create_future() for _ in commands]
        self.pending.extend((0.0, reply) for reply in replies)
        self.write([packed(command) for command in commands])
        for outcome in await asyncio.gather(*replies, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    def _refused(self, future: asyncio.Future[Any], message: str) -> None:
        refusal = RedisRefused(message)
        future.set_exception(refusal)
        if refusal.code in _AWAY_CODES and self.on_away is not None:
            self.on_away(refusal.args[0])

    def _end(self, reason: str) -> None:
        on_lost = self.on_lost
        self.abandon()
        if on_lost is not None:
            on_lost(reason)
            return
        while self.pending:
            _, future = self.pending.popleft()
            if not future.done():
                future.set_exception(RedisUnavailable(f"Redis is away: {reason}"))


async def dial(loop: asyncio.AbstractEventLoop, wire: Wire, address: RedisAddress) -> None:
    if address.path is not None:
        await loop.create_unix_connection(lambda: wire, address.path)
    else:
        await loop.create_connection(lambda: wire, address.host, address.port, ssl=address.tls)


def _greetings(address: RedisAddress) -> list[tuple[Argument, ...]]:
    commands: list[tuple[Argument, ...]] = []
    if address.password is not None:
        names = (address.username,) if address.username else ()
        commands.append(("AUTH", *names, address.password))
    if address.db:
        commands.append(("SELECT", address.db))
    return [*commands, ("PING",)]


def reason_of(error: Exception) -> str:
    """One line for logs, without secrets."""
    if isinstance(error, RedisUnavailable):
        return str(error).removeprefix("Redis is away: ")
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (getattr(error, "strerror", None) or type(error).__name__)[:200]
