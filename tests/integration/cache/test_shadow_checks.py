"""Answers given by likeness that are really asked for afterwards: what is asked, who pays, and what follows from it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.cache.config import SHIPPED, calibration_of
from tests.eventually import comes_true
from tests.integration.cache.conftest import Line, catalogue
from tests.integration.strategies.choir import Choir, Voice
from tests.integration.tenants import tenant
from tests.integration.test_proxy_line import row
from tests.serving import serving

HEAD = 'schema = 1\nname = "{}"\nmodels = ["*"]\n[router]\nkind = "rules"\n[cache]\nmode = "semantic"\n{}\n'
FILES = {
    "default": HEAD.format("default", "checked = 1.0"),
    "judged": HEAD.format("judged", 'checked = 1.0\njudge = "large"'),
    "unchecked": HEAD.format("unchecked", ""),
    "kept": HEAD.format("kept", "checked = 1.0\n[log]\nprompts = true"),
}
LONG = "You open the app, then you choose the card and press the button that says so, and it can be used at once there."
OTHER = "Call the number on the back of it, say who you are, and somebody of our staff will then do the rest for you."


@pytest.fixture(scope="module")
def line(choir: Choir, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """A gateway that checks all that it gives by likeness."""
    folder: Path = tmp_path_factory.mktemp("checked")
    env = {"CHOIR_SECRET": "sk", "FINGERPOST_PRELOAD": "false", "FINGERPOST_EMBED_TIMEOUT_S": "60"}
    with (
        serving(folder, catalogue=catalogue(choir.url), policies=FILES, env=env) as served,
        httpx.Client(base_url=served.url, headers=served.headers, timeout=60) as client,
    ):
        yield Line(served, client, choir)


def counts(line: Line) -> dict[str, Any]:
    """What the cache has counted."""
    found: dict[str, Any] = httpx.get(f"{line.served.url}/admin/cache", headers=line.served.admin_headers).json()[
        "counts"
    ]
    return found


def hit(line: Line, what: str, policy: str, *, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    """An answer by likeness, to questions about `what`."""
    line.ask(f"How do I activate {what}?", policy, headers=headers, **more)
    found: httpx.Response = line.ask(f"How can I activate {what}?", policy, headers=headers, **more)
    assert found.headers["x-fingerpost-cache"] == "hit-semantic"
    return found


def checks(line: Line, kind: str, before: dict[str, Any]) -> bool:
    """Whether there is one more with this outcome."""
    return bool(comes_true(lambda: counts(line).get(kind, 0) == before.get(kind, 0) + 1))


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_given_by_likeness_is_asked_again_logged_and_paid_by_whoever_got_it(line: Line, stream: bool) -> None:
    payer, before = tenant(line.served, name=f"payer {stream}", limit_usd=1.0), counts(line)
    line.sings("Yes.", "No.")

    given = hit(line, "a card", "default", headers={"authorization": f"Bearer {payer.key}"}, stream=stream)

    assert "Yes." in given.text and checks(line, "checked_undecided", before)
    logged = row(line.served, f"{given.headers['x-request-id']}.check")
    assert (logged["cache_status"], logged["status"]) == ("check", 200)
    assert logged["cache_id"] == given.headers["x-fingerpost-cache-id"]
    assert logged["cost_nanousd"] > 0 and logged["team_id"] == payer.team_id


@pytest.mark.parametrize(
    ("question", "kept", "fresh", "outcome"),
    [
        ("a card within {} days", "In 3 days.", "In 3 days.", "checked_same"),
        ("a prepaid card, is it possible", "Yes, in the app.", "No, it is not.", "checked_different"),
        ("a virtual card", LONG, OTHER, "checked_undecided"),
    ],
)
def test_answers_are_compared(line: Line, question: str, kept: str, fresh: str, outcome: str) -> None:
    before = counts(line)
    line.sings(kept, fresh)

    hit(line, question.format(4), "default")

    assert checks(line, outcome, before)


@pytest.mark.parametrize(("word", "outcome"), [("SAME", "same"), ("DIFFERENT.", "different"), ("Hm", "undecided")])
def test_a_judge_decides_what_can_not_be_compared(line: Line, word: str, outcome: str) -> None:
    before = counts(line)
    line.sings(LONG, OTHER)
    line.choir.voices["large"] = Voice([word])

    given = hit(line, f"a blue {outcome} card", "judged", model="auto:judged", models=["small"])

    assert checks(line, f"checked_{outcome}", before)
    asked = line.choir.asked[-1]
    assert asked["model"] == "large" and LONG in str(asked) and OTHER in str(asked)
    logged = row(line.served, f"{given.headers['x-request-id']}.judge")
    assert logged["cache_status"] == "judge" and logged["cost_nanousd"] > 0


def test_nothing_is_checked_that_policy_or_caller_do_not_want(line: Line) -> None:
    line.sings("Yes.")
    hit(line, "a red card", "unchecked")
    line.ask("How do I activate a yellow card?")
    unkept = line.ask("How can I activate a yellow card?", headers={"cache-control": "no-store"})
    exact = line.ask("How do I activate a yellow card?")
    before = counts(line)
    hit(line, "a white card", "default")

    assert [one.headers["x-fingerpost-cache"] for one in (unkept, exact)] == ["hit-semantic", "hit-exact"]
    assert checks(line, "checked_same", before)
    assert len(line.choir.asked) == 4


def test_what_is_left_of_a_budget_is_left_to_what_its_owner_asks(line: Line) -> None:
    poor = tenant(line.served, name="poor", limit_usd=0.0006)
    headers, before = {"authorization": f"Bearer {poor.key}"}, counts(line)
    line.sings("word " * 45)
    line.ask("How do I activate a grey card?", headers=headers)
    while asyncio.run(poor.settled())["spent_usd"] < 0.00048:
        assert line.ask("Say it.", headers={**headers, "cache-control": "no-cache"}).status_code == 200
    asked = len(line.choir.asked)

    given = line.ask("How can I activate a grey card?", headers=headers)

    assert given.headers["x-fingerpost-cache"] == "hit-semantic"
    assert checks(line, "checks_too_dear", before) and len(line.choir.asked) == asked


def test_a_check_takes_nothing_of_what_its_caller_may_ask_in_a_minute(line: Line) -> None:
    slow = tenant(line.served, name="slow", rpm=2)
    headers, before = {"authorization": f"Bearer {slow.key}"}, counts(line)
    line.sings("Yes.")
    hit(line, "a black card", "default", headers=headers)

    assert checks(line, "checked_same", before)
    assert line.ask("Is it so?", headers=headers).status_code == 200


def test_a_check_that_fails_says_nothing(line: Line) -> None:
    before = counts(line)
    line.sings("Yes.")
    line.ask("How do I activate a brown card?")
    line.sings("Yes.", status=400)

    given = line.ask("How can I activate a brown card?")

    assert given.status_code == 200 and checks(line, "checks_failed", before)
    assert row(line.served, f"{given.headers['x-request-id']}.check")["status"] == 400


def test_questions_are_kept_only_where_the_policy_keeps_prompts(line: Line) -> None:
    before = counts(line)
    line.sings("Yes.")
    hit(line, "a gold card", "default")
    assert checks(line, "checked_same", before)
    hit(line, "a silver card", "kept")
    assert comes_true(lambda: counts(line)["checked_same"] == before.get("checked_same", 0) + 2)

    def kept() -> list[Any]:
        database = sqlite3.connect(line.served.data_dir / "fingerpost.sqlite3")
        with closing(database):
            told = "SELECT asked, cached, calibration, share, score FROM cache_label WHERE verdict = 'same'"
            return database.execute(told).fetchall()

    pair = ("How can I activate a silver card?", "How do I activate a silver card?")
    assert comes_true(lambda: any(told[:2] == pair for told in kept()))
    ((*_, calibration, share, score),) = (told for told in kept() if told[:2] == pair)
    assert (calibration, share) == (calibration_of(SHIPPED), 0.05) and 0.96 <= score <= 1
    assert not any("gold" in str(row) for row in kept())
