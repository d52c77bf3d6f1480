"""Self-consistency: several samples, the answer that most of them end on; stops once its lead is decisive.

Source: Wang et al., Self-Consistency (2022); the stopping rule after Aggarwal et al., Adaptive-Consistency (2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import ClassVar, Self

from gateway.strategies.asking import among, sample_asks, why_not_texts
from gateway.strategies.base import Call, LoadRouter, NobodyAnswered, Panel, Seat, Told
from gateway.strategies.finals import final_of
from gateway.strategies.tally import is_decisive, lead_of, votes_needed
from gateway.wire.chat_request import ChatRequest
from policies.schema import StrategySpec


class Vote:
    """Samples are asked for in waves, each the fewest that could decide: a unanimous vote costs no sample too many, a
    close one at most `n`. Refusals and empty answers have no vote where others answer."""

    kind: ClassVar[str] = "vote"

    def __init__(self, spec: StrategySpec) -> None:
        self._spec = spec

    @classmethod
    def from_spec(cls, spec: StrategySpec, load: LoadRouter) -> Self:
        """Takes `n`, `models`, `temperature` and `confidence`."""
        return cls(spec)

    def unfit(self, request: ChatRequest, seats: Sequence[Seat]) -> str | None:
        """Texts must be comparable."""
        if self._spec.models and not among(seats, self._spec.models):
            return "none of its models can answer this request"
        return why_not_texts(request)

    async def answer(self, panel: Panel) -> Told:
        """See `Strategy`."""
        most = min(self._spec.n, panel.calls_left)
        asked, voters, ended = 0, list[Call](), list[Call]()
        while asked < most and panel.calls_left:
            wave = min(self._wave(voters, most - asked), panel.calls_left)
            asks = sample_asks(panel, self._spec, wave, asked)
            asked += wave
            async with aclosing(panel.finished(asks)) as calls:
                async for call in calls:
                    (voters if _votes(call) else ended).append(call)
                    if self._decided(voters, most - len(voters) - len(ended)):
                        return self._told(panel, voters, asked)
        if voters:
            return self._told(panel, voters, asked)
        silent = next((call for call in ended if call.has_answered), None)
        if silent is not None:
            return Told(silent, f"None of {asked} samples says anything to vote on.")
        raise NobodyAnswered.of(ended)

    def _wave(self, voters: Sequence[Call], still_to_come: int) -> int:
        votes, runner_up = _standing(voters)
        return votes_needed(votes, runner_up, still_to_come, self._spec.confidence)

    def _decided(self, voters: Sequence[Call], still_to_come: int) -> bool:
        votes, runner_up = _standing(voters)
        return bool(votes) and is_decisive(votes, runner_up, still_to_come, self._spec.confidence)

    def _told(self, panel: Panel, voters: Sequence[Call], asked: int) -> Told:
        finals = [final_of(call.text).text for call in voters]
        lead = lead_of(finals, [call.ask.seat.forecast.quality for call in voters])
        for call, final in zip(voters, finals, strict=True):
            if call.signals is not None:
                call.signals = replace(call.signals, agreement=finals.count(final) / len(finals))
        said = f"{lead.votes} of {len(voters)} samples agree" if lead.votes > 1 else "no two samples agree"
        short = f" {panel.refusal}" if panel.refusal else ""
        unasked = self._spec.n - asked
        early = f"; {unasked} more were not needed" if unasked > 0 and not short else ""
        return Told(voters[lead.place], f"{said[0].upper()}{said[1:]}{early}.{short}")


def _standing(voters: Sequence[Call]) -> tuple[int, int]:
    """Votes for the leader and for the runner-up; nobody leads a vote that has not begun."""
    if not voters:
        return 0, 0
    lead = lead_of([final_of(call.text).text for call in voters], [0.0] * len(voters))
    return lead.votes, lead.runner_up


def _votes(call: Call) -> bool:
    signals = call.signals
    return call.has_answered and signals is not None and not (signals.empty or signals.refused)
