"""All known pairs of requests come out right, and what is wrong is said."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.cache.pairs import Pair, judge, read_pairs
from tests.unit.gateway.cache.bodies import body

# 364 pairs of 26 kinds with who may share and why, written for this project (CC0).
PAIRS = Path(__file__).with_name("request_pairs.jsonl.gz")


def pair(first: dict[str, Any], second: dict[str, Any], may_share: bool | None = True) -> Pair:
    row = {"id": 1, "a": first, "b": second, "tenant_a": "t", "tenant_b": "t", "may_share": may_share}
    return next(read_pairs([msgspec.json.encode(row)]))


def test_every_known_pair_is_judged_right() -> None:
    with gzip.open(PAIRS) as lines:
        verdicts = [judge(one) for one in read_pairs(lines)]

    assert [one for one in verdicts if not one.is_right] == []
    assert Counter((one.may_share, one.served) for one in verdicts) == {
        (True, "exact"): 112,
        (False, None): 238,
        (None, None): 14,
    }


def test_whatever_the_verifier_says_what_must_not_be_shared_is_not() -> None:
    with gzip.open(PAIRS) as lines:
        verdicts = [judge(one, verify=lambda first, second: True) for one in read_pairs(lines)]

    assert [one for one in verdicts if not one.is_right] == []
    assert Counter(one.served for one in verdicts if one.may_share is None) == {"semantic": 14}


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (body(cache={"mode": "off"}), body(), "the request turns the cache off"),
        (body(cache={"store": False}), body(), "the first is not kept"),
        (body(), body(cache={"read": False}), "the second wants a fresh answer"),
        (body(), body("Else?"), "the texts differ"),
        (body(seed=1), body("Else?", seed=1), "a seed asks for one certain answer"),
        (body(), body(seed=1), "tenant, model or context differ"),
    ],
)
def test_the_reason_why_nothing_is_served_is_told(first: dict[str, Any], second: dict[str, Any], why: str) -> None:
    verdict = judge(pair(first, second))

    assert (verdict.served, verdict.why, verdict.is_right) == (None, why, False)


def test_a_verifier_is_not_asked_of_what_is_exact_only() -> None:
    wanted = pair(body(temperature=2), body("Else?", temperature=2))

    assert judge(wanted, verify=lambda first, second: True).served is None


@pytest.mark.parametrize("line", [b"{", b'{"id": 1}', b"\xff"])
def test_a_line_that_is_no_pair_is_named(line: bytes) -> None:
    with pytest.raises(ValueError, match="line 2 is no pair of requests"):
        list(read_pairs([b"\n", line]))


def test_a_body_that_is_no_request_is_named() -> None:
    with pytest.raises(ValueError, match="pair 1: Missing required field 'messages'"):
        judge(pair(body(), {"model": "m"}))
