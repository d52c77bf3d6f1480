"""`fingerpost train`, `evaluate` and `artifact` as a router engineer uses them, with a small real embedder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.main import app
from routers.artifact import read_artifact
from routers.training.read import inspect_folder
from routers.training.teach import teach
from tests.serving import environment
from tests.unit.routers.training import folders

QUERIES = folders.queries(60)
OUTCOMES = folders.outcomes(60)
Spoil = Callable[[folders.Rows], folders.Rows]


class Shell:
    """Runs commands in this process, in a folder of its own with a sound folder of outcomes and an artifact."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = environment(folder / "home", {"FINGERPOST_PRELOAD": "false", "FINGERPOST_EMBEDDER": "hashing"})
        self.data = str(folders.write(folder / "data", queries=QUERIES, outcomes=OUTCOMES))
        self.artifact = self.train("ridge", "ridge")

    def run(self, *arguments: str, code: int = 0) -> Result:
        done = CliRunner().invoke(app, arguments, env=self.env)
        assert done.exit_code == code, done.stderr
        return done

    def train(self, kind: str, name: str) -> str:
        out = str(self.folder / name)
        self.run("train", "--data", self.data, "--kind", kind, "--out", out)
        return out

    def refused(self, *arguments: str) -> str:
        """The one line that a refusal is."""
        lines = [one for one in self.run(*arguments, code=2).stderr.splitlines() if one.startswith("fingerpost: ")]
        assert len(lines) == 1
        return lines[0]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("training"))


def test_a_router_is_trained_shown_and_trained_again_to_the_same_hash(shell: Shell) -> None:
    shown = json.loads(shell.run("artifact", "show", shell.artifact, "--json").stdout)

    assert shown["kind"] == "ridge" and shown["data"]["queries"] == 60
    assert set(shown["usual_quality"]) == {"small", "large"}
    assert "the same" in shell.run("artifact", "diff", shell.artifact, shell.train("ridge", "again")).stdout


def test_two_artifacts_that_differ_are_told_apart_with_exit_code_one(shell: Shell) -> None:
    other = shell.train("mean", "mean")

    found = json.loads(shell.run("artifact", "diff", shell.artifact, other, "--json", code=1).stdout)
    told = shell.run("artifact", "diff", shell.artifact, other, code=1).stdout

    assert found["changed"]["kind"] == ["ridge", "mean"]
    assert "kind" in told and "ridge" in told


def test_a_device_that_the_kind_can_not_use_is_refused_before_the_work(shell: Shell) -> None:
    told = shell.refused(
        "train", "--data", shell.data, "--kind", "ridge", "--out", str(shell.folder / "g"), "--device", "cuda"
    )

    assert "kind 'ridge' does not learn on a GPU: leave --device out" in told


def test_an_artifact_is_shown_to_people(shell: Shell) -> None:
    told = shell.run("artifact", "show", shell.artifact).stdout

    assert "held_back aiq_log" in told and "usual quality" in told and "hashing/blake2b" in told


def test_the_module_trains_from_the_cache_that_the_command_filled(shell: Shell) -> None:
    out, cache = str(shell.folder / "module"), str(shell.folder / "home" / "embeddings")
    arguments = ["--data", shell.data, "--kind", "ridge", "--out", out, "--embeddings", cache]

    subprocess.run([sys.executable, "-m", "routers.training.train", *arguments], env=shell.env, check=True, timeout=120)

    assert "the same" in shell.run("artifact", "diff", shell.artifact, out).stdout


def test_kinds_are_judged_on_one_split_and_the_report_is_written(shell: Shell) -> None:
    out = shell.folder / "report"

    done = shell.run("evaluate", "--data", shell.data, "--kinds", "mean,knn", "--seeds", "0,1", "--out", str(out))

    assert "best single" in done.stdout and "knn" in done.stdout and "oracle (leaky)" in done.stdout
    assert {"evaluation.json", "evaluation.md", "data-quality-cost.svg"} <= {file.name for file in out.iterdir()}


