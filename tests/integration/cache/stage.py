"""Clients that hear streams, before a gateway that caches, before an upstream that is prompted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx

from tests.eventually import eventually
from tests.integration.cache.prompter import Part, Prompter
from tests.integration.test_proxy_line import row
from tests.serving import Served


@dataclass(slots=True)
class Heard:
    """One client's stream."""

    reply: httpx.Response
    lines: AsyncIterator[str]

    @property
    def told(self) -> str:
        """What the gateway says of the cache."""
        return self.reply.headers["x-fingerpost-cache"]

    async def event(self) -> str:
        """The next event's data, "" at the end."""
        async for line in self.lines:
            if line.startswith("data: "):
                return line[6:]
        return ""

    async def word(self) -> str:
        """What the next event says."""
        return str(json.loads(await self.event())["choices"][0]["delta"].get("content"))

    async def rest(self) -> list[str]:
        """All events that are left."""
        found = []
        while event := await self.event():
            found.append(event)
        return found

    async def text(self) -> str:
        """All that is left to say, to the regular end."""
        *chunks, last = await self.rest()
        assert last == "[DONE]"
        choices = [choice for one in chunks for choice in json.loads(one)["choices"]]
        return "".join(choice["delta"].get("content") or "" for choice in choices)

    async def leave(self) -> None:
        """Hang up."""
        await self.reply.aclose()


@dataclass(slots=True)
class Stage:
    """Clients before a gateway before the prompter; each test asks another question."""

    served: Served
    prompter: Prompter
    client: httpx.AsyncClient
    question: str
    begun: int

    async def opened(self, path: str = "/v1/chat/completions", **more: Any) -> Heard:
        """One who streams, once its answer has begun."""
        headers = more.pop("headers", {})
        messages = [{"role": "user", "content": self.question}]
        body = {"model": "auto:default", "messages": messages, "max_tokens": 50, "stream": True, **more}
        asking = self.client.build_request("POST", path, json=body, headers={**self.served.headers, **headers})
        reply = await self.client.send(asking, stream=True)
        if reply.status_code != 200:
            await reply.aread()
        return Heard(reply, reply.aiter_lines())

    async def whole(self, **more: Any) -> httpx.Response:
        """One who wants it all at once."""
        messages = [{"role": "user", "content": self.question}]
        headers = {**self.served.headers, **more.pop("headers", {})}
        body = {"model": "auto:default", "messages": messages, "max_tokens": 50, **more}
        return await self.client.post("/v1/chat/completions", json=body, headers=headers)

    async def requests(self) -> int:
        """How many requests to the hot routes are over, by the metrics."""
        text = (await self.client.get("/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith("fingerpost_requests_total{")]
        return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines)

    async def logged(self, heard: Heard) -> dict[str, Any]:
        """What the ledger says of it."""
        return await asyncio.to_thread(row, self.served, heard.reply.headers["x-request-id"])

    async def refuses(self, asking: asyncio.Task[Heard]) -> None:
        """The upstream answers the first request with an error."""
        self.prompter.fail()
        assert (await asking).reply.status_code == 502

    def opens(self, **more: Any) -> asyncio.Task[Heard]:
        """The same, meanwhile."""
        return asyncio.create_task(self.opened(**more))

    async def asked(self, number: int = 1) -> Part:
        """The upstream's request of this number."""
        await eventually(lambda: len(self.prompter.parts) >= self.begun + number)
        return self.prompter.parts[self.begun + number - 1]

    @property
    def calls(self) -> int:
        """How often the upstream was asked."""
        return len(self.prompter.parts) - self.begun

    async def led(self, *words: str, **more: Any) -> Heard:
        """The one whose request is asked, once it was told these."""
        leading = self.opens(**more)
        await self.asked()
        self.prompter.say(*words)
        return await leading

    async def followed(self, number: int = 1, **more: Any) -> list[asyncio.Task[Heard]]:
        """So many who ask the same, once they wait."""
        before = await self.count("waited")
        following = [self.opens(**more) for _ in range(number)]
        await eventually(lambda: self.has("waited", before + number))
        return following

    async def has(self, what: str, number: int) -> bool:
        """Whether the cache has counted so many."""
        return await self.count(what) >= number

    async def count(self, what: str) -> int:
        """What the cache has counted."""
        reply = await self.client.get("/admin/cache", headers=self.served.admin_headers)
        return int(reply.json()["counts"].get(what, 0))
