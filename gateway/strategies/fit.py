"""Whether a policy's strategy fits a request; what is said where it does not. Calls nothing."""

from __future__ import annotations

from dataclasses import replace

from gateway.ledger.record import Record
from gateway.strategies.base import ChoosesExperts, Seat
from gateway.strategies.find import Plan, Tactics
from gateway.wire.chat_request import ChatRequest
from routers.decision import Decision, Query, Ranked


def tactics_for(
    plan: Plan | None, request: ChatRequest, query: Query, decision: Decision, record: Record, *, pinned: bool
) -> Tactics | None:
    """What is done for a request beside a single call; None for nothing.

    Without its strategy where the request names its models, or is not fit for it: `record` then says so.
    """
    if plan is None:
        return None
    tactics = plan.of(query.category)
    if tactics.strategy is None:
        return tactics
    kind = tactics.spec.kind
    if pinned:
        fault: str | None = "the request names its model"
    elif request.native_only is not None:
        fault = "only endpoints of the request's own dialect can be told all of it"
    else:
        fault = tactics.strategy.unfit(request, seats_of(decision))
    if fault is None:
        record.strategy = kind
        return tactics
    record.reason = f"{record.reason} Strategy '{kind}' does not apply, since {fault}."
    return replace(tactics, strategy=None)


def experts_of(tactics: Tactics | None, decision: Decision) -> list[str]:
    """The models that the strategy chooses as experts for this request; none where it has no such choice."""
    if tactics is None or not isinstance(tactics.strategy, ChoosesExperts):
        return []
    return [seat.card.id for seat in tactics.strategy.experts(seats_of(decision), tactics.spec.max_calls)]


def seats_of(decision: Decision) -> tuple[Seat, ...]:
    """A ranking's models with their endpoints, in its order."""
    endpoints: dict[str, list[Ranked]] = {}
    for one in decision.ranking:
        endpoints.setdefault(one.candidate.card.id, []).append(one)
    return tuple(Seat(tuple(order)) for order in endpoints.values())
