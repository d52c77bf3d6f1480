"""Finds router kinds by the stems of the files in `routers/kinds/`; loads a kind only when it is asked for."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from pkgutil import iter_modules
from typing import cast

from routers import kinds as folder
from routers.base import Router


def kinds() -> list[str]:
    """Names of all router kinds, in alphabetical order; loads none."""
    return sorted(module.name for module in iter_modules(folder.__path__) if not module.name.startswith("_"))


def router_class(kind: str) -> type[Router]:
    """The class whose `kind` is the name of its file; raises `ValueError` naming the known kinds."""
    known = kinds()
    if kind not in known:
        near = get_close_matches(kind, known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"there is no router kind '{kind}' (known: {', '.join(known)}){hint}")
    try:
        module = import_module(f"{folder.__name__}.{kind}")
    except ModuleNotFoundError as error:
        needs = f"router kind '{kind}' needs the package '{error.name}'"
        raise ValueError(f"{needs}, which is not installed: pip install 'fingerpost[routers]'") from error
    for member in vars(module).values():
        if isinstance(member, type) and getattr(member, "kind", None) == kind:
            return cast(type[Router], member)
    raise ValueError(f"routers/kinds/{kind}.py defines no class with kind = '{kind}'")
