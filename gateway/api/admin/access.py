"""The door of every admin route."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from gateway.admission.changes import ChangeFeed
from gateway.admission.gauges import Gauges
from gateway.admission.rules import Caller
from gateway.admission.stores import Stores
from gateway.admission.terms import Known
from gateway.api.raw import authenticate
from gateway.errors import Forbidden
from gateway.state import Gateway

# For the API's description only, so that /docs can send the key; the check itself is the one of all routes.
BEARER = HTTPBearer(auto_error=False, description="An admin key.")
# PostgreSQL takes no NUL; what is no id is not worth asking for.
_NO_NUL = r"^[^\x00]*$"
PathId = Annotated[str, Path(max_length=300, pattern=_NO_NUL)]
QueryId = Annotated[str, Query(max_length=300, pattern=_NO_NUL)]
Described = Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]


async def admin(request: Request, _: Described) -> Caller:
    """The calling admin, for routes."""
    return await admin_of(request)


async def admin_of(request: Request) -> Caller:
    """The calling admin; 401 without a valid key, 403 for an application's key."""
    gateway: Gateway = request.app.state.gateway
    caller = await authenticate(request.scope, gateway.keyring)
    if caller.role != "admin":
        raise Forbidden("This needs an admin key.")
    return caller


Admin = Annotated[Caller, Depends(admin)]


def gateway_of(request: Request) -> Gateway:
    """The gateway behind a request."""
    gateway: Gateway = request.app.state.gateway
    return gateway


TheGateway = Annotated[Gateway, Depends(gateway_of)]


def stores_of(request: Request) -> Stores:
    """What admins write to."""
    return gateway_of(request).stores


TheStores = Annotated[Stores, Depends(stores_of)]


def feed_of(request: Request) -> ChangeFeed:
    """How this process hears of what was written; others hear of it within a fraction of a second."""
    return gateway_of(request).changes


TheFeed = Annotated[ChangeFeed, Depends(feed_of)]


def gauges_of(request: Request) -> Gauges:
    """What budgets stand at."""
    return gateway_of(request).gauges


TheGauges = Annotated[Gauges, Depends(gauges_of)]


def known_of(gateway: Gateway) -> Known:
    """Policies in force and models of the catalogue, which terms and rules may name."""
    return Known(gateway.policies.names(), {card.id for card in gateway.fleet.catalogue.model})
