"""`fingerpost data`: from requests and their feedback to a folder that training reads."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.gateway.upstream import UpstreamServer
from routers.inputs import facts_of
from routers.training.dataset import Floats
from routers.training.read import read_folder
from tests.command_line import fingerpost
from tests.integration.conftest import catalogue
from tests.serving import Served, environment, serving
from tests.unit.routers.training.folders import embed, outcomes, write

EXAMPLES = """
schema = 1
name = "default"
models = ["instant", "paced"]
exploration = 0.3
[[category]]
name = "sums"
examples = ["What is 5 + 1?", "7 + 2 = ?"]
"""


def run(data_dir: Path, *arguments: str, models: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`fingerpost data` with these arguments, and a catalogue where one is named."""
    variables = environment(data_dir, {"FINGERPOST_CATALOGUE": str(models)} if models else None)
    return fingerpost("data", *arguments, env=variables)


def test_judged_requests_become_a_folder_that_training_reads(
    client: httpx.Client, gateway: Served, tmp_path: Path
) -> None:
    for number in range(3):
        body = {"model": "auto:kept", "messages": [{"role": "user", "content": f"Question {number}"}]}
        request_id = client.post("/v1/chat/completions", json=body).raise_for_status().headers["x-request-id"]
        client.post("/v1/feedback", json={"request_id": request_id, "score": number / 2}).raise_for_status()
    out = str(tmp_path / "out")

    made = run(gateway.data_dir, "export", "--out", out, "--policy", "kept", "--texts", "--json")
    again = run(gateway.data_dir, "export", "--out", out, "--policy", "kept")
    seen = run(gateway.data_dir, "check", out)

    assert made.returncode == 0, made.stderr
    assert "the catalogue has no model instant" in made.stderr
    assert json.loads(made.stdout)["queries"] >= 3
    data = read_folder(tmp_path / "out", embed, "one", least_queries=1, least_models=1)
    judged = {text: float(score[0]) for text, score in zip(data.texts, data.score, strict=True)}
    assert [judged[f"Question {number}"] for number in range(3)] == [0, 0.5, 1]
    assert again.returncode == 2 and "--force" in again.stderr
    assert seen.returncode == 2 and "at least 2 are needed" in seen.stderr


def test_a_gateway_that_keeps_no_prompt_can_be_learned_from(upstream: UpstreamServer, tmp_path: Path) -> None:
    env = {"UPSTREAM_SECRET": "sk", "FINGERPOST_EMBEDDER": "hashing"}
    with serving(tmp_path / "served", catalogue=catalogue(upstream), policies={"default": EXAMPLES}, env=env) as served:
        with httpx.Client(base_url=served.url, headers=served.headers, timeout=20) as client:
            for number in range(12):
                body = {"model": "auto", "messages": [{"role": "user", "content": f"{number} + 1 = ?"}]}
                request_id = client.post("/v1/chat/completions", json=body).raise_for_status().headers["x-request-id"]
                said = {"request_id": request_id, "rating": "good" if number % 3 else "bad"}
                client.post("/v1/feedback", json=said).raise_for_status()
        asked = ("export", "--out", str(tmp_path / "out"), "--json")
        made = run(served.data_dir, *asked, models=tmp_path / "served" / "catalogue.toml")

    assert (made.returncode, made.stderr) == (0, "")
    data = read_folder(tmp_path / "out", refuse, json.loads(made.stdout)["embedder"], least_models=1)
    prompt = "3 + 1 = ?"
    assert set(data.texts) == {""} and len(data) == 12 and data.notes == ()
    assert data.inputs.facts[3] == pytest.approx(facts_of(prompt, int(data.inputs.tokens[3]), False, False), abs=1e-4)
    assert np.nanmean(data.score) == pytest.approx(8 / 12)
    assert data.propensity is not None and np.nanmin(data.propensity) > 0
    assert data.cost_usd[data.observed].min() > 0


def refuse(texts: Sequence[str]) -> Floats:
    raise AssertionError(f"asked to embed {texts}")


def test_a_sound_folder_is_counted_and_its_oddities_noted(tmp_path: Path) -> None:
    folder = str(write(tmp_path / "sums", cards=[{"id": "small"}, {"id": "large", "price_in": 1, "price_out": 2}]))

    plain, as_json = run(tmp_path, "check", folder), run(tmp_path, "check", folder, "--json")

    assert plain.returncode == 0, plain.stderr
    assert "note: no price is known of small" in plain.stdout
    found = json.loads(as_json.stdout)
    assert (found["queries"], found["models"], found["outcomes"], found["share_of_pairs"]) == (12, 2, 24, 1.0)
    assert found["by_model"][1] == {
        "model": "large",
        "outcomes": 12,
        "mean_score": 0.5,
        "mean_cost_usd": pytest.approx(0.002),
        "mean_output_tokens": 25.5,
    }


def test_a_wrong_folder_ends_in_one_line_that_names_the_row(tmp_path: Path) -> None:
    rows = outcomes()
    rows[7][2] = 3

    said = run(tmp_path, "check", str(write(tmp_path / "wrong", outcomes=rows)))

    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith("fingerpost: outcomes.csv, row 9, field 'score': is '3'")
    assert said.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [("export",), ("export", "--out", "x", "--since", "yesterday"), ("check",)])
def test_wrong_arguments_are_a_usage_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert run(tmp_path, *arguments).returncode == 2


def test_without_a_database_the_export_says_so(tmp_path: Path) -> None:
    said = run(tmp_path, "export", "--out", str(tmp_path / "out"))

    assert said.returncode == 1 and "no Fingerpost database" in said.stderr
