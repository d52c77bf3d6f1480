"""`fingerpost train`: fit a router kind on recorded outcomes, for the kinds that can learn."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.outcomes import bars, reader, refuse_foreign
from gateway.cli.output import fail, print_fields, print_json, settings_or_fail
from gateway.settings import make_cuda_deterministic
from routers.artifact import Artifact


def train(
    data: Annotated[list[Path], typer.Option(help="A folder with queries, outcomes and models; several: their union.")],
    kind: Annotated[str, typer.Option(help="The router kind.")],
    out: Annotated[Path, typer.Option(help="The folder of the artifact; one that is there is replaced.")],
    seed: Annotated[int, typer.Option(help="Same data and seed, same artifact.", min=0)] = 0,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A setting of the kind, key=value.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint of an interrupted run.")] = False,
    device: Annotated[str, typer.Option(help="Where networks learn: auto, cpu or cuda.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train a router offline. Kinds that follow rules have nothing to learn and say so."""
    try:
        made = _made(data, kind, out, seed, settings or [], resume=resume, device=device)
    except ValueError as error:
        fail(str(error))
    fields = {
        "artifact": str(out),
        "kind": made.kind,
        "sha256": made.sha256,
        "data": made.data,
        "embedder": made.embedder,
        "metrics": made.metrics,
    }
    if as_json:
        print_json(fields)
        return
    print_fields({name: fields[name] for name in ("artifact", "kind", "sha256", "embedder")})
    print_fields(learned(made))


def learned(made: Artifact) -> dict[str, str]:
    """What an artifact says of its data and of how it fared on queries held back, for people."""
    data, told = made.data, made.metrics
    models = len(data.get("models", ()))
    lines = {"learned": f"{data.get('outcomes')} outcomes of {models} models on {data.get('queries')} queries"}
    ours, best = told.get("held_back", {}), told.get("best_single", {})
    for name, value in ours.items():
        beside = f" (best single {best[name]:.4f})" if name in best else ""
        lines[f"held back {name}"] = f"{value:.4f}{beside}"
    return lines


def _made(
    data: list[Path], kind: str, out: Path, seed: int, given: list[str], *, resume: bool, device: str
) -> Artifact:
    from routers.training import train as training
    from routers.training.judge import learned_kinds
    from routers.training.union import union

    learned_kinds([kind])
    pairs = training.parse_settings(given)
    make_cuda_deterministic()
    refuse_foreign(out)
    out.parent.mkdir(parents=True, exist_ok=True)  # a wrong path is told before the work, not after
    checkpoint = training.checkpoint_of(out, resume=resume)
    chosen = training.settings_for(kind, pairs, checkpoint, device)
    with bars() as watch:
        opened = reader(settings_or_fail(), watch)
        found = union([opened.read(folder) for folder in data], every_model=True)
        recipe = training.Recipe(kind, seed, chosen)
        made = training.train(found, recipe, lambda share, what: watch(kind, share, what))
    made.save(out)
    shutil.rmtree(checkpoint, ignore_errors=True)
    return made
