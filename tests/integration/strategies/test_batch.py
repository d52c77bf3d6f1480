"""`fingerpost batch` through a real gateway: grouped, resumed, each failure in its own line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from tests.command_line import fingerpost
from tests.integration.strategies.choir import Choir, Voice
from tests.serving import APPLICATION_KEY, Served, environment

Answered = dict[str, Any]


class Desk:
    """Writes requests, runs the command, reads the answers."""

    def __init__(self, folder: Path, served: Served) -> None:
        self.folder, self.served = folder, served
        self.out = folder / "answers.jsonl"

    def writes(self, *requests: tuple[str, str]) -> None:
        """`requests` are custom_id and model."""
        (self.folder / "requests.jsonl").write_text("".join(line(*one) for one in requests))

    def runs(self, *options: str) -> subprocess.CompletedProcess[str]:
        return fingerpost(*self.command(), *options, env=self.env())

    def command(self) -> tuple[str, ...]:
        files = ("--in", str(self.folder / "requests.jsonl"), "--out", str(self.out), "--url", self.served.url)
        return ("batch", *files, "--key-env", "BATCH_SECRET")

    def env(self) -> dict[str, str]:
        return environment(self.folder / "data", {"BATCH_SECRET": APPLICATION_KEY, "CHOIR_WRONG_KEY": "fp-wrong"})

    def answers(self) -> dict[str, Answered]:
        found = [json.loads(one) for one in self.out.read_text().splitlines()]
        assert len({one["custom_id"] for one in found}) == len(found)
        return {one["custom_id"]: one for one in found}


def line(custom_id: str, model: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "What is it?"}]}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}) + "\n"


@pytest.fixture
def desk(tmp_path: Path, strategic: Served) -> Desk:
    return Desk(tmp_path, strategic)


def said(answer: Answered) -> str:
    text: str = answer["response"]["body"]["choices"][0]["message"]["content"]
    return text


def test_requests_reach_the_upstream_model_by_model(desk: Desk, choir: Choir) -> None:
    choir.sings(**{name: Voice([f"of {name}"], wait_s=0.02) for name in ("small", "middle", "large")})
    desk.writes(*((f"{model}-{turn}", model) for turn in range(4) for model in ("small", "middle", "large")))

    done = desk.runs("--concurrency", "3")

    assert done.returncode == 0, done.stderr
    assert choir.models() == ["large"] * 4 + ["middle"] * 4 + ["small"] * 4
    answers = desk.answers()
    assert {name: said(one) for name, one in answers.items()} == {
        f"{model}-{turn}": f"of {model}" for turn in range(4) for model in ("small", "middle", "large")
    }
    assert all(one["response"]["request_id"] and one["error"] is None for one in answers.values())


def test_fused_requests_run_together_with_their_experts(desk: Desk, choir: Choir) -> None:
    choir.sings(**{name: Voice([f"of {name}"]) for name in ("small", "middle", "large")})
    desk.writes(("a", "auto:fuse"), ("b", "small"), ("c", "auto:fuse"), ("d", "small"))

    done = desk.runs("--concurrency", "1")

    assert done.returncode == 0, done.stderr
    models = choir.models()
    assert [sorted(models[:2]), models[2], sorted(models[3:5]), models[5]] == [["large", "middle"], "small"] * 2
    assert models[6:] == ["small", "small"]
    assert "large, middle: 2" in done.stderr and "small: 2" in done.stderr


def test_what_was_answered_is_not_asked_again(desk: Desk, choir: Choir) -> None:
    choir.sings(small=Voice(["first"]))
    desk.writes(("a", "small"), ("b", "small"))
    desk.runs()
    kept = desk.out.read_text()
    desk.writes(("a", "small"), ("b", "small"), ("c", "small"))
    choir.sings(small=Voice(["second"]))

    done = desk.runs()

    assert choir.models() == ["small"]
    assert desk.out.read_text().startswith(kept) and said(desk.answers()["c"]) == "second"
    assert "1 answered, 0 of them with an error, 2 were there" in done.stdout


def test_what_was_answered_before_an_interrupt_is_kept(desk: Desk, choir: Choir) -> None:
    choir.sings(large=Voice(["quick"]), middle=Voice(["slow"], wait_s=20))
    desk.writes(("a", "large"), ("b", "middle"))
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli.main", *desk.command()], env=desk.env(), stderr=subprocess.PIPE, text=True
    )
    until = monotonic() + 60
    while "middle" not in choir.models() and monotonic() < until:
        sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    choir.sings(middle=Voice(["at last"]))

    done = desk.runs()

    assert process.returncode == 130 and "stopped with 1 of 2 answers" in errors and "Traceback" not in errors
    assert done.returncode == 0 and choir.models() == ["middle"]
    assert {name: said(one) for name, one in desk.answers().items()} == {"a": "quick", "b": "at last"}


def test_a_request_that_can_not_be_served_is_an_error_of_its_own_line(desk: Desk, choir: Choir) -> None:
    choir.sings(small=Voice(["fine"]))
    desk.writes(("lost", "no-such-model"), ("good", "small"))

    done = desk.runs()

    answers = desk.answers()
    assert done.returncode == 1 and said(answers["good"]) == "fine"
    assert answers["lost"]["response"]["status_code"] == 404
    assert answers["lost"]["error"]["message"] == answers["lost"]["response"]["body"]["error"]["message"]


def test_nothing_is_sent_where_a_line_is_wrong(desk: Desk, choir: Choir) -> None:
    choir.sings(small=Voice(["fine"]))
    desk.writes(("a", "small"), ("a", "small"))

    done = desk.runs()

    assert done.returncode == 2 and "line 2: 'custom_id' 'a' is that of line 1 too" in done.stderr
    assert not choir.models() and not desk.out.exists()


def test_a_gateway_that_refuses_the_key_is_told_in_one_line(desk: Desk) -> None:
    desk.writes(("a", "small"))

    done = desk.runs("--key-env", "CHOIR_WRONG_KEY")

    assert done.returncode == 1 and "refuses the key" in done.stderr and "Traceback" not in done.stderr
    assert desk.runs("--key-env", "NOBODY_SET_THIS").returncode == 2
