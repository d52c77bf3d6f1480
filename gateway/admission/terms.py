"""On what terms a key, a team or an organisation may use the gateway: the fields they share, and what they may hold."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final

from gateway.incoming import MAX_TAG_CHARS, MAX_TAGS

MAX_NAME_CHARS: Final = 200
MAX_METADATA_BYTES: Final = 16 * 1024
IMPORTED: Final = "imported"
SUPERSEDED: Final = "superseded"
RESERVED: Final = frozenset({IMPORTED, SUPERSEDED})
TAGS: Final = "tags"
_EARLIEST_S: Final = datetime(1, 1, 2, tzinfo=UTC).timestamp()
_LATEST_S: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


class RefusedField(ValueError):
    """Something that must not be stored as asked; `field` says which part is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class SecretKeyError(ValueError):
    """The keys that encrypt providers' keys can't be used; the message says how to mend it, without them."""


@dataclass(frozen=True, slots=True)
class Known:
    """Names that terms and rules may refer to."""

    policies: Collection[str]
    models: Collection[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """`policy` None means that of whoever stands above, `allowed_models` None all that those above allow.

    `metadata` is for people, but for `tags`: a list of texts that every request of a key is counted under.
    """

    name: str
    policy: str | None = None
    allowed_models: tuple[str, ...] | None = None
    expires_at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def check_terms(new: Terms, known: Known, old: Terms | None = None) -> None:
    """Raise `RefusedField` for what could never work or names what does not exist; looks only at what is not as old."""
    for name in RESERVED & set(new.metadata) - set(old.metadata if old else ()):
        raise RefusedField(f"metadata.{name}", f"'metadata.{name}' is a name that Fingerpost itself uses.")
    for name, check in _CHECKS.items():
        if old is None or getattr(new, name) != getattr(old, name):
            check(getattr(new, name), known)


def tags_of(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """The tags among a key's metadata, without doubles; what is no list of texts counts as none."""
    given = metadata.get(TAGS)
    if not isinstance(given, list):
        return ()
    return tuple(dict.fromkeys(one for one in given if isinstance(one, str)))[:MAX_TAGS]


def check_tag(tag: object, name: str) -> None:
    """Raise `RefusedField` for a tag that the header `x-fingerpost-tags: a, b` could not carry."""
    fits = isinstance(tag, str) and 0 < len(tag) <= MAX_TAG_CHARS and tag.isprintable() and tag == tag.strip()
    if not fits or "," in str(tag):
        raise RefusedField(name, f"A tag is a printable text of 1 to {MAX_TAG_CHARS} characters without comma.")


def storable(text: str) -> bool:
    """Neither a lone surrogate nor NUL, which PostgreSQL does not take."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def seconds(moment: datetime | None) -> float | None:
    """Unix seconds; a naive time counts as UTC."""
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def moment(unix_s: float | None) -> datetime | None:
    """Clamped, so that no row, however it came about, makes all rows unreadable."""
    return None if unix_s is None else datetime.fromtimestamp(min(max(unix_s, _EARLIEST_S), _LATEST_S), UTC)


def to_columns(terms: Terms) -> dict[str, Any]:
    """What a table with these columns stores."""
    return {
        "name": terms.name,
        "policy": terms.policy,
        "allowed_models": None if terms.allowed_models is None else list(terms.allowed_models),
        "expires_at": seconds(terms.expires_at),
        "metadata": dict(terms.metadata),
    }


def from_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a class of rows that extends `Terms`: times as moments, lists as tuples."""
    models = row["allowed_models"]
    times = {name: moment(row[name]) for name in ("created_at", "expires_at", "revoked_at")}
    return {**row, **times, "allowed_models": tuple(models) if models is not None else None}


def differences(new: Terms, old: Terms) -> dict[str, object]:
    """What an update changes, as the audit log may keep it: of metadata the names alone."""
    names = [one.name for one in fields(new) if getattr(new, one.name) != getattr(old, one.name)]
    return {name: sorted(new.metadata) if name == "metadata" else getattr(new, name) for name in names}


def _check_name(name: str, _: Known) -> None:
    _check_storable("name", name)
    if not name.strip() or len(name) > MAX_NAME_CHARS:
        raise RefusedField("name", f"'name' must say in at most {MAX_NAME_CHARS} characters what or whom it is for.")


def _check_policy(policy: str | None, known: Known) -> None:
    _check_storable("policy", policy or "")
    if policy is not None and policy not in known.policies:
        there = ", ".join(sorted(known.policies))
        raise RefusedField("policy", f"There is no policy '{policy[:80]}'; known: {there}.")


def _check_models(models: tuple[str, ...] | None, known: Known) -> None:
    if models == ():
        raise RefusedField("allowed_models", "'allowed_models' would allow nothing; leave it out to allow all.")
    for model in models or ():
        _check_storable("allowed_models", model)
        if model not in known.models:
            raise RefusedField("allowed_models", f"There is no model '{model[:80]}' in the catalogue.")


def _check_expiry(expires_at: datetime | None, _: Known) -> None:
    end_s = seconds(expires_at)
    if end_s is not None and not time.time() < end_s < _LATEST_S:
        raise RefusedField("expires_at", "'expires_at' must lie in the future and before the year 9999 (UTC).")


def _check_metadata(metadata: Mapping[str, Any], _: Known) -> None:
    try:
        encoded, fits = json.dumps(metadata, allow_nan=False), _storable_inside(metadata)
    except (ValueError, TypeError, RecursionError):
        raise RefusedField("metadata", "'metadata' must be a JSON object, without NaN and not deep.") from None
    if not fits:
        raise RefusedField("metadata", "'metadata' holds characters that can't be stored.")
    if len(encoded) > MAX_METADATA_BYTES:
        raise RefusedField("metadata", f"'metadata' has {len(encoded)} bytes; at most {MAX_METADATA_BYTES} are kept.")
    _check_tags(metadata.get(TAGS, []))


def _check_tags(tags: object) -> None:
    name = f"metadata.{TAGS}"
    if not isinstance(tags, list) or len(tags) > MAX_TAGS:
        raise RefusedField(name, f"'{name}' must be a list of at most {MAX_TAGS} texts.")
    for tag in tags:
        check_tag(tag, name)


def _storable_inside(value: object) -> bool:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return all(storable(str(name)) and _storable_inside(item) for name, item in value.items())
    return all(map(_storable_inside, value)) if isinstance(value, list | tuple) else True


def _check_storable(name: str, text: str) -> None:
    if not storable(text):
        raise RefusedField(name, f"'{name}' holds characters that can't be stored.")


_CHECKS: Final[Mapping[str, Callable[[Any, Known], None]]] = {
    "name": _check_name,
    "policy": _check_policy,
    "allowed_models": _check_models,
    "expires_at": _check_expiry,
    "metadata": _check_metadata,
}
