"""Which layers are computed when some are left out."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_runtime.decoding.depth import greedy, least_change, parsed, unified


@given(st.integers(2, 200).flatmap(lambda count: st.tuples(st.just(count), st.integers(2, count))))
def test_layers_left_out_are_spread_evenly_between_the_ends(sizes: tuple[int, int]) -> None:
    count, keep = sizes
    layers = unified(count, keep)
    gone = sorted(set(range(count)) - set(layers))
    gaps = {b - a for a, b in pairwise(gone)}

    assert len(layers) == keep
    assert (layers[0], layers[-1]) == (0, count - 1)
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_the_layers_that_change_least_are_left_out_but_for_the_ends() -> None:
    assert least_change([0.0, 0.5, 0.1, 0.9, 0.2, 0.0], 4) == (0, 1, 3, 5)


def test_greedy_leaves_out_what_costs_least_at_each_turn() -> None:
    worth = [5.0, 1.0, 4.0, 2.0]

    found = greedy(4, 2, lambda layers: -sum(worth[i] for i in layers))

    assert found == [(0, 2, 3), (0, 2)]


@pytest.mark.parametrize(
    ("text", "layers"),
    [("6", (0, 1, 2, 3, 4, 5)), (" 5 ", (0, 1, 2, 4, 5)), ("0-2,5", (0, 1, 2, 5)), ("3", (0, 2, 5)), ("4-4", (4,))],
)
def test_layers_are_a_number_or_listed(text: str, layers: tuple[int, ...]) -> None:
    assert parsed(text, 6) == layers


@pytest.mark.parametrize("text", ["", "x", "1", "7", "0-6", "3-1", "1,1", "2,1", "0-1-2", "-1", "1,,2", "9" * 300])
def test_what_is_no_list_of_layers_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="layers must"):
        parsed(text, 6)
