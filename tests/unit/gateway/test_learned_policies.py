"""Policies whose router was trained: where its artifact is looked for, and which ones are refused."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from sqlalchemy import insert

from gateway.build import build
from gateway.dispatch.breaker import FAILURES_TO_OPEN
from gateway.ledger.schema import upgrade
from gateway.ledger.tables import bandit_state
from gateway.lifecycle.policy_store import SHIPPED
from gateway.lifecycle.run import close, start
from gateway.settings import Settings
from gateway.state import Gateway
from policies.errors import PolicyError
from policies.schema import Policy
from routers.artifact import Artifact
from routers.bandit_state import lesson, packed
from routers.kinds.bandit import Bandit
from tests.contract.planted import fitted


def policy(artifact: str | None = "mine", kind: str = "ridge") -> Policy:
    return Policy.model_validate(
        {"schema": 1, "name": "learned", "router": {"kind": kind} | ({"artifact": artifact} if artifact else {})}
    )


def trained(embedder: str = "simulated") -> Artifact:
    return replace(fitted("ridge").artifact, embedder=embedder)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    made = build(Settings(data_dir=tmp_path, embedder="hashing"))
    yield made
    if made.local.embedder is not None:
        await made.local.embedder.close()
    await made.engine.dispose()


async def test_an_artifact_is_found_in_the_data_folder(gateway: Gateway, tmp_path: Path) -> None:
    trained().save(tmp_path / "artifacts" / "mine")

    active = gateway.policies.activate(policy(), "test")

    assert active.router.kind == "ridge"
    assert active.artifact_sha256 == trained().sha256


async def test_an_artifact_is_found_by_its_path(gateway: Gateway, tmp_path: Path) -> None:
    trained().save(tmp_path / "elsewhere")

    active = gateway.policies.activate(policy(str(tmp_path / "elsewhere")), "test")

    assert active.artifact_sha256 == trained().sha256


def test_the_folder_of_artifacts_can_be_set(tmp_path: Path) -> None:
    assert Settings(data_dir=tmp_path).artifact_folder == tmp_path / "artifacts"
    assert Settings(data_dir=tmp_path, artifacts=tmp_path / "else").artifact_folder == tmp_path / "else"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (policy(None), "needs the key 'artifact'"),
        (policy("none"), "there is no artifact 'none'"),
        (policy(kind="logistic"), "the artifact is of kind 'ridge'"),
    ],
)
async def test_what_can_not_be_loaded_is_refused(gateway: Gateway, tmp_path: Path, wanted: Policy, said: str) -> None:
    trained().save(tmp_path / "artifacts" / "mine")

    with pytest.raises(PolicyError, match=said):
        gateway.policies.activate(wanted, "test")


async def test_another_embedders_artifact_is_refused_once_ours_is_loaded(gateway: Gateway, tmp_path: Path) -> None:
    trained().save(tmp_path / "artifacts" / "mine")
    await gateway.embedding.warm()

    with pytest.raises(PolicyError, match=r"trained on vectors of 'simulated', this gateway embeds with 'hashing"):
        gateway.policies.activate(policy(), "test")


async def test_our_embedders_artifact_is_taken(gateway: Gateway, tmp_path: Path) -> None:
    await gateway.embedding.warm()
    trained(gateway.embedding.id).save(tmp_path / "artifacts" / "mine")

    assert gateway.policies.activate(policy(), "test").router.kind == "ridge"


async def test_a_router_that_learns_nothing_has_no_artifact(gateway: Gateway) -> None:
    assert gateway.policies.activate(policy(None, "rules"), "test").artifact_sha256 is None


async def test_a_cascade_s_artifact_must_fit_our_embedder_too(gateway: Gateway, tmp_path: Path) -> None:
    fitted("cascade").artifact.save(tmp_path / "artifacts" / "rounds")
    strategic = Policy.model_validate(
        {"schema": 1, "name": "p", "strategy": {"kind": "cascade", "artifact": "rounds"}, "router": {"kind": "rules"}}
    )
    assert gateway.policies.activate(strategic, "test").plan is not None

    await gateway.embedding.warm()

    with pytest.raises(PolicyError, match=r"strategy.*this gateway embeds with 'hashing"):
        gateway.policies.activate(strategic, "test")


def forgetful(gateway: Gateway, exploration: float, artifact: str = "mine") -> Bandit:
    """The router of a bandit's policy, after it was put in force with this share of exploration."""
    fields = {"schema": 1, "name": "learned", "exploration": exploration}
    wanted = Policy.model_validate(fields | {"router": {"kind": "bandit", "artifact": artifact}})
    gateway.policies.use({"learned": (wanted, "test")})
    active = gateway.policies.current("learned")
    assert active is not None and isinstance(active.router, Bandit)
    return active.router


