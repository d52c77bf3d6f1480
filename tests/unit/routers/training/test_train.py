"""Training from data to an artifact: the same seed gives the same, and what is wrong is told in one line."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from routers.artifact import read_artifact
from routers.find import router_class
from routers.training.dataset import Dataset
from routers.training.device import cuda_is_there
from routers.training.embedding_cache import cached
from routers.training.errors import DataError
from routers.training.train import (
    MEASURED,
    Recipe,
    checkpoint_of,
    main,
    note_embedder,
    noted_embedder,
    only_cached,
    parse_settings,
    settings_for,
    train,
)
from tests.unit.routers.training import folders
from tests.unit.routers.training.judged import DATA, OTHER

ROOT = Path(__file__).parents[4]


def test_the_same_data_and_seed_give_the_same_hash_and_another_seed_another() -> None:
    made = [train(DATA, Recipe("cluster", seed)).sha256 for seed in (0, 0, 1)]

    assert made[0] == made[1] != made[2]


def test_an_artifact_says_what_it_learned_and_how_it_fared_but_holds_no_text(tmp_path: Path) -> None:
    train(DATA, Recipe("ridge")).save(tmp_path / "made")

    found = read_artifact(tmp_path / "made")
    assert found.data["queries"] == len(DATA) and found.data["sha256"] == DATA.sha256()
    assert found.data["models"] == sorted(card.id for card in DATA.models)
    assert set(MEASURED) - {"interval_coverage"} <= set(found.metrics["held_back"])
    assert DATA.texts[0].encode() not in (tmp_path / "made" / "manifest.json").read_bytes()


def test_a_saved_artifact_forecasts_as_it_did_before(tmp_path: Path) -> None:
    made = train(DATA, Recipe("ridge"))
    made.save(tmp_path / "made")

    before = router_class("ridge").from_artifact(made)  # type: ignore[attr-defined]
    after = router_class("ridge").from_artifact(read_artifact(tmp_path / "made"))  # type: ignore[attr-defined]
    told, again = (one.predict(OTHER.inputs, OTHER.models) for one in (before, after))
    assert np.array_equal(told.quality, again.quality) and np.array_equal(told.tokens, again.tokens)


def test_progress_is_told_up_to_the_end() -> None:
    shares: list[float] = []

    train(DATA, Recipe("mean"), lambda share, what: shares.append(share))

    assert shares[-1] == 1.0 and shares == sorted(shares)


def test_a_kind_that_learns_nothing_says_so() -> None:
    with pytest.raises(ValueError, match=r"'rules' learns nothing from data; kinds that do: .*ridge"):
        train(DATA, Recipe("rules"))


def test_one_question_only_can_not_be_divided() -> None:
    with pytest.raises(DataError, match="bring more queries"):
        train(DATA.rows(np.zeros(30, dtype=np.intp)), Recipe("mean"))


def test_settings_are_json_or_text() -> None:
    assert parse_settings(["k=5", "rate=1e-3", "device=cuda:0", "deep=true"]) == {
        "k": 5,
        "rate": 0.001,
        "device": "cuda:0",
        "deep": True,
    }
    with pytest.raises(ValueError, match="'k' is not key=value"):
        parse_settings(["k"])


def test_a_kind_gets_a_folder_for_checkpoints_only_where_it_takes_one(tmp_path: Path) -> None:
    assert settings_for("mean", {}, tmp_path) == {}
    assert settings_for("mean", {"k": 1}, tmp_path) == {"k": 1}


_KILLED = """
import os, signal, sys
from routers.training.train import Recipe, train
from tests.unit.routers.training.judged import DATA

def die(share, what):
    if what.startswith("trying") and share > 0.5:
        os.kill(os.getpid(), signal.SIGKILL)

train(DATA, Recipe(sys.argv[1], 0, {"checkpoint": sys.argv[2]}), die)
"""


@pytest.mark.parametrize("kind", ["ridge", "cluster"])
def test_a_killed_run_goes_on_where_it_was_and_gives_the_same_artifact(tmp_path: Path, kind: str) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED, kind, str(tmp_path)], cwd=ROOT, timeout=120, check=False)
    kept = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}

    resumed = train(DATA, Recipe(kind, 0, {"checkpoint": str(tmp_path)}))

    assert killed.returncode == -signal.SIGKILL
    assert len(kept) > 4 and kept.items() < {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}.items()
    assert resumed.sha256 == train(DATA, Recipe(kind, 0)).sha256


def test_the_device_is_told_in_the_artifact_and_cpu_is_what_is_taken_where_no_gpu_is() -> None:
    made = train(DATA, Recipe("graph", 0, {**SMALL, "epochs": 1, "device": "cpu"}))

    assert made.facts["device"] == "cpu"
    assert made.sha256 == train(DATA, Recipe("graph", 0, {**SMALL, "epochs": 1})).sha256
    assert settings_for("graph", {}, None, "cpu") == {}


def test_a_device_that_can_not_be_used_is_refused_with_the_fix() -> None:
    with pytest.raises(ValueError, match="--device cuda: kind 'ridge' does not learn on a GPU: leave --device out"):
        settings_for("ridge", {}, None, "cuda")
    with pytest.raises(ValueError, match="--device 'tpu' is none of auto, cpu, cuda"):
        settings_for("graph", {}, None, "tpu")
    with pytest.raises(ValueError, match="setting 'device' of kind 'graph' is 'tpu': give cpu or cuda"):
        train(DATA, Recipe("graph", 0, {"device": "tpu"}))


@pytest.mark.skipif(cuda_is_there(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_with_the_fix() -> None:
    with pytest.raises(ValueError, match="--device cuda: torch finds no GPU here: leave --device out"):
        settings_for("graph", {}, None, "cuda")
    with pytest.raises(ValueError, match="device cuda: torch finds no GPU here; give cpu"):
        train(DATA, Recipe("graph", 0, {"device": "cuda"}))


_KILLED_GRAPH = """
import os, signal, sys
from routers.training.train import Recipe, train
from tests.unit.routers.training.judged import DATA
from tests.unit.routers.training.test_train import SMALL

