"""A page as an answer, with the headers that every page has; errors as pages."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from gateway.api.admin.access import gateway_of
from gateway.errors import GatewayError
from gateway.ui.doors import LoginNeeded
from gateway.ui.menu import MENU
from gateway.ui.rendering import BASE
from gateway.ui.sessions import Session

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
THEMES: Final = ("light", "dark")


def page(request: Request, template: str, session: Session | None, status: int = 200, **context: Any) -> Response:
    """A template with what every one knows: who looks, where, and what there is to go to."""
    theme = request.cookies.get("fingerpost_theme", "")
    known = {
        "session": session,
        "csrf": session.csrf if session is not None else "",
        "menu": MENU if session is not None else (),
        "path": request.url.path,
        "theme": theme if theme in THEMES else "",
        "notice": request.query_params.get("notice", "")[:300],
    }
    body = gateway_of(request).rendering.render(template, known | context)
    return HTMLResponse(body, status_code=status, headers=HEADERS)


def to(path: str, request: Request, notice: str = "") -> Response:
    """Go on at another page of the console, which may say what was done."""
    query = f"{'&' if '?' in path else '?'}{urlencode({'notice': notice})}" if notice else ""
    location = f"{BASE}{path}{query}"
    if request.headers.get("hx-request") == "true":
        return Response(status_code=204, headers=HEADERS | {"hx-redirect": location})
    return RedirectResponse(location, status_code=303, headers=HEADERS)


def login_needed(request: Request, error: LoginNeeded) -> Response:
    """To the login page, from wherever."""
    if request.headers.get("hx-request") == "true":
        return Response(status_code=204, headers=HEADERS | {"hx-redirect": error.location})
    return RedirectResponse(error.location, status_code=303, headers=HEADERS)


def failed(request: Request, error: GatewayError, session: Session | None = None) -> Response:
    """An error as a page; for a part of a page as what htmx puts where messages are."""
    status = error.http_status
    template = "problem_part.html" if request.headers.get("hx-request") == "true" else "problem.html"
    title = HTTPStatus(status).phrase if status in list(HTTPStatus) else "Error"
    answer = page(request, template, session, status, title=title, message=error.message, status=status)
    if error.http_status in (408, 413):
        answer.headers["connection"] = "close"
    return answer
