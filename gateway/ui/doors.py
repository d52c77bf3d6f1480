"""Who may see and do what in the console: sessions by cookie, roles, and proof that a form is ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import Depends, Request

from gateway.api.admin.access import gateway_of
from gateway.api.raw import read_body
from gateway.errors import Forbidden, InvalidRequest
from gateway.ui import cookies
from gateway.ui.rendering import BASE
from gateway.ui.roles import Role
from gateway.ui.sessions import Session

MAX_BYTES: Final = 2 * 1024 * 1024
MAX_FIELDS: Final = 500


class LoginNeeded(Exception):
    """Nobody is logged in; `location` is the login page, from where one comes back."""

    def __init__(self, then: str) -> None:
        super().__init__("log in first")
        self.location = f"{BASE}/login?then={quote(then, safe='')}"


class Form(Mapping[str, str]):
    """A form's fields, without spaces around them; of a name that comes more than once the last counts, `every` has
    all."""

    def __init__(self, fields: Mapping[str, list[str]]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        return self._fields[name][-1].strip()

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def every(self, name: str) -> list[str]:
        """All values of one name."""
        return list(self._fields.get(name, ()))

    def text(self, name: str) -> str:
        """A field as it was written, with the line ends of this system instead of a form's; '' where there is none."""
        return self._fields.get(name, [""])[-1].replace("\r\n", "\n")

    def given(self, *names: str) -> dict[str, str]:
        """Of these fields those that are not left empty."""
        return {name: self[name] for name in names if self.get(name)}


class Acting(NamedTuple):
    """Somebody who may do what they ask for, and the form by which they ask."""

    session: Session
    form: Form


async def visitor(request: Request) -> Session:
    """Whoever is logged in; `LoginNeeded` otherwise."""
    token = request.cookies.get(cookies.SESSION, "")
    used = request.headers.get("x-unasked") is None
    session = await gateway_of(request).console.sessions.find(token, used=used) if token else None
    if session is None:
        raise LoginNeeded(_asked(request))
    request.state.session = session
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
    check_own_site(request)
    gateway = gateway_of(request)
    body = await read_body(request.scope, request.receive, MAX_BYTES, gateway.settings.body_timeout_s)
    try:
        return Form(parse_qs(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"))
    except (UnicodeDecodeError, ValueError) as error:
        raise InvalidRequest(
            "The form can't be read: send it as application/x-www-form-urlencoded, in UTF-8."
        ) from error


def check_own_site(request: Request) -> None:
    """What browsers say of where a form comes from; those too old to say so are held by the form's token."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    foreign = site not in (None, "same-origin")
    if not foreign and site is None and origin is not None:
        public = gateway_of(request).settings.public_url
        own = {request.headers.get("host"), urlsplit(public).netloc} - {None, ""}
        foreign = urlsplit(origin).netloc not in own
    if foreign:
        raise Forbidden("This form does not come from the console.")


async def looking(request: Request) -> Acting:
    """Anybody who is logged in."""
    return await _acting(request, Role.VIEWER)


async def editing(request: Request) -> Acting:
    """An editor or an admin."""
    return await _acting(request, Role.EDITOR)


async def administering(request: Request) -> Acting:
    """An admin."""
    return await _acting(request, Role.ADMIN)


async def _acting(request: Request, needed: Role) -> Acting:
    """Lets through who has a role and sends a form that is theirs."""
    session = await visitor(request)
    check_own_site(request)
    allow(session, needed)
    form = await form_of(request)
    if not session.is_meant(request.headers.get("x-csrf-token") or form.get("csrf", "")):
        raise Forbidden("The page is too old to act from: load it again, and repeat what you did.")
    return Acting(session, form)


def allow(session: Session, needed: Role) -> None:
    """`Forbidden` where the role is not enough."""
    if not session.role.may(needed):
        raise Forbidden(f"This needs the role '{needed}'; you are logged in as '{session.role}'.")


Visitor = Annotated[Session, Depends(visitor)]
Looking = Annotated[Acting, Depends(looking)]
Editing = Annotated[Acting, Depends(editing)]
Administering = Annotated[Acting, Depends(administering)]
