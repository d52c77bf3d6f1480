"""Traces: W3C context in and out, spans after OpenTelemetry's GenAI conventions, sent as OTLP over HTTP.

Spans are made when a request has ended, from its record, so a running request carries two ids and nothing else.
Source: W3C Trace Context, level 1; OpenTelemetry semantic conventions for generative AI.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.ledger.record import Record

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

log = logging.getLogger(__name__)

FLUSH_S = 2.0
MOST_WAITING = 4096
_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_OPERATIONS = {"embeddings": "embeddings", "rerank": "rerank", "completions": "text_completion"}

Post = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Context:
    """Where a request stands in a trace; ids are lower-case hex."""

    trace_id: str
    parent_id: str | None
    sampled: bool


def context_of(traceparent: bytes | None) -> Context:
    """The caller's context, or a new trace where it sent none that can be read."""
    found = _PARENT.fullmatch(traceparent.strip()) if traceparent else None
    if found is None or found[1] == b"ff" or not found[2].strip(b"0") or not found[3].strip(b"0"):
        return Context(os.urandom(16).hex(), None, sampled=True)
    return Context(found[2].decode(), found[3].decode(), bool(int(found[4], 16) & 1))


class Tracer:
    """Collects spans and sends them in batches; what can't be sent in time is dropped and counted."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._parents: dict[str, Context] = {}
        self._waiting: list[Record] = []
        self._contexts: list[Context] = []
        self.dropped = 0

    def begin(self, record: Record, headers: Mapping[bytes, bytes]) -> tuple[tuple[str, str], ...]:
        """Put the request into its trace; the headers that carry it on to the upstream."""
        context = context_of(headers.get(b"traceparent"))
        record.trace_id, record.span_id = context.trace_id, os.urandom(8).hex()
        self._parents[record.id] = context
        passed_on = ("traceparent", f"00-{context.trace_id}-{_client_span(record.span_id)}-{context.sampled:02x}")
        state = headers.get(b"tracestate")
        if state and context.parent_id and len(state) <= 512 and state.isascii():
            return passed_on, ("tracestate", state.decode())
        return (passed_on,)

    def ended(self, record: Record) -> None:
        """The request is over; its spans wait to be sent."""
        context = self._parents.pop(record.id, None)
        if context is None or not context.sampled:
            return
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append(record)
        self._contexts.append(context)

    async def run(self) -> None:
        """Send for ever."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Send what waits now; a collector that does not answer costs these spans."""
        records, self._waiting = self._waiting, []
        contexts, self._contexts = self._contexts, []
        if not records:
            return
        try:
            await self._post(await asyncio.to_thread(_encoded, records, contexts))
        except OSError as error:
            self.dropped += len(records)
            log.warning("traces of %d requests could not be sent: %s", len(records), error)


def _client_span(span_id: str) -> str:
    """The id of the span around the upstream call, which the upstream's own spans hang from."""
    return f"{int(span_id, 16) ^ 0x8000000000000001:016x}"


def _encoded(records: list[Record], contexts: list[Context]) -> bytes:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    pairs = zip(records, contexts, strict=True)
    spans = [span for record, context in pairs for span in _spans(record, context)]
    return bytes(encode_spans(spans).SerializeToString())


def _spans(record: Record, context: Context) -> list[ReadableSpan]:
    """The request's own span, and the call to the model inside it where there was one."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    trace, flags = int(context.trace_id, 16), TraceFlags(TraceFlags.SAMPLED)
    resource = Resource.create({"service.name": "fingerpost"})

    def at(span_id: str, remote: bool = False) -> SpanContext:
        return SpanContext(trace, int(span_id, 16), is_remote=remote, trace_flags=flags)

    own = at(record.span_id or "1")
    start_ns = int(record.at * 1e9)
    end_ns = start_ns + int((record.total_ms or 0.0) * 1e6)
    failed = record.status >= 500
    status = Status(StatusCode.ERROR, record.error_code) if failed else Status(StatusCode.UNSET)
    server = ReadableSpan(
        name=f"POST {record.route}",
        context=own,
        parent=at(context.parent_id, remote=True) if context.parent_id else None,
        resource=resource,
        attributes=_server_attributes(record),
        kind=SpanKind.SERVER,
        status=status,
        start_time=start_ns,
        end_time=end_ns,
    )
    if not record.attempts:
        return [server]
    before_ms = (record.embed_ms or 0.0) + (record.route_ms or 0.0)
    events = [
        Event(f"attempt {one['endpoint']}", {"outcome": one["outcome"], "ms": one.get("ms", 0.0)}, start_ns)
        for one in record.attempts
    ]
    client = ReadableSpan(
        name=f"{_operation(record)} {record.model or record.model_requested or ''}".strip(),
        context=at(_client_span(record.span_id or "1")),
        parent=own,
        resource=resource,
        attributes=_model_attributes(record),
        events=events,
        kind=SpanKind.CLIENT,
        status=status,
        start_time=min(start_ns + int(before_ms * 1e6), end_ns),
        end_time=end_ns,
    )
    return [server, client]


def _operation(record: Record) -> str:
    return _OPERATIONS.get(record.route, "chat")


def _server_attributes(record: Record) -> dict[str, str | int | bool]:
    found: dict[str, str | int | bool | None] = {
        "http.request.method": "POST",
        "http.response.status_code": record.status,
        "fingerpost.request_id": record.id,
        "fingerpost.key_id": record.key_id,
        "fingerpost.policy": record.policy,
        "fingerpost.category": record.category,
        "fingerpost.router": record.router_kind,
        "fingerpost.reason": record.reason,
        "fingerpost.cache": record.cache_status,
        "error.type": record.error_code,
    }
    return {name: value for name, value in found.items() if value is not None}


def _model_attributes(record: Record) -> dict[str, str | int | float | bool | list[str]]:
    found: dict[str, str | int | float | bool | list[str] | None] = {
        "gen_ai.operation.name": _operation(record),
        "gen_ai.provider.name": record.provider,
        "gen_ai.request.model": record.model_requested,
        "gen_ai.request.stream": record.stream,
        "gen_ai.response.model": record.model,
        "gen_ai.response.finish_reasons": [record.finish_reason] if record.finish_reason else None,
        "gen_ai.response.time_to_first_chunk": record.first_byte_ms / 1e3 if record.first_byte_ms else None,
        "gen_ai.conversation.id": record.session,
        "gen_ai.usage.input_tokens": record.input_tokens,
        "gen_ai.usage.output_tokens": record.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": record.cached_tokens,
        "gen_ai.usage.cache_creation.input_tokens": record.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": record.reasoning_tokens,
        "fingerpost.cost_usd": record.cost_nanousd / 1e9 if record.cost_nanousd is not None else None,
        "fingerpost.endpoint": record.endpoint,
        "error.type": record.error_code,
    }
    return {name: value for name, value in found.items() if value is not None}
