"""`fingerpost artifact`: what a trained router is, how two of them differ, and telling one a few outcomes more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from gateway.cli.outcomes import bars, reader, refuse_foreign
from gateway.cli.output import fail, print_fields, print_json, print_table, settings_or_fail
from policies.catalogue import ModelCard
from routers.artifact import Artifact, ArtifactError, read_artifact
from routers.find import router_class
from routers.inputs import FACTS, Inputs
from routers.learned import LearnedRouter

if TYPE_CHECKING:
    from routers.training.teach import Taught

app = typer.Typer(help="Trained routers.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Folder = Annotated[Path, typer.Argument(help="The folder of an artifact.")]

# So many of the largest changes are shown to people.
SHOWN_CHANGES = 10


@app.command()
def show(folder: Folder, as_json: Json = False) -> None:
    """Kind, data, embedder, size and metrics; exits 2 where the artifact is cut short, changed or unreadable."""
    found = described(_read(folder))
    if as_json:
        print_json(found)
        return
    print_fields({name: found[name] for name in ("kind", "sha256", "seed", "embedder", "dimensions")})
    print_fields({f"data {name}": _short(value) for name, value in found["data"].items()})
    print_fields({"arrays": f"{len(found['arrays'])}, {found['bytes']:,} bytes"})
    print_fields({name: _figure(value) for name, value in found["metrics"].items()})
    usual = sorted(found["usual_quality"].items(), key=lambda pair: -pair[1])
    if usual:
        print_table(("model", "usual quality"), ((name, f"{value:.3f}") for name, value in usual))


@app.command()
def diff(old: Folder, new: Folder, as_json: Json = False) -> None:
    """What changed between two artifacts; exits 0 where they are the same, 1 where they differ, 2 on an error."""
    before, after = _read(old), _read(new)
    found = changes(described(before), described(after))
    if as_json:
        print_json(found)
    elif before.sha256 == after.sha256:
        print(f"the same, sha256 {before.sha256}")
    else:
        _print_changes(found)
    if before.sha256 != after.sha256:
        raise typer.Exit(1)


@app.command()
def teach(
    folder: Folder,
    data: Annotated[Path, typer.Option(help="A folder with queries, outcomes and models; one outcome is enough.")],
    out: Annotated[Path, typer.Option(help="The folder of the artifact that knows more, which may be the same.")],
    as_json: Json = False,
) -> None:
    """Tell it graded outcomes, of models that it knows or of new ones, without training it again."""
    artifact = _read(folder)
    try:
        refuse_foreign(out)
        cards, taught = _taught(artifact, data)
    except ValueError as error:
        fail(str(error))
    taught.artifact.save(out)
    before, after = (usual_of(one, cards) for one in (artifact, taught.artifact))
    if as_json:
        fields = {
            "artifact": str(out),
            "sha256": taught.artifact.sha256,
            "labels": taught.labels,
            "known": taught.known,
        }
        print_json({**fields, "usual_quality": {name: [before[name], after[name]] for name in taught.labels}})
        return
    print_fields({"artifact": str(out), "kind": artifact.kind, "sha256": taught.artifact.sha256})
    if taught.known:
        print_fields({"left out": f"{taught.known} outcomes that the training had"})
    rows = [(name, str(count), f"{before[name]:.3f}", f"{after[name]:.3f}") for name, count in taught.labels.items()]
    print_table(("model", "labels", "usual quality before", "after"), rows)


def _taught(artifact: Artifact, data: Path) -> tuple[Sequence[ModelCard], Taught]:
    from routers.training.read import read_folder
    from routers.training.teach import teach as tell

    with bars() as watch:
        opened = reader(settings_or_fail(), watch)
        labelled = read_folder(data, opened.embed, opened.embedder, least_queries=1, least_models=1)
    return labelled.models, tell(artifact, labelled)


def described(artifact: Artifact) -> dict[str, Any]:
    """Everything but the arrays' contents, as plain values."""
    return {
        "kind": artifact.kind,
        "sha256": artifact.sha256,
        "seed": artifact.seed,
        "embedder": artifact.embedder or "none",
        "dimensions": artifact.dimensions,
        "features_version": artifact.features_version,
        "data": dict(artifact.data),
        "metrics": _flat(artifact.metrics),
        "arrays": {name: [*array.shape] for name, array in sorted(artifact.arrays.items())},
        "bytes": sum(array.nbytes for array in artifact.arrays.values()),
        "usual_quality": usual_quality(artifact),
    }


