"""The console as an application of its own: pages, static files, and errors as pages. See docs/console.md."""

from __future__ import annotations

from contextlib import suppress
from typing import cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from gateway.api.admin.access import gateway_of
from gateway.api.raw import Scope
from gateway.errors import GatewayError, InvalidRequest, MethodNotAllowed, NotFound, Overloaded
from gateway.ledger.faults import DatabaseUnavailable
from gateway.state import Gateway
from gateway.ui import login, sign_on
from gateway.ui.answers import failed, login_needed
from gateway.ui.doors import LoginNeeded, visitor
from gateway.ui.guard import Guard
from gateway.ui.pages import PAGES
from gateway.ui.rendering import BASE
from gateway.ui.sessions import Session


def is_of_console(scope: Scope) -> bool:
    """Whether a request is the console's; `/admin` alone is where people look for it, with a browser."""
    path = scope["path"]
    if path == "/admin":
        return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])
    return bool(path == BASE or path.startswith(f"{BASE}/"))


def console(gateway: Gateway) -> Guard:
    """The pages of a gateway."""
    app = FastAPI(title="Fingerpost console", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.gateway = gateway
    app.add_api_route("/admin", _enter, include_in_schema=False)
    app.add_api_route(f"{BASE}/static/{{name:path}}", _static, include_in_schema=False)
    for module in (login, sign_on, *PAGES):
        app.include_router(module.router, prefix=BASE)
    _add_error_pages(app)
    return Guard(app)


async def _enter() -> Response:
    return RedirectResponse(BASE, status_code=303)


async def _static(name: str, request: Request, v: str = "") -> Response:
    """A file that pages refer to by its hash, and which is then kept for ever."""
    asset = gateway_of(request).console.rendering.assets.get(name)
    if asset is None:
        raise NotFound(f"There is no file {name[:200]}.")
    kept = "public, max-age=31536000, immutable" if v == asset.version else "no-cache"
    return Response(asset.body, media_type=asset.kind, headers={"cache-control": kept})


def _add_error_pages(app: FastAPI) -> None:
    app.add_exception_handler(LoginNeeded, _login_needed)
    app.add_exception_handler(GatewayError, _gateway_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(DatabaseUnavailable, _database_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _own_error)


async def _told(request: Request, error: GatewayError) -> Response:
    """Around a page's error stands what stands around every page, where somebody is logged in."""
    session: Session | None = getattr(request.state, "session", None)
    if session is None:
        with suppress(LoginNeeded, DatabaseUnavailable):
            session = await visitor(request)
    return failed(request, error, session)


async def _login_needed(request: Request, error: Exception) -> Response:
    return login_needed(request, cast(LoginNeeded, error).location)


async def _gateway_error(request: Request, error: Exception) -> Response:
    return await _told(request, cast(GatewayError, error))


async def _database_error(request: Request, _: Exception) -> Response:
    return await _told(request, Overloaded("The database does not answer just now; try again shortly."))


async def _own_error(request: Request, _: Exception) -> Response:
    return await _told(request, GatewayError("The gateway failed; its log says why."))


async def _http_error(request: Request, error: Exception) -> Response:
    status = cast(HTTPException, error).status_code
    if status == 404:
        return await _told(request, NotFound("There is no such page."))
    if status == 405:
        return await _told(request, MethodNotAllowed(f"{request.method} is not allowed here."))
    return await _told(request, InvalidRequest(cast(HTTPException, error).detail))


async def _validation_error(request: Request, error: Exception) -> Response:
    first = cast(RequestValidationError, error).errors()[0]
    param = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    return await _told(request, InvalidRequest(f"'{param}': {first['msg']}.", param=param))
