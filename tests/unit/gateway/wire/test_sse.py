"""Cutting a byte stream at event borders."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamBroken
from gateway.wire.sse import EventCutter

TEXT = b'data: {"a":1}\n\nevent: x\ndata: two\n\n: comment\n\ndata: [DONE]\n\n'


@given(st.lists(st.integers(1, len(TEXT) - 1), max_size=12), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_cut_of_the_stream_gives_the_same_events(cuts: list[int], newline: bytes) -> None:
    text = TEXT.replace(b"\n", newline)
    places = [0, *sorted(set(cuts)), len(text)]
    cutter = EventCutter(1000)

    frames = [cutter.feed(text[start:end]) for start, end in itertools.pairwise(places)]
    frames.append(cutter.feed(b"\n") if newline == b"\r" else b"")

    assert b"".join(frames).rstrip(b"\n") == TEXT.rstrip(b"\n")
    assert all(not frame or frame.endswith(b"\n\n") for frame in frames[:-1])
    assert cutter.rest == b""


def test_half_an_event_is_left_over() -> None:
    cutter = EventCutter(1000)

    assert cutter.feed(b"data: 1\n\ndata: 2") == b"data: 1\n\n"
    assert cutter.rest == b"data: 2"


def test_an_endless_event_is_refused() -> None:
    cutter = EventCutter(10)

    with pytest.raises(UpstreamBroken):
        cutter.feed(b"data: 12345678901234567890")
