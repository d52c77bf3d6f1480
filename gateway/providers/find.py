"""Finds providers by the stem of their file; a file here is one when it has `provide(supplies)`."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from gateway import providers
from gateway.providers.base import Provider, TextEngine, Vectors
from gateway.providers.http import HttpClient


@dataclass(frozen=True, slots=True)
class Supplies:
    """What a provider may be made of: a client, local engines and vectors (None where none is installed), a bound."""

    http: HttpClient
    load_engine: Callable[[str], TextEngine]
    embedder: Vectors | None
    max_reply_bytes: int


def providers_of(supplies: Supplies) -> dict[str, Provider]:
    """Every provider by its name in a catalogue row."""
    found: dict[str, Provider] = {}
    for module in pkgutil.iter_modules(providers.__path__):
        provide = getattr(import_module(f"{providers.__name__}.{module.name}"), "provide", None)
        if provide is not None:
            found[module.name] = provide(supplies)
    return found
