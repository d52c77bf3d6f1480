"""uvicorn, set up the way this gateway needs it: uvloop, httptools, bounded headers, sockets of our own."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import multiprocessing
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import uvicorn
from uvicorn.supervisors import Multiprocess

from gateway.metrics import forget_all, forget_worker
from gateway.redaction import Redactor, SafeFormatter
from gateway.settings import Settings, metrics_folder

# A handshake that has begun must end, and be accepted, before the listener may close; longer round trips are rare.
HANDSHAKE_S = 0.05
# "Drop what opens a connection" for a listening socket, as a classic BPF program over the TCP header: load the flags,
# keep SYN and ACK; SYN alone is dropped (accept 0 bytes), all else passes. See socket(7) and linux/filter.h.
_DEAF_TO_SYN = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0x40000))
_SO_ATTACH_FILTER = 26


Application = Callable[..., Awaitable[None]]


class PortTaken(OSError):
    """The address can't be listened on; the message says what to do."""


class ServerConfig(uvicorn.Config):
    """uvicorn's configuration with the bound that `PatientProtocol` reads."""

    header_timeout_s: float = 10.0


def refuse_connections(listener: socket.socket) -> None:
    """Let handshakes that have begun end, and no other begin: a client then finds nobody instead of being cut off.

    Where connections still wait for us when a listener closes, they are reset with the requests that they carry.
    Affects every process that has this listener. A client whose first packet is dropped learns that by its
    next one, a second later. Does nothing where the system has no such filter.
    """
    if sys.platform != "linux":
        return
    program = b"".join(struct.pack("HBBI", *step) for step in _DEAF_TO_SYN)
    with suppress(OSError):
        buffer = ctypes.create_string_buffer(program, len(program))
        address = struct.pack("HP", len(_DEAF_TO_SYN), ctypes.addressof(buffer))
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, address)


class LoneServer(uvicorn.Server):
    """uvicorn's server for one process, which nobody shares its listener with."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept what has knocked, then close."""
        for listener in sockets or ():
            refuse_connections(listener)
        await asyncio.sleep(HANDSHAKE_S)
        await super().shutdown(sockets)


@contextmanager
def ending_with_supervisor() -> Iterator[None]:
    """A worker whose supervisor is gone ends as on SIGTERM: nobody else would tell it to, and it holds the port.

    Within a running loop. Does nothing in a process that no supervisor has begun.
    """
    supervisor = multiprocessing.parent_process()
    if supervisor is None or sys.platform == "win32":
        yield
        return
    loop, gone = asyncio.get_running_loop(), supervisor.sentinel

    def end() -> None:
        loop.remove_reader(gone)
        logging.getLogger(__name__).error("the supervisor is gone; this worker finishes what it has begun, and ends")
        signal.raise_signal(signal.SIGTERM)

    loop.add_reader(gone, end)
    try:
        yield
    finally:
        loop.remove_reader(gone)


class Workers(Multiprocess):
    """uvicorn's supervisor of worker processes; forgets the gauges of those that have ended."""

    def __init__(
        self, config: uvicorn.Config, sockets: list[socket.socket], folder: str | None, lame_duck_s: float
    ) -> None:
        super().__init__(config, sockets)
        self._folder = folder
        self._lame_duck_s = lame_duck_s
        self._pids: set[int] = set()
        self._told = False
        if folder:
            forget_all(folder)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_end)

    def _asked_to_end(self, number: int, _: FrameType | None) -> None:
        """Not queued, as uvicorn does: a restart of all workers that is going on must end, too.

        Once the workers have been told a second signal is handed on to them, and means at once.
        """
        self.should_exit.set()
        for process in self.processes if self._told else ():
            if process.pid is not None and process.process.is_alive():
                os.kill(process.pid, number)

    def terminate_all(self) -> None:
        """Tell all workers to end, then give up the listener: while anybody holds it, connections to it are accepted by
        the system, and nobody would answer them."""
        super().terminate_all()
        self._told = True
        time.sleep(max(self._lame_duck_s - HANDSHAKE_S, 0))
        for listener in self.sockets:
            refuse_connections(listener)
            listener.close()

    def keep_subprocess_alive(self) -> None:
        """Called twice a second; also notices workers that a signal has replaced since."""
        super().keep_subprocess_alive()
        pids = {process.pid for process in self.processes if process.pid is not None}
        for ended in self._pids - pids if self._folder else ():
            forget_worker(str(self._folder), ended)
        self._pids = pids


def configure_logging(settings: Settings) -> Redactor:
    """Safe lines on standard error, for the command and for each worker process; what hides the secrets in them."""
    redact, lines = Redactor(settings.secrets()), logging.StreamHandler()
    lines.setFormatter(SafeFormatter(redact, as_json=settings.log_format == "json"))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[lines])
    return redact


def open_socket(settings: Settings) -> socket.socket:
    """A bound listening socket, so that a taken port is known before anything else happens."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise PortTaken(
            f"can't listen on {settings.host}:{settings.port} ({error.strerror}); "
            "stop what uses it, or choose another with --port"
        ) from error
    listener.set_inheritable(True)
    return listener


def configuration(settings: Settings, application: Application | None = None) -> ServerConfig:
    """How the server runs; without an application each worker makes the gateway's."""
    config = ServerConfig(
        application or "gateway.app:create",
        factory=application is None,
        workers=settings.workers,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        http="gateway.http_protocol:PatientProtocol",
        ws="none",
        lifespan="on",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=2048,
        timeout_keep_alive=75,
        timeout_worker_healthcheck=60,
        timeout_graceful_shutdown=round(settings.grace_s),
        log_level=settings.log_level,
        log_config=None,
    )
    config.header_timeout_s = settings.header_timeout_s
    return config


def _end_well(_: int, __: FrameType | None) -> None:
    """uvicorn has seen the signal and shut down by now."""


def _end_too(_: int, __: FrameType | None) -> None:
    """A terminal that goes away, or somebody who takes this process for a supervisor: end as on SIGTERM."""
    signal.raise_signal(signal.SIGTERM)


async def serve_alone(settings: Settings, listener: socket.socket, application: Application) -> None:
    """Serve one application in this process and loop until stopped."""
    for asked in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked, _end_well)
    await LoneServer(configuration(settings, application)).serve(sockets=[listener])


def run(settings: Settings, listener: socket.socket) -> None:
    """Serve until stopped; with several workers, each is a process that reads its settings from the environment."""
    config = configuration(settings)
    # uvicorn takes these over while it runs and raises them again at its end; an end that was asked for is no failure.
    for asked in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked, _end_well)
    if settings.workers > 1:
        Workers(config, [listener], metrics_folder(), settings.lame_duck_s).run()
        return
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, _end_too)  # there is nobody who could take over meanwhile
    server = LoneServer(config)
    server.run(sockets=[listener])
    if not server.started:
        sys.exit(3)
