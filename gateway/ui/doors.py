"""Who may see and do what in the console: sessions by cookie, roles, and proof that a form is ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Final
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import Depends, Request

from gateway.api.admin.access import gateway_of
from gateway.api.raw import read_body
from gateway.errors import Forbidden, InvalidRequest
from gateway.ui.rendering import BASE
from gateway.ui.sessions import Role, Session

COOKIE: Final = "fingerpost_console"
MAX_BYTES: Final = 2 * 1024 * 1024
MAX_FIELDS: Final = 500


class LoginNeeded(Exception):
    """Nobody is logged in; `then` is the page that was asked for."""

    def __init__(self, then: str) -> None:
        super().__init__("log in first")
        self.then = then

    @property
    def location(self) -> str:
        """The login page, from where one comes back."""
        return f"{BASE}/login?then={quote(self.then, safe='')}"


class Form(Mapping[str, str]):
    """A form's fields; of a name that comes more than once the last counts, `every` has all."""

    def __init__(self, fields: Mapping[str, list[str]]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        return self._fields[name][-1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def every(self, name: str) -> list[str]:
        """All values of one name."""
        return list(self._fields.get(name, ()))


async def visitor(request: Request) -> Session:
    """Whoever is logged in; `LoginNeeded` otherwise."""
    token = request.cookies.get(COOKIE, "")
    session = await gateway_of(request).sessions.find(token) if token else None
    if session is None:
        raise LoginNeeded(_asked(request))
    return session


def _asked(request: Request) -> str:
    """Where to come back to: a part of a page is no place to be."""
    if request.headers.get("hx-request") == "true":
        parts = urlsplit(request.headers.get("hx-current-url", ""))
        return f"{parts.path}?{parts.query}" if parts.query else parts.path
    if request.method != "GET":
        return BASE
    return f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path


async def form_of(request: Request) -> Form:
    """The fields of a form; `InvalidRequest` where the body is none. Comes from our own pages only: `Forbidden`."""
    _own_site(request)
    gateway = gateway_of(request)
    body = await read_body(request.scope, request.receive, MAX_BYTES, gateway.settings.body_timeout_s)
    try:
        return Form(parse_qs(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"))
    except (UnicodeDecodeError, ValueError) as error:
        raise InvalidRequest(
            "The form can't be read: send it as application/x-www-form-urlencoded, in UTF-8."
        ) from error


def _own_site(request: Request) -> None:
    """What browsers say of where a form comes from; those too old to say so are held by the cookie (SameSite)."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    foreign = site not in (None, "same-origin", "none")
    if not foreign and site is None and origin is not None:
        foreign = urlsplit(origin).netloc != request.headers.get("host")
    if foreign:
        raise Forbidden("This form does not come from the console.")


class Acting:
    """A visitor of a role who sends a form that is theirs."""

    def __init__(self, needed: Role) -> None:
        self._needed = needed

    async def __call__(self, request: Request) -> tuple[Session, Form]:
        session = await visitor(request)
        form = await form_of(request)
        if not session.is_meant(request.headers.get("x-csrf-token") or form.get("csrf", "")):
            raise Forbidden("The page is too old to act from: load it again, and repeat what you did.")
        if not session.role.may(self._needed):
            raise Forbidden(f"This needs the role '{self._needed}'; you are logged in as '{session.role}'.")
        return session, form


Visitor = Annotated[Session, Depends(visitor)]
Editing = Annotated[tuple[Session, Form], Depends(Acting(Role.EDITOR))]
Administering = Annotated[tuple[Session, Form], Depends(Acting(Role.ADMIN))]
Looking = Annotated[tuple[Session, Form], Depends(Acting(Role.VIEWER))]
