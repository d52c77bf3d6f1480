"""One structured line for each request: a JSON object, written in batches so that no request waits for a terminal."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import TextIO

import msgspec

from gateway.ledger.record import Record
from gateway.redaction import harmless, hide_shapes

FLUSH_S = 0.2
MOST_WAITING = 10_000


class RequestLog:
    """Lines of one process. JSON escapes what clients send, so a line can't be forged; it holds no text of theirs but
    names, and never a secret."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._waiting: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self.dropped = 0

    def write(self, record: Record) -> None:
        """Never waits; lines beyond a bound are dropped and counted."""
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append(_line(record))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def flush(self) -> None:
        """Write what waits; a reader that has gone is nobody's fault."""
        self._timer = None
        lines, self._waiting = self._waiting, []
        if not lines:
            return
        try:
            stream = self._stream or sys.stderr
            stream.write(b"".join(lines).decode())
            stream.flush()
        except (OSError, ValueError):
            self.dropped += len(lines)


class _Line(msgspec.Struct, omit_defaults=True):
    at: str
    event: str
    id: str
    route: str
    status: int
    ms: float
    code: str | None = None
    key: str | None = None
    team: str | None = None
    organisation: str | None = None
    tags: list[str] | None = None
    policy: str | None = None
    asked: str | None = None
    model: str | None = None
    endpoint: str | None = None
    category: str | None = None
    stream: bool = False
    finish: str | None = None
    cache: str = "off"
    first_byte_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    estimated: bool = False
    budget_exhausted: bool = False
    attempts: int = 0
    trace: str | None = None


_ENCODER = msgspec.json.Encoder()


def _asked(record: Record) -> str | None:
    """What the request named; some clients send their key there by mistake, which then is no model."""
    if record.model_requested is None or record.model is not None:
        return record.model_requested and record.model_requested[:120]
    return hide_shapes(record.model_requested[:300])[:120]


def _line(record: Record) -> bytes:
    line = _Line(
        datetime.fromtimestamp(record.at, UTC).isoformat(timespec="milliseconds"),
        "request",
        record.id,
        record.route,
        record.status,
        round(record.total_ms or 0.0, 2),
        record.error_code,
        record.key_id,
        record.team_id,
        record.organisation_id,
        record.tags,
        record.policy,
        _asked(record),
        record.model,
        record.endpoint,
        record.category,
        record.stream,
        record.finish_reason,
        record.cache_status,
        round(record.first_byte_ms, 2) if record.first_byte_ms is not None else None,
        record.input_tokens,
        record.output_tokens,
        record.cost_nanousd / 1e9 if record.cost_nanousd is not None else None,
        record.usage_estimated,
        record.budget_exhausted,
        len(record.attempts),
        record.trace_id,
    )
    return harmless(_ENCODER.encode(line)) + b"\n"
