"""Medians, pairs, contended figures and the layout of the JSON file."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.runtime.summary import (
    CONTENDED_CORES,
    Measurement,
    clean,
    counts,
    layout,
    medians,
    ratios,
    rotated,
    shares_of_bound,
)

NAMES = ("ours", "llama_cpp_same_file")


def figure(
    number: int, name: str, per_s: float, *, phase: str = "decode", threads: int = 1, others: float = 0.0
) -> Measurement:
    return Measurement(number, phase, threads, name, per_s, 1.0, others)


def test_a_figure_is_contended_only_above_a_quarter_of_a_core() -> None:
    at, above = (figure(1, "ours", 1.0, others=cores) for cores in (CONTENDED_CORES, CONTENDED_CORES + 0.01))

    assert (at.contended, above.contended) == (False, True)
    assert clean([at, above]) == [at]
    assert above.told()["contended"] is True


def test_medians_are_by_threads_and_name_within_one_phase() -> None:
    made = [figure(number, "ours", per_s) for number, per_s in enumerate((10.0, 30.0, 11.0))]
    made += [figure(1, "ours", 50.0, threads=2), figure(1, "ours", 999.0, phase="prefill")]

    assert medians(made, "decode") == {"1": {"ours": 11.0}, "2": {"ours": 50.0}}


def test_ratios_are_taken_within_a_round_before_the_median() -> None:
    ours, theirs = (2.0, 30.0, 8.0), (1.0, 10.0, 2.0)
    made = [figure(number, "ours", per_s) for number, per_s in enumerate(ours)]
    made += [figure(number, NAMES[1], per_s) for number, per_s in enumerate(theirs)]

    assert ratios(made, "decode") == {"1": {NAMES[1]: 3.0}}


def test_a_figure_without_its_partner_in_the_round_gives_no_ratio() -> None:
    made = [figure(1, "ours", 2.0), figure(2, NAMES[1], 1.0), figure(1, NAMES[1], 4.0, threads=2)]

    assert ratios(made, "decode") == {}


def test_the_share_of_the_bound_uses_the_bandwidth_of_the_same_round() -> None:
    made = [figure(number, "arena", bandwidth, phase="bandwidth") for number, bandwidth in ((1, 1e9), (2, 4e9))]
    made += [figure(1, "ours", 5.0), figure(2, "ours", 20.0), figure(3, "ours", 1000.0)]

    assert shares_of_bound(made, 100_000_000) == {"1": {"ours": 0.5}}


def test_the_top_of_the_file_has_clean_medians_and_none_where_nothing_was_clean() -> None:
    made = [figure(1, "ours", 10.0), figure(2, "ours", 90.0, others=1.0)]
    made += [figure(number, NAMES[1], 5.0, others=1.0) for number in (1, 2)]
    made += [figure(1, "arena", 3e9, phase="bandwidth"), figure(1, "8", 400.0, phase="batch", others=0.3)]

    told = layout(made, 100_000_000, {"load_s": {"ours": 0.5}})

    assert told["decode"] == {"1": {"ours": 10.0, NAMES[1]: None}}
    assert told["ratios"] == {"decode": {"1": {NAMES[1]: None}}, "prefill": {}}
    assert told["batch"] == {"1": {"8": None}}
    assert told["bandwidth"] == {"1": 3.0, "2": None}
    assert told["load_s"] == {"ours": 0.5}
    every = told["all_rounds"]
    assert isinstance(every, dict)
    assert every["decode"] == {"1": {"ours": 50.0, NAMES[1]: 5.0}}
    assert every["ratios"]["decode"] == {"1": {NAMES[1]: 10.0}}
    assert every["batch"] == {"1": {"8": 400.0}}


def test_the_file_says_how_many_figures_were_clean_and_holds_each_of_them() -> None:
    made = [figure(1, "ours", 10.0), figure(2, "ours", 90.0, others=1.0), figure(1, NAMES[1], 5.0, others=1.0)]

    told = layout(made, 1, {})

    assert counts(made, "decode") == {"1": {"ours": 1.0, NAMES[1]: 0.0}}
    assert told["clean_figures"] == {
        "decode": {"1": {"ours": 1, NAMES[1]: 0}},
        "prefill": {},
        "batch": {},
        "bandwidth": {},
    }
    rounds = told["rounds"]
    assert isinstance(rounds, list)
    assert [(one["round"], one["name"], one["contended"]) for one in rounds] == [
        (1, "ours", False),
        (2, "ours", True),
        (1, NAMES[1], True),
    ]
    assert json.loads(json.dumps(told)) == told


@given(st.integers(1, 6), st.integers(0, 30))
def test_in_as_many_rounds_as_names_everybody_begins_once(count: int, first: int) -> None:
    names = [str(number) for number in range(count)]

    orders = [rotated(names, number) for number in range(first, first + count)]

    assert sorted(order[0] for order in orders) == sorted(names)
    assert all(sorted(order) == sorted(names) for order in orders)


def test_nobody_has_an_order_too() -> None:
    assert rotated([], 3) == []


@pytest.mark.parametrize("phase", ["decode", "prefill", "batch"])
def test_a_run_without_rounds_has_no_figures(phase: str) -> None:
    assert layout([], 1, {})[phase] == {}
