"""What one request is to the cache: whose it is, what it may share an answer with, and the text that is compared.

The partition commits to the tenant and to all that was not asked last; only entries of one partition are ever
compared, so that no likeness can carry an answer from one tenant or one conversation to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

import msgspec

from gateway.admission.rules import Caller
from gateway.cache.canonical import Canonical, canonical
from gateway.cache.control import NO_CONTROL, Control
from gateway.cache.eligibility import WINDOW, Allowed, Window, allowed
from gateway.wire.chat_request import ChatRequest
from policies.schema import CacheMode

# Part of every hash: raised whenever equal requests are to be told apart from those of an older version.
FORM = 1
_BYTES = 16


class Sharing(StrEnum):
    """Among whom answers are shared."""

    ORGANISATION = "organisation"
    TEAM = "team"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who shares answers: `kind` and `id` of an organisation, a team or a line of keys."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Scope:
    """Within what a request's answer may be shared, as the deployment decides, never the request's body.

    `group` is the policy or the named models that answer (see `group_of`), `models` what its caller
    may use of them (None: all), `key` the caller's own line of keys, `end_user` set where not even they share.
    """

    tenant: Tenant
    group: str
    key: str
    namespace: str = ""
    models: tuple[str, ...] | None = None
    end_user: str | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """`partition` and `exact` are 32 hex digits; `exact` is never equal in two partitions. `text` is embedded."""

    partition: str
    exact: str
    text: str
    allowed: Allowed


def tenant_of(caller: Caller, sharing: Sharing) -> Tenant:
    """The widest circle that `sharing` allows and the caller belongs to; who belongs to none shares with their key."""
    circles = ((Sharing.ORGANISATION, caller.organisation_id), (Sharing.TEAM, caller.team_id))
    wide = list(Sharing).index(sharing)
    found = next(((kind, of) for kind, of in circles[wide:] if of), (Sharing.KEY, key_line(caller)))
    return Tenant(str(found[0]), found[1])


def group_of(policy: str, pinned: Sequence[str]) -> str:
    """Who answers: the models that a request names, in its order, or those that its policy chooses from."""
    return msgspec.json.encode(["models", *pinned] if pinned else ["policy", policy]).decode()


def key_line(caller: Caller) -> str:
    """A key and those that it was rotated to are one."""
    return caller.root_id or caller.key_id


def identify(
    request: ChatRequest,
    scope: Scope,
    *,
    control: Control = NO_CONTROL,
    mode: CacheMode = CacheMode.SEMANTIC,
    category_decides: bool = False,
    window: Window = WINDOW,
) -> Identity:
    """Pure, and the same on every worker. `mode` and `category_decides`: see `allowed`."""
    form = canonical(request)
    partition, exact = fingerprints(form, scope, control)
    may = allowed(request, form, mode=mode, category_decides=category_decides, control=control, window=window)
    return Identity(partition, exact, form.text, may)


def fingerprints(form: Canonical, scope: Scope, control: Control = NO_CONTROL) -> tuple[str, str]:
    """Partition and exact fingerprint."""
    partition = _hash(b"partition", _within(scope, control), form.rest)
    return partition.hex(), _hash(b"exact", partition, msgspec.json.encode(form.texts)).hex()


def _within(scope: Scope, control: Control) -> bytes:
    models = None if scope.models is None else sorted(set(scope.models))
    alone = scope.key if control.private else None
    tenant = (scope.tenant.kind, scope.tenant.id)
    return msgspec.json.encode(
        (FORM, tenant, scope.group, scope.namespace, control.namespace, models, alone, scope.end_user)
    )


def _hash(purpose: bytes, *parts: bytes) -> bytes:
    """BLAKE2b, 128 bits, over parts whose lengths are told, so that none runs into the next."""
    digest = blake2b(digest_size=_BYTES, person=purpose)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
