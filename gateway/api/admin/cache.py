"""Cached answers: what is there, and what is to be forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import Field

from gateway.api.admin.access import Admin, QueryId, TheGateway
from gateway.api.admin.bodies import Body, described_body, read_json
from gateway.cache.base import Store, StoreAway, Stored, Wanted
from gateway.cache.forgetting import Told, forget, found, named
from gateway.cache.trust import TrustBook, bounds_of
from gateway.errors import InvalidRequest, NotFound, Overloaded
from gateway.ledger.acts import CACHE, Change, acting
from gateway.ledger.cache_evidence import Place, Sums
from gateway.state import Gateway

router = APIRouter(prefix="/admin/cache")
MOST_SHOWN = 1000
EntryId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
TENANT = "^(organisation|team|key):[^\\x00]{1,200}$"


class InvalidateBody(Body):
    """Every field that is set must hold; without `tenant` of all of them. `older_than` is in Unix seconds. Nothing but
    `all` true forgets everything."""

    tenant: str | None = Field(default=None, pattern=TENANT)
    ids: tuple[EntryId, ...] = Field(default=(), max_length=1000)
    category: str | None = Field(default=None, max_length=200)
    model: str | None = Field(default=None, max_length=200)
    tag: str | None = Field(default=None, max_length=200)
    end_user: str | None = Field(default=None, max_length=512)
    older_than: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    all: bool = False
    dry_run: bool = False


class ResetBody(Body):
    """Every field that is set must hold; `share` is that of a setting. Nothing but `all` true resets everything."""

    tenant: str | None = Field(default=None, pattern=TENANT)
    topic: str | None = Field(default=None, max_length=200)
    share: float | None = Field(default=None, ge=0, le=1)
    all: bool = False


@router.get("")
async def status(_: Admin, gateway: TheGateway) -> dict[str, Any]:
    """What this worker has counted since it began, and who keeps answers."""
    with _answering():
        tenants = sorted(await _store(gateway).tenants())
    return {"counts": gateway.cache.gauges(), "tenants": tenants}


@router.get("/entries")
async def entries(
    _: Admin,
    gateway: TheGateway,
    tenant: Annotated[str, Query(pattern=TENANT)],
    category: QueryId | None = None,
    model: QueryId | None = None,
    tag: QueryId | None = None,
    end_user: QueryId | None = None,
    limit: Annotated[int, Query(ge=1, le=MOST_SHOWN)] = 100,
) -> dict[str, Any]:
    """Cached answers of a tenant, without their texts."""
    wanted = Wanted(category=category, model=model, tag=tag, end_user=_named(end_user))
    with _answering():
        shown = []
        async for stored in _store(gateway).entries(tenant, wanted):
            shown.append(_light(stored))
            if len(shown) == limit:
                break
    return {"data": shown}


@router.get("/entries/{entry_id}")
async def entry(
    entry_id: str, _: Admin, gateway: TheGateway, tenant: Annotated[str, Query(pattern=TENANT)]
) -> dict[str, Any]:
    """One cached answer with its texts."""
    with _answering():
        stored = await _store(gateway).get(tenant, entry_id[:64])
    if stored is None:
        raise NotFound(f"{tenant[:80]} has no cached answer '{entry_id[:64]}'.")
    return {**_light(stored), "text": stored.text, "answer": stored.body.decode(errors="replace")}


@router.post("/invalidate", openapi_extra=described_body(InvalidateBody))
async def invalidate(request: Request, caller: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Forget answers on every worker; `dry_run` only counts them."""
    said = await read_json(request, gateway, InvalidateBody)
    wanted = Wanted(said.ids, said.category, said.model, said.tag, _named(said.end_user), said.older_than)
    if wanted == Wanted() and not said.all and said.tenant is None:
        raise InvalidRequest("Say which answers to forget, or 'all': true for every one.", param="all")
    with _answering():
        if said.dry_run:
            count = sum([len(ids) async for _, ids in found(_store(gateway), said.tenant, wanted)])
        else:
            count = await forget(_store(gateway), said.tenant, wanted)
    if not said.dry_run:
        async with acting(gateway.engine, caller.key_id) as act:
            which = msgspec.json.encode(Told(said.tenant, wanted)).decode()
            told = said.model_dump(exclude_defaults=True, exclude={"end_user"}, mode="json")
            await act.done("cache.invalidate", said.tenant or "*", {**told, "forgotten": count}, Change(CACHE, which))
    return {"dry_run": said.dry_run, "answers": count}


@router.get("/trust")
async def trust(
    _: Admin, gateway: TheGateway, tenant: Annotated[str | None, Query(pattern=TENANT)] = None
) -> dict[str, Any]:
    """What is known of answers given by likeness, by tenant, topic and the share of wrong ones that is certified.

    `checked` and `reported` are shares of wrong ones: what labels leave possible, at least and at most. `used` is the
    setting that stands in for one that is closed; null: exact repeats only.
    """
    book = gateway.cache.trust
    rows = await book.evidence.read(book.calibration, tenant)
    return {"calibration": book.calibration, "data": [_told(book, place, sums) for _, place, sums in rows]}


@router.post("/trust/reset", openapi_extra=described_body(ResetBody))
async def reset_trust(request: Request, caller: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Forget what is known, and so open closed settings again."""
    said = await read_json(request, gateway, ResetBody)
    if said == ResetBody():
        raise InvalidRequest("Say of which tenant, topic or share, or 'all': true for every one.", param="all")
    count = await gateway.cache.trust.evidence.reset(caller.key_id, said.tenant, said.topic, said.share)
    return {"places": count}


def _told(book: TrustBook, place: Place, sums: Sums) -> dict[str, Any]:
    counts = asdict(sums)
    closed_at = counts.pop("closed_at")
    used = book.place(place.tenant, place.topic, place.share)
    return {**asdict(place), **counts, **bounds_of(sums), "closed_at": closed_at, "used": used and used.share}


def _named(end_user: str | None) -> str | None:
    return None if end_user is None else named(end_user)


def _store(gateway: Gateway) -> Store:
    with _answering():
        return gateway.cache.store


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except StoreAway:
        raise Overloaded("The cache's store does not answer, or there is none (FINGERPOST_CACHE_STORE).") from None


def _light(stored: Stored) -> dict[str, Any]:
    return {
        "id": stored.id,
        "tenant": stored.tenant,
        "category": stored.category,
        "model": stored.model,
        "tags": stored.tags,
        "created_at": stored.created_s,
        "expires_at": stored.expires_s,
        "bytes": len(stored.body),
        "by_likeness": stored.vector is not None,
        "input_tokens": stored.input_tokens,
        "output_tokens": stored.output_tokens,
        "cost_usd": stored.cost_nanousd / 1e9,
    }
