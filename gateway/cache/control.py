"""What a request says of the cache itself: the header `cache-control` and the body's field `cache`. Knows no store.

A request can only ask for less than its policy allows, never for more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.errors import InvalidRequest
from gateway.wire.chat_request import ChatRequest
from policies.schema import CacheMode

LONGEST_S = 30 * 86_400
MAX_TAGS = 8
MAX_NAME_CHARS = 64

_Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS, pattern=r"^[\w.:/@+-]+\Z")]


class CacheField(Struct, forbid_unknown_fields=True):
    """The body's `cache`: `read` false asks for a fresh answer, `store` false that none is kept."""

    mode: CacheMode | None = None
    ttl: Annotated[int, Meta(ge=1, le=LONGEST_S)] | None = None
    max_age: Annotated[int, Meta(ge=0, le=LONGEST_S)] | None = None
    read: bool | None = None
    store: bool | None = None
    namespace: _Name | None = None
    tags: Annotated[list[_Name], Meta(max_length=MAX_TAGS)] | None = None


@dataclass(frozen=True, slots=True)
class Control:
    """What a request asks of the cache. `mode` is the most it wants, `max_age_s` how old an answer may be, `ttl_s`
    for how long its own may be kept at most; `private` keeps to the caller's own key; `only_if_cached` asks nobody.

    `stale_s` says how long ago an answer may have expired that is given all the same, as far as the policy keeps it;
    None: nothing is said."""

    mode: CacheMode = CacheMode.SEMANTIC
    reads: bool = True
    stores: bool = True
    only_if_cached: bool = False
    private: bool = False
    max_age_s: int | None = None
    ttl_s: int | None = None
    namespace: str = ""
    tags: tuple[str, ...] = ()
    stale_s: float | None = None

    def stalest_s(self, under_load: float) -> float:
        """How long ago an answer may have expired, where it may be so long `under_load`. Who says how old or how fresh
        it must be takes none that has expired, unless they say that too (RFC 9111, 5.2.1)."""
        if self.stale_s is not None:
            return self.stale_s
        return under_load if self.max_age_s is None else 0.0


NO_CONTROL = Control()

_FIELD = msgspec.json.Decoder(CacheField)
_NAME_RULE = f"1 to {MAX_NAME_CHARS} letters, digits or any of _.:/@+-"
_EXPECTED = {
    "mode": '"off", "exact" or "semantic"',
    "ttl": f"whole seconds from 1 to {LONGEST_S}",
    "max_age": f"whole seconds from 0 to {LONGEST_S}",
    "read": "true or false",
    "store": "true or false",
    "namespace": _NAME_RULE,
    "tags": f"a list of at most {MAX_TAGS} texts, each of {_NAME_RULE}",
}
# RFC 9111's other directives: what they ask holds here anyway, or is a wish that may go unmet.
_WITHOUT_EFFECT = frozenset(
    {
        *("no-transform", "must-revalidate", "proxy-revalidate", "must-understand"),
        *("public", "immutable", "s-maxage", "stale-if-error", "stale-while-revalidate"),
    }
)
_FLAGS = frozenset({"no-cache", "no-store", "only-if-cached", "private"})
_KNOWN = _FLAGS | _WITHOUT_EFFECT | {"max-age", "max-stale", "min-fresh"}
_PATH = re.compile(r"`\$\.(\w+)")
_STRANGER = re.compile(r"unknown field `([^`]*)`")
MAX_HEADER_CHARS = 1000