def die(share, what):
    if what == "leaving skills out" and share > 0.75:
        os.kill(os.getpid(), signal.SIGKILL)

train(DATA, Recipe("graph", 0, {**SMALL, "checkpoint": sys.argv[1]}), die)
"""
SMALL = {"skills": 4, "nodes": 32, "hidden": 8, "epochs": 3}


def test_a_killed_run_of_the_graph_trains_no_member_twice_and_gives_the_same_artifact(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED_GRAPH, str(tmp_path)], cwd=ROOT, timeout=120, check=False)
    kept = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}

    resumed = train(DATA, Recipe("graph", 0, {**SMALL, "checkpoint": str(tmp_path)}))

    assert killed.returncode == -signal.SIGKILL
    assert {name.split("-")[0] for name in kept} == {"member", "left"}
    assert kept.items() < {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}.items()
    assert resumed.sha256 == train(DATA, Recipe("graph", 0, SMALL)).sha256


@pytest.mark.parametrize(
    ("data", "seed", "epochs"), [(OTHER, 0, 1), (DATA, 1, 1), (DATA, 0, 2)], ids=["other data", "seed", "settings"]
)
def test_another_run_of_the_graph_takes_nothing_up(tmp_path: Path, data: Dataset, seed: int, epochs: int) -> None:
    train(DATA, Recipe("graph", 0, {**SMALL, "epochs": 1, "checkpoint": str(tmp_path)}))

    recipe = Recipe("graph", seed, {**SMALL, "epochs": epochs})
    among = train(data, replace(recipe, settings={**SMALL, "epochs": epochs, "checkpoint": str(tmp_path)}))

    assert among.sha256 == train(data, recipe).sha256


def test_kinds_that_tune_get_a_folder_for_checkpoints(tmp_path: Path) -> None:
    for kind in ("cluster", "graph", "graphrouter", "knn", "logistic", "matrix_factorization", "ridge"):
        assert settings_for(kind, {}, tmp_path) == {"checkpoint": str(tmp_path)}


def test_checkpoints_are_kept_only_for_a_run_that_goes_on(tmp_path: Path) -> None:
    folder = checkpoint_of(tmp_path / "made", resume=False)
    folder.mkdir()

    assert checkpoint_of(tmp_path / "made", resume=True).is_dir()
    assert not checkpoint_of(tmp_path / "made", resume=False).exists()


def data_folder(tmp_path: Path) -> Path:
    return folders.write(tmp_path / "data", queries=folders.queries(40), outcomes=folders.outcomes(40))


def filled_cache(tmp_path: Path, data: Path) -> Path:
    cache = tmp_path / "cache"
    note_embedder(cache, "some/embedder")
    cached(folders.embed, "some/embedder", cache)([row[2] for row in folders.queries(40)])
    assert data.is_dir()
    return cache


def test_the_script_trains_from_cached_vectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = data_folder(tmp_path)
    cache, out = filled_cache(tmp_path, data), tmp_path / "made"

    code = main(["--data", str(data), "--kind", "knn", "--out", str(out), "--embeddings", str(cache), "--seed", "3"])

    assert code == 0 and read_artifact(out).sha256 in capsys.readouterr().out
    assert read_artifact(out).embedder == noted_embedder(cache) == "some/embedder"


def test_the_script_names_the_command_that_fills_the_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, cache = data_folder(tmp_path), tmp_path / "cache"
    note_embedder(cache, "some/embedder")

    code = main(["--data", str(data), "--kind", "knn", "--out", str(tmp_path / "x"), "--embeddings", str(cache)])

    assert code == 2 and "fingerpost train" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_folder_that_is_no_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no cache of embeddings"):
        noted_embedder(tmp_path)
    with pytest.raises(DataError, match="have no vector of 'e'"):
        only_cached(tmp_path, "e")(["a text"])
