"""Trace context in and out, and the spans of a request."""

from __future__ import annotations

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.ledger.record import Record
from gateway.tracing import Tracer, context_of

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _record() -> Record:
    return Record(id="req_1", at=1_700_000_000.0, route="chat", model_requested="auto")


def _spans(bodies: list[bytes]) -> dict[int, object]:
    found = ExportTraceServiceRequest.FromString(bodies[0])
    return {
        span.kind: span for resource in found.resource_spans for scope in resource.scope_spans for span in scope.spans
    }


def test_a_caller_s_context_is_taken_over_and_an_unreadable_one_is_replaced() -> None:
    assert context_of(PARENT).trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert context_of(PARENT).parent_id == "b7ad6b7169203331"
    for wrong in (None, b"", b"00-xyz", PARENT.replace(b"00-", b"ff-", 1), PARENT[:3] + b"0" * 32 + PARENT[35:]):
        assert context_of(wrong).parent_id is None
        assert len(context_of(wrong).trace_id) == 32


async def test_spans_hang_together_from_the_caller_to_the_upstream() -> None:
    bodies: list[bytes] = []

    async def post(body: bytes) -> None:
        bodies.append(body)

    tracer, record = Tracer(post), _record()
    passed_on = dict(tracer.begin(record, {b"traceparent": PARENT, b"tracestate": b"vendor=1"}))
    record.attempts = [{"endpoint": "e", "outcome": "ok", "ms": 3.0}]
    record.model, record.provider, record.status, record.total_ms = "m", "openai", 200, 10.0
    record.input_tokens, record.output_tokens, record.finish_reason = 5, 7, "stop"
    tracer.ended(record)
    await tracer.flush()

    server, client = _spans(bodies)[2], _spans(bodies)[3]
    assert passed_on["tracestate"] == "vendor=1"
    assert passed_on["traceparent"].split("-")[1:3] == ["0af7651916cd43dd8448eb211c80319c", client.span_id.hex()]  # type: ignore[attr-defined]
    assert server.parent_span_id.hex() == "b7ad6b7169203331" and client.parent_span_id == server.span_id  # type: ignore[attr-defined]
    assert client.name == "chat m"  # type: ignore[attr-defined]
    told = {one.key: one.value for one in client.attributes}  # type: ignore[attr-defined]
    assert told["gen_ai.usage.output_tokens"].int_value == 7
    assert told["gen_ai.provider.name"].string_value == "openai"


async def test_what_the_caller_does_not_sample_is_passed_on_but_not_sent() -> None:
    async def post(body: bytes) -> None:
        raise AssertionError("nothing should be sent")

    tracer, record = Tracer(post), _record()
    passed_on = dict(tracer.begin(record, {b"traceparent": PARENT[:-1] + b"0"}))
    tracer.ended(record)
    await tracer.flush()

    assert passed_on["traceparent"].endswith("-00")


async def test_a_collector_that_is_away_costs_spans_and_nothing_else() -> None:
    async def post(body: bytes) -> None:
        raise OSError("away")

    tracer, record = Tracer(post), _record()
    tracer.begin(record, {})
    tracer.ended(record)
    await tracer.flush()

    assert tracer.dropped == 1