def control_of(request: ChatRequest, header: str = "") -> Control:
    """Header and body together, the stricter where both speak; `InvalidRequest` names the field and the mend."""
    field = _field(request)
    if field is None and not header:
        return NO_CONTROL
    field = field or CacheField()
    asked = _directives(header)
    ages = [age for age in (field.max_age, _seconds(asked, "max-age")) if age is not None]
    max_age_s = min(ages, default=None)
    reads = field.read is not False and "no-cache" not in asked and max_age_s != 0
    if "only-if-cached" in asked and not reads:
        raise InvalidRequest(
            "'cache-control' asks for a cached answer only, and for none from the cache: leave out 'only-if-cached' or"
            " what forbids it ('no-cache', 'max-age=0', or in the body 'cache.read' or 'cache.max_age').",
            param="cache-control",
        )
    return Control(
        mode=field.mode or CacheMode.SEMANTIC,
        reads=reads,
        stores=field.store is not False and "no-store" not in asked,
        only_if_cached="only-if-cached" in asked,
        private="private" in asked,
        max_age_s=max_age_s,
        ttl_s=field.ttl,
        namespace=field.namespace or "",
        tags=tuple(dict.fromkeys(field.tags or ())),
        stale_s=_stale_s(asked),
    )


def _stale_s(asked: Mapping[str, str]) -> float | None:
    if "min-fresh" in asked:
        return 0.0
    if "max-stale" not in asked:
        return None
    bound_s = _seconds(asked, "max-stale")
    return inf if bound_s is None else bound_s


def without_control(request: ChatRequest) -> ChatRequest:
    """The request as upstreams may see it: vendors refuse fields that they don't know."""
    original = request.original
    if "cache" not in request.fields and (original is None or "cache" not in original.fields):
        return request
    if original is not None:
        original = replace(original, fields=_less(original.fields))
    return replace(request, fields=_less(request.fields), original=original)


def _less(fields: Mapping[str, Raw]) -> dict[str, Raw]:
    return {name: raw for name, raw in fields.items() if name != "cache"}


def _field(request: ChatRequest) -> CacheField | None:
    """The body's own word, by whichever dialect it came."""
    raw = request.fields.get("cache")
    if raw is None and request.original is not None:
        raw = request.original.fields.get("cache")
    if raw is None or bytes(raw) == b"null":
        return None
    try:
        return _FIELD.decode(raw)
    except msgspec.DecodeError as error:
        raise _wrong_field(str(error)) from error


def _wrong_field(said: str) -> InvalidRequest:
    known = ", ".join(_EXPECTED)
    if stranger := _STRANGER.search(said):
        name = f"cache.{stranger.group(1)[:40]}"
        return InvalidRequest(f"'{name}' is not known; 'cache' takes {known}.", param=name)
    place = _PATH.search(said)
    if place is None:
        return InvalidRequest(
            f'\'cache\' must be an object of {known}, such as {{"mode": "exact"}} or {{"mode": "off"}}.',
            param="cache",
        )
    name = place.group(1)
    return InvalidRequest(f"'cache.{name}' must be {_EXPECTED[name]}.", param=f"cache.{name}")


def _directives(header: str) -> Mapping[str, str]:
    """By name; a directive without a value has the empty one; of several the last counts, of seconds the least."""
    if len(header) > MAX_HEADER_CHARS:
        raise InvalidRequest(f"'cache-control' takes at most {MAX_HEADER_CHARS} characters.", param="cache-control")
    found: dict[str, str] = {}
    for one in filter(None, map(str.strip, header.split(","))):
        name, _, value = one.partition("=")
        name, value = name.strip().lower(), value.strip().strip('"')
        if name == "max-age" or (name == "max-stale" and value):
            value = str(min(int(_whole(name, value)), int(found.get(name) or value)))
        elif name == "max-stale":
            value = found.get(name, "")
        elif name in _FLAGS and value:
            raise _wrong(f"directive '{name}' takes no value: write it alone")
        elif name not in _KNOWN:
            raise _wrong(
                f"directive '{name[:40]}' is not known; use no-cache, no-store, private, only-if-cached,"
                " max-age=SECONDS or max-stale=SECONDS"
            )
        found[name] = value
    return found


def _whole(name: str, value: str) -> str:
    if not (value.isascii() and value.isdigit()) or len(value) > 10:
        raise _wrong(f"directive '{name}' takes whole seconds, such as {name}=60")
    return value


def _seconds(asked: Mapping[str, str], name: str) -> int | None:
    return int(asked[name]) if asked.get(name) else None


def _wrong(what: str) -> InvalidRequest:
    return InvalidRequest(f"'cache-control': {what}.", param="cache-control")
