"""uvicorn, set up the way this gateway needs it: uvloop, httptools, bounded headers, sockets of our own."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from types import FrameType

import uvicorn
from uvicorn.supervisors import Multiprocess

from gateway.metrics import forget_all, forget_worker
from gateway.settings import Settings, metrics_folder


class PortTaken(OSError):
    """The address can't be listened on; the message says what to do."""


class ServerConfig(uvicorn.Config):
    """uvicorn's configuration with the bound that `PatientProtocol` reads."""

    header_timeout_s: float = 10.0


class Workers(Multiprocess):
    """uvicorn's supervisor of worker processes; forgets the gauges of those that have ended."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], folder: str | None) -> None:
        super().__init__(config, sockets)
        self._folder = folder
        self._pids: set[int] = set()
        if folder:
            forget_all(folder)

    def keep_subprocess_alive(self) -> None:
        """Called twice a second; also notices workers that a signal has replaced since."""
        super().keep_subprocess_alive()
        pids = {process.pid for process in self.processes if process.pid is not None}
        for ended in self._pids - pids if self._folder else ():
            forget_worker(str(self._folder), ended)
        self._pids = pids


def configure_logging(settings: Settings) -> None:
    """Plain lines on standard error, for the command and for each worker process."""
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")


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


def configuration(settings: Settings) -> ServerConfig:
    """How the server runs."""
    config = ServerConfig(
        "gateway.app:create",
        factory=True,
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


def run(settings: Settings, listener: socket.socket) -> None:
    """Serve until stopped; with several workers, each is a process that reads its settings from the environment."""
    config = configuration(settings)
    # uvicorn takes these over while it runs and raises them again at its end; an end that was asked for is no failure.
    for asked in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked, _end_well)
    if settings.workers > 1:
        Workers(config, [listener], metrics_folder()).run()
        return
    server = uvicorn.Server(config)
    server.run(sockets=[listener])
    if not server.started:
        sys.exit(3)
