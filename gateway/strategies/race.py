"""Asks several at once and takes the first that has an answer; the others are cancelled, and what they cost counts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import ClassVar, Self

from gateway.strategies.asking import among
from gateway.strategies.base import Ask, Call, LoadRouter, NobodyAnswered, Panel, Seat, Told
from gateway.wire.chat_request import ChatRequest
from policies.schema import StrategySpec


class Race:
    """The winner is the first to finish of whole answers, the first to speak of streams: what a client waits for.

    Racers are the first `n` models in the decision's order; where those are fewer, further endpoints of theirs.
    """

    kind: ClassVar[str] = "race"

    def __init__(self, spec: StrategySpec) -> None:
        self._spec = spec

    @classmethod
    def from_spec(cls, spec: StrategySpec, load: LoadRouter) -> Self:
        """Takes `n` and `models`."""
        return cls(spec)

    def unfit(self, request: ChatRequest, seats: Sequence[Seat]) -> str | None:
        """Nothing to race where one endpoint is all there is."""
        return None if len(self._racers(seats)) > 1 else "only one endpoint can take part"

    async def answer(self, panel: Panel) -> Told:
        """See `Strategy`."""
        racers = self._racers(panel.seats)[: panel.calls_left]
        asks = [Ask("racer", seat, panel.request, panel.query) for seat in racers]
        ended: list[Call] = []
        async with aclosing(panel.finished(asks)) as calls:
            async for call in calls:
                if call.has_answered and not (call.signals and call.signals.empty):
                    verb = "finish" if call.reply is not None else "speak"
                    return Told(call, f"'{call.model}' was the first of {len(asks)} to {verb}.")
                ended.append(call)
        silent = next((call for call in ended if call.has_answered), None)
        if silent is not None:
            return Told(silent, "No racer had anything to say.")
        raise NobodyAnswered.of(ended)

    def _racers(self, seats: Sequence[Seat]) -> list[Seat]:
        seats = among(seats, self._spec.models)
        racers = [Seat(seat.order[:1]) if len(seats) < self._spec.n else seat for seat in seats]
        if len(seats) < self._spec.n:
            racers += [Seat((one,)) for seat in seats for one in seat.order[1:]]
        return racers[: self._spec.n]
