"""The door of every admin route."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from gateway.admission.keys import Caller
from gateway.api.raw import authenticate
from gateway.errors import Forbidden
from gateway.state import Gateway

# For the API's description only, so that /docs can send the key; the check itself is the one of all routes.
BEARER = HTTPBearer(auto_error=False, description="An admin key.")
Described = Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]


async def admin(request: Request, _: Described) -> Caller:
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
