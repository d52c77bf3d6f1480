"""Every byte that the benchmark upstream can answer, made once; knows nothing of sockets or timing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

MODEL = "bench-model"
PROMPT_TOKENS = 24
COMPLETION_TOKENS = 56
CREATED = 1_790_000_000

_ANSWER = (
    "A proxy sits between a client and a server. It accepts the client's request, opens or reuses a connection to the "
    "server, passes the request on, and relays the answer. What it adds on the way is its price: parsing, checking, "
    "logging and copying."
)
_REASONS = {
    200: b"OK",
    302: b"Found",
    400: b"Bad Request",
    401: b"Unauthorized",
    404: b"Not Found",
    429: b"Too Many Requests",
    500: b"Internal Server Error",
}


def http_response(status: int, body: bytes, content_type: str = "application/json", extra: str = "") -> bytes:
    """A whole HTTP/1.1 response with Content-Length; `extra` holds complete header lines."""
    head = f"content-type: {content_type}\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
    return b"HTTP/1.1 %d %s\r\n%s%s" % (status, _REASONS[status], head.encode(), body)


def compact(body: object) -> bytes:
    """JSON without spaces."""
    return json.dumps(body, separators=(",", ":")).encode()


def _usage(completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": completion_tokens,
        "total_tokens": PROMPT_TOKENS + completion_tokens,
    }


def completion() -> bytes:
    """The static chat completion (about 600 bytes of JSON)."""
    message = {"role": "assistant", "content": _ANSWER, "refusal": None}
    return compact(
        {
            "id": "chatcmpl-bench0000000000000000000001",
            "object": "chat.completion",
            "created": CREATED,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": _usage(COMPLETION_TOKENS),
            "system_fingerprint": "fp_bench",
        }
    )


def _event(choices: list[dict[str, object]], usage: dict[str, int] | None = None) -> bytes:
    body: dict[str, object] = {
        "id": "chatcmpl-bench0000000000000000000002",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": MODEL,
        "choices": choices,
    }
    if usage is not None:
        body["usage"] = usage
    return b"data: %s\n\n" % compact(body)


def _choice(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _http_chunk(payload: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(payload), payload)


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def stream_writes(chunks: int, include_usage: bool) -> tuple[bytes, ...]:
    """One bytes object a write: the head with the first event, then one event each; the last ends the stream.

    The first event carries the role, the last of the `chunks` carries the finish reason. The usage event, `[DONE]`
    and the end of the chunked body travel with that last write.
    """
    if chunks < 2:
        raise ValueError("a stream needs at least 2 chunks: one with the role and one with the finish reason")
    events = [_event([_choice({"role": "assistant", "content": ""})])]
    events += [_event([_choice({"content": f" word{number % 100:02d}"})]) for number in range(chunks - 2)]
    writes = [_http_chunk(event) for event in events]
    ending = [_event([_choice({}, "stop")])]
    if include_usage:
        ending.append(_event([], _usage(chunks - 2)))
    ending.append(b"data: [DONE]\n\n")
    writes.append(b"".join(map(_http_chunk, ending)) + b"0\r\n\r\n")
    writes[0] = STREAM_HEAD + writes[0]
    return tuple(writes)


def _error(message: str, kind: str, code: str | None, param: str | None = None) -> bytes:
    return compact({"error": {"message": message, "type": kind, "param": param, "code": code}})


def faults() -> Mapping[str, bytes]:
    """What each misbehaving mode with a whole answer says, by mode."""
    too_long = "This model's maximum context length is 4096 tokens. However, your messages resulted in 5000 tokens."
    return {
        "html": http_response(200, b"<html><body><h1>502 Bad Gateway</h1></body></html>", "text/html"),
        "badjson": http_response(200, completion()[:200]),
        "error400": http_response(
            400, _error(too_long, "invalid_request_error", "context_length_exceeded", "messages")
        ),
        "error401": http_response(
            401, _error("Incorrect API key provided: sk-***cret.", "invalid_request_error", "invalid_api_key")
        ),
        "error429": http_response(
            429, _error("Rate limit reached.", "requests", "rate_limit_exceeded"), extra="retry-after: 7\r\n"
        ),
        "error500": http_response(500, _error("The server had an error.", "server_error", None)),
        "redirect": http_response(302, b"", extra="location: /instant/v1/chat/completions\r\n"),
    }


NOT_FOUND = http_response(404, _error("Unknown mode or path.", "invalid_request_error", "not_found"))


@dataclass(frozen=True, slots=True)
class Bodies:
    """All answers for one number of chunks."""

    whole: bytes
    stream: tuple[bytes, ...]
    stream_with_usage: tuple[bytes, ...]
    faults: Mapping[str, bytes]

    @classmethod
    def of(cls, chunks: int) -> Bodies:
        """Make every answer once."""
        return cls(
            whole=http_response(200, completion()),
            stream=stream_writes(chunks, include_usage=False),
            stream_with_usage=stream_writes(chunks, include_usage=True),
            faults=faults(),
        )
