"""Settings that turn out to be wrong too often, over two workers without Redis: who closes them, who opens them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.eventually import comes_true
from tests.integration.cache.conftest import Line, catalogue
from tests.integration.strategies.choir import Choir
from tests.integration.tenants import tenant
from tests.serving import serving

POLICY = (
    'schema = 1\nname = "default"\nmodels = ["*"]\n[router]\nkind = "rules"\n'
    '[cache]\nmode = "semantic"\nchecked = 1.0\n'
)
_NUMBERS = count(1)
CARDS = ("new", "red", "white", "black", "grey", "brown", "gold", "silver", "yellow")


@contextmanager
def workers(choir: Choir, folder: Path) -> Iterator[Line]:
    """Two, that check all that they give by likeness; the same folder is the same database."""
    env = {"CHOIR_SECRET": "sk", "FINGERPOST_PRELOAD": "false", "FINGERPOST_EMBED_TIMEOUT_S": "60"}
    env["FINGERPOST_CACHE_SHARING"] = "team"
    files = {"default": POLICY}
    with (
        serving(
            folder, catalogue=catalogue(choir.url), policies=files, env=env, arguments=("--workers", "2")
        ) as served,
        httpx.Client(base_url=served.url, headers={**served.headers, "connection": "close"}, timeout=60) as client,
    ):
        yield Line(served, client, choir)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the database lies."""
    return tmp_path_factory.mktemp("closed")


@pytest.fixture(scope="module")
def line(choir: Choir, folder: Path) -> Iterator[Line]:
    """Two workers."""
    with workers(choir, folder) as found:
        yield found


def kinds(line: Line, key: str, asks: int = 12) -> set[str]:
    """How a question and its paraphrases are answered, by whichever worker."""
    name, found = next(_NUMBERS), set()
    headers = {"authorization": f"Bearer {key}"}
    card = CARDS[name % len(CARDS)]
    for number in range(asks):
        # not in turn, as the workers may take requests: each worker is to see both
        text = f"How {'can' if number % 3 else 'do'} I activate a {card} card?"
        found.add(line.ask(text, headers=headers).headers["x-fingerpost-cache"])
    return found


def known(line: Line, team: str) -> list[dict[str, Any]]:
    """What an operator is shown of a team."""
    shown = httpx.get(
        f"{line.served.url}/admin/cache/trust", params={"tenant": f"team:{team}"}, headers=line.served.admin_headers
    )
    assert shown.status_code == 200, shown.text
    found: list[dict[str, Any]] = shown.json()["data"]
    return found


def reset(line: Line, **which: object) -> httpx.Response:
    """An operator's word."""
    return httpx.post(f"{line.served.url}/admin/cache/trust/reset", json=which, headers=line.served.admin_headers)


def closing(line: Line, name: str) -> Any:
    """A team whose answers by likeness have all been wrong."""
    owner = tenant(line.served, name=name)
    line.sings(*(f"In {number} days." for number in range(1, 800)))

    def is_closed() -> bool:
        kinds(line, owner.key, 6)
        return any(one["closed_at"] for one in known(line, owner.team_id))

    assert comes_true(is_closed, 60)
    seen: list[object] = []

    def is_settled() -> bool:
        """What checks have still found is added, too."""
        seen.append(known(line, owner.team_id))
        return len(seen) > 1 and seen[-1] == seen[-2]

    assert comes_true(is_settled, 60, every_s=3.0)
    return owner


def test_what_is_wrong_too_often_is_answered_by_exact_repeats_only_on_all_workers(line: Line) -> None:
    owner = closing(line, "unlucky")

    assert comes_true(lambda: "hit-semantic" not in kinds(line, owner.key) | kinds(line, owner.key), 60)

    (row,) = known(line, owner.team_id)
    assert (
        row["different"] >= 3
        and row["checked_wrong"][0] > row["share"] == 0.05
        and comes_true(lambda: known(line, owner.team_id)[0]["used"] is None)
    )
    acts = httpx.get(f"{line.served.url}/admin/audit", headers=line.served.admin_headers).json()["data"]
    assert ("cache.tighten", f"team:{owner.team_id}") in {(act["action"], act["subject"]) for act in acts}
    metrics = httpx.get(f"{line.served.url}/metrics").text
    assert 'settings_closed"} 1.0' in metrics or 'settings_closed"} 2.0' in metrics


def test_another_tenant_is_none_the_worse_for_it_and_an_operator_opens_it_again(line: Line) -> None:
    owner = closing(line, "hostile")
    line.sings("Yes.")
    other = tenant(line.served, name="innocent")
    assert comes_true(lambda: "hit-semantic" in kinds(line, other.key), 60)

    done = reset(line, tenant=f"team:{owner.team_id}")

    assert done.json() == {"places": 1} and known(line, owner.team_id) == []
    assert comes_true(lambda: "hit-semantic" in kinds(line, owner.key), 60)
    assert reset(line).status_code == 400 and reset(line, topic="no such", all=True).json() == {"places": 0}


def test_an_application_may_not_see_or_reset_it(line: Line) -> None:
    assert line.client.get("/admin/cache/trust").status_code == 403
    assert line.client.post("/admin/cache/trust/reset", json={"all": True}).status_code == 403


def test_an_answer_called_wrong_is_forgotten_by_whichever_worker_has_it(line: Line) -> None:
    line.sings("Yes.")
    for number in range(6):
        question = f"What is on page {number} of our book?"
        name = line.again(question).headers["x-fingerpost-cache-id"]

        told = line.client.post("/v1/cache/feedback", json={"id": name, "wrong": True})

        assert told.status_code == 200
        asked = [line.ask(question) for _ in range(8)] if comes_true(partial(lacks, line, name)) else []
        assert asked and name not in {one.headers.get("x-fingerpost-cache-id") for one in asked}


def lacks(line: Line, name: str) -> bool:
    """Whether no worker has an answer any more, as far as eight looks show."""
    where = f"{line.served.url}/admin/cache/entries/{name}"
    tenants = httpx.get(f"{line.served.url}/admin/cache", headers=line.served.admin_headers).json()["tenants"]
    looks = [
        httpx.get(where, params={"tenant": tenants[0]}, headers={**line.served.admin_headers, "connection": "close"})
        for _ in range(8)
        if tenants
    ]
    return all(one.status_code == 404 for one in looks)


def test_a_restart_opens_nothing(choir: Choir, tmp_path: Path) -> None:
    with workers(choir, tmp_path) as line:
        owner = closing(line, "patient")
    with workers(choir, tmp_path) as line:
        line.sings("Yes.")

        assert "hit-semantic" not in kinds(line, owner.key, 24)
