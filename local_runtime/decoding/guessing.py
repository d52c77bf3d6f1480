"""Guesses for the sequences of a step, from their own repetitions or from a draft model, whichever promises more."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from collections.abc import Sequence as Items
from typing import TYPE_CHECKING, Final

from local_runtime.decoding.draft_model import DraftModel
from local_runtime.decoding.drafts import Draft, Odds
from local_runtime.decoding.pace import Pace, StepPlan

if TYPE_CHECKING:
    from local_runtime.sequence import Sequence

log = logging.getLogger(__name__)
_SURE: Final = Odds(1.0, 1.0)


class Guesses:
    """At most `most` a sequence and step, as many as `pace` finds worth it. A draft model that fails is done without
    from then on."""

    def __init__(self, pace: Pace, most: int, model: DraftModel | None = None) -> None:
        self._pace = pace
        self._most = most
        self.model = model if most else None

    def drafts(self, running: Items[Sequence]) -> dict[Sequence, Draft]:
        """For those of a step's sequences for which guessing pays; no other rows than theirs are computed in it."""
        plan = StepPlan(len(running), self._pace.costs())
        rows = len(running)
        found: dict[Sequence, Draft] = {}
        asked: dict[Sequence, int] = {}
        for sequence in running:
            draft = self._looked_up(sequence, rows)
            if draft is not None:
                found[sequence] = draft
            if self._asks(sequence, draft, plan):
                asked[sequence] = self._pace.count(_SURE, rows, self._room(sequence))
            elif draft is not None:
                rows += len(draft.tokens)
                _expect(plan, draft)
        return found | self._written(asked, plan)

    def learn(self, sequence: Sequence, draft: Draft, right: int) -> None:
        """So many of the draft's tokens were right before the first wrong one."""
        if draft.kind is not None:
            sequence.lookup.outcomes.add(draft.kind, right, len(draft.tokens))
        elif self.model is not None:
            self.model.learn(sequence, right, len(draft.tokens))

    def leave(self, sequence: Sequence) -> None:
        """It is not computed any more, or not now."""
        if self.model is not None:
            self.model.leave(sequence)

    def _room(self, sequence: Sequence) -> int:
        return min(self._most, sequence.room)

    def _looked_up(self, sequence: Sequence, rows: int) -> Draft | None:
        """What a repetition promises and is worth a step with more than its `rows` rows."""
        most = self._room(sequence)
        draft = sequence.lookup.draft(most) if most > 0 else None
        if draft is None:
            return None
        count = self._pace.count(draft.odds, rows, most)
        return Draft(draft.tokens[:count], draft.odds, draft.kind) if count else None

    def _asks(self, sequence: Sequence, draft: Draft | None, plan: StepPlan) -> bool:
        """Whether the draft model promises more than a repetition does, or is on trial."""
        most = self._room(sequence)
        if self.model is None or most < 1:
            return False
        known = plan.gain(draft.odds, plan.costs.row, most) if draft else 0.0
        if plan.gain(self.model.odds(sequence), plan.costs.guess(1), most) > known:
            return True
        return draft is None and self.model.on_trial(sequence)

    def _written(self, asked: Mapping[Sequence, int], plan: StepPlan) -> dict[Sequence, Draft]:
        if self.model is None or not asked:
            return {}
        try:
            return self.model.drafts(asked, plan, self._pace)
        except Exception:  # an answer needs no guesses
            log.exception("the draft model failed; going on without it")
            self.model = None
            return {}


def _expect(plan: StepPlan, draft: Draft) -> None:
    chance = draft.odds.first
    for _ in draft.tokens:
        plan.add(chance, plan.costs.row)
        chance *= draft.odds.further
