"""An upstream that says each word only when a test prompts it, so that nothing depends on how quick a machine is."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.eventually import comes_true

Words = dict[str, Any]
STREAM = b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@dataclass(slots=True)
class Part:
    """One request as it came, and what was said to it; `gone` once its client has hung up before the end."""

    body: Words
    port: int
    writer: asyncio.StreamWriter
    gone: bool = False
    over: bool = False


@dataclass(slots=True)
class Prompter:
    """`parts` are the requests, in the order of their coming. All methods may be called from any thread."""

    url: str = ""
    parts: list[Part] = field(default_factory=list)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def asked(self, count: int = 1) -> Part:
        """The request of this number (from 1), once it is there."""
        assert comes_true(lambda: len(self.parts) >= count), f"asked {len(self.parts)} times"
        return self.parts[count - 1]

    def say(self, *words: str, part: int = -1) -> None:
        """These, one event each."""
        for word in words:
            self._chunk(self.parts[part], {"choices": [{"index": 0, "delta": {"content": word}}]})

    def finish(self, part: int = -1, reason: str = "stop") -> None:
        """The regular end; of a request that is no stream, its answer."""
        one = self.parts[part]
        if not one.body.get("stream"):
            message = {"role": "assistant", "content": "whole answer"}
            choice = {"index": 0, "message": message, "finish_reason": reason}
            said = json.dumps({**_head(one), "object": "chat.completion", "choices": [choice], "usage": USAGE}).encode()
            head = b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(said)
            self._do(one, head + said, over=True)
            return
        self._chunk(one, {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        if (one.body.get("stream_options") or {}).get("include_usage"):
            self._chunk(one, {"choices": [], "usage": USAGE})
        self._do(one, _block(b"data: [DONE]\n\n") + b"0\r\n\r\n", over=True)

    def fail(self, part: int = -1) -> None:
        """Refuse it before a word was said."""
        said = b'{"error":{"message":"no","type":"t","code":null,"param":null}}'
        head = b"HTTP/1.1 500 X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(said)
        self._do(self.parts[part], head + said, over=True)

    def break_off(self, part: int = -1) -> None:
        """Hang up in the middle."""
        one = self.parts[part]
        one.over = True
        self.loop.call_soon_threadsafe(one.writer.close)

    def _chunk(self, one: Part, words: Words) -> None:
        self._do(
            one, _block(f"data: {json.dumps({**_head(one), 'object': 'chat.completion.chunk', **words})}\n\n".encode())
        )

    def _do(self, one: Part, block: bytes, over: bool = False) -> None:
        one.over = one.over or over
        self.loop.call_soon_threadsafe(one.writer.write, block)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if b"ontent-Length" in line)
                part = Part(json.loads(await reader.readexactly(length)), writer.get_extra_info("peername")[1], writer)
                if part.body.get("stream"):
                    writer.write(
                        b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                    )
                self.parts.append(part)
                peeked = asyncio.create_task(reader.read(1))
                while not part.over and not peeked.done():
                    await asyncio.sleep(0.002)
                if peeked.done():
                    part.gone = not part.over
                    break
                peeked.cancel()
                await asyncio.wait({peeked})
        writer.close()


def _head(one: Part) -> Words:
    return {"id": "c", "created": 1, "model": one.body["model"]}


def _block(said: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(said), said)


@contextmanager
def prompting() -> Iterator[Prompter]:
    """Runs in a thread of its own, on a free port."""
    prompter, ready, over = Prompter(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        server = await asyncio.start_server(prompter.answer, "127.0.0.1", 0)
        prompter.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        ready.set()
        async with server:
            await over.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.01)

    thread = threading.Thread(
        target=lambda: (prompter.loop.run_until_complete(serve()), prompter.loop.close()), daemon=True
    )
    thread.start()
    assert ready.wait(10)
    try:
        yield prompter
    finally:
        prompter.loop.call_soon_threadsafe(over.set)
        thread.join(10)
