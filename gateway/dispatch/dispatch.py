"""Calls a ranking's endpoints until one delivers its first frame; after that nothing is switched."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any

from gateway.dispatch.attempt import Attempts, Call, Opened
from gateway.dispatch.balance import two_choices
from gateway.dispatch.deadline import Deadline
from gateway.dispatch.health import Health
from gateway.dispatch.hedge import race
from gateway.dispatch.retries import Circumstances, Retries, may_pass
from gateway.dispatch.stickiness import keep_to
from gateway.errors import (
    ContextTooLong,
    GatewayError,
    NoEndpoint,
    UnsupportedCapability,
    UpstreamAuth,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.providers.base import Target
from policies.schema import Policy
from routers.decision import Decision, Ranked

__all__ = ["Call", "Dispatcher", "Opened"]

PINNED = "pinned"
# Our own estimate let an endpoint in that can't answer; a later one may be larger or able.
ANOTHER_MAY_DO = (ContextTooLong, UnsupportedCapability)


class Dispatcher:
    """Holds the targets and what is known of their health; one per process."""

    def __init__(self, targets: Mapping[str, Target], health: Health, retries: Retries, rng: random.Random) -> None:
        self._attempts = Attempts(targets, health)
        self._health = health
        self.retries = retries
        self._rng = rng

    def order(self, decision: Decision, policy: Policy, session: str | None) -> list[Ranked]:
        """The endpoints in the order in which they should be called.

        The decision picks the model, and here one of its endpoints is picked: the one that the session keeps to, else
        the less busy of two. Whichever that is carries the propensity of the model, the sum over its endpoints, and
        a note on why. Its siblings follow, then the policy's fallback models, then the rest of the ranking. Where the
        request names its models their order is the decision's own, and stays.
        """
        ranking = decision.ranking
        model = ranking[0].candidate.card.id
        same = [one for one in ranking if one.candidate.card.id == model]
        places = {fallback: place for place, fallback in enumerate(policy.fallback.models)}
        if len(same) == 1 and not places:
            return list(ranking)
        rest = [one for one in ranking if one.candidate.card.id != model]
        if places and decision.router_kind != PINNED:
            rest.sort(key=lambda ranked: places.get(ranked.candidate.card.id, len(places)))
        return (same if len(same) == 1 else self._balanced(same, session)) + rest

    async def open(self, call: Call) -> Opened:
        """Open the endpoint that the lease was granted for, or the next ones while nothing has been sent to the client.

        Raises the last failure; a `RefusedUpstream` at once, since another endpoint would be asked the same wrong
        question; `UpstreamTimeout` when the call's time is over, and where it was over before without asking anybody.
        """
        self.retries.budget.earn()
        deadline = Deadline(call.fallback.deadline_s, call.deadline)
        first = call.lease.place
        try:
            if deadline.is_over:  # what is sent now would be cancelled in the loop's next turn, and may be charged for
                raise UpstreamTimeout("The time was over before an endpoint could be asked.")
            if call.fallback.hedge_after_ms is not None or self._paused_s(call, first):
                return await self._walk(call, deadline, None)
            # Nearly every call ends here, so nothing is laid out for failures before there is one.
            try:
                return await self._attempts.one(call, first, deadline)
            except (UpstreamError, *ANOTHER_MAY_DO) as failure:
                return await self._walk(call, deadline, failure)
        except asyncio.CancelledError as cancelled:
            raise deadline.verdict(cancelled) from None
        finally:
            deadline.stop()

    async def _walk(self, call: Call, deadline: Deadline, failed: GatewayError | None) -> Opened:
        """Endpoint by endpoint; the next one's reservation takes the place of the last one's.

        `failed` is how the first endpoint has failed already, if it was asked.
        """
        failure: GatewayError = NoEndpoint("No endpoint could be tried.")
        waiting = list(range(call.lease.place, len(call.order)))
        held = call.lease.place
        tries_left = call.fallback.max_attempts if call.fallback.enabled else 1
        while tries_left and waiting and not deadline.rang:
            place = held if failed else self._next(call, waiting, last=tries_left == 1 and bool(call.attempts))
            if not failed and call.attempts and not self._worth_another(call, place, deadline):
                break
            waiting.remove(place)
            if place != held and not await self._moved(call, held, place):
                continue
            held = place
            tries_left -= 1
            try:
                return await self._asked(call, place, waiting, deadline, failed)
            except UpstreamError as error:
                failure = error
                if isinstance(error, (UpstreamUnavailable, UpstreamAuth)):
                    waiting = _elsewhere(call, place, waiting)
            except ANOTHER_MAY_DO as error:
                failure = error
            failed = None
        raise failure

    def _next(self, call: Call, waiting: list[int], last: bool) -> int:
        """The next to try: the first that is well, the runtime in this process for the last try.

        Nothing can stand between that and the answer when the network is gone.
        """
        if last:
            here = next((one for one in waiting if call.order[one].candidate.endpoint.provider == "local"), None)
            if here is not None:
                return here
        if len(waiting) == 1 or not self._paused_s(call, waiting[0]):
            return waiting[0]
        return next((one for one in waiting if not self._paused_s(call, one)), waiting[0])

    def _worth_another(self, call: Call, place: int, deadline: Deadline) -> bool:
        """Whether to go on after a failure: endpoints known to be ill are asked again only within the retry budget."""
        if deadline.is_over:
            return False
        return not self._paused_s(call, place) or self.retries.budget.take()

    async def _moved(self, call: Call, held: int, place: int) -> bool:
        """Whether budgets cover another endpoint; one that needs the same of the same model needs no asking."""
        old, new = call.needs[held], call.needs[place]
        same = (new.card.id, new.cost_nanousd, new.tokens) == (old.card.id, old.cost_nanousd, old.tokens)
        # Of a hard budget less is set aside than was needed where the store went away while another was asked about.
        if same and not (call.lease.hard and call.lease.reserved_nanousd < new.cost_nanousd):
            return True
        if await call.lease.move(new):
            return True
        call.attempts.append({"endpoint": new.endpoint_id, "outcome": "budget", "ms": 0.0})
        return False

    async def _asked(
        self, call: Call, place: int, waiting: list[int], deadline: Deadline, failed: GatewayError | None
    ) -> Opened:
        """One endpoint's answer, asked again where that may help and nothing nearer is left.

        Another endpoint of the same model is asked rather than the same one again; the same one again rather than
        another model.
        """
        try:
            if failed is not None:
                raise failed
            if call.fallback.hedge_after_ms is None:
                return await self._attempts.one(call, place, deadline)
            return await self._hedged(call, place, waiting, deadline)
        except UpstreamError as error:
            if not call.fallback.retries or not may_pass(error) or self._sibling(call, place, waiting) is not None:
                raise
            failure = error
        circumstances = Circumstances(
            retries=call.fallback.retries,
            left_s=lambda: deadline.left_s,
            paused_s=lambda: self._paused_s(call, place),
            alternative=bool(waiting) and call.fallback.enabled,
        )
        return await self.retries.again(failure, partial(self._attempts.one, call, place, deadline), circumstances)

    async def _hedged(self, call: Call, place: int, waiting: list[int], deadline: Deadline) -> Opened:
        """The first of two endpoints of the model to answer; never where a hard budget would have to hold both."""

        def second() -> Coroutine[Any, Any, Opened] | None:
            sibling = self._sibling(call, place, waiting)
            if sibling is None or not self.retries.budget.take():
                return None
            waiting.remove(sibling)
            return self._attempts.one(call, sibling, deadline)

        attempts, begun = call.attempts, len(call.attempts)
        first = self._attempts.one(call, place, deadline)
        if call.lease.hard or self._sibling(call, place, waiting) is None:
            return await first
        vitals = self._health.of(call.order[place].candidate.endpoint.id)
        after_s = max(call.fallback.hedge_after_ms or 0, vitals.p95_ms()) / 1000
        opened = await race(first, after_s, second, _too_late)
        for attempt in attempts[begun:]:
            if attempt["outcome"] in ("cancelled", "ok") and attempt["endpoint"] != opened.target.endpoint.id:
                attempt["outcome"], attempt["may_cost"] = "hedged", True
        attempts[begun:] = sorted(attempts[begun:], key=lambda attempt: attempt["outcome"] == "ok")
        return opened

    def _sibling(self, call: Call, place: int, waiting: list[int]) -> int | None:
        """The next endpoint of the same model that is well."""
        if not call.fallback.enabled:
            return None
        model = call.order[place].candidate.card.id
        same = (one for one in waiting if call.order[one].candidate.card.id == model)
        return next((one for one in same if not self._paused_s(call, one)), None)

    def _paused_s(self, call: Call, place: int) -> float:
        return self._health.paused_s(call.order[place].candidate.endpoint.id)

    def _balanced(self, same: list[Ranked], session: str | None) -> list[Ranked]:
        """The endpoints of one model, the one to call first with the model's propensity and the reason."""
        health = self._health
        names, weights, vitals, whole = [], [], [], 0.0
        for one in same:
            row = one.candidate.endpoint
            names.append(row.id)
            weights.append(row.weight)
            vitals.append(health.of(row.id))
            whole += one.propensity
        if session is not None:
            places = keep_to(session, names, weights, [one.in_flight for one in vitals])
            why = "was picked by the hash of the conversation"
        else:
            places = two_choices(weights, health.loads(vitals), self._rng)
            why = "was drawn as the less busy of two"
        note = f"Of {len(same)} endpoints '{names[places[0]]}' {why}."
        return [_at(same[place], whole, note) for place in places]


def _elsewhere(call: Call, place: int, waiting: list[int]) -> list[int]:
    """Those at another address: one that can't be reached, or refuses our credential, does so for all its models."""
    url = call.order[place].candidate.endpoint.base_url
    if url is None:
        return waiting
    return [one for one in waiting if call.order[one].candidate.endpoint.base_url != url]


def _at(one: Ranked, propensity: float, note: str) -> Ranked:
    return Ranked(one.candidate, one.forecast, one.cost_nanousd, one.cost_high_nanousd, one.score, propensity, note)


async def _too_late(opened: Opened) -> None:
    await opened.reply.frames.aclose()