def test_an_artifact_is_judged_on_an_unseen_folder_with_a_new_model_and_labels(shell: Shell) -> None:
    cards = [*folders.CARDS, {"id": "fresh", "price_in": 0.5, "price_out": 1}]
    rows = [[f"u{place}", "new", f"Which sea is number {place}?"] for place in range(40)]
    scores = [[f"u{at}", card["id"], at % 2, 10, 20, 0.001, 1] for at in range(40) for card in cards]
    unseen = folders.write(shell.folder / "unseen", queries=rows, outcomes=scores, cards=cards)
    labels = shell.folder / "labels.csv"
    marks = [[f"l{at}", f"Whose song is number {at}?", "fresh", at % 2, 20] for at in range(20)]
    labels.write_bytes(folders.as_csv(["query_id", "text", "model", "score", "tokens"], marks))

    given = ("--data", str(unseen), "--train-data", shell.data, "--artifact", shell.artifact)
    more = ("--calibration", str(labels), "--kinds", "mean", "--seeds", "0", "--shots", "0,16", "--json")
    sections = json.loads(shell.run("evaluate", *given, *more).stdout)["sections"]

    assert [one["title"] for one in sections] == [f"unseen, {shots} labels of each new model" for shots in (0, 16)]
    alone = shell.run("evaluate", "--data", str(unseen), "--artifact", shell.artifact, "--seeds", "0", "--json")
    assert "artifact ridge" in {row["router"] for row in json.loads(alone.stdout)["sections"][0]["rows"]}
    for one in sections:
        assert {"mean", "artifact ridge", "best single"} <= {row["router"] for row in one["rows"]}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda rows: [*rows[:-1], [*rows[-1][:2], "nan", *rows[-1][3:]]], "row 121, field 'score'"),
        (lambda rows: [*rows, rows[0]], "row 122"),
        (lambda rows: [*rows[:-1], [rows[-1][0], "nobody", *rows[-1][2:]]], "row 121, field 'model'"),
        (lambda rows: [row for row in rows if row[1] == "small"], "model"),
        (lambda rows: rows[:6], "queries"),
    ],
    ids=["a score that is no number", "a row twice", "an unknown model", "one model only", "a few rows only"],
)
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_bad_data_is_refused_in_one_line_and_nothing_is_written(
    shell: Shell, tmp_path: Path, command: str, spoil: Spoil, words: str
) -> None:
    bad = str(folders.write(tmp_path / "bad", queries=QUERIES, outcomes=spoil(OUTCOMES)))
    more = ("--kind", "mean") if command == "train" else ("--kinds", "mean", "--seeds", "0")

    line = shell.refused(command, "--data", bad, "--out", str(tmp_path / "made"), *more)

    assert words in line
    assert [one.name for one in tmp_path.iterdir()] == ["bad"]


def test_ten_rows_are_too_few_to_judge_on(shell: Shell, tmp_path: Path) -> None:
    few = folders.write(tmp_path / "few", queries=folders.queries(10), outcomes=folders.outcomes(10))

    assert "10 judged queries" in shell.refused("evaluate", "--data", str(few), "--kinds", "mean")


def test_a_truncated_and_a_missing_artifact_are_refused(shell: Shell, tmp_path: Path) -> None:
    read_artifact(Path(shell.artifact)).save(tmp_path / "made")
    arrays = tmp_path / "made" / "arrays.npz"
    arrays.write_bytes(arrays.read_bytes()[:-20])
    truncated = shell.refused("artifact", "show", str(tmp_path / "made"))
    arrays.unlink()

    assert "sha256" in truncated and "train it anew" in truncated
    assert "arrays.npz is missing" in shell.refused("artifact", "diff", str(tmp_path / "made"), shell.artifact)


