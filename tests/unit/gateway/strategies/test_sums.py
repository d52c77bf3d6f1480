"""What calls took together."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.record import Record
from gateway.strategies.sums import sums_of


def part(**took: Any) -> Record:
    return Record("r", 0.0, "chat", **took)


def test_calls_that_never_began_count_as_nothing() -> None:
    sums = sums_of([part(), part(input_tokens=3, output_tokens=2, cost_nanousd=7, reserved_nanousd=9)])

    assert (sums.calls, sums.input_tokens, sums.output_tokens, sums.cost_nanousd) == (1, 3, 2, 7)
    assert sums.reserved_nanousd == 9 and sums.cost_usd == 7e-9


def test_clients_are_told_no_cost_where_one_is_unknown_but_what_is_known_is_kept() -> None:
    sums = sums_of([part(input_tokens=1, cost_nanousd=7), part(input_tokens=1)])

    assert sums.cost_nanousd == 7 and sums.cost_usd is None and sums.usage()["cost"] is None


def test_nothing_known_is_no_cost() -> None:
    assert sums_of([part(input_tokens=1)]).cost_nanousd is None


def test_one_estimate_makes_the_sum_an_estimate() -> None:
    assert sums_of([part(input_tokens=1), part(input_tokens=1, usage_estimated=True)]).usage()["estimated"] is True


@given(st.lists(st.tuples(*[st.integers(0, 10**6)] * 5), max_size=8))
def test_usage_is_the_sum_of_all(rows: list[tuple[int, ...]]) -> None:
    names = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "cost_nanousd")

    usage = sums_of(part(**dict(zip(names, row, strict=True))) for row in rows).usage()

    totals = [sum(column) for column in zip(*rows, strict=True)] if rows else [0] * 5
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (totals[0], totals[1])
    assert usage["total_tokens"] == totals[0] + totals[1]
    assert usage["prompt_tokens_details"]["cached_tokens"] == totals[2]
    assert usage["cost"] == (totals[4] / 1e9 if rows else None)