def usual_quality(artifact: Artifact) -> dict[str, float]:
    """What it forecasts of the models that it was trained with, whatever is asked; `ArtifactError` where it can't."""
    data = artifact.data
    names = {*data.get("models", ()), *(name for one in data.get("taught", ()) for name in one["models"])}
    return usual_of(artifact, [ModelCard(id=name, context_tokens=131_072) for name in sorted(names)])


def usual_of(artifact: Artifact, cards: Sequence[ModelCard]) -> dict[str, float]:
    """What it forecasts of these models whatever is asked; `ArtifactError` where it can't."""
    found = router_class(artifact.kind)
    if not cards or not issubclass(found, LearnedRouter):
        return {}
    nothing = Inputs(
        np.zeros((1, artifact.dimensions), dtype=np.float32),
        np.full(1, 100, dtype=np.float32),
        np.zeros((1, len(FACTS)), dtype=np.float32),
    )
    told = found.from_artifact(artifact).predict(nothing, cards)
    return {card.id: round(value, 6) for card, value in zip(cards, told.usual.tolist(), strict=True)}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What differs, each as [before, after]; models' usual quality by how much it changed."""
    plain = ("kind", "sha256", "seed", "embedder", "dimensions", "features_version", "bytes")
    one, other = before["usual_quality"], after["usual_quality"]
    moved = {name: other[name] - one[name] for name in one.keys() & other.keys() if other[name] != one[name]}
    models = set(before["data"].get("models", ())), set(after["data"].get("models", ()))
    return {
        "changed": {name: [before[name], after[name]] for name in plain if before[name] != after[name]},
        "data": _differing(_without_models(before["data"]), _without_models(after["data"])),
        "metrics": _differing(before["metrics"], after["metrics"]),
        "arrays": _differing(before["arrays"], after["arrays"]),
        "models_added": sorted(models[1] - models[0]),
        "models_removed": sorted(models[0] - models[1]),
        "usual_quality": dict(sorted(moved.items(), key=lambda pair: -abs(pair[1]))),
    }


def _print_changes(found: Mapping[str, Any]) -> None:
    rows = [
        (f"{group}{name}", _short(pair[0]), _short(pair[1]))
        for group, part in (("", "changed"), ("data ", "data"), ("", "metrics"), ("array ", "arrays"))
        for name, pair in found[part].items()
    ]
    print_table(("what", "before", "after"), rows)
    for what in ("added", "removed"):
        if found[f"models_{what}"]:
            print(f"models {what}: {', '.join(found[f'models_{what}'])}")
    largest = list(found["usual_quality"].items())[:SHOWN_CHANGES]
    if largest:
        print_table(("model", "usual quality"), ((name, f"{value:+.3f}") for name, value in largest))


def _read(folder: Path) -> Artifact:
    try:
        artifact = read_artifact(folder)
        usual_quality(artifact)
    except ArtifactError as error:
        fail(str(error))
    except ValueError as error:
        fail(f"{folder}: {error}")
    return artifact


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    names = [*before, *(name for name in after if name not in before)]
    return {name: [before.get(name), after.get(name)] for name in names if before.get(name) != after.get(name)}


def _without_models(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != "models"}


def _flat(metrics: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in metrics.items():
        flat |= _flat(value, f"{before}{name} ") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return flat


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > 4:
        return f"{len(value)}"
    return _figure(value)


def _figure(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
