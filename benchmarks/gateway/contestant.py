"""A contestant: how to start a server and how to ask it for each mode of the upstream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gateway.client import Target
from benchmarks.gateway.upstream_bodies import MODEL, compact

HOST = "127.0.0.1"
_PROMPT = "Explain in three sentences what a reverse proxy does and why somebody would put one before a model server."


class CannotStart(Exception):
    """A contestant is missing or does not answer rightly; the message is the reason, in one line."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """An empty command: nothing to start. A server that takes a port of its own writes it to `port_file`.

    `beside` are commands of servers that it needs. `models` names each mode's model; without it the path says the mode.
    """

    name: str
    port: int
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    key: str = "bench-key"
    path: str = "/v1/chat/completions"
    models: Mapping[str, str] = field(default_factory=dict)
    port_file: Path | None = None
    beside: tuple[tuple[str, ...], ...] = ()

    def target(self, mode: str, stream: bool) -> Target:
        """The request that makes this contestant fetch an answer of `mode` from the upstream."""
        path = self.path if self.models else f"/{mode}{self.path}"
        body: dict[str, object] = {
            "model": self.models.get(mode, MODEL),
            "messages": [
                {"role": "system", "content": "You are a helpful assistant. Be brief."},
                {"role": "user", "content": _PROMPT},
            ],
            "temperature": 0.7,
            "max_tokens": 256,
        }
        if stream:
            body["stream"] = True
        return Target(HOST, self.port, path, compact(body), self.key)
