"""The ASGI application: hot routes bare, everything else FastAPI. Importing this loads nothing heavy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import time
from typing import cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from gateway.api import cache, feedback, health, models, responses
from gateway.api.admin import (
    audit,
    budgets,
    dry_runs,
    keys,
    limits,
    organisations,
    policy,
    requests,
    teams,
    trials,
    usage,
)
from gateway.api.admin import cache as admin_cache
from gateway.api.openapi import describe_raw_routes
from gateway.api.raw import Message, Receive, Scope, Send, new_request_id
from gateway.build import build
from gateway.errors import BodyTooLarge, GatewayError, InvalidRequest, MethodNotAllowed, NotFound, Overloaded
from gateway.ledger.faults import DatabaseUnavailable
from gateway.lifecycle.run import close, start
from gateway.server import configure_logging, ending_with_supervisor
from gateway.settings import Settings
from gateway.state import Gateway
from gateway.ui.app import console, is_of_console


class Front:
    """Sends the hot paths to their bare routes and everything else to FastAPI."""

    def __init__(self, gateway: Gateway, app: FastAPI) -> None:
        self.gateway = gateway
        self.app = app
        self._raw = gateway.raw_routes
        self._console = console(gateway) if gateway.settings.console else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if self.gateway.leaving.begun:
                send = _closing(send)
            route = self._raw.get(scope["path"])
            if route is not None:
                await route(scope, receive, send)
                return
            send = _with_request_id(send)
            if self._console is not None and is_of_console(scope):
                await self._console(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _closing(send: Send) -> Send:
    """The connection ends with this answer: the process is about to leave."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        await send(message)

    return sending


def _with_request_id(send: Send) -> Send:
    """Every answer can be asked after, also those of routes that are not in the ledger."""
    request_id = new_request_id(time()).encode()

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
        await send(message)

    return sending


def create(settings: Settings | None = None) -> Front:
    """The application of one worker process; settings come from the environment unless given."""
    settings = settings or Settings()
    redact = configure_logging(settings)
    gateway = build(settings)
    redact.more = lambda: (target.api_key for target in tuple(gateway.fleet.targets.values()) if target.api_key)
    return front(gateway)


def front(gateway: Gateway) -> Front:
    """Put a built gateway behind HTTP."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await start(gateway)
        try:
            with ending_with_supervisor():
                yield
        finally:
            await close(gateway)

    app = FastAPIOffline(
        title="Fingerpost",
        lifespan=lifespan,
        redoc_url=None,
        static_url="/docs/files",
        swagger_ui_parameters={"validatorUrl": None},  # or else it sends the document's address to a public server
    )
    app.state.gateway = gateway
    public = (models, responses, feedback, cache, health)
    tenants = (keys, organisations, teams, budgets, limits)
    for module in (*public, *tenants, audit, policy, dry_runs, trials, requests, usage, admin_cache):
        app.include_router(module.router)
    add_error_handlers(app)
    describe_raw_routes(app, gateway.raw_routes)
    return Front(gateway, app)


def add_error_handlers(app: FastAPI) -> None:
    """All errors in one shape."""
    app.add_exception_handler(GatewayError, _gateway_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(DatabaseUnavailable, _database_error)
    app.add_exception_handler(Exception, _own_error)
    app.add_exception_handler(RequestValidationError, _validation_error)


def _answer(error: GatewayError) -> Response:
    headers = {}
    if error.http_status == 401:
        headers["www-authenticate"] = "Bearer"
    if error.http_status in (401, 403, 408, 413):
        headers["connection"] = "close"  # a body that nobody will read may still be on its way
    return Response(error.body(), status_code=error.http_status, headers=headers, media_type="application/json")


async def _gateway_error(_: Request, error: Exception) -> Response:
    return _answer(cast(GatewayError, error))


async def _database_error(_: Request, __: Exception) -> Response:
    return _answer(Overloaded("The database does not answer just now; try again shortly."))


async def _own_error(_: Request, __: Exception) -> Response:
    # Starlette logs the exception itself; the client learns nothing of our insides.
    return _answer(GatewayError("The gateway failed; its log says why."))


async def _http_error(request: Request, error: Exception) -> Response:
    """What Starlette and FastAPI raise by themselves: no such path or method, or a request they can't read."""
    found = cast(HTTPException, error)
    if found.status_code == 405:
        return _answer(MethodNotAllowed(f"{request.method} is not allowed here."))
    if found.status_code == 404:
        return _answer(NotFound(f"There is nothing at {request.url.path[:200]}."))
    if found.status_code == 413:
        return _answer(BodyTooLarge(found.detail))
    if found.status_code < 500:
        return _answer(InvalidRequest(found.detail))
    return _answer(GatewayError("The gateway failed; its log says why."))


async def _validation_error(_: Request, error: Exception) -> Response:
    first = cast(RequestValidationError, error).errors()[0]
    param = ".".join(str(part) for part in first["loc"] if part != "body")
    return _answer(InvalidRequest(f"'{param}': {first['msg']}.", param=param))