def test_an_artifact_of_another_embedder_is_refused(shell: Shell, tmp_path: Path) -> None:
    replace(read_artifact(Path(shell.artifact)), embedder="someone/else").save(tmp_path / "made")

    given = ("--data", shell.data, "--train-data", shell.data, "--artifact", str(tmp_path / "made"))
    line = shell.refused("evaluate", *given)

    assert "trained on vectors of 'someone/else'" in line and "FINGERPOST_EMBEDDER" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "--kind", "rules", "--out", "x"), "learns nothing"),
        (("train", "--kind", "ridgee", "--out", "x"), "did you mean 'ridge'"),
        (("train", "--kind", "ridge", "--set", "penalty", "--out", "x"), "is not key=value"),
        (("evaluate", "--kinds", "rules"), "learns nothing"),
        (("evaluate", "--seeds", "one"), "--seeds 'one'"),
        (("evaluate", "--calibration", "x.csv"), "--train-data"),
        (("evaluate", "--mixed"), "two or more --data"),
    ],
)
def test_options_that_do_not_fit_are_refused(shell: Shell, arguments: tuple[str, ...], words: str) -> None:
    assert words in shell.refused(arguments[0], "--data", shell.data, *arguments[1:])


def test_something_that_is_no_artifact_is_never_replaced(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")

    line = shell.refused("train", "--data", shell.data, "--kind", "mean", "--out", str(tmp_path))

    assert "no artifact" in line and (tmp_path / "mine.txt").read_text() == "keep"


FRESH = {"id": "fresh", "org": "acme", "params_b": 70, "price_in": 0.5, "price_out": 1}


def graded(
    shell: Shell, name: str, score: float, model: dict[str, object] = FRESH, question: str = "Whose is {}?"
) -> str:
    """A folder of sixteen graded answers of one model."""
    rows = [[f"{name}{at}", "new", question.format(at)] for at in range(16)]
    scores = [[row[0], model["id"], score, 10, 20, 0.001, 1] for row in rows]
    return str(folders.write(shell.folder / name, queries=rows, outcomes=scores, cards=[model]))


def test_a_router_is_told_of_a_new_model_without_training(shell: Shell) -> None:
    out = str(shell.folder / "taught")

    told = json.loads(
        shell.run(
            "artifact", "teach", shell.artifact, "--data", graded(shell, "good", 1.0), "--out", out, "--json"
        ).stdout
    )
    shown = json.loads(shell.run("artifact", "show", out, "--json").stdout)

    before, after = told["usual_quality"]["fresh"]
    assert told["labels"] == {"fresh": 16} and after > before + 0.1
    assert (
        shown["usual_quality"]["fresh"] == after
        and shown["sha256"] == told["sha256"] != read_artifact(Path(shell.artifact)).sha256
    )
    assert [line["models"] for line in shown["data"]["taught"]] == [["fresh"]]
    assert "fresh" in shell.run("artifact", "teach", out, "--data", graded(shell, "bad", 0.0), "--out", out).stdout


def test_what_a_router_has_learned_from_is_not_told_to_it_again(shell: Shell) -> None:
    out, labels = str(shell.folder / "told"), graded(shell, "once", 1.0)
    shell.run("artifact", "teach", shell.artifact, "--data", labels, "--out", out)
    learned = graded(shell, "learned", 1.0, folders.CARDS[0], "What is {} and one?")

    again = shell.refused("artifact", "teach", out, "--data", labels, "--out", out)
    part = json.loads(
        shell.run(
            "artifact", "teach", shell.artifact, "--data", learned, "--out", str(shell.folder / "p"), "--json"
        ).stdout
    )

    assert "was told these very outcomes before" in again
    assert part["known"] > 0 and part["labels"] == {"small": 16 - part["known"]}


def test_another_embedders_labels_and_a_foreign_folder_are_refused(shell: Shell) -> None:
    labels, kept = graded(shell, "other", 1.0), shell.folder / "kept"
    kept.mkdir()
    (kept / "notes.txt").write_text("mine")

    foreign = shell.refused("artifact", "teach", shell.artifact, "--data", labels, "--out", str(kept))

    assert "is there already and no artifact" in foreign and (kept / "notes.txt").read_text() == "mine"
    with pytest.raises(ValueError, match="FINGERPOST_EMBEDDER"):
        teach(read_artifact(Path(shell.artifact)), inspect_folder(Path(labels), least_queries=1, least_models=1))
