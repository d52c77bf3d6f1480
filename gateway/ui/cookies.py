"""The console's cookies: none is readable by scripts but the theme, none is sent from other sites' pages."""

from __future__ import annotations

from typing import Final, Literal
from urllib.parse import quote, unquote, urlsplit

from fastapi import Request
from fastapi.responses import Response

from gateway.api.admin.access import gateway_of
from gateway.ui.rendering import BASE

SESSION: Final = "fingerpost_console"
SIGN_ON: Final = "fingerpost_sign_on"
LOGIN: Final = "fingerpost_login"
NOTICE: Final = "fingerpost_notice"
THEME: Final = "fingerpost_theme"
NOTICE_S: Final = 60
MAX_NOTICE_CHARS: Final = 300


def is_https(request: Request) -> bool:
    """Whether browsers come by https: as the setting says, else as the connection does."""
    public = gateway_of(request).settings.public_url
    return (urlsplit(public).scheme if public else request.url.scheme) == "https"


def put(
    answer: Response,
    request: Request,
    name: str,
    value: str,
    max_age_s: float | None = None,
    samesite: Literal["strict", "lax"] = "strict",
) -> None:
    """Set a cookie; without an age it ends with the browser."""
    age = None if max_age_s is None else round(max_age_s)
    answer.set_cookie(name, value, max_age=age, path=BASE, secure=is_https(request), httponly=True, samesite=samesite)


def drop(answer: Response, request: Request, name: str, samesite: Literal["strict", "lax"] = "strict") -> None:
    """Take a cookie back."""
    answer.delete_cookie(name, path=BASE, secure=is_https(request), httponly=True, samesite=samesite)


def put_notice(answer: Response, request: Request, notice: str) -> None:
    """A line that the next page shows once."""
    put(answer, request, NOTICE, quote(notice[:MAX_NOTICE_CHARS]), NOTICE_S)


def notice_of(request: Request) -> str:
    """The line that an earlier page left."""
    return unquote(request.cookies.get(NOTICE, ""))[:MAX_NOTICE_CHARS]
