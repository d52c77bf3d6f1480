"""Steady load from many kept-alive clients, and what each saw: every outcome has a name, and nothing is retried.

A connection that the gateway said it would close, or that it closed while idle, is replaced by a new one, as any HTTP
client does; whatever happens to a request once it is being sent is an outcome.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from benchmarks.gateway.client import ClientConnection, Exchange, Target, connect
from tests.eventually import eventually

TIMEOUT_S = 20.0
OK = "200"


@dataclass(frozen=True, slots=True)
class Ask:
    """What one client sends, again and again; `chunks` is how many events a good stream has at least."""

    key: str
    model: str = "instant"
    stream: bool = False
    path: str = "/v1/chat/completions"
    text: str = "hello there"
    name: str = ""

    def target(self, url: str) -> Target:
        """The same as bytes on a wire."""
        host, _, port = url.removeprefix("http://").partition(":")
        body = {"model": self.model, "stream": self.stream, "messages": [{"role": "user", "content": self.text}]}
        return Target(host, int(port), self.path, json.dumps(body).encode(), self.key)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request: "200", "503 budget_store_unavailable", "broken stream", "closed early", "time-out", ..."""

    name: str
    what: str
    began_s: float
    took_s: float


@dataclass(slots=True)
class Seen:
    """What all clients saw, in the order of the answers."""

    outcomes: list[Outcome] = field(default_factory=list)

    def between(self, since_s: float, until_s: float = float("inf"), name: str | None = None) -> Seen:
        """Those that began in an interval of the monotonic clock, of one client's name where one is given."""
        fits = [one for one in self.outcomes if since_s <= one.began_s < until_s and name in (None, one.name)]
        return Seen(fits)

    @property
    def counts(self) -> Counter[str]:
        """How often each outcome came."""
        return Counter(one.what for one in self.outcomes)

    @property
    def answered(self) -> int:
        """Requests that got a whole 200."""
        return self.counts[OK]

    def of(self, name: str) -> Counter[str]:
        """The outcomes of one name."""
        return self.between(0, name=name).counts

    def slowest_s(self) -> float:
        """Of all requests; 0 where there is none."""
        return max((one.took_s for one in self.outcomes), default=0.0)

    def median_s(self) -> float:
        """Of all requests."""
        times = sorted(one.took_s for one in self.outcomes)
        return times[len(times) // 2] if times else 0.0

    def told(self) -> str:
        """One line for reports."""
        return f"{dict(self.counts)} median {self.median_s() * 1e3:.1f} ms slowest {self.slowest_s() * 1e3:.0f} ms"


class Load:
    """`async with Load(url, asks) as load:` sends until the end of the block; `seen` then has it all."""

    def __init__(self, url: str, asks: Iterable[Ask], pause_s: float = 0.01) -> None:
        self._url = url
        self._asks = list(asks)
        self._pause_s = pause_s
        self._ending = False
        self._tasks: list[asyncio.Task[None]] = []
        self._connections: dict[int, ClientConnection] = {}
        self.seen = Seen()

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._client(number, ask)) for number, ask in enumerate(self._asks)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ending = True
        await asyncio.gather(*self._tasks)

    @property
    def streaming(self) -> int:
        """How many clients are in the middle of a stream: they have had an event, and await more."""
        return sum(connection.receiving for connection in self._connections.values())

    async def answered(self, more: int, within_s: float = 20.0) -> None:
        """Wait for so many more outcomes, of whatever kind."""
        goal = len(self.seen.outcomes) + more
        async with asyncio.timeout(within_s):
            while len(self.seen.outcomes) < goal:
                await asyncio.sleep(0.005)

    async def until(self, what: str, name: str | None = None, within_s: float = 20.0) -> float:
        """Wait until a request that begins from now on has this outcome; the time at which it began."""
        since = time.monotonic()
        async with asyncio.timeout(within_s):
            while True:
                for one in reversed(self.seen.outcomes):
                    if one.began_s < since:
                        break
                    if one.what == what and name in (None, one.name):
                        return one.began_s
                await asyncio.sleep(0.005)

    async def steady(self, what: str, name: str, count: int = 20, within_s: float = 20.0) -> None:
        """Wait until so many requests in a row, which begin from now on, have this outcome: all workers are well."""
        since = time.monotonic()

        def holds() -> bool:
            last = self.seen.between(since, name=name).outcomes[-count:]
            return len(last) == count and all(one.what == what for one in last)

        await eventually(holds, within_s)

    async def _client(self, number: int, ask: Ask) -> None:
        target = ask.target(self._url)
        request = target.request()
        connection: ClientConnection | None = None
        while not self._ending:
            began = time.monotonic()
            if connection is None or not connection.usable:
                connection = await connect(target)
            if connection is None:
                self._note(ask, "no connection", began)
                await asyncio.sleep(0.05)
                continue
            self._connections[number] = connection
            self._note(ask, verdict(await connection.exchange(request, TIMEOUT_S), ask.stream), began)
            await asyncio.sleep(self._pause_s)
        if connection is not None:
            connection.close()

    def _note(self, ask: Ask, what: str, began: float) -> None:
        self.seen.outcomes.append(Outcome(ask.name, what, began, time.monotonic() - began))


def verdict(exchange: Exchange, stream: bool) -> str:
    """The name of an outcome."""
    if exchange.error:
        return f"broken stream ({exchange.error})" if exchange.status == 200 and stream else exchange.error
    if exchange.status != 200:
        return f"{exchange.status} {_code(exchange.opening)}"
    if stream and exchange.done_events != 1:
        return "broken stream (no end)"
    return OK


def _code(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        # Long messages are cut off by the client; the code stands behind them.
        _, found, rest = body.partition(b'"code":"')
        return rest.partition(b'"')[0].decode() if found else "?"


def mixed(key: str, clients: int, model: str = "instant", name: str = "", text: str = "hello there") -> Sequence[Ask]:
    """Half of the clients stream."""
    return [Ask(key, model, stream=bool(number % 2), name=name, text=text) for number in range(clients)]
