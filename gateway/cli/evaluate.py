"""`fingerpost evaluate`: judge router kinds and artifacts on recorded outcomes, honestly split or wholly unseen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.outcomes import Reader, bars, reader
from gateway.cli.output import fail, print_json, print_table, settings_or_fail
from routers.artifact import read_artifact
from routers.find import router_class
from routers.learned import LearnedRouter
from routers.training import protocols
from routers.training.caution import Caution
from routers.training.evaluate import Unseen
from routers.training.labels import read_labels
from routers.training.report import Section, main_table
from routers.training.union import union


def evaluate(
    data: Annotated[list[Path], typer.Option(help="A folder to judge on; several are judged one after the other.")],
    artifact: Annotated[list[Path] | None, typer.Option(help="An artifact to judge; --data is then unseen.")] = None,
    train_data: Annotated[list[Path] | None, typer.Option(help="Train kinds on this; --data is then unseen.")] = None,
    kinds: Annotated[str, typer.Option(help="all, none, or names with commas between.")] = "all",
    seeds: Annotated[str, typer.Option(help="Of splits and fits.")] = "0,1,2,3,4",
    mixed: Annotated[bool, typer.Option("--mixed", help="Also the folders' union over their common models.")] = False,
    unseen_tasks: Annotated[bool, typer.Option("--unseen-tasks", help="Also leave each task out in turn.")] = False,
    new_models: Annotated[int, typer.Option(help="Also hold so many models out.", min=0)] = 0,
    hold_out: Annotated[str, typer.Option(help="Also hold these out: names with commas between.")] = "",
    calibration: Annotated[Path | None, typer.Option(help="Labelled outcomes of new models: folder or table.")] = None,
    shots: Annotated[str, typer.Option(help="Labelled queries that each new model gets.")] = "0,16,64",
    confidence: Annotated[
        float, typer.Option(help="Also judge policies that abstain below it.", min=0.5, max=0.999)
    ] = 0.5,
    min_trust: Annotated[float, typer.Option(help="Also judge policies that abstain below it.", min=0, max=1)] = 0.0,
    out: Annotated[Path | None, typer.Option(help="Folder for evaluation.json, evaluation.md and plots.")] = None,
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Draw them, which needs matplotlib.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print one table of every kind on the same split, with paired intervals against the best single model."""
    try:
        asked = protocols.Asked(
            kinds=protocols.parse_kinds(kinds),
            seeds=protocols.parse_numbers(seeds, "--seeds"),
            mixed=mixed,
            unseen_tasks=unseen_tasks,
            new_models=new_models,
            hold_out=[name.strip() for name in hold_out.split(",") if name.strip()],
            shots=protocols.parse_numbers(shots, "--shots"),
            caution=Caution(confidence, min_trust) if confidence > 0.5 or min_trust else None,
        )
        if calibration is not None and not (artifact or train_data):
            raise ValueError("--calibration is for unseen --data: name --train-data or --artifact too")
        if artifact or train_data:
            asked.refuse_splits()
        with bars() as told:
            opened = reader(settings_or_fail(), told)

            def watch(what: str, share: float) -> None:
                told(what, share, "")

            if artifact or train_data:
                cases = _unseen(opened, data, artifact or [], train_data or [], calibration)
                found = protocols.joined([protocols.judge_folder_unseen(one, asked, watch) for one in cases])
            else:
                found = protocols.judge_folders([opened.read(one) for one in data], asked, watch)
        written = [] if out is None else protocols.write(out, found, plots=plots)
    except ValueError as error:
        fail(str(error))
    if as_json:
        print_json({"sections": [section.as_json() for section in found.sections]})
        return
    for section in found.sections:
        _show(section)
    for file in written:
        print(f"written {file}")


def _show(section: Section) -> None:
    print(f"{section.title} ({section.protocol}; {len(section.rounds)} rounds)")
    columns, rows = main_table(section)
    print_table(columns, rows)
    for kind, why in section.refused().items():
        print(f"not fitted: {kind}: {why}")
    print()


def _unseen(
    opened: Reader, data: list[Path], artifacts: list[Path], train_data: list[Path], calibration: Path | None
) -> list[Unseen]:
    """One case for each folder; without training data nothing is trained, and the first artifact says what is known."""
    routers = {_name(folder, artifacts): _loaded(folder, opened.embedder) for folder in artifacts}
    train = union([opened.read(folder) for folder in train_data], every_model=True) if train_data else None
    return [
        Unseen(
            test=opened.read(folder),
            train=train,
            artifacts=routers,
            labelled=None if calibration is None else read_labels(calibration, folder, opened.embed, opened.embedder),
        )
        for folder in data
    ]


def _loaded(folder: Path, embedder: str) -> LearnedRouter:
    artifact = read_artifact(folder)
    if artifact.embedder not in ("", embedder):
        raise ValueError(
            f"{folder} was trained on vectors of '{artifact.embedder}', this gateway embeds with '{embedder}':"
            " set FINGERPOST_EMBEDDER accordingly or train the artifact anew"
        )
    found = router_class(artifact.kind)
    if not issubclass(found, LearnedRouter):
        raise ValueError(f"{folder} is of kind '{artifact.kind}', which learns nothing: train it anew")
    return found.from_artifact(artifact)


def _name(folder: Path, artifacts: list[Path]) -> str:
    """The folder's own name where that tells it from the others."""
    alone = sum(one.name == folder.name for one in artifacts) == 1
    return f"artifact {folder.name if alone else folder}"
