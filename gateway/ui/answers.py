"""A page as an answer; where to go on; errors as pages."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from gateway.api.admin.access import gateway_of
from gateway.errors import GatewayError
from gateway.ui import cookies
from gateway.ui.menu import MENU
from gateway.ui.rendering import BASE
from gateway.ui.sessions import Session

THEMES: Final = ("light", "dark")


def is_htmx(request: Request) -> bool:
    """Whether a part of a page is asked for."""
    return request.headers.get("hx-request") == "true"


def page(request: Request, template: str, session: Session | None, status: int = 200, **context: Any) -> Response:
    """A template with what every one knows: who looks, where, and what there is to go to."""
    theme, notice = request.cookies.get(cookies.THEME, ""), cookies.notice_of(request)
    known: dict[str, Any] = {
        "session": session,
        "csrf": session.csrf if session is not None else "",
        "menu": MENU if session is not None else (),
        "path": request.url.path,
        "query": request.query_params,
        "theme": theme if theme in THEMES else "",
        "notice": notice,
        "faults": {},
    }
    body = gateway_of(request).console.rendering.render(template, known | context)
    answer = HTMLResponse(body, status_code=status)
    if notice and not is_htmx(request):
        cookies.drop(answer, request, cookies.NOTICE)
    return answer


def to(request: Request, path: str, notice: str = "") -> Response:
    """Go on at another page of the console, which may say what was done."""
    answer = _moved(request, f"{BASE}{path}")
    if notice:
        cookies.put_notice(answer, request, notice)
    return answer


def login_needed(request: Request, location: str) -> Response:
    """To the login page, from wherever."""
    return _moved(request, location)


def failed(request: Request, error: GatewayError, session: Session | None = None) -> Response:
    """An error as a page; for a part of a page as what htmx puts where messages are."""
    status = error.http_status
    title = HTTPStatus(status).phrase if status in list(HTTPStatus) else "Error"
    template = "problem_part.html" if is_htmx(request) else "problem.html"
    answer = page(request, template, session, status, title=title, message=error.message, status_code=status)
    if status in (408, 413):
        answer.headers["connection"] = "close"  # a body that nobody will read may still be on its way
    return answer


def _moved(request: Request, location: str) -> Response:
    if is_htmx(request):
        return Response(status_code=204, headers={"hx-redirect": location})
    return RedirectResponse(location, status_code=303)
