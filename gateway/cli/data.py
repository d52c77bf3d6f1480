"""`fingerpost data`: the ledger as a folder to learn from, and a look at any such folder."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from gateway.build import catalogue_of
from gateway.cli.database import existing_database
from gateway.cli.output import fail, print_fields, print_json, print_table, settings_or_fail
from gateway.ledger.engine import open_engine

if TYPE_CHECKING:
    from gateway.ledger.export import Exported, Wanted
    from routers.training.dataset import Dataset

app = typer.Typer(help="Outcomes to learn from.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


@app.callback()
def _group() -> None:
    """Outcomes to learn from."""


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="The folder to write; it must not exist yet.")],
    since: Annotated[datetime | None, typer.Option(formats=_FORMATS, help="Requests from this time on, UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(formats=_FORMATS, help="Requests before this time, UTC.")] = None,
    policy: Annotated[str | None, typer.Option(help="Requests of this policy only.")] = None,
    texts: Annotated[bool, typer.Option("--texts", help="Prompts too, where they were logged.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an older export.")] = False,
    as_json: Json = False,
) -> None:
    """Write answered requests with their feedback, propensities and embeddings; texts only on demand."""
    from gateway.ledger.export import Wanted
    from gateway.ledger.export_files import ExportError

    wanted = Wanted(_unix(since), _unix(until), policy, texts)
    try:
        done = _exported(out, wanted, force)
    except ExportError as error:
        fail(str(error))
    if done.strangers:
        unknown = ", ".join(done.strangers)
        print(
            f"fingerpost: the catalogue has no model {unknown}: prices and facts are missing; set FINGERPOST_CATALOGUE"
            " as the gateway has it, or add them to models.json",
            file=sys.stderr,
        )
    counts: dict[str, Any] = {"queries": done.queries, "judged": done.judged, "models": len(done.models)}
    counts |= {"embedder": done.embedder or None, "left_out": done.left_out}
    if as_json:
        print_json({"folder": str(out), **counts})
        return
    left_out = counts.pop("left_out")
    print_fields({"folder": out, **counts, **{f"left out: {reason}": count for reason, count in left_out.items()}})


@app.command()
def check(folder: Annotated[Path, typer.Argument(help="A folder of outcomes.")], as_json: Json = False) -> None:
    """Read a folder as training would, and say what is in it, or what is wrong with which row; exits 2 then."""
    from routers.training.errors import DataError
    from routers.training.read import inspect_folder

    try:
        found = inspect_folder(folder)
    except DataError as error:
        fail(str(error))
    facts, models = _facts(found), _models(found)
    if as_json:
        print_json({**facts, "notes": found.notes, "by_model": models})
        return
    print_fields(facts)
    print_table(tuple(models[0]), ([_figure(value) for value in row.values()] for row in models))
    for note in found.notes:
        print(f"note: {note}")


def _exported(out: Path, wanted: Wanted, force: bool) -> Exported:
    from gateway.ledger.export import export as write

    settings = settings_or_fail()
    url, catalogue, place = existing_database(settings), catalogue_of(settings), out.absolute()

    async def run() -> Exported:
        engine = open_engine(url, command_timeout_s=None)
        try:
            return await write(engine, catalogue, place, wanted, force=force)
        finally:
            await engine.dispose()

    return asyncio.run(run())


def _unix(time: datetime | None) -> float | None:
    return None if time is None else time.replace(tzinfo=UTC).timestamp()


def _facts(found: Dataset) -> dict[str, Any]:
    observed = found.observed
    return {
        "queries": len(found),
        "questions": len(set(found.groups.tolist())),
        "tasks": len(set(found.tasks)),
        "models": len(found.models),
        "outcomes": int(observed.sum()),
        "share_of_pairs": round(float(observed.mean()), 4),
        "embedder": None if found.embedder == "none" else found.embedder,
        "texts": sum(map(bool, found.texts)),
        "propensities": 0 if found.propensity is None else int((~np.isnan(found.propensity)).sum()),
        "sha256": found.sha256(),
    }


def _models(found: Dataset) -> list[dict[str, Any]]:
    rows = []
    for place, card in enumerate(found.models):
        score, cost = found.score[:, place], found.cost_usd[:, place]
        row = {"model": card.id, "outcomes": int((~np.isnan(score)).sum()), "mean_score": _mean(score)}
        rows.append({**row, "mean_cost_usd": _mean(cost), "mean_output_tokens": _mean(found.output_tokens[:, place])})
    return rows


def _mean(values: np.typing.NDArray[np.floating]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _figure(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value
