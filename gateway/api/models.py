"""`GET /v1/models` and `/v1/models/{id}`: what a key may use, policies included."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from gateway.admission.rules import Caller
from gateway.api.raw import authenticate
from gateway.errors import ModelNotFound
from gateway.meaning import AUTO, DEFAULT_POLICY
from gateway.state import Gateway
from policies.catalogue import ModelCard, Task

router = APIRouter()


@router.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    """OpenAI's list form, with price and context as additional fields."""
    gateway: Gateway = request.app.state.gateway
    caller = await authenticate(request.scope, gateway.keyring)
    return {"object": "list", "data": _visible(gateway, caller)}


@router.get("/v1/models/{model_id:path}")
async def get_model(model_id: str, request: Request) -> dict[str, Any]:
    """One model; 404 `model_not_found` where the list does not have it."""
    gateway: Gateway = request.app.state.gateway
    caller = await authenticate(request.scope, gateway.keyring)
    for model in _visible(gateway, caller):
        if model["id"] == model_id:
            return model
    raise ModelNotFound(f"The model '{model_id[:120]}' does not exist here, or this key may not use it.", param="model")


def _visible(gateway: Gateway, caller: Caller) -> list[dict[str, Any]]:
    names = [caller.policy] if caller.policy else gateway.policies.names()
    routed = [AUTO, *(f"{AUTO}:{name}" for name in names)]
    active = gateway.policies.current(caller.policy or DEFAULT_POLICY, caller)
    cards = [
        card
        for card in gateway.fleet.models()
        if (active is None or card.task is not Task.CHAT or active.policy.allows(card.id))
        and (caller.allowed_models is None or card.id in caller.allowed_models)
    ]
    return [{"id": name, "object": "model", "created": 0, "owned_by": "fingerpost"} for name in routed] + [
        _described(gateway, card) for card in cards
    ]


def _described(gateway: Gateway, card: ModelCard) -> dict[str, Any]:
    prices = card.prices()
    endpoints = [target.endpoint for target in gateway.fleet.of_model(card.id)]
    return {
        "id": card.id,
        "object": "model",
        "created": 0,
        "owned_by": endpoints[0].provider,
        "fingerpost": {
            "task": card.task,
            "context_tokens": card.context_tokens,
            "modalities": list(card.modalities),
            "tools": card.tools,
            "price_in_usd_per_mtok": prices.price_in_usd_per_mtok,
            "price_out_usd_per_mtok": prices.price_out_usd_per_mtok,
            "endpoints": [endpoint.id for endpoint in endpoints],
            "description": card.description,
        },
    }
