"""`fingerpost cache calibrate --from-log`: what checks in the ledger teach, and which settings they bear out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cache.config import SHIPPED, calibration_of, read_served
from gateway.cli.main import app
from gateway.ledger.cache_evidence import EvidenceStore, Label, Place
from gateway.ledger.engine import open_engine
from gateway.ledger.schema import upgrade
from tests.serving import environment
from tests.unit.gateway.cache.labelled import stream

NOW = 1_800_000_000.0
OURS, THEIRS = "team:a", "team:b"


def labels(count: int, score: float, tenant: str = OURS, *, wrong: int = 0) -> list[Label]:
    """Checks of answers that what ships gave to questions of support, at its setting for a tenth."""
    place = Place(tenant, "support_faq", 0.1)
    return [
        Label(
            f"{tenant} {score} {number}",
            NOW + number,
            place,
            "different" if number < wrong else "same",
            None,
            f"please tell me of thing{number}",
            f"tell me of thing{number % 50}{' wrongly' if number < wrong else ''}",
            score,
        )
        for number in range(count)
    ]


def logged(database_url: str, given: Sequence[Label]) -> None:
    async def run() -> None:
        engine = open_engine(database_url)
        await EvidenceStore(engine).add(calibration_of(SHIPPED), {}, given)
        await engine.dispose()

    upgrade(database_url)
    asyncio.run(run())


def calibrate(folder: Path, database_url: str, *arguments: str) -> Result:
    env = {**environment(folder), "FINGERPOST_DATABASE_URL": database_url, "FINGERPOST_EMBEDDER": "hashing"}
    return CliRunner().invoke(app, ["cache", "calibrate", "--out", str(folder / "c.json"), *arguments], env=env)


def left(folder: Path) -> dict[tuple[str, float], float]:
    """What is open in the file that was written."""
    served = read_served(folder / "c.json")
    assert served is not None
    return {
        (topic, share): at
        for share, thresholds in served[1]
        for topic, at in thresholds.by_category.items()
        if at is not None
    }


def test_settings_are_kept_made_stricter_or_closed_by_what_was_logged(database_url: str, tmp_path: Path) -> None:
    logged(database_url, [*labels(60, 0.905, wrong=20), *labels(200, 0.955)])

    done = calibrate(tmp_path, database_url, "--from-log", "--json")

    assert done.exit_code == 0, done.output
    assert left(tmp_path) == {("support_faq", 0.1): 0.95}
    told = {(one["topic"], one["share"]): one for one in json.loads(done.stdout)}
    assert told["support_faq", 0.1]["was"] == 0.9 and told["medical", 0.1]["certificate"]["threshold"] is None


def test_one_tenants_checks_may_be_taken_alone(database_url: str, tmp_path: Path) -> None:
    logged(database_url, [*labels(200, 0.905), *labels(200, 0.905, THEIRS, wrong=60)])

    ours = calibrate(tmp_path, database_url, "--from-log", "--tenant", OURS)
    kept = left(tmp_path)
    all_of = calibrate(tmp_path, database_url, "--from-log")

    assert ours.exit_code == all_of.exit_code == 0, ours.output + all_of.output
    assert kept == {("support_faq", 0.1): 0.9} and left(tmp_path) == {}
    assert "exact hits only" in all_of.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--from-log",), "certify no setting of the configuration in use, 30 in all"),
        (("--from-log", "--tenant", THEIRS), "certify no setting of the configuration in use, 0 in all"),
        (("--from-log", "--alpha", ".1"), "there are settings already"),
        (("--tenant", OURS), "give --from-log as well"),
        ((), "give --stream FILE, or --from-log"),
    ],
    ids=["few", "none", "alpha", "tenant", "nothing"],
)
def test_what_shows_nothing_is_refused_in_a_line(
    database_url: str, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    logged(database_url, labels(30, 0.92))

    done = calibrate(tmp_path, database_url, *arguments)

    assert done.exit_code == 2 and told in done.output and done.output.count("\n") == 1
    assert not (tmp_path / "c.json").exists()


def test_a_stream_and_the_log_are_learned_from_together(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "stream.jsonl"
    file.write_text("".join(json.dumps(asdict(row)) + "\n" for row in stream()))
    logged(database_url, labels(99, 0.92, wrong=9))
    of_stream = ("--stream", str(file), "--alpha", ".3")

    few = calibrate(tmp_path, database_url, *of_stream, "--from-log")
    logged(database_url, labels(20, 0.93))
    taught = calibrate(tmp_path, database_url, *of_stream, "--from-log")
    of_both = (tmp_path / "c.npz").read_bytes()
    plain = calibrate(tmp_path, database_url, *of_stream)

    assert few.exit_code == 2 and "99 checked pairs with their texts, 9 of them different" in few.output
    assert taught.exit_code == plain.exit_code == 0, taught.output + plain.output
    assert of_both != (tmp_path / "c.npz").read_bytes()
    assert json.loads((tmp_path / "c.json").read_text())["curve"]["0.8"].keys() == {"facts", "numbers"}


def test_without_a_database_it_says_so(tmp_path: Path) -> None:
    done = calibrate(tmp_path, f"sqlite:///{tmp_path}/none.sqlite3", "--from-log")

    assert done.exit_code == 1 and "no Fingerpost database" in done.output
