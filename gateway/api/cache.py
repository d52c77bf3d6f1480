"""`POST /v1/cache/feedback`: a cached answer was wrong for what was asked; it is forgotten at once."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from fastapi import APIRouter, Request
from pydantic import Field

from gateway.admission.rules import Caller
from gateway.api.admin.bodies import Body, described_body, read_json
from gateway.api.raw import authenticate
from gateway.cache.base import StoreAway
from gateway.errors import NotFound, Overloaded
from gateway.ledger.acts import CACHE, Change, tell
from gateway.ledger.faults import DatabaseUnavailable
from gateway.state import Gateway

router = APIRouter()


class CacheFeedbackBody(Body):
    """`id` is the answer's header x-fingerpost-cache-id."""

    id: str = Field(pattern="^[0-9a-f]{32}$")
    wrong: Literal[True] = True


@router.post("/v1/cache/feedback", openapi_extra=described_body(CacheFeedbackBody))
async def give_cache_feedback(request: Request) -> dict[str, Any]:
    """Nobody gets this answer again."""
    gateway: Gateway = request.app.state.gateway
    caller: Caller = await authenticate(request.scope, gateway.keyring)
    said = await read_json(request, gateway, CacheFeedbackBody)
    try:
        told, dropped = await gateway.cache.wrong(caller, said.id)
    except StoreAway:
        raise Overloaded("The cache's store does not answer just now; try again shortly.") from None
    if told is not None:
        try:
            await tell(gateway.engine, Change(CACHE, msgspec.json.encode(told).decode()))
        except DatabaseUnavailable:
            if gateway.cache.forgetting.is_alone:
                raise Overloaded("Other workers can't be told just now; try again shortly.") from None
    if not dropped and (told is None or gateway.settings.workers == 1):
        raise NotFound(f"There is no cached answer '{said.id}' of this key, its team or organisation.", param="id")
    return {"object": "cache.feedback", "id": said.id, "forgotten": True}
