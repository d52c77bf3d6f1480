"""Calls the ranking in order until one endpoint delivers its first frame; after that nothing is switched."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from gateway.dispatch.health import Health
from gateway.dispatch.metering import Meter
from gateway.errors import (
    ContextTooLong,
    GatewayError,
    NoEndpoint,
    RefusedUpstream,
    UnsupportedCapability,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamError,
    UpstreamUnavailable,
)
from gateway.providers.base import Target
from gateway.wire.chat_request import ChatRequest
from gateway.wire.reply import Reply
from policies.schema import Fallback
from routers.decision import Decision, Query, Ranked

log = logging.getLogger(__name__)

Attempt = dict[str, Any]


@dataclass(slots=True)
class Opened:
    """A reply whose first frame is in hand, already metered."""

    target: Target
    ranked: Ranked
    reply: Reply
    frames: AsyncIterator[bytes]
    meter: Meter
    first: bytes


class Dispatcher:
    """Holds the targets and what is known of their health; one per process."""

    def __init__(self, targets: Mapping[str, Target], health: Health) -> None:
        self._targets = targets
        self._health = health

    async def open(
        self, request: ChatRequest, query: Query, decision: Decision, fallback: Fallback, attempts: list[Attempt]
    ) -> Opened:
        """Open the chosen endpoint, or the next ones while nothing has been sent to the client.

        Every try is noted in `attempts`. Raises the last failure; a `RefusedUpstream` at once, since another
        endpoint would be asked the same wrong question.
        """
        failure: GatewayError = NoEndpoint("No endpoint could be tried.")
        waiting = call_order(decision, fallback)
        for tries_left in range(fallback.max_attempts if fallback.enabled else 1, 0, -1):
            ranked = _next(waiting, last=tries_left == 1)
            if ranked is None:
                break
            started = perf_counter()
            target = self._targets[ranked.candidate.endpoint.id]
            attempt: Attempt = {"endpoint": target.endpoint.id, "outcome": "cancelled"}
            attempts.append(attempt)
            try:
                opened = await self._first_frame(request, query, target, ranked)
            except UpstreamError as error:
                failure = self._failed(target, error)
                attempt["outcome"], attempt["message"] = error.code, error.message
                if isinstance(error, (UpstreamUnavailable, UpstreamAuth)):
                    waiting = [one for one in waiting if one.candidate.endpoint.base_url != target.endpoint.base_url]
            except (ContextTooLong, UnsupportedCapability) as error:
                # Our own estimate let this endpoint in; a later one may be larger or able.
                failure = error
                attempt["outcome"] = error.code
            except GatewayError as error:
                attempt["outcome"] = "refused" if isinstance(error, RefusedUpstream) else error.code
                raise
            else:
                attempt["outcome"] = "ok"
                self._health.succeeded(target.endpoint.id, (perf_counter() - started) * 1000)
                return opened
            finally:
                attempt["ms"] = round((perf_counter() - started) * 1000, 3)
        raise failure

    def _failed(self, target: Target, error: UpstreamError) -> UpstreamError:
        """Count a failure, tell the operator when it is news, and name the endpoint to the client."""
        name = target.endpoint.id
        if self._health.failed(name, error.retry_after_s):
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            log.warning("endpoint %s: %s%s", name, error.message, cause)
        error.message = f"{name}: {error.message}"
        return error

    async def _first_frame(self, request: ChatRequest, query: Query, target: Target, ranked: Ranked) -> Opened:
        reply = await target.provider.open(request, target)
        frames = aiter(reply.frames)
        meter = Meter(target.card, query.features.tokens, request.wants_usage)
        try:
            first = await (_first_event(frames, meter) if reply.stream else _whole(frames, meter))
        except StopAsyncIteration:
            raise UpstreamBroken("The upstream's answer is empty.") from None
        except BaseException:
            await reply.frames.aclose()
            raise
        return Opened(target, ranked, reply, frames, meter, first)


async def _whole(frames: AsyncIterator[bytes], meter: Meter) -> bytes:
    return meter.whole(await anext(frames))


async def _first_event(frames: AsyncIterator[bytes], meter: Meter) -> bytes:
    """What came up to the first event that says something; comments that only keep a connection alive do not count."""
    held = b""
    while b"data:" not in held:
        held += await anext(frames)
    return meter.stream(held)


def call_order(decision: Decision, fallback: Fallback) -> list[Ranked]:
    """The chosen one, then the policy's fallback models in their order, then the rest of the ranking."""
    first, *rest = decision.ranking
    places = {model: place for place, model in enumerate(fallback.models)}
    rest.sort(key=lambda ranked: places.get(ranked.candidate.card.id, len(places)))
    return [first, *rest]


def _next(waiting: list[Ranked], last: bool) -> Ranked | None:
    """Take the next to try; the last try goes to the runtime in this process where it is among them.

    Nothing can stand between it and the answer when the network is gone.
    """
    if not waiting:
        return None
    here = next((one for one in waiting if one.candidate.endpoint.provider == "local"), None) if last else None
    chosen = here or waiting[0]
    waiting.remove(chosen)
    return chosen
