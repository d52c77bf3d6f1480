"""Recipes of the contestants: what they are asked, what is written for them, and one real start."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest

from benchmarks.gateway import fingerpost, proxies, upstream
from benchmarks.gateway.contestant import CannotStart, Contestant
from benchmarks.gateway.measure import tree
from benchmarks.gateway.processes import Processes, cores
from policies.catalogue import Catalogue
from policies.schema import Policy


def test_bare_proxies_choose_the_mode_by_path_and_a_gateway_by_policy() -> None:
    bare, gateway = (
        Contestant("a", 1),
        Contestant("b", 2, models={"paced": "auto:paced", "instant": "auto"}),
    )

    assert bare.target("paced", stream=True).path == "/paced/v1/chat/completions"
    assert gateway.target("paced", stream=True).path == "/v1/chat/completions"
    assert json.loads(gateway.target("paced", stream=True).body)["model"] == "auto:paced"
    assert json.loads(gateway.target("instant", stream=False).body)["model"] == "auto"


def test_only_streams_ask_for_a_stream() -> None:
    bodies = [json.loads(Contestant("a", 1).target("instant", stream).body) for stream in (False, True)]

    assert [body.get("stream") for body in bodies] == [None, True]


def test_catalogue_and_policies_written_for_fingerpost_are_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: sys.executable)

    contestant = fingerpost.fingerpost(9999, tmp_path)

    catalogue = Catalogue.model_validate(
        tomllib.loads(Path(contestant.environment["FINGERPOST_CATALOGUE"]).read_text())
    )
    files = sorted(Path(contestant.environment["FINGERPOST_POLICIES"]).iterdir())
    policies = [Policy.model_validate(tomllib.loads(file.read_text())) for file in files]
    assert {policy.name for policy in policies} == {"default", "paced", "realistic", "typical"}
    assert {policy.models[0] for policy in policies} == {card.id for card in catalogue.model}
    assert not any(policy.needs_embedding for policy in policies)
    assert contestant.key.startswith("fp-")


def test_a_missing_program_is_named_with_the_way_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)

    with pytest.raises(CannotStart, match="apt-get install nginx-light"):
        proxies.nginx(9999, tmp_path)
    with pytest.raises(CannotStart, match="fingerpost"):
        fingerpost.fingerpost(9999, tmp_path)


async def test_a_server_that_ends_at_start_is_reported_with_its_last_words(tmp_path: Path) -> None:
    def recipe(upstream_port: int, folder: Path) -> Contestant:
        return Contestant("broken", 1, (sys.executable, "-c", "raise SystemExit('port taken')"))

    with Processes(tmp_path) as processes, pytest.raises(CannotStart, match="status 1 at start: port taken"):
        await proxies.bring_up(recipe, 9999, tmp_path, processes, cores(), chunks=5)


async def test_the_bare_fastapi_proxy_relays_whole_answers_and_streams(tmp_path: Path) -> None:
    server = await upstream.start(0, chunks=5)
    with Processes(tmp_path) as processes:
        running = await proxies.bring_up(proxies.fastapi, server.port, tmp_path, processes, cores(), chunks=5)

        assert running.pid in [one.pid for one in tree(running.pid or 0)]
    await server.close()
    assert server.stats.streams == len(upstream.PACES)
    assert server.received[-1].headers["authorization"] == "Bearer bench-key"


async def test_a_server_that_refuses_is_reported_with_its_answer(tmp_path: Path) -> None:
    server = await upstream.start(0, chunks=5)

    def recipe(upstream_port: int, folder: Path) -> Contestant:
        return Contestant("refusing", upstream_port, models={"instant": "auto"})

    with Processes(tmp_path) as processes, pytest.raises(CannotStart, match=r"status 404.*Unknown mode"):
        await proxies.bring_up(recipe, server.port, tmp_path, processes, cores(), chunks=5)
    await server.close()
