"""The models of a data folder as `ModelCard`s, from models.json or a catalogue's models.toml."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from policies.catalogue import ModelCard
from policies.errors import PolicyError
from policies.load import load_catalogue
from routers.training.errors import DataError, shown
from routers.training.tables import read_text

JSON_FILE: Final = "models.json"
TOML_FILE: Final = "models.toml"
# Where a row says nothing of it; no offline figure depends on it.
DEFAULT_CONTEXT_TOKENS: Final = 131_072
# Shorter names that rows may use.
_ALIASES: Final = {
    "org": "organisation",
    "price_in": "price_in_usd_per_mtok",
    "price_out": "price_out_usd_per_mtok",
}
_FIX: Final = "write it as docs/data.md describes, or leave the field out"


def read_cards(folder: Path) -> list[ModelCard]:
    """Cards in the file's order; raises `DataError` naming row and field. Fields that no card has are passed over."""
    as_json, as_toml = folder / JSON_FILE, folder / TOML_FILE
    if as_json.exists() and as_toml.exists():
        raise DataError(f"{folder} has both {JSON_FILE} and {TOML_FILE}", fix="keep one of them")
    try:
        if as_json.exists():
            cards = _from_json(as_json)
        elif as_toml.exists():
            cards = list(load_catalogue(as_toml).model)
        else:
            raise DataError(f"{folder} has no {JSON_FILE} or {TOML_FILE}", fix="add one: id and prices of each model")
    except PolicyError as error:
        raise DataError(str(error).rstrip("."), file=TOML_FILE) from error
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror or error})", file=str(error.filename or folder)) from error
    if not cards:
        raise DataError("names no model", file=(JSON_FILE if as_json.exists() else TOML_FILE), fix="add the models")
    return cards


def _from_json(file: Path) -> list[ModelCard]:
    try:
        found = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"is no JSON ({error})", file=file.name, fix="write a list of objects, one a model") from error
    if not isinstance(found, list):
        raise DataError("is not a list", file=file.name, fix="write a list of objects, one a model")
    cards: dict[str, ModelCard] = {}
    for row, one in enumerate(found, 1):
        card = _card(file.name, row, one)
        if card.id in cards:
            raise DataError(f"{shown(card.id)} appears twice", file=file.name, row=row, field="id", fix="keep one")
        cards[card.id] = card
    return list(cards.values())


def _card(file: str, row: int, given: Any) -> ModelCard:
    if not isinstance(given, dict):
        raise DataError(f"is {shown(given)}, not an object", file=file, row=row, fix="write a list of objects")
    named = {_ALIASES.get(name, name): (name, value) for name, value in given.items() if value is not None}
    fields = {name: value for name, (_, value) in named.items() if name in ModelCard.model_fields}
    try:
        return ModelCard.model_validate({"context_tokens": DEFAULT_CONTEXT_TOKENS, **fields})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        said = named.get(name, (name, None))[0] or None
        what = f"{first['msg']} (it is {shown(first['input'])})" if name in named else str(first["msg"])
        raise DataError(what, file=file, row=row, field=said, fix=_FIX) from error
