"""Logging in with an admin key, and out."""

from __future__ import annotations

import hmac
import secrets
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway.admission.keys import KeyStoreUnavailable
from gateway.admission.rules import Caller
from gateway.api.admin.access import gateway_of
from gateway.errors import Forbidden, GatewayError, InvalidKey, Overloaded, RateLimited
from gateway.ui import cookies
from gateway.ui.answers import page, to
from gateway.ui.doors import Form, LoginNeeded, Looking, form_of, visitor
from gateway.ui.rendering import BASE
from gateway.ui.roles import Role

router = APIRouter()
LOGIN_S = 3600.0


@router.get("/login")
async def ask(request: Request, then: str = "") -> Response:
    """The form; who is logged in already goes on."""
    try:
        await visitor(request)
    except LoginNeeded:
        return login_page(request, then)
    return to(request, inside(then))


@router.post("/login")
async def log_in(request: Request) -> Response:
    """A session for an admin key."""
    form = await form_of(request)
    throttle, address = gateway_of(request).console.throttle, request.client.host if request.client else ""
    try:
        _check_token(request, form)
        _check_pace(throttle.wait_s(address))
        token = await _opened(request, form.get("key", ""))
    except InvalidKey as error:
        throttle.failed(address)
        return login_page(request, form.get("then", ""), error)
    except GatewayError as error:
        return login_page(request, form.get("then", ""), error)
    throttle.succeeded(address)
    return logged_in(request, token, form.get("then", ""))


@router.post("/logout")
async def log_out(request: Request, acting: Looking) -> Response:
    """End the session."""
    await gateway_of(request).console.sessions.end(acting.session)
    answer = to(request, "/login", "You are logged out.")
    cookies.drop(answer, request, cookies.SESSION)
    return answer


def logged_in(request: Request, token: str, then: str) -> Response:
    """On to where somebody wanted to go, with the session's cookie."""
    answer = to(request, inside(then))
    cookies.put(answer, request, cookies.SESSION, token)
    cookies.drop(answer, request, cookies.LOGIN)
    return answer


def login_page(request: Request, then: str, error: GatewayError | None = None, field: str = "key") -> Response:
    """The form has a token that its cookie has too, so that no other site's page can log somebody in."""
    token = request.cookies.get(cookies.LOGIN) or secrets.token_urlsafe(24)
    faults = {} if error is None else {field: error.message}
    status = 200 if error is None else error.http_status
    gateway = gateway_of(request)
    shown: dict[str, Any] = {
        "then": then,
        "login_token": token,
        "faults": faults,
        "with_key": gateway.settings.console_key_role != "none",
        "single_sign_on": gateway.console.oidc.name if gateway.console.oidc is not None else "",
    }
    answer = page(request, "login.html", None, status, **shown)
    cookies.put(answer, request, cookies.LOGIN, token, LOGIN_S)
    return answer


def _check_token(request: Request, form: Form) -> None:
    sent, kept = form.get("login_token", ""), request.cookies.get(cookies.LOGIN, "")
    if not kept or not hmac.compare_digest(sent.encode(errors="replace"), kept.encode(errors="replace")):
        raise Forbidden("The form was open for too long, or cookies are off: try again.")


def _check_pace(wait_s: float) -> None:
    if wait_s > 0:
        raise RateLimited(f"Too many wrong keys from your address; try again in {wait_s:.0f} s.", retry_after_s=wait_s)


async def _opened(request: Request, key: str) -> str:
    """The token of a new session."""
    gateway = gateway_of(request)
    try:
        caller = await gateway.keyring.authenticate(key)
    except KeyStoreUnavailable as error:
        raise Overloaded("Keys can't be checked just now; try again shortly.") from error
    if caller is None:
        raise InvalidKey("This key is unknown, expired or revoked.")
    role = _role_of(request, caller)
    return (await gateway.console.sessions.begin(caller.key_id, role, caller.key_id))[1]


def _role_of(request: Request, caller: Caller) -> Role:
    if caller.role != "admin":
        raise InvalidKey("This is an application's key; the console needs an admin key.")
    role = gateway_of(request).console.sessions.role_of_key(caller.metadata)
    if role is None:
        raise InvalidKey("This key may not log in to the console.")
    return role


def inside(then: str) -> str:
    """A path below the console's, from what a link says; '' for anything else."""
    parts = urlsplit(then.replace("\\", "/"))
    path = parts.path.removeprefix(BASE)
    if parts.scheme or parts.netloc or not parts.path.startswith(BASE) or (path and not path.startswith("/")):
        return ""
    if path.startswith(("/login", "/logout", "/static", "/oidc")):
        return ""
    return f"{path}?{parts.query}" if parts.query else path
