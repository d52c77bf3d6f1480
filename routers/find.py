"""Finds router kinds by the stems of the files in `routers/kinds/`; loads a kind only when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import cast

from policies.schema import RouterSpec
from routers import kinds as folder
from routers.artifact import read_artifact
from routers.base import Router
from routers.learned import LearnedRouter

# Artifacts that come with the package.
SHIPPED = Path(__file__).parent / "artifacts"


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


def load_router(spec: RouterSpec, folders: Sequence[Path] = (), embedder: str | None = None) -> Router:
    """The router that a policy names, with its artifact where its kind learns.

    An artifact's name is looked up in `folders`, then among those that come with the package; a path is taken as it is.
    `embedder` is the id of the one that queries will be embedded with (None: not known, not checked). Raises
    `ValueError` (`ArtifactError` is one) naming what is wrong and the fix.
    """
    found = router_class(spec.kind)
    if not issubclass(found, LearnedRouter):
        return found.from_spec(spec)
    if not spec.artifact:
        return found.from_spec(spec)  # says that it needs one
    places = [Path(spec.artifact)] if "/" in spec.artifact else [place / spec.artifact for place in (*folders, SHIPPED)]
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        raise ValueError(f"there is no artifact '{spec.artifact}' (looked for {', '.join(map(str, places))})")
    artifact = read_artifact(folder)
    if embedder is not None and artifact.embedder not in ("", embedder):
        raise ValueError(
            f"the artifact '{spec.artifact}' was trained on vectors of '{artifact.embedder}', this gateway embeds with"
            f" '{embedder}': set FINGERPOST_EMBEDDER accordingly or train the artifact anew"
        )
    return found.from_artifact(artifact)
