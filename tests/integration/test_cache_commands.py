"""`fingerpost cache calibrate` and `cache replay` on a small stream of our own."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.main import app
from tests.serving import environment
from tests.unit.gateway.cache.labelled import stream


def run(folder: Path, *arguments: str) -> Result:
    env = {**environment(folder), "FINGERPOST_EMBEDDER": "hashing"}
    return CliRunner().invoke(app, ["cache", *arguments], env=env)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "stream.jsonl"
    path.write_text("".join(json.dumps(asdict(row)) + "\n" for row in stream()))
    return path


def test_what_is_calibrated_is_replayed(file: Path, tmp_path: Path) -> None:
    config, out = tmp_path / "cache.json", tmp_path / "decisions.jsonl"

    made = run(tmp_path, "calibrate", "--stream", str(file), "--alpha", ".3", "--out", str(config), "--json")
    done = run(tmp_path, "replay", "--stream", str(file), "--config", str(config), "--out", str(out))

    assert made.exit_code == done.exit_code == 0, made.output + done.output
    decisions = [json.loads(line) for line in out.read_text().splitlines()]
    rows = {row.id: row for row in stream()}
    assert [one["id"] for one in decisions] == list(rows)
    hits = [one for one in decisions if one["hit"]]
    wrong = sum(rows[one["id"]].answer_id != one["answer_id"] for one in hits)
    assert f"150 requests, {len(hits)} hits, {wrong} of them wrong" in done.output
    assert len(hits) > 20


def test_another_embedder_than_the_models_is_refused(file: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "replay", "--stream", str(file), "--out", str(tmp_path / "out.jsonl"))

    assert done.exit_code == 2
    assert "calibrate again" in done.output


def test_a_broken_stream_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text("{}\n")

    done = run(tmp_path, "calibrate", "--stream", str(tmp_path / "s.jsonl"), "--alpha", ".1", "--out", "x.json")

    assert done.exit_code == 2
    assert "s.jsonl:1" in done.output
