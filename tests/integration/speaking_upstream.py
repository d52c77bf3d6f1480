"""An upstream of both dialects: answers by the model's name, and keeps the exact bytes that it was sent."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

Words = dict[str, Any]

USAGE = {"input_tokens": 10, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 20, "output_tokens": 7}
TEXT: list[Words] = [{"type": "text", "text": "Hello, wörld."}]
CALLS: list[Words] = [
    {"type": "thinking", "thinking": "Two cities.", "signature": "c2ln"},
    {"type": "text", "text": "Let me look."},
    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}},
    {"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {"city": "Rome"}},
]
CONTENTS = {"plain": TEXT, "tools": CALLS, "breaks": TEXT}
COUNTED = 42
OVERLOADED = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_up"}'


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came in; header names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def words(self) -> Any:
        """The body's JSON."""
        return json.loads(self.body)


@dataclass
class SpeakingUpstream:
    """A running upstream; `url` ends in /v1."""

    url: str = ""
    received: list[Received] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: requests one after the other."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in head[1:-2])}
                body = await reader.readexactly(int(headers["content-length"]))
                request = Received(head[0].split()[1], headers, body)
                self.received.append(request)
                kind, said = reply_to(request)
                start = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(said)}\r\n\r\n"
                writer.write(start.encode() + said)
                await writer.drain()
        writer.close()


def reply_to(request: Received) -> tuple[str, bytes]:
    """Content type and body."""
    asked = request.words
    model, stream = asked["model"], bool(asked.get("stream"))
    if request.path.endswith("/count_tokens"):
        return "application/json", b'{"input_tokens": %d}' % COUNTED
    if request.path.endswith("/messages"):
        return ("text/event-stream", message_events(model)) if stream else ("application/json", message(model))
    return ("text/event-stream", chat_chunks(model)) if stream else ("application/json", completion(model))


def message(model: str) -> bytes:
    """A whole answer of Anthropic's API, with spaces and a field that nobody knows."""
    reason = "tool_use" if model == "tools" else "end_turn"
    said = {"id": "msg_up", "type": "message", "role": "assistant", "model": model, "content": CONTENTS[model]}
    return json.dumps(
        {**said, "stop_reason": reason, "stop_sequence": None, "usage": USAGE, "later": {"n": [1.0]}}
    ).encode()


def message_events(model: str) -> bytes:
    """The same as a stream; of "breaks" only the first half, and an error event."""
    start: Words = {"id": "msg_up", "type": "message", "role": "assistant", "model": model, "content": []}
    told: list[Words] = [
        {"type": "message_start", "message": {**start, "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}}}
    ]
    for index, block in enumerate(CONTENTS[model]):
        begin, deltas = _pieces(block)
        told += [{"type": "content_block_start", "index": index, "content_block": begin}, {"type": "ping"}]
        told += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        told.append({"type": "content_block_stop", "index": index})
    if model == "breaks":
        return b"".join(map(_event, told[:4])) + b"event: error\ndata: " + OVERLOADED + b"\n\n"
    reason = "tool_use" if model == "tools" else "end_turn"
    delta = {"stop_reason": reason, "stop_sequence": None}
    told.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": USAGE["output_tokens"]}})
    return b"".join(map(_event, [*told, {"type": "message_stop"}]))


def _event(words: Words) -> bytes:
    return f"event: {words['type']}\ndata: {json.dumps(words)}\n\n".encode()


def _pieces(block: Words) -> tuple[Words, list[Words]]:
    if block["type"] == "text":
        return {"type": "text", "text": ""}, [{"type": "text_delta", "text": one} for one in _words(block["text"])]
    if block["type"] == "thinking":
        said = {"type": "thinking_delta", "thinking": block["thinking"]}
        signed = {"type": "signature_delta", "signature": block["signature"]}
        return {"type": "thinking", "thinking": "", "signature": ""}, [said, signed]
    words = json.dumps(block["input"])
    halves = ["", words[:5], words[5:]]
    return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": one} for one in halves]


CHAT_USAGE = {
    "prompt_tokens": 35,
    "completion_tokens": 7,
    "total_tokens": 42,
    "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 5},
}


def completion(model: str) -> bytes:
    """The same answers as a chat completion."""
    said = {"role": "assistant", "content": _text(model), "tool_calls": _calls(model) or None}
    choice = {"index": 0, "message": said, "finish_reason": "tool_calls" if _calls(model) else "stop"}
    return json.dumps({"id": "c", "model": model, "choices": [choice], "usage": CHAT_USAGE}).encode()


def chat_chunks(model: str) -> bytes:
    """The same as chunks; of "breaks" only the first half, and an error."""
    deltas: list[Words] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": one} for one in _words(_text(model))]
    for index, call in enumerate(_calls(model)):
        words = call["function"]["arguments"]
        begin = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
        rest = [{"index": index, "function": {"arguments": one}} for one in (words[:5], words[5:])]
        deltas += [{"tool_calls": [piece]} for piece in (begin, *rest)]
    chunks: list[Words] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    if model == "breaks":
        return _chunks(chunks[:2]) + b'data: {"error":{"message":"Overloaded"}}\n\n'
    finish = "tool_calls" if _calls(model) else "stop"
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    return _chunks([*chunks, {"choices": [], "usage": CHAT_USAGE}]) + b"data: [DONE]\n\n"


def _chunks(chunks: list[Words]) -> bytes:
    return b"".join(b"data: " + json.dumps({"id": "c", "model": "w", **one}).encode() + b"\n\n" for one in chunks)


def _words(text: str) -> list[str]:
    return re.findall(r"\S+\s*", text)


def _text(model: str) -> str:
    return "".join(block["text"] for block in CONTENTS[model] if block["type"] == "text")


def _calls(model: str) -> list[Words]:
    return [
        {
            "id": block["id"],
            "type": "function",
            "function": {"name": block["name"], "arguments": json.dumps(block["input"])},
        }
        for block in CONTENTS[model]
        if block["type"] == "tool_use"
    ]


@contextmanager
def speaking() -> Iterator[SpeakingUpstream]:
    """On a free port, in a thread of its own."""
    upstream, loop, ready = SpeakingUpstream(), asyncio.new_event_loop(), threading.Event()
    servers: list[asyncio.Server] = []

    async def run() -> None:
        servers.append(await asyncio.start_server(upstream.answer, "127.0.0.1", 0))
        upstream.url = f"http://127.0.0.1:{servers[0].sockets[0].getsockname()[1]}/v1"
        ready.set()

    thread = threading.Thread(target=lambda: (loop.run_until_complete(run()), loop.run_forever()), daemon=True)
    thread.start()
    assert ready.wait(10)
    yield upstream
    asyncio.run_coroutine_threadsafe(_close(servers[0]), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


async def _close(server: asyncio.Server) -> None:
    """End the listener, and the connections that are still open."""
    server.close()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
