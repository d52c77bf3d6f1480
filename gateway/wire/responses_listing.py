"""The list of a stored response's input items, page by page."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.errors import InvalidRequest
from gateway.wire.responses_items import OWN_MARK, Item

MOST = 100


def listed(response_id: str, items: str, body: str, limit: int, order: str, after: str | None) -> bytes:
    """OpenAI's list form; `items` are the whole conversation, `body` the response that ends it."""
    if not 1 <= limit <= MOST:
        raise InvalidRequest(f"'limit' must lie between 1 and {MOST}.", param="limit")
    if order not in ("asc", "desc"):
        raise InvalidRequest("'order' must be asc or desc.", param="order")
    everything = msgspec.json.decode(items, type=list[Item])
    said = len(msgspec.json.decode(body, type=dict[str, Any])["output"])
    given = [_shown(item, place, response_id) for place, item in enumerate(everything[: len(everything) - said])]
    if order == "desc":
        given.reverse()
    page = given[_start(given, after) :]
    shown = page[:limit]
    edges = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {"first_id": None, "last_id": None}
    return msgspec.json.encode({"object": "list", "data": shown, **edges, "has_more": len(page) > limit})


def _start(items: list[Item], after: str | None) -> int:
    if after is None:
        return 0
    place = next((place for place, item in enumerate(items) if item["id"] == after), None)
    if place is None:
        raise InvalidRequest("'after' is not the id of an item of this response.", param="after")
    return place + 1


def _shown(item: Item, place: int, response_id: str) -> Item:
    """An item with an id, which those that clients send have not: made of its place, so that it stays the same."""
    shown: Item = {"id": f"item{OWN_MARK}{response_id.rpartition('_')[2]}_{place}"} | item
    if "type" not in shown:
        shown["type"] = "message"
    if shown["type"] == "message" and isinstance(shown.get("content"), str):
        kind = "output_text" if shown.get("role") == "assistant" else "input_text"
        shown["content"] = [{"type": kind, "text": shown["content"]}]
    return shown
