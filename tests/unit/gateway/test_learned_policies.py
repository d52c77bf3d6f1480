"""Policies whose router was trained: where its artifact is looked for, and which ones are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.build import build
from gateway.settings import Settings
from gateway.state import Gateway
from policies.errors import PolicyError
from policies.schema import Policy
from routers.artifact import Artifact
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
