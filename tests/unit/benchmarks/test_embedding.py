"""The embedding benchmark's own arithmetic: what it calls a pair, and what it calls an AUC."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.embedding import Pair, auc, judge, read_pairs, summarised, text_of
from local_runtime.embedders.hashing import HashingEmbedder

scores = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=12)


@given(scores, scores)
def test_the_auc_is_the_share_of_pairs_in_right_order(positive: list[float], negative: list[float]) -> None:
    wins = [(one > other) + (one == other) / 2 for one in positive for other in negative]

    found = auc(np.array(positive, np.float32), np.array(negative, np.float32))

    assert found == pytest.approx(np.mean(wins))


def test_the_other_meaning_is_the_most_alike_in_spelling_of_its_category(tmp_path: Path) -> None:
    rows = [
        ("bank", "block my card", "1"),
        ("bank", "unblock my card", "2"),
        ("bank", "my card was stolen, stop it", "1"),
        ("bank", "exchange rates today", "3"),
        ("chat", "block my card", "4"),
    ]
    stream = tmp_path / "stream.jsonl"
    stream.write_text(
        "\n".join(json.dumps(dict(zip(("category", "query", "answer_id"), r, strict=True))) for r in rows)
    )

    pairs = read_pairs(stream, HashingEmbedder())

    assert pairs == [Pair("block my card", "my card was stolen, stop it", "unblock my card")]


def test_an_embedder_judged_against_itself_shows_no_shift() -> None:
    pairs = [Pair("reset my password", "password reset please", "reset my phone"), Pair("a b", "b a", "a c")]

    quality = judge(pairs, HashingEmbedder(), HashingEmbedder())

    assert quality.auc_ours == quality.auc_reference
    assert quality.cosine_shift_p99 == 0
    assert quality.cosine_mean == pytest.approx(1)


@pytest.mark.parametrize("tokens", [1, 19, 200])
def test_a_text_has_exactly_the_tokens_asked_for(tokens: int) -> None:
    embedder = HashingEmbedder()

    assert embedder.count_tokens(text_of(tokens, embedder, random.Random(1))) == tokens


def test_a_ratio_is_taken_pair_by_pair() -> None:
    timing = summarised(1, 1, 19, [(1, 10), (10, 20), (2, 10)])

    assert (timing.ours_ms, timing.reference_ms, timing.ratio) == (2, 10, 5)
