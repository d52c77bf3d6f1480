"""What the cache gives where those who were to answer can't, and what it never gives, over HTTP.

Each test has a policy, a model and an endpoint of its own, so that none meets the load that another has made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.dispatch.load import BUSY_FROM
from tests.eventually import comes_true
from tests.integration.redis_server import redis_of_its_own
from tests.integration.strategies.choir import Choir, Voice, singing
from tests.integration.tenants import tenant
from tests.integration.test_proxy_line import row
from tests.serving import Served, serving

MOST = 24
RIGID = MOST - 2
_NUMBERS = count()
RULE = '[cache]\nmode = "semantic"\nttl_s = {ttl_s}\nstale_s = 600\nmax_false_hit_share = 0.02\n'
POLICY = 'schema = 1\nname = "p{number}"\nmodels = ["m{number}"]\n[router]\nkind = "rules"\n[fallback]\nretries = 0\n'
MODEL = """
[[model]]
id = "m{number}"
context_tokens = 20000
price_in_usd_per_mtok = 1.0
price_out_usd_per_mtok = 2.0
[[endpoint]]
id = "at-m{number}"
model = "m{number}"
provider = "openai"
base_url = "{url}"
key_ref = "env:CHOIR_SECRET"
"""


@pytest.fixture(scope="module")
def choir() -> Iterator[Choir]:
    with singing() as found:
        yield found


@pytest.fixture(scope="module")
def served(choir: Choir, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Policies of even numbers keep answers for a second, odd ones for long; one of them has no leeway at all."""
    with serving(tmp_path_factory.mktemp("load"), **files(choir, MOST)) as found:
        yield found


def files(choir: Choir, most: int, **env: str) -> dict[str, Any]:
    """So many policies with their models."""
    texts = {}
    for number in range(most):
        rule = RULE.format(ttl_s=600 if number % 2 else 1)
        if number == RIGID:
            rule = rule.replace("stale_s = 600\n", "")
        else:
            rule += "max_false_hit_share_under_load = 0.05\n"
        texts[f"p{number}"] = POLICY.format(number=number) + rule
    catalogue = "".join(MODEL.format(number=number, url=choir.url) for number in range(most))
    env |= {"CHOIR_SECRET": "sk", "FINGERPOST_PRELOAD": "false", "FINGERPOST_EMBED_TIMEOUT_S": "60"}
    return {"catalogue": catalogue, "policies": texts, "env": env}


@dataclass(slots=True)
class Line:
    """An application that asks one policy's only model."""

    served: Served
    choir: Choir
    client: httpx.Client
    number: int

    def answers(self, text: str, status: int = 200) -> None:
        """What the model says from now on."""
        self.choir.sings(**{f"m{self.number}": Voice([text], status=status)})

    def ask(self, text: str, control: str = "", **more: Any) -> httpx.Response:
        """One chat request."""
        body = {"model": f"auto:p{self.number}", "messages": [{"role": "user", "content": text}], **more}
        headers = {"cache-control": control} if control else {}
        return self.client.post("/v1/chat/completions", json=body, headers=headers)

    def knows(self, text: str, *, expired: bool) -> None:
        """The question has been answered, and that is kept; `expired`: but may usually not be given any more."""
        self.answers("as it was")
        assert self.ask(text).status_code == 200
        assert comes_true(lambda: self.ask(text, "only-if-cached").status_code == (504 if expired else 200))

    def fails(self, status: int = 429) -> None:
        """From now on the model refuses."""
        self.answers("", status)


def a_line(served: Served, choir: Choir, number: int) -> Iterator[Line]:
    with httpx.Client(base_url=served.url, headers=served.headers, timeout=60) as client:
        yield Line(served, choir, client, number)


@pytest.fixture
def brief(served: Served, choir: Choir) -> Iterator[Line]:
    """Answers expire after a second."""
    yield from a_line(served, choir, 2 * next(_NUMBERS))


@pytest.fixture
def lasting(served: Served, choir: Choir) -> Iterator[Line]:
    """Answers don't expire."""
    yield from a_line(served, choir, 2 * next(_NUMBERS) + 1)


@pytest.fixture
def rigid(served: Served, choir: Choir) -> Iterator[Line]:
    """Likewise, and load makes no difference."""
    yield from a_line(served, choir, RIGID)


def told(reply: httpx.Response) -> str:
    """What the cache had to do with it."""
    return str(reply.headers.get("x-fingerpost-cache", reply.status_code))


FIRST, SAME = "How do I activate a new card?", "How can I activate a new card?"


@pytest.mark.parametrize("status", [429, 503])
def test_an_old_answer_is_given_in_place_of_a_refusal(brief: Line, status: int) -> None:
    brief.knows(FIRST, expired=True)
    brief.fails(status)

    reply = brief.ask(FIRST)

    assert (reply.status_code, told(reply)) == (200, "hit-stale")
    assert reply.json()["choices"][0]["message"]["content"] == "as it was"
    assert int(reply.headers["age"]) >= 1
    assert "no model could answer; it expired" in reply.headers["x-fingerpost-cache-reason"]
    logged = row(brief.served, reply.headers["x-request-id"])
    assert (logged["cache_status"], logged["status"], logged["cost_nanousd"]) == ("hit-stale", 200, 0)
    assert logged["attempts"][0]["outcome"] != "ok" and "no model could answer" in logged["reason"]


