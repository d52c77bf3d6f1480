"""An evaluation on disk: figures, tables and plots, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from routers.training.errors import DataError
from routers.training.evaluate import Unseen
from routers.training.plots import write_plots
from routers.training.protocols import Asked, judge_folder_unseen, judge_folders, parse_kinds, parse_numbers, write
from routers.training.references import BEST_SINGLE, ORACLE
from routers.training.report import main_table, markdown, write_whole
from routers.training.simulator import make_world, simulate
from tests.unit.routers.training.judged import DATA, OTHER, WORLD

ASKED = Asked(kinds=["mean", "ridge"], seeds=(0,), new_models=1, shots=(0, 4))
FOUND = judge_folders([DATA], ASKED)


def test_an_evaluation_is_written_with_figures_tables_and_plots(tmp_path: Path) -> None:
    written = write(tmp_path / "new" / "out", FOUND)

    names = {file.name for file in written}
    assert {"evaluation.json", "evaluation.md", "known-quality-cost.png", "known-quality-cost.svg"} <= names
    assert {"known-calibration.svg", "known-new-models-curve.png"} <= names
    assert all(file.stat().st_size > 500 for file in written)
    assert [file.name for file in (tmp_path / "new" / "out").iterdir() if file.name.startswith(".")] == []


def test_the_json_has_every_section_row_curve_and_interval(tmp_path: Path) -> None:
    write(tmp_path, FOUND, plots=False)

    sections = json.loads((tmp_path / "evaluation.json").read_text())["sections"]
    rows = {row["router"]: row for row in sections[0]["rows"]}
    assert [one["title"] for one in sections] == [
        "known",
        "known, 1 new models, 0 labels",
        "known, 1 new models, 4 labels",
    ]
    assert {"mean", "low", "high", "significant"} <= set(rows["ridge"]["against"][BEST_SINGLE]["aiq_log"])
    assert len(sections[0]["curves"]["ridge"]["cost_usd"]) == len(sections[0]["curves"]["ridge"]["score"]) > 50
    assert rows[ORACLE]["leaky"]


def test_the_same_evaluation_draws_the_same_svg(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_plots(tmp_path / name, FOUND.sections[:1])

    drawn = [file.name for file in (tmp_path / "a").glob("*.svg")]
    assert len(drawn) == 2
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in drawn)


def test_the_markdown_marks_what_is_leaky_and_gives_intervals() -> None:
    text = markdown(FOUND.sections)

    assert "| oracle (leaky) |" in text and " to +" in text and "## known" in text
    assert "nan" not in text


def test_the_terminal_table_is_as_wide_as_its_columns() -> None:
    columns, rows = main_table(FOUND.sections[0])

    assert columns[0] == "router" and {len(row) for row in rows} == {len(columns)}


def test_a_file_that_can_not_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    file = write_whole(tmp_path / "x.md", b"old")

    with pytest.raises(TypeError):
        write_whole(file, "new")  # type: ignore[arg-type]

    assert file.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_an_unseen_set_gets_a_section_for_each_number_of_labels() -> None:
    larger = WORLD.with_new_models(1, 4)
    case = Unseen(
        simulate(larger, 60, 5, name="unseen").dataset, DATA, {}, simulate(larger, 30, 6, name="labels").dataset
    )

    found = judge_folder_unseen(case, Asked(kinds=["mean"], seeds=(0,), shots=(0, 16)))

    assert [one.title for one in found.sections] == [f"unseen, {k} labels of each new model" for k in (0, 16)]
    assert list(found.new_models) == ["unseen, new models"]


@pytest.mark.parametrize("given", [{"mixed": True}, {"unseen_tasks": True}, {"new_models": 1}])
def test_what_only_a_split_can_tell_is_refused_beside_unseen_data(given: dict[str, Any]) -> None:
    case = Unseen(test=OTHER, train=DATA, artifacts={})

    with pytest.raises(ValueError, match="split --data"):
        judge_folder_unseen(case, Asked(kinds=["mean"], seeds=(0,), **given))


def test_mixed_traffic_is_judged_over_the_common_models() -> None:
    found = judge_folders([DATA, OTHER], Asked(kinds=["mean"], seeds=(0,), mixed=True))

    assert [one.title for one in found.sections] == ["known", "other", "mixed known+other"]


def test_too_few_queries_or_models_are_refused_before_anything_is_fitted() -> None:
    few = simulate(make_world(models=2), 12, 0, name="few").dataset

    with pytest.raises(DataError, match=r"12 judged queries.*Fix: bring at least 20"):
        judge_folders([few], ASKED)
    with pytest.raises(DataError, match=r"one model only.*Fix: bring a second"):
        judge_folders([DATA.columns([0])], ASKED)


def test_lists_in_options_are_checked() -> None:
    assert parse_numbers("0, 16,64", "--shots") == [0, 16, 64]
    assert parse_kinds("none") == [] and parse_kinds("knn, mean") == ["knn", "mean"]
    with pytest.raises(ValueError, match="--seeds 'a' is not a list of numbers"):
        parse_numbers("a", "--seeds")
