"""A cheap model first; its answer's signals say whether to stop, to ask another model, or to vote.

When to go on is a `routers.cascade_policy.CascadePolicy`: a trained one where the table names an artifact, else one
that goes by a threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Self

from gateway.strategies.asking import among
from gateway.strategies.base import Ask, Call, LoadRouter, NobodyAnswered, Panel, Seat, Told
from gateway.strategies.finals import final_of
from gateway.strategies.tally import lead_of
from gateway.wire.chat_edit import as_whole, with_logprobs
from gateway.wire.chat_request import ChatRequest
from policies.schema import RouterSpec, StrategySpec
from routers.cascade_policy import CascadePolicy, Step, ThresholdCascade, Verdict, answer_score
from routers.decision import Query
from routers.kinds.cascade import Cascade as TrainedCascade


class Cascade:
    """Every model is asked once. A model that fails is passed over. A last round, after which no other is possible, is
    streamed as it comes; what is written in earlier rounds must be looked at whole before it can be given."""

    kind: ClassVar[str] = "cascade"

    def __init__(self, spec: StrategySpec, rounds: CascadePolicy, needs_embedding: bool) -> None:
        self._spec = spec
        self._rounds = rounds
        self._needs_embedding = needs_embedding

    @classmethod
    def from_spec(cls, spec: StrategySpec, load: LoadRouter) -> Self:
        """Takes `models`, `artifact`, and without one `threshold`; `ValueError` where the artifact is of no use."""
        if spec.artifact is None:
            return cls(spec, ThresholdCascade(spec.threshold, spec.max_calls), needs_embedding=False)
        found = load(RouterSpec(kind=TrainedCascade.kind, artifact=spec.artifact))
        if not isinstance(found, TrainedCascade):
            raise ValueError(f"the artifact '{spec.artifact}' is no cascade's: train one with --kind cascade")
        return cls(spec, found.policy, needs_embedding=True)

    def unfit(self, request: ChatRequest, seats: Sequence[Seat]) -> str | None:
        """There must be a choice, and one answer to look at."""
        if len(among(seats, self._spec.models)) < 2:
            return "fewer than two models can answer this request"
        return "the request wants several choices" if request.choices != 1 else None

    async def answer(self, panel: Panel) -> Told:
        """See `Strategy`."""
        seats, query = among(panel.seats, self._spec.models), await self._query(panel)
        answered, failed = list[Call](), list[Call]()
        while True:
            verdict = self._verdict(panel, query, seats, answered)
            asked = next((seat for seat in seats if seat.card.id == verdict.model), None)
            if verdict.action != "call" or asked is None or not panel.calls_left:
                break
            call = await panel.ask(self._ask(panel, query, asked, self._is_last(panel, seats, answered)))
            if not call.has_answered:
                failed.append(call)
                seats = [seat for seat in seats if seat is not asked]
            elif call.reply is None:
                return Told(call, f"Round {len(answered) + 1} is the last: {verdict.reason}.")
            else:
                answered.append(call)
        if not answered:
            raise NobodyAnswered.of(failed)
        return _told(panel, verdict, answered)

    def _verdict(self, panel: Panel, query: Query, seats: Sequence[Seat], answered: Sequence[Call]) -> Verdict:
        if not seats:
            return Verdict("stop", None, "no model is left", 0.0)
        found = self._rounds.next(
            query,
            [seat.order[0].candidate for seat in seats],
            [seat.forecast for seat in seats],
            [_step(call) for call in answered],
            panel.cost_weight_per_usd,
            panel.budget_left_nanousd,
        )
        if found.action == "stop" and not answered:  # eligible endpoints are within the budget: one is asked anyway
            return Verdict("call", seats[0].card.id, found.reason, found.value)
        return found

    def _is_last(self, panel: Panel, seats: Sequence[Seat], answered: Sequence[Call]) -> bool:
        """Whether no round can follow the one that is about to begin."""
        no_round = len(answered) + 1 >= self._rounds.max_rounds or panel.calls_left <= 1
        return no_round or len(seats) <= len(answered) + 1

    def _ask(self, panel: Panel, query: Query, seat: Seat, last: bool) -> Ask:
        request = panel.request
        if not (last and request.stream):
            request = as_whole(request)
            request = with_logprobs(request) if seat.card.logprobs else request
        return Ask("round", seat, request, query)

    async def _query(self, panel: Panel) -> Query:
        """With its embedding, where the policy of the rounds was trained on those."""
        query = panel.query
        if not self._needs_embedding or query.embedding is not None or not query.text:
            return query
        vectors = await panel.vectors([query.text])
        return replace(query, embedding=vectors[0]) if vectors else query


def _step(call: Call) -> Step:
    signals = call.signals.numbers() if call.signals is not None else {}
    return Step(call.model, call.cost_nanousd, call.output_tokens, signals)


def _told(panel: Panel, verdict: Verdict, answered: Sequence[Call]) -> Told:
    """The answer of the verdict's choice; the surest so far where the rounds ended for another reason."""
    rounds = f"after {len(answered)} round{'s' if len(answered) > 1 else ''}"
    if verdict.action == "vote":
        finals = [final_of(call.text).text for call in answered]
        lead = lead_of(finals, [_sureness(call) for call in answered])
        return Told(answered[lead.place], f"{lead.votes} of {len(answered)} answers agree {rounds}.")
    chosen = next((call for call in answered if call.model == verdict.model and verdict.action == "stop"), None)
    if chosen is not None:
        return Told(chosen, f"Stopped {rounds}: {verdict.reason}.")
    best = max(answered, key=_sureness)
    why = panel.refusal or "No further call could be made."
    return Told(best, f"Stopped {rounds} with the surest answer, of '{best.model}'. {why}")


def _sureness(call: Call) -> float:
    return answer_score(_step(call), call.ask.seat.forecast.quality)
