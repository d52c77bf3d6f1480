"""The list of models: what a key may use, which for models that are not routed is no policy's business."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from gateway.admission.rules import Caller
from gateway.api.models import router
from policies.catalogue import ModelCard, Task
from policies.schema import Policy
from tests.unit.gateway.dispatch.calls import target

CARDS = [
    ModelCard(id="chat", context_tokens=10),
    ModelCard(id="other-chat", context_tokens=10),
    ModelCard(id="vectors", context_tokens=10, task=Task.EMBEDDING),
    ModelCard(id="ranker", context_tokens=10, task=Task.RERANK),
]


class Knowing:
    """Keyring, policies and fleet of one test: a policy of one chat model."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    async def authenticate(self, token: str) -> Caller:
        return self.caller

    def names(self) -> list[str]:
        return ["default"]

    def current(self, name: str, caller: Caller) -> Any:
        return SimpleNamespace(policy=Policy.model_validate({"schema": 1, "name": name, "models": ["chat"]}))

    def models(self) -> list[ModelCard]:
        return CARDS

    def of_model(self, model: str) -> Any:
        return (target(model, cast(Any, None)),)


@pytest.mark.parametrize(
    ("allowed", "listed"), [(None, ["chat", "vectors", "ranker"]), (("chat", "vectors"), ["chat", "vectors"])]
)
async def test_models_that_are_not_routed_are_listed_whatever_the_policy(
    allowed: tuple[str, ...] | None, listed: list[str]
) -> None:
    knowing = Knowing(Caller("key-a", "application", None, allowed))
    app = FastAPI()
    app.include_router(router)
    app.state.gateway = SimpleNamespace(keyring=knowing, policies=knowing, fleet=knowing)

    async with AsyncClient(transport=ASGITransport(app), base_url="http://here") as client:
        found = (await client.get("/v1/models", headers={"x-api-key": "k"})).json()["data"]

    assert [model["id"] for model in found if not model["id"].startswith("auto")] == listed
