"""`fingerpost moe`, with a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.main import app
from local_runtime.models.load import LoadOptions, load_model
from tests.unit.local_runtime.tiny import save_tiny, save_tokenizer


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    save_tiny("llama wide, long", tmp_path / "dense")
    save_tokenizer(tmp_path / "dense")
    (tmp_path / "text.txt").write_text("Wer reitet so spät durch Nacht und Wind? " * 200)
    return tmp_path / "dense"


def refactor(dense: Path, *more: str) -> Result:
    folder = dense.parent
    fixed = ["--out", str(folder / "out"), "--text", str(folder / "text.txt"), "--experts", "4", "--active", "3"]
    return CliRunner().invoke(app, ["moe", "refactor", str(dense), *fixed, *more])


def test_a_mixture_is_written_and_what_it_costs_is_said(dense: Path) -> None:
    done = refactor(dense, "--windows", "16")

    assert done.exit_code == 0, done.output
    for said in ("tokens fitted on", "perplexity, dense", "perplexity, mixture", "times dense"):
        assert said in done.stdout
    spec = load_model(dense.parent / "out", LoadOptions(slots=1)).model.spec  # type: ignore[attr-defined]
    assert (spec.moe.experts, spec.moe.active, spec.moe.early) == (4, 3, True)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--shared", "63"], "shared must leave a multiple of 4 of the 64 neurons, not 63"),
        (["--active", "9"], "active must lie between 1 and the 4 experts, not 9"),
        (["--text", "/nowhere/at.all"], "/nowhere/at.all"),
    ],
)
def test_what_can_not_be_is_said_in_a_line(dense: Path, more: list[str], said: str) -> None:
    done = refactor(dense, *more)

    assert done.exit_code == 2
    assert said in done.output
    assert not (dense.parent / "out").exists()


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("x")

    done = CliRunner().invoke(
        app, ["moe", "refactor", "/no/model.gguf", "--out", str(tmp_path / "o"), "--text", str(tmp_path / "text.txt")]
    )

    assert done.exit_code == 2
    assert "/no/model.gguf: no such file" in done.output
