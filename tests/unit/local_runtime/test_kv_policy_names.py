"""Policies by name, and the search for bits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from local_runtime.kv.policies.cake import Cake
from local_runtime.kv.policies.mixed import MixedBits
from local_runtime.kv.policies.named import policy_of
from local_runtime.kv.policies.prefix import PrefixKv
from local_runtime.kv.policies.window import SinkWindow
from local_runtime.kv.tuning import LOWER, cheapest, sensitivities


@pytest.mark.parametrize(
    ("words", "kind", "after_prompt"),
    [
        ("window:64", SinkWindow, False),
        ("cake:64", Cake, True),
        ("cake:64:early", Cake, False),
        ("prefix:64", PrefixKv, True),
        ("prefix:64:early", PrefixKv, False),
        ("bits:8,4", MixedBits, False),
    ],
)
def test_words_name_policies(words: str, kind: type[object], after_prompt: bool) -> None:
    policy = policy_of(words, 3)

    assert policy is not None
    assert isinstance(policy, kind)
    assert policy.after_prompt is after_prompt


def test_full_is_no_policy() -> None:
    assert policy_of("full", 3) is None


def test_a_file_names_bits_of_each_layer(tmp_path: Path) -> None:
    path = tmp_path / "bits.json"
    path.write_text(json.dumps([[8, 4], [4, 2]]))

    policy = policy_of(f"bits:{path}", 3)

    assert isinstance(policy, MixedBits)
    assert policy.pairs == ((8, 4), (4, 2))


@pytest.mark.parametrize(
    "words",
    [
        *("", "windw:5", "window", "window:x", "window:4", "window:64:early", "cake:63", "prefix:64:late"),
        *("bits:3,4", "bits:", "bits:no-such-file", "full:3", "bits:8,16"),
    ],
)
def test_words_that_name_no_policy_are_refused(words: str) -> None:
    with pytest.raises(ValueError, match="kv_policy"):
        policy_of(words, 3)


def test_each_layer_is_judged_alone() -> None:
    asked: list[Sequence[tuple[int, int]]] = []

    def harm(pairs: Sequence[tuple[int, int]]) -> float:
        asked.append(pairs)
        return float(len(asked))

    found = sensitivities(2, harm)

    assert asked[0] == [LOWER[0], (16, 16)]
    assert asked[-1] == [(16, 16), LOWER[-1]]
    assert found[1][LOWER[0]] == len(LOWER) + 1


def test_bits_are_taken_where_they_cost_least() -> None:
    tender = {(8, 4): 1.0, (4, 4): 5.0, (4, 2): 9.0, (2, 2): 99.0}
    tough = {(8, 4): 0.0, (4, 4): 0.0, (4, 2): 0.1, (2, 2): 9.0}

    assert cheapest([tender, tough], 8) == [(8, 8), (8, 8)]
    assert cheapest([tender, tough], 5.5) == [(8, 8), (4, 2)]
    assert cheapest([tender, tough], 2) == [(2, 2), (2, 2)]
    with pytest.raises(ValueError, match="at least 2"):
        cheapest([tender], 1.9)
