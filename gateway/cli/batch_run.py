"""Sends a batch's requests through a running gateway, those that the same model will serve together.

Grouping by expert is the idea of Symbolic-MoE (arXiv 2503.05641): a server then loads each model's weights once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.cli.batch_lines import Answers, BatchError, Line
from gateway.errors import GatewayError
from gateway.wire.completions_request import CompletionsDialect
from gateway.wire.dialect import Dialect
from gateway.wire.messages_request import MessagesDialect
from gateway.wire.responses_dialect import ResponsesDialect

if TYPE_CHECKING:
    import httpx

Group = tuple[str, ...]
Pause = Callable[[float], Awaitable[object]]
# A request that is told to wait, waits so long in all; between times without a Retry-After the pause doubles.
MOST_WAIT_S = 300.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
_COME_AGAIN = (429, 503)
_REFUSED = (401, 403)
_DIALECTS: dict[str, Callable[[], Dialect]] = {
    "/v1/completions": CompletionsDialect,
    "/v1/messages": MessagesDialect,
    "/v1/responses": ResponsesDialect,
}


class BatchRun:
    """One batch on one gateway, whose URL and key `client` has; at most `concurrency` requests are under way."""

    def __init__(self, client: httpx.AsyncClient, concurrency: int, pause: Pause = asyncio.sleep) -> None:
        self._client = client
        self._room = asyncio.Semaphore(concurrency)
        self._pause = pause

    async def groups(self, lines: Sequence[Line]) -> dict[Group, list[Line]]:
        """Requests by the models that will serve them: one, or a strategy's experts. Groups that begin with the same
        expert are neighbours."""
        keys = await asyncio.gather(*map(self._group, lines))
        found: dict[Group, list[Line]] = {key: [] for key in sorted(set(keys))}
        for key, line in zip(keys, lines, strict=True):
            found[key].append(line)
        return found

    async def send(self, lines: Sequence[Line], answers: Answers) -> int:
        """Ask and write down, each as it ends; how many have failed."""
        fine = await asyncio.gather(*(self._answered(line, answers) for line in lines))
        return fine.count(False)

    async def _group(self, line: Line) -> Group:
        body = _as_chat(line)
        reply = await self._posted("/v1/route", body) if body is not None else None
        if isinstance(reply, str):
            raise BatchError(f"{self._client.base_url} can't be reached: {reply}")
        if reply is not None and reply.status_code in _REFUSED:
            raise BatchError(f"{self._client.base_url} refuses the key: {_complaint(reply)['message']}")
        if reply is None or reply.status_code != 200:
            return (line.model,)  # what is wrong with it is told by its own answer
        told = reply.json()
        return tuple(sorted(told["experts"])) or (str(told["chosen"]["model"]),)

    async def _answered(self, line: Line, answers: Answers) -> bool:
        reply = await self._posted(line.url, line.body)
        if isinstance(reply, str):
            answers.put(line.custom_id, None, {"code": "no_answer", "message": reply})
            return False
        response = {
            "status_code": reply.status_code,
            "request_id": reply.headers.get("x-request-id", ""),
            "body": _body(reply),
        }
        fine = reply.status_code < 400
        answers.put(line.custom_id, response, None if fine else _complaint(reply))
        return fine

    async def _posted(self, path: str, body: bytes) -> httpx.Response | str:
        """The answer, or why there is none; one that says to come again is waited for."""
        pauses, waited = _pauses(), 0.0
        while True:
            async with self._room:
                reply, again = await self._once(path, body)
            pause = (_retry_after(reply) or next(pauses)) if again else 0.0
            waited += pause
            if not again or waited > MOST_WAIT_S:
                return reply
            await self._pause(pause)

    async def _once(self, path: str, body: bytes) -> tuple[httpx.Response | str, bool]:
        """And whether the same may be asked again: not where it may have been answered, and paid for, unheard."""
        import httpx

        try:
            reply = await self._client.post(path, content=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return str(error) or type(error).__name__, isinstance(error, httpx.ConnectError)
        return reply, reply.status_code in _COME_AGAIN


def _as_chat(line: Line) -> bytes | None:
    """What `/v1/route` is asked; None where no router chooses, or nothing can be made of it."""
    if line.url == "/v1/chat/completions":
        return line.body
    try:
        return msgspec.json.encode(_DIALECTS[line.url]().parse(line.body).fields)
    except (KeyError, GatewayError):
        return None


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE_S
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _retry_after(reply: httpx.Response | str) -> float:
    """Seconds; 0 where none are told."""
    told = "" if isinstance(reply, str) else reply.headers.get("retry-after", "")
    return float(told) if told.isdecimal() else 0.0


def _body(reply: httpx.Response) -> Any:
    try:
        return msgspec.json.decode(reply.content)
    except (msgspec.DecodeError, UnicodeError):
        return reply.text


def _complaint(reply: httpx.Response) -> dict[str, Any]:
    body = _body(reply)
    error = body.get("error") if isinstance(body, dict) else None
    told = error if isinstance(error, dict) else {}
    code = told.get("code") or told.get("type") or f"http_{reply.status_code}"
    return {"code": str(code), "message": str(told.get("message") or body)[:2000]}
