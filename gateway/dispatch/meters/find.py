"""Finds the meter of a dialect by the stem of its file; a file here is one when it has `METER`."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from gateway.dispatch import meters
from gateway.dispatch.meters.base import Meter


@cache
def meter_class(dialect: str) -> type[Meter]:
    """The meter of a dialect, as `Reply.dialect` names it; `ValueError` where there is none."""
    known = {module.name for module in pkgutil.iter_modules(meters.__path__)}
    found = getattr(import_module(f"{meters.__name__}.{dialect}"), "METER", None) if dialect in known else None
    if found is None:
        raise ValueError(f"there is no meter for the dialect '{dialect}'")
    meter: type[Meter] = found
    return meter
