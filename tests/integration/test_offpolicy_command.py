"""`fingerpost offpolicy` on a small export: numbers where the logs bear on the policy, a refusal where they do not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from gateway.cli.main import app
from tests.serving import environment
from tests.unit.routers.training import folders

COUNT = 600
HEADER = [*folders.OUTCOMES, "propensity"]


def policy_of(folder: Path, model: str, exploration: float = 0.0, cap_usd: float = 0.01) -> str:
    """A policy file that fixes a model and what a call may cost."""
    file = folder / f"{model}{exploration}.toml"
    file.write_text(
        f'schema = 1\nname = "{model}"\nexploration = {exploration}\n[objective]\ncost = 0.1\n'
        f'[router]\nkind = "fixed"\nmodel = "{model}"\n[budget]\nmax_cost_usd_per_request = {cap_usd}\n'
    )
    return str(file)


def export_of(folder: Path, share_of_large: float) -> str:
    """Logs of a policy that asks 'large' with this probability; 'large' is right in 9 of 10 cases, 'small' in 5."""
    rng = np.random.default_rng(0)
    rows: folders.Rows = []
    for number in range(COUNT):
        large = bool(rng.random() < share_of_large)
        model, right = ("large", 0.9) if large else ("small", 0.5)
        chance = share_of_large if large else 1 - share_of_large
        score = float(rng.random() < right)
        rows.append([f"q{number}", model, score, 10, 20, 0.002 if large else 0.001, 0.5, chance])
    folders.write(folder, queries=folders.queries(COUNT))
    for old in folder.glob("outcomes.*"):
        old.unlink()
    (folder / "outcomes.csv").write_bytes(folders.as_csv(HEADER, rows))
    return str(folder)


def run(tmp_path: Path, *arguments: str, code: int = 0) -> Result:
    env = environment(tmp_path / "home", {"FINGERPOST_PRELOAD": "false", "FINGERPOST_EMBEDDER": "hashing"})
    done = CliRunner().invoke(app, ["offpolicy", *arguments], env=env)
    assert done.exit_code == code, done.stderr
    return done


def test_a_policy_is_estimated_and_proved_better_than_another(tmp_path: Path) -> None:
    data = export_of(tmp_path / "data", 0.4)
    large, small = policy_of(tmp_path, "large"), policy_of(tmp_path, "small", 0.1)

    found = json.loads(run(tmp_path, "--data", data, "--policy", large, "--against", small, "--json").stdout)
    told = run(tmp_path, "--data", data, "--policy", large, "--against", small).stdout

    quality, cost = found["policy"]["quality"], found["policy"]["cost in USD"]
    assert quality["dr"]["low"] < 0.9 < quality["dr"]["high"]
    assert quality["betting"]["low"] < quality["dr"]["low"]
    assert cost["snips"]["value"] == pytest.approx(0.002)
    assert found["against"]["worth"]["low"] > 0
    assert "is proved to be worth more than the other, at 95%" in told


def test_where_a_call_may_cost_as_much_as_a_card_allows_logs_of_cheap_ones_prove_nothing(tmp_path: Path) -> None:
    data = export_of(tmp_path / "data", 0.4)
    large, small = policy_of(tmp_path, "large", cap_usd=100.0), policy_of(tmp_path, "small", 0.1)

    found = json.loads(run(tmp_path, "--data", data, "--policy", large, "--against", small, "--json").stdout)

    assert found["against"]["worth"]["low"] < 0 < found["against"]["worth"]["difference"]["low"]
    assert found["policy"]["cost in USD"]["betting"]["high"] > 0.01


def test_a_policy_that_was_hardly_tried_gets_a_reason_and_no_number(tmp_path: Path) -> None:
    data = export_of(tmp_path / "data", 0.98)

    refused = run(tmp_path, "--data", data, "--policy", policy_of(tmp_path, "small"), code=2)

    assert "decisions of this policy, 50 are needed: log more, or explore more" in refused.stderr
    assert refused.stdout == ""


def test_nothing_to_judge_is_said(tmp_path: Path) -> None:
    refused = run(tmp_path, "--data", str(tmp_path), code=2)

    assert "--policy FILE, --artifact DIR" in refused.stderr
