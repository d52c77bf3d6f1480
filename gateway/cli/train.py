"""`fingerpost train`: fit a router kind on recorded outcomes, for the kinds that can learn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.output import fail
from routers.find import kinds, router_class


def train(
    kind: Annotated[str, typer.Option(help="The router kind.")],
    data: Annotated[Path, typer.Option(help="A folder with queries, outcomes and models.")],
    out: Annotated[Path, typer.Option(help="Where the artifact goes.")],
    seed: Annotated[int, typer.Option(help="Same seed, same artifact.")] = 0,
) -> None:
    """Train a router offline. Kinds that follow rules have nothing to learn and say so."""
    try:
        found = router_class(kind)
    except ValueError as error:
        fail(str(error))
    fit = getattr(found, "fit", None)
    if fit is None:
        able = [name for name in kinds() if hasattr(router_class(name), "fit")]
        fail(f"router kind '{kind}' learns nothing from data; kinds that do: {', '.join(able) or 'none yet'}")
    fit(data, seed).save(out)
