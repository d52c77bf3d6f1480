"""Ids of requests."""

from __future__ import annotations

import re

from gateway.api.raw import new_request_id

NOW = 1_790_000_000.125


def test_ids_of_one_moment_differ() -> None:
    assert len({new_request_id(NOW) for _ in range(10_000)}) == 10_000


def test_a_younger_id_sorts_behind_an_older_one() -> None:
    ids = [new_request_id(NOW + milliseconds / 1000) for milliseconds in (0, 2, 17, 60_000, 10**9, 10**13)]

    assert ids == sorted(ids)


def test_an_id_has_one_shape_now_and_in_centuries() -> None:
    for at in (0.0, NOW, NOW * 9):
        assert re.fullmatch(r"req_[0-9a-f]{24}", new_request_id(at))
