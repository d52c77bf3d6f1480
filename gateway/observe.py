"""Everything that watches requests without being in their way: figures, the request's line, its trace."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.ledger.record import Record
from gateway.metrics import Metrics
from gateway.request_log import RequestLog
from gateway.tracing import Tracer


class Observer:
    """Told of every request twice: when its body is in, and at its end."""

    def __init__(self, metrics: Metrics, lines: RequestLog | None = None, tracer: Tracer | None = None) -> None:
        self._metrics = metrics
        self._lines = lines
        self._tracer = tracer

    def begin(self, record: Record, headers: Mapping[bytes, bytes]) -> tuple[tuple[str, str], ...]:
        """Headers that travel upstream: the trace's context, nothing where traces are off."""
        return self._tracer.begin(record, headers) if self._tracer is not None else ()

    def answered(self, record: Record) -> None:
        """The request has ended, however it ended; `record` does not change any more."""
        self._metrics.answered(record)
        if self._lines is not None:
            self._lines.write(record)
        if self._tracer is not None:
            self._tracer.ended(record)
