"""What the cache is told of an answer that ended at a length."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.answer import Answer
from gateway.ledger.record import Record


class Told:
    """Who keeps answers, and what was said to it."""

    def __init__(self) -> None:
        self.said: list[bool] = []
        self.ended_well: bool | None = None

    def done(self, _record: Record, *, length_is_own: bool, ended_well: bool | None) -> None:
        self.said.append(length_is_own)
        self.ended_well = ended_well

    def goes_on(self) -> None:
        """A client has left."""


@pytest.mark.parametrize(
    ("own", "tokens", "expected"), [(None, 50, False), (50, 50, True), (50, 20, False), (50, None, False)]
)
def test_only_the_requests_own_bound_that_was_reached_makes_a_cut_answer_whole(
    own: int | None, tokens: int | None, expected: bool
) -> None:
    nothing, told = cast(Any, None), Told()
    record = Record(id="r", at=0.0, route="chat", output_tokens=tokens)
    answer = Answer(nothing, nothing, nothing, record, 0.0, nothing, 1, keeping=cast(Any, told), own_length=own)

    answer.keep()

    assert told.said == [expected]


@pytest.mark.parametrize("done", [True, False])
def test_an_answer_whose_client_left_is_as_whole_as_what_the_others_heard(done: bool) -> None:
    nothing, told = cast(Any, None), Told()
    record = Record(id="r", at=0.0, route="chat")
    opened = cast(Any, SimpleNamespace(meter=SimpleNamespace(done=done)))
    answer = Answer(opened, nothing, nothing, record, 0.0, nothing, 1, keeping=cast(Any, told))

    answer.leave((499, "client_disconnected"))
    answer.keep()

    assert told.ended_well is done and record.total_ms is not None  # so that it is logged at its end only
