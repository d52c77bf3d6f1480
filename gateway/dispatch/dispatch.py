"""Calls the ranking in order until one endpoint delivers its first frame; after that nothing is switched."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
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
    UpstreamBroken,
    UpstreamError,
)
from gateway.providers.base import Target
from gateway.wire.chat_request import ChatRequest
from gateway.wire.reply import Reply
from policies.schema import Fallback
from routers.decision import Decision, Query, Ranked

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
        for ranked in call_order(decision, fallback):
            started = perf_counter()
            target = self._targets[ranked.candidate.endpoint.id]
            attempt: Attempt = {"endpoint": target.endpoint.id, "outcome": "cancelled"}
            attempts.append(attempt)
            try:
                opened = await self._first_frame(request, query, target, ranked)
            except UpstreamError as error:
                self._health.failed(target.endpoint.id, error.retry_after_s)
                failure = error
                attempt["outcome"], attempt["message"] = error.code, error.message
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

    async def _first_frame(self, request: ChatRequest, query: Query, target: Target, ranked: Ranked) -> Opened:
        reply = await target.provider.open(request, target)
        frames = aiter(reply.frames)
        meter = Meter(target.card, query.features.tokens, request.wants_usage)
        try:
            frame = await anext(frames)
            first = meter.stream(frame) if reply.stream else meter.whole(frame)
        except StopAsyncIteration:
            raise UpstreamBroken("The upstream's answer is empty.") from None
        except BaseException:
            await reply.frames.aclose()
            raise
        return Opened(target, ranked, reply, frames, meter, first)


def call_order(decision: Decision, fallback: Fallback) -> Sequence[Ranked]:
    """The chosen one, then the policy's fallback models in their order, then the rest of the ranking."""
    if not fallback.enabled:
        return decision.ranking[:1]
    first, *rest = decision.ranking
    places = {model: place for place, model in enumerate(fallback.models)}
    rest.sort(key=lambda ranked: places.get(ranked.candidate.card.id, len(places)))
    return [first, *rest][: fallback.max_attempts]
