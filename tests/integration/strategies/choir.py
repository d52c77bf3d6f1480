"""An upstream with many voices: each model has its own texts and its own pace, and hears when clients leave."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

Words = dict[str, Any]
PROMPT_TOKENS = 10


@dataclass(slots=True)
class Voice:
    """`texts` are taken in turn, the last one repeats; every word is a token. Seconds pass before the first byte and
    between the words of a stream."""

    texts: list[str]
    wait_s: float = 0.0
    word_s: float = 0.0
    status: int = 200
    logprob: float | None = None


@dataclass(slots=True)
class Choir:
    """`asked` are the bodies as they came; `left` the moments (`time.monotonic`) when clients hung up early."""

    url: str = ""
    voices: dict[str, Voice] = field(default_factory=dict)
    asked: list[Words] = field(default_factory=list)
    left: list[tuple[str, float]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def sings(self, **voices: Voice) -> None:
        """From now on; what was asked before is forgotten."""
        with self.lock:
            self.voices.clear()
            self.voices.update(voices)
            self.asked.clear()
            self.left.clear()

    def models(self) -> list[str]:
        """Who was asked, in order."""
        with self.lock:
            return [one["model"] for one in self.asked]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: requests one after the other."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if b"ontent-Length" in line)
                body = json.loads(await reader.readexactly(length))
                if not await self._sung(body, reader, writer):
                    break
        writer.close()

    async def _sung(self, body: Words, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        with self.lock:
            self.asked.append(body)
            voice = self.voices[body["model"]]
            text = voice.texts.pop(0) if len(voice.texts) > 1 else voice.texts[0]
        singing = asyncio.create_task(_sing(body, voice, text, writer))
        listening = asyncio.create_task(reader.read(1))  # nobody sends ahead: a byte or none means that it is gone
        await asyncio.wait({singing, listening}, return_when=asyncio.FIRST_COMPLETED)
        gone = not singing.done()
        if gone:
            with self.lock:
                self.left.append((body["model"], time.monotonic()))
        for task in (singing, listening):
            task.cancel()
        await asyncio.gather(singing, listening, return_exceptions=True)
        return not gone


async def _sing(body: Words, voice: Voice, text: str, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(voice.wait_s)
    if voice.status != 200:
        said = json.dumps({"error": {"message": "no", "type": "t", "code": None, "param": None}}).encode()
        writer.write(_head(voice.status, "application/json") + b"content-length: %d\r\n\r\n" % len(said) + said)
        return
    words = text.split()
    usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": len(words), "total_tokens": 10 + len(words)}
    if not body.get("stream"):
        await asyncio.sleep(voice.word_s * len(words))
        said = json.dumps({**_named(body), "choices": [_choice(body, voice, text)], "usage": usage}).encode()
        writer.write(_head(200, "application/json") + b"content-length: %d\r\n\r\n" % len(said) + said)
        return
    writer.write(_head(200, "text/event-stream") + b"transfer-encoding: chunked\r\n\r\n")
    for place, word in enumerate(words):
        _chunk(writer, {**_named(body), "choices": [{"index": 0, "delta": {"content": f" {word}" if place else word}}]})
        await writer.drain()
        await asyncio.sleep(voice.word_s)
    _chunk(writer, {**_named(body), "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if (body.get("stream_options") or {}).get("include_usage"):
        _chunk(writer, {**_named(body), "choices": [], "usage": usage})
    _write(writer, b"data: [DONE]\n\n")
    writer.write(b"0\r\n\r\n")


def _named(body: Words) -> Words:
    return {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"]}


def _choice(body: Words, voice: Voice, text: str) -> Words:
    choice: Words = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if body.get("logprobs") and voice.logprob is not None:
        choice["logprobs"] = {"content": [{"token": word, "logprob": voice.logprob} for word in text.split()]}
    return choice


def _head(status: int, kind: str) -> bytes:
    return f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n".encode()


def _chunk(writer: asyncio.StreamWriter, words: Words) -> None:
    _write(writer, f"data: {json.dumps(words)}\n\n".encode())


def _write(writer: asyncio.StreamWriter, block: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(block), block))


@contextmanager
def singing() -> Iterator[Choir]:
    """A running choir in a thread of its own, on a free port."""
    choir, loop, ready, over = Choir(), asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        server = await asyncio.start_server(choir.answer, "127.0.0.1", 0)
        choir.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        ready.set()
        async with server:
            await over.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.01)

    thread = threading.Thread(target=lambda: (loop.run_until_complete(serve()), loop.close()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield choir
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
