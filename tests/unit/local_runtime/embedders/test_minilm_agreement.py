"""int8 through our export against float32 through sentence-transformers: nearly the same vectors, the same ranking."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from local_runtime.embedders.base import Embedder
from tests.installed_embedders import installed_embedder

TEXTS = [
    "How do I renew an expired passport while living abroad?",
    "I live in another country and my passport has run out; how can I get a new one?",
    "What papers are needed to register a car bought in Germany?",
    "my laptop fan is loud and the battery drains in an hour",
    "the notebook gets noisy and is empty after sixty minutes",
    "Explain the difference between a mutex and a semaphore.",
    "When would one use a lock, and when a counting semaphore?",
    "Write a limerick about a cat who wanted to be an astronaut.",
    "def fibonacci(n: int) -> int:\n    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)",
    "int fib(int n) { return n < 2 ? n : fib(n-1) + fib(n-2); }",
    "UPDATE accounts SET balance = balance - 100 WHERE id = 7;",
    "tar -xzf backup.tar.gz -C /var/lib/app --strip-components=1",
    "Traceback (most recent call last): KeyError: 'user_id'",
    "The patient has had a dry cough for three weeks and no fever.",
    "Was ist der Unterschied zwischen Miete und Pacht?",
    "Quel temps fera-t-il demain à Lyon ?",
    "¿Dónde puedo comprar entradas para el concierto?",
    "如何在家里做豆腐?",
    "Как приготовить борщ без мяса?",
    "ما هي عاصمة المغرب؟",
    "2 + 2 * 3 = ?",
    "If 3x + 7 = 22, what is x?",
    "Solve for x: three times x, plus seven, equals twenty-two.",
    "thanks!",
    "🙂🙂🙂",
    "",
    "a",
    "THIS IS ALL IN CAPITALS AND ENDS WITH NOISE !!!???",
    "The history of printing begins long before Gutenberg, with woodblocks in China and movable type in Korea. " * 14,
    '{"model": "auto", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.2}',
]
ALONE = """
import socket
from pathlib import Path
def refuse(*_, **__): raise AssertionError("the network was touched")
socket.socket.connect = socket.getaddrinfo = refuse
from local_runtime.embedders.find import load_embedder
print(load_embedder("minilm_sentence_transformers", Path("unused")).embed(["hello"]).shape, Path("unused").exists())
"""

Vectors = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def pair(int8: Embedder, tmp_path_factory: pytest.TempPathFactory) -> tuple[Vectors, Vectors]:
    reference = installed_embedder("minilm_sentence_transformers", tmp_path_factory.mktemp("unused"))
    return int8.embed(TEXTS), reference.embed(TEXTS)


def test_vectors_agree(pair: tuple[Vectors, Vectors]) -> None:
    ours, reference = pair

    cosines = (ours * reference).sum(axis=1)

    assert cosines.mean() > 0.998
    assert cosines.min() > 0.99


def test_likeness_of_any_two_texts_hardly_shifts(pair: tuple[Vectors, Vectors]) -> None:
    ours, reference = pair

    shift = np.abs(ours @ ours.T - reference @ reference.T)

    assert np.percentile(shift, 99) < 0.02


def test_the_nearest_text_is_the_same_one(pair: tuple[Vectors, Vectors]) -> None:
    nearest = [(vectors @ vectors.T - 2 * np.eye(len(TEXTS))).argmax(axis=1) for vectors in pair]

    assert (nearest[0] == nearest[1]).mean() >= 0.9


def test_the_ranking_of_all_others_agrees(pair: tuple[Vectors, Vectors]) -> None:
    ours, reference = ((vectors @ vectors.T).argsort(axis=1).argsort(axis=1) for vectors in pair)

    correlations = [np.corrcoef(mine, theirs)[0, 1] for mine, theirs in zip(ours, reference, strict=True)]

    assert np.mean(correlations) > 0.98


def test_both_count_the_same_tokens(int8: Embedder, tmp_path: Path) -> None:
    reference = installed_embedder("minilm_sentence_transformers", tmp_path)

    assert [int8.count_tokens(text) for text in TEXTS] == [reference.count_tokens(text) for text in TEXTS]
    assert int8.max_tokens == reference.max_tokens == 256


@pytest.mark.slow
def test_the_reference_needs_no_network_and_writes_nothing(int8: Embedder, tmp_path: Path) -> None:
    command, env = [sys.executable, "-c", ALONE], {"PYTHONPATH": "."}
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=env, timeout=120)

    assert ran.stdout.strip() == "(1, 384) False"
