"""What the cache is told of an answer that ended at a length."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gateway.answer import Answer
from gateway.ledger.record import Record


class Told:
    """Who keeps answers, and what was said to it."""

    def __init__(self) -> None:
        self.said: list[bool] = []

    def done(self, _record: Record, *, length_is_own: bool) -> None:
        self.said.append(length_is_own)


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