def test_a_stream_gets_it_too(brief: Line) -> None:
    brief.knows(FIRST, expired=True)
    brief.fails()

    reply = brief.ask(FIRST, stream=True)

    assert told(reply) == "hit-stale" and reply.headers["content-type"].startswith("text/event-stream")
    assert "data: [DONE]" in reply.text


def test_what_is_certain_enough_under_load_is_given_in_place_of_a_refusal(lasting: Line) -> None:
    lasting.knows(FIRST, expired=False)
    usual = lasting.ask(SAME)
    lasting.fails()

    reply = lasting.ask(SAME.replace("?", ", please?"))

    assert told(usual) == "miss"
    assert (reply.status_code, told(reply)) == (200, "hit-semantic")
    assert "up to 5 %" in reply.headers["x-fingerpost-cache-reason"]
    assert lasting.ask("How do I deactivate a new card?").status_code == 429


def test_nothing_is_given_where_the_policy_says_nothing_of_load(rigid: Line) -> None:
    rigid.knows(FIRST, expired=True)
    rigid.fails()

    assert rigid.ask(FIRST).status_code == 429


@pytest.mark.parametrize(
    "question", ["What is the balance of my account?", "Which film is the latest one?"], ids=["personal", "volatile"]
)
def test_what_is_personal_or_changes_with_time_is_never_given_old(brief: Line, question: str) -> None:
    brief.knows(question, expired=True)
    brief.fails()

    assert brief.ask(question).status_code == 429
    assert brief.ask(question, "max-stale").status_code == 429


def test_once_all_have_failed_nobody_is_asked_for_what_an_old_answer_will_do_for(brief: Line) -> None:
    brief.knows(FIRST, expired=True)
    brief.fails()
    assert comes_true(lambda: "the load is" in brief.ask(FIRST).headers["x-fingerpost-cache-reason"])
    calls = len(brief.choir.asked)

    reply = brief.ask(FIRST)

    assert told(reply) == "hit-stale" and len(brief.choir.asked) == calls
    text = httpx.get(f"{brief.served.url}/metrics").text
    gauges = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("fingerpost_cached{"))
    least = {"given_for_errors": 1, "given_stale": 2, "groups_busy": 1, "load_most": BUSY_FROM}
    for name, figure in least.items():
        assert float(gauges[f'fingerpost_cached{{name="{name}"}}']) >= figure, name


@pytest.mark.parametrize(("control", "found"), [("max-stale", "hit-stale"), ("max-stale=500", "hit-stale")])
def test_a_request_may_take_an_old_answer_without_any_load(brief: Line, control: str, found: str) -> None:
    brief.knows(FIRST, expired=True)

    reply = brief.ask(FIRST, control)

    assert told(reply) == found
    assert reply.headers["x-fingerpost-cache-reason"].startswith("the request takes stale answers; it expired")


def test_a_request_may_refuse_old_answers(brief: Line) -> None:
    brief.knows(FIRST, expired=True)
    brief.fails()

    refused = [brief.ask(FIRST, one) for one in ("no-cache", "max-age=500", "max-stale=0", "min-fresh=5")]

    assert [one.status_code for one in refused] == [429, 429, 429, 429]
    assert told(brief.ask(FIRST)) == "hit-stale"


def test_a_limit_of_the_callers_own_is_no_load(brief: Line) -> None:
    ours = tenant(brief.served, name="tight", rpm=1)
    brief.client.headers["Authorization"] = f"Bearer {ours.key}"
    brief.answers("as it was")
    assert brief.ask(FIRST).status_code == 200
    assert comes_true(lambda: brief.ask(FIRST, "only-if-cached").status_code != 200)

    reply = brief.ask(FIRST)

    assert reply.status_code == 429 and reply.json()["error"]["type"] == "rate_limit_error"
    assert len(brief.choir.asked) == 1


def test_two_workers_on_one_redis_both_give_an_old_answer(choir: Choir, tmp_path: Path) -> None:
    with redis_of_its_own({}) as redis:
        told_of = files(choir, 1, FINGERPOST_REDIS_URL=redis.url)
        with serving(tmp_path, **told_of, arguments=("--workers", "2")) as served:
            for line in a_line(served, choir, 0):
                line.client.headers["connection"] = "close"
                line.knows(FIRST, expired=True)
                line.fails()

                replies = [line.ask(text) for text in (FIRST, SAME) for _ in range(10)]

    assert {told(one) for one in replies} == {"hit-stale"}
    assert {float(one.headers["x-fingerpost-cache-score"]) < 1 for one in replies[10:]} == {True}
