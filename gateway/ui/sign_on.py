"""Logging in by single sign-on: to the provider, and back."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from gateway.api.admin.access import gateway_of
from gateway.errors import Forbidden, GatewayError, NotFound
from gateway.ui import cookies
from gateway.ui.answers import page
from gateway.ui.login import inside, login_page
from gateway.ui.oidc import Begun, Oidc, SignOnRefused
from gateway.ui.rendering import BASE

router = APIRouter(prefix="/oidc")
WAIT_S = 600.0
Text = Annotated[str, Query(max_length=4000)]


@router.get("/begin")
async def begin(request: Request, then: Text = "") -> Response:
    """To the provider. What belongs to this login is kept in a cookie that its answer, coming from elsewhere, brings
    along (SameSite=Lax)."""
    try:
        begun = await _oidc(request).begin(_address(request))
    except GatewayError as error:
        return login_page(request, then, error, "")
    answer = Response(status_code=303, headers={"location": begun.url})
    kept = "~".join((begun.state, begun.nonce, begun.verifier, inside(then)))
    cookies.put(answer, request, cookies.SIGN_ON, kept, WAIT_S, "lax")
    return answer


@router.get("/done")
async def done(request: Request, code: Text = "", state: Text = "", error: Text = "") -> Response:
    """Back from the provider. The page that follows is asked for by this one, since browsers don't send the session's
    cookie (SameSite=Strict) to what another site has led to."""
    kept = request.cookies.get(cookies.SIGN_ON, "").split("~", 3)
    then = f"{BASE}{kept[3]}" if len(kept) == 4 else ""
    try:
        token = await _opened(request, kept, code, state, error)
    except GatewayError as refused:
        answer = login_page(request, then, refused, "")
        cookies.drop(answer, request, cookies.SIGN_ON, "lax")
        return answer
    answer = page(request, "onward.html", None, onward=f"{BASE}{inside(then)}")
    cookies.put(answer, request, cookies.SESSION, token)
    cookies.drop(answer, request, cookies.SIGN_ON, "lax")
    return answer


async def _opened(request: Request, kept: list[str], code: str, state: str, error: str) -> str:
    """The token of a new session."""
    if len(kept) != 4 or not hmac.compare_digest(state.encode(errors="replace"), kept[0].encode(errors="replace")):
        raise Forbidden("This login was not begun here, or too long ago: try again.")
    if error or not code:
        raise SignOnRefused("The provider refused the login; try again.")
    person = await _oidc(request).finish(_address(request), code, Begun("", *kept[:3]))
    return (await gateway_of(request).console.sessions.begin(person.subject, person.role))[1]


def _oidc(request: Request) -> Oidc:
    oidc = gateway_of(request).console.oidc
    if oidc is None:
        raise NotFound("There is no single sign-on here; FINGERPOST_OIDC_ISSUER sets it up.")
    return oidc


def _address(request: Request) -> str:
    public = gateway_of(request).settings.public_url or str(request.base_url)
    return f"{public.rstrip('/')}{BASE}/oidc/done"
