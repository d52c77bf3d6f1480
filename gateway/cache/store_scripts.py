"""The Lua scripts that keep answers in Redis, ready to be run on a link, and the keys that they are told.

All keys of a tenant share one hash tag; `LOG` and `DUE` are common to all tenants.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from gateway.cache.base import StoreAway
from gateway.redis_link import Encoded, RedisLink, RedisRefused, RedisUnavailable, Script, encoded

LOG: Final = "fpc:log"
DUE: Final = "fpc:due"
_FOLDER: Final = Path(__file__).parent / "lua"
_OWN: Final = ("used", "documents", "rows", "exact", "known", "expiry")
# Those that change nothing of what is kept do without what the others share.
_ALONE: Final = frozenset({"find", "hit", "lead", "release", "renew"})


@dataclass(frozen=True, slots=True)
class Scripts:
    """One for each step; their arguments and replies are told in the head of each file."""

    find: Script
    put: Script
    hit: Script
    drop: Script
    reap: Script
    lead: Script
    release: Script
    renew: Script


def scripts_on(link: RedisLink) -> Scripts:
    """All scripts."""
    return Scripts(**{step: link.script(_text(step)) for step in Scripts.__dataclass_fields__})


def key_of(tenant: str, part: str) -> str:
    """One of a tenant's keys; their name is hashed, since it may hold anything."""
    return f"fpc:{{{blake2b(word_of(tenant), digest_size=16).hexdigest()}}}:{part}"


def keys_of(tenant: str) -> Encoded:
    """KEYS of all scripts."""
    keys = [key_of(tenant, part) for part in _OWN]
    return encoded((len(keys) + 4, *keys, LOG, DUE, key_of(tenant, "pool:"), key_of(tenant, "lease:")))


def word_of(name: str) -> bytes:
    """A name as Redis is told it; names of clients may not be Unicode."""
    return name.encode("utf-8", "surrogatepass")


def name_of(data: bytes) -> str:
    """The name behind a word of Redis; what is not one of ours becomes a name that nobody has."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _text(script: str) -> str:
    parts = (script,) if script in _ALONE else ("base", script)
    return "\n".join((_FOLDER / f"{part}.lua").read_text(encoding="utf-8") for part in parts)


async def answered(reply: Awaitable[Any]) -> Any:
    """What Redis answers; raises `StoreAway`, and nothing of what Redis said that may hold a key."""
    try:
        return await reply
    except RedisRefused as refused:
        raise StoreAway(f"Redis refused: {refused.code}") from None
    except RedisUnavailable as error:
        raise StoreAway(str(error)) from None
