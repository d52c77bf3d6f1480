"""A whole evaluation: which protocols were asked for, on which data, as sections of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from routers.training.caution import Caution
from routers.training.dataset import Dataset
from routers.training.errors import DataError
from routers.training.evaluate import (
    Unseen,
    judge_new_models,
    judge_splits,
    judge_unseen,
    judge_unseen_tasks,
    unwatched,
)
from routers.training.judge import Round, Watch, learned_kinds
from routers.training.report import Section, write_report
from routers.training.summary import summarise
from routers.training.union import same_models, union

FEWEST_QUERIES = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be judged, and how often."""

    kinds: Sequence[str]
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    mixed: bool = False
    unseen_tasks: bool = False
    new_models: int = 0
    hold_out: Sequence[str] = ()
    shots: Sequence[int] = (0, 16, 64)
    caution: Caution | None = None

    def refuse_splits(self) -> None:
        """`ValueError` where something is asked that only data which is split can tell, not data that is unseen."""
        asked = {"--mixed": self.mixed, "--unseen-tasks": self.unseen_tasks, "--new-models": self.new_models}
        asked["--hold-out"] = bool(self.hold_out)
        given = " and ".join(name for name, value in asked.items() if value)
        if given:
            raise ValueError(
                f"{given} split --data, which beside --train-data or --artifact is unseen: leave out either"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Sections in order, and those that show what labels of new models do, by title and number of labels."""

    sections: list[Section] = field(default_factory=list)
    new_models: dict[str, Mapping[int, Section]] = field(default_factory=dict)


def judge_folders(sets: Sequence[Dataset], asked: Asked, watch: Watch = unwatched) -> Evaluation:
    """Split every set by question with every seed, and whatever else was asked for; `ValueError` on unfit data."""
    found = Evaluation()
    wanted = [*sets, _mixed(sets)] if asked.mixed else list(sets)
    for data in wanted:
        _check(data)
    for data in wanted:
        told = _named(watch, data.name)
        rounds = judge_splits(data, asked.kinds, asked.seeds, told, asked.caution)
        found.sections.append(_section(data.name, "split by question, 70 / 10 / 20 %", rounds, data))
        if asked.unseen_tasks and len(set(data.tasks)) > 1:
            rounds = judge_unseen_tasks(data, asked.kinds, asked.seeds, told, asked.caution)
            title = f"{data.name}, unseen tasks"
            found.sections.append(_section(title, "each task left out of training in turn", rounds, data))
        if asked.new_models or asked.hold_out:
            _judge_new(found, data, asked, told)
    return found


def judge_folder_unseen(case: Unseen, asked: Asked, watch: Watch = unwatched) -> Evaluation:
    """Judge kinds trained on other data, and artifacts, on all of an unseen set, by labels of its new models."""
    asked.refuse_splits()
    if case.train is not None:
        _check(case.train)
    found = Evaluation()
    counts = case.label_counts()
    shots = list(dict.fromkeys(min(shot, max(counts)) for shot in asked.shots)) if any(counts) else [0]
    told, notes = _named(watch, case.test.name), case.notes()
    by_shots = judge_unseen(case, asked.kinds, asked.seeds, shots, told, asked.caution)
    sections = {}
    for shot, rounds in by_shots.items():
        given = [min(shot, count) for count in counts]
        labels = f", {_span(given)} labels of each new model" if any(counts) else ""
        trained = "no kind trained" if case.train is None else f"kinds trained on {case.train.name}"
        title, protocol = f"{case.test.name}{labels}", f"unseen data; {trained}"
        sections[shot] = _section(title, protocol, rounds, case.test, notes)
    found.sections.extend(sections.values())
    if len(sections) > 1:
        found.new_models[f"{case.test.name}, new models"] = sections
    return found


def joined(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Several as one."""
    return Evaluation(
        [section for one in evaluations for section in one.sections],
        {title: by_shots for one in evaluations for title, by_shots in one.new_models.items()},
    )


def write(folder: Path, found: Evaluation, *, plots: bool = True) -> list[Path]:
    """The report's files, and its plots unless not wanted."""
    written = write_report(folder, found.sections)
    if plots:
        from routers.training.plots import write_new_models, write_plots

        written += write_plots(folder, found.sections)
        for title, by_shots in found.new_models.items():
            written += write_new_models(folder, title, by_shots)
    return written


def parse_kinds(text: str) -> list[str]:
    """`all`, `none`, or names with commas between; `ValueError` names one that is unknown or learns nothing."""
    if text == "none":
        return []
    return learned_kinds([] if text == "all" else [name.strip() for name in text.split(",") if name.strip()])


def parse_numbers(text: str, option: str) -> list[int]:
    """Whole numbers of 0 or more with commas between; `ValueError` names the option."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ValueError(f"{option} {text!r} is not a list of numbers such as 0,1,2")
    return list(dict.fromkeys(map(int, parts)))


def _judge_new(found: Evaluation, data: Dataset, asked: Asked, watch: Watch) -> None:
    judged = judge_new_models(
        data, asked.kinds, asked.seeds, asked.new_models, asked.shots, watch, asked.caution, asked.hold_out
    )
    by_shots = {
        shot: _section(
            f"{data.name}, {judged.held} new models, {_span(judged.labels[shot])} labels",
            f"{judged.held} models held out of training, {_span(judged.labels[shot])} labels of each given back",
            rounds,
            data,
        )
        for shot, rounds in judged.rounds.items()
    }
    found.sections.extend(by_shots.values())
    found.new_models[f"{data.name}, new models"] = by_shots


def _span(counts: Sequence[int]) -> str:
    """How many labels models really got."""
    return f"{max(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _section(title: str, protocol: str, rounds: Sequence[Round], data: Dataset, notes: Sequence[str] = ()) -> Section:
    facts = {
        "data": {"name": data.name, "queries": len(data), "models": len(data.models), "notes": list(data.notes)},
        "embedder": data.embedder,
    }
    return Section(title, protocol, rounds, summarise(rounds), facts, notes)


def _check(data: Dataset) -> None:
    if len(data) < FEWEST_QUERIES:
        what = f"data set '{data.name}' has {len(data)} judged queries"
        raise DataError(what, fix=f"bring at least {FEWEST_QUERIES}, so that there is something to judge on")
    if len(data.models) < 2:
        raise DataError(f"data set '{data.name}' has one model only", fix="bring a second: there is nothing to choose")


def _mixed(sets: Sequence[Dataset]) -> Dataset:
    """The sets' rows over the models that all of them have; gaps would tell a router which set a query is from."""
    common = [places for places in same_models([one.models for one in sets]) if len(places) == len(sets)]
    if len(sets) < 2 or len(common) < 2:
        names = ", ".join(one.name for one in sets)
        fix = "name two or more --data folders with at least two models in common"
        raise DataError(f"{names}: {len(common)} models are common to all {len(sets)}", fix=fix)
    return union(sets, f"mixed {'+'.join(one.name for one in sets)}")


def _named(watch: Watch, name: str) -> Watch:
    return lambda what, share: watch(f"{name}: {what}", share)
