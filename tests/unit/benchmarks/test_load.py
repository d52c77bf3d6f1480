"""Percentiles, the open-loop schedule, and what counts as a good answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gateway.client import ClientConnection, Exchange
from benchmarks.gateway.clock import schedule
from benchmarks.gateway.load import Spread, Tally, percentile, verdict

_TIMES = st.lists(st.floats(0, 1e3), min_size=1, max_size=50).map(sorted)


def test_percentiles_are_values_that_occurred() -> None:
    ordered = [float(number) for number in range(1, 101)]

    assert [percentile(ordered, share) for share in (0.0, 0.5, 0.9, 0.99, 1.0)] == [1, 50, 90, 99, 100]
    assert percentile([7.0], 0.99) == 7.0


@given(_TIMES, st.floats(0, 1))
def test_at_least_the_asked_share_of_values_does_not_exceed_a_percentile(ordered: list[float], share: float) -> None:
    value = percentile(ordered, share)

    assert sum(one <= value for one in ordered) >= share * len(ordered) - 1e-9
    assert sum(one < value for one in ordered) <= share * len(ordered) + 1e-9


@pytest.mark.parametrize(("ordered", "share"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_a_percentile_of_nothing_or_beyond_the_ends_is_refused(ordered: list[float], share: float) -> None:
    with pytest.raises(ValueError, match=r"values|share"):
        percentile(ordered, share)


def test_a_spread_is_in_milliseconds_and_absent_without_times() -> None:
    assert Spread.of_seconds([0.003, 0.001, 0.002]) == Spread(3, 2.0, 3.0, 3.0, 3.0)
    assert Spread.of_seconds([]) is None


@given(st.floats(0.5, 5000), st.floats(0.001, 3))
def test_a_schedule_is_evenly_spaced_and_ends_in_time(rate: float, seconds: float) -> None:
    offsets = schedule(rate, seconds)

    assert offsets[0] == 0.0
    assert offsets[-1] < seconds <= offsets[-1] + 1.001 / rate
    assert all(offset == pytest.approx(number / rate) for number, offset in enumerate(offsets))


def test_a_schedule_needs_a_rate() -> None:
    with pytest.raises(ValueError, match="rate"):
        schedule(0, 1)


def test_latency_counts_from_the_planned_time_and_not_from_the_sending() -> None:
    tally = Tally()

    tally.add(Exchange(sent_s=12.0, status=200, ended_s=12.5), intended_s=10.0)

    result = tally.result("open loop", wall_s=1.0)
    assert result.latency is not None and result.latency.max_ms == pytest.approx(2500.0)
    assert result.sent_late is not None and result.sent_late.max_ms == pytest.approx(2000.0)


@pytest.mark.parametrize(
    ("exchange", "wrong"),
    [
        (Exchange(0.0, status=200, events=11, done_events=1), ""),
        (Exchange(0.0, status=200, events=10, done_events=1), "events missing"),
        (Exchange(0.0, status=200, events=11, done_events=0), "0 [DONE] events"),
        (Exchange(0.0, status=200, events=12, done_events=2), "2 [DONE] events"),
        (Exchange(0.0, status=502), "status 502"),
        (Exchange(0.0, status=200, error="reset"), "reset"),
    ],
)
def test_a_stream_is_good_only_if_whole_and_ended_once(exchange: Exchange, wrong: str) -> None:
    assert verdict(exchange, chunks=10) == wrong


@given(st.lists(st.integers(1, 400), max_size=30))
def test_events_are_counted_alike_however_the_bytes_are_cut(sizes: list[int]) -> None:
    stream = b'data: {"a":1}\n\n' * 40 + b"data: [DONE]\n\n"
    connection, exchange = ClientConnection(), Exchange(0.0)
    connection._exchange = exchange
    for size in [*sizes, len(stream)]:
        connection.on_body(stream[:size])
        stream = stream[size:]

    assert (exchange.events, exchange.done_events) == (41, 1)