async def test_an_edited_policy_forecasts_by_what_was_learned_before(gateway: Gateway, tmp_path: Path) -> None:
    trained().save(tmp_path / "artifacts" / "mine")
    replace(trained(), facts={**trained().facts, "other": 1}).save(tmp_path / "artifacts" / "other")
    before = forgetful(gateway, 0.1)
    before.adopt({"model": lesson(np.ones(1), -0.5, at=1.0)}, now=1.0)

    after, other = forgetful(gateway, 0.2), forgetful(gateway, 0.2, "other")

    assert after is not before
    assert after.reason(cast(Any, None)) == before.reason(cast(Any, None)) != other.reason(cast(Any, None))


@pytest.mark.parametrize(
    ("learned", "feedbacks"),
    [(packed(lesson(np.ones(1), -0.5, at=time.time())), 1), (b"what another version wrote", 0)],
    ids=["what we wrote", "what another version wrote"],
)
async def test_a_gateway_decides_by_what_was_learned_from_its_first_request_on_if_it_can_read_that(
    tmp_path: Path, learned: bytes, feedbacks: int
) -> None:
    trained().save(tmp_path / "artifacts" / "mine")
    (tmp_path / "learned.toml").write_text(
        'schema = 1\nname = "learned"\n[router]\nkind = "bandit"\nartifact = "mine"\n'
    )
    settings = Settings(data_dir=tmp_path, policies=tmp_path, embedder="hashing", preload=False)
    await asyncio.to_thread(upgrade, settings.sql_url)
    made = build(settings)
    learner = Bandit.from_artifact(trained()).learner
    sums = {"learner": learner, "model": "m", "sums": learned, "revision": 1}
    async with made.engine.begin() as connection:
        await connection.execute(insert(bandit_state).values(sums))

    async with _started(made):
        active = made.policies.current("learned")
        assert active is not None and active.router.reason(cast(Any, None)).endswith(f"by {feedbacks} feedbacks.")


@asynccontextmanager
async def _started(made: Gateway) -> AsyncIterator[None]:
    """A process' gateway, without what it does to the collector of the process."""
    thresholds = gc.get_threshold()
    await start(made)
    try:
        yield
    finally:
        await close(made)
        gc.unfreeze()
        gc.set_threshold(*thresholds)


async def test_breakers_that_hold_calls_back_are_shown(gateway: Gateway) -> None:
    health = gateway.pipeline._health
    health.succeeded("well", 10.0)
    for _ in range(FAILURES_TO_OPEN):
        health.failed("ill")

    shown = gateway.metrics.render()[0].decode()

    assert 'fingerpost_breakers_open{name="ill"} 1.0' in shown
    assert 'fingerpost_breakers_open{name="well"} 0.0' in shown
    assert 'fingerpost_breakers_half_open{name="ill"} 0.0' in shown


async def test_a_shipped_policy_that_does_not_fit_our_embedder_is_left_out_and_no_other(
    gateway: Gateway, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained().save(tmp_path / "artifacts" / "mine")
    await gateway.embedding.warm()
    rules = Policy.model_validate({"schema": 1, "name": "plain", "router": {"kind": "rules"}})

    gateway.policies.use({"learned": (policy(), SHIPPED), "plain": (rules, "test")})

    assert gateway.policies.names() == ["plain"]
    assert "the shipped policy learned is left out" in caplog.text
    with pytest.raises(PolicyError):
        gateway.policies.use({"learned": (policy(), "the operator's")})
