"""A running gateway whose router goes on learning: feedback over HTTP changes whom it prefers."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.gateway.upstream import UpstreamServer
from routers.kinds.bandit import Bandit, Beliefs
from routers.kinds.mean import MeanRouter
from routers.training.simulator import make_world, simulate
from tests.integration.conftest import catalogue
from tests.serving import Served, serving

MODELS = ("instant", "paced")
POLICY = (
    'schema = 1\nname = "default"\nmodels = ["instant", "paced"]\nexploration = 0.3\n'
    '[learning]\nwithin = 1.0\n[router]\nkind = "bandit"\nartifact = "learning"\n'
)
ASK: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
WITHIN_S = 30.0


def save_artifact(folder: Path) -> None:
    """A bandit upon the mean scores of two models, which needs no embedder."""
    seen = simulate(make_world(models=2, seed=1), 60, 1).dataset
    cards = tuple(card.model_copy(update={"id": name}) for card, name in zip(seen.models, MODELS, strict=True))
    data = replace(seen, models=cards)
    beliefs = Beliefs(level_std=(0.3, 0.3))
    Bandit.upon(MeanRouter.fit(data), data, 0, beliefs).artifact.save(folder)


@pytest.fixture
def learning(upstream: UpstreamServer, tmp_path: Path) -> Iterator[Served]:
    save_artifact(tmp_path / "data" / "artifacts" / "learning")
    env = {"UPSTREAM_SECRET": "sk-upstream-secret", "FINGERPOST_PRELOAD": "false"}
    with serving(tmp_path, catalogue=catalogue(upstream), policies={"default": POLICY}, env=env) as served:
        yield served


def forecast(client: httpx.Client) -> dict[str, float]:
    """Each model's forecast quality."""
    told = client.post("/v1/route", json=ASK).raise_for_status().json()
    return {row["model"]: row["quality"]["mean"] for row in told["candidates"]}


def test_feedback_turns_the_gateway_from_a_model_that_fails(learning: Served) -> None:
    with httpx.Client(base_url=learning.url, headers=learning.headers, timeout=20) as client:
        before = after = forecast(client)
        best, other = sorted(before, key=before.__getitem__, reverse=True)
        until = time.monotonic() + WITHIN_S
        while after[best] >= after[other] and time.monotonic() < until:
            answer = client.post("/v1/chat/completions", json=ASK).raise_for_status()
            bad = answer.headers["x-fingerpost-model"] == best
            said = {"request_id": answer.headers["x-request-id"], "rating": "bad" if bad else "good"}
            client.post("/v1/feedback", json=said).raise_for_status()
            after = forecast(client)

    assert after[best] < after[other]
    with sqlite3.connect(learning.data_dir / "fingerpost.sqlite3") as database:
        lessons = database.execute("SELECT count(*) FROM bandit_lesson").fetchone()
        taken = database.execute("SELECT taken_nanousd FROM exploration_spend").fetchone()
    assert lessons[0] > 0
    assert 0 < taken[0] <= 10**9
