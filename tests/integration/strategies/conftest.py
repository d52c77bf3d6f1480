"""A choir and one gateway before it, with a policy for each strategy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from tests.integration.strategies.choir import Choir, singing
from tests.serving import Served, serving

# Model to prior quality, and prices in and out (US dollars per million tokens); 10 and some tokens a call.
MODELS = {
    "small": (0.4, 1.0, 2.0),
    "middle": (0.6, 10.0, 20.0),
    "large": (0.9, 100.0, 200.0),
}
# Each for one test in which it fails: endpoints that fail are paused, and later tests would not reach them.
FRAIL = ("frail-a", "frail-b", "frail-c", "frail-d", "frail-e", "frail-f", "frail-g")
POLICIES = {
    "default": "",
    "cascade": '[strategy]\nkind = "cascade"\nthreshold = 0.5\n',
    "race": '[strategy]\nkind = "race"\nn = 3\n',
    "vote": '[strategy]\nkind = "vote"\nn = 5\nmax_calls = 5\nmodels = ["large"]\n',
    "three": '[strategy]\nkind = "vote"\nn = 3\nmax_calls = 3\n',
    "curious": 'exploration = 0.9\n[strategy]\nkind = "vote"\nn = 3\nmax_calls = 3\n',
    "likely": '[strategy]\nkind = "best_of_n"\nscorer = "logprob"\nn = 3\nmodels = ["*"]\n',
    "judged": '[strategy]\nkind = "best_of_n"\nscorer = "judge"\njudge = "large"\nn = 3\nmodels = ["small"]\n',
    "fuse": '[strategy]\nkind = "fuse"\nn = 2\naggregator = "small"\nmodels = ["middle", "large"]\n',
    "capped": '[strategy]\nkind = "vote"\nn = 5\nmax_calls = 5\nmodels = ["large"]\n'
    "[budget]\nmax_cost_usd_per_request = 0.01\n",
    "bycategory": 'default_category = "rest"\n[[category]]\nname = "sums"\nwhen = { contains = ["sum"] }\n'
    'strategy = { kind = "vote", n = 3, models = ["small"] }\n',
    "thinking": '[effort]\nreasoning_effort = "auto"\n',
    "frailrace": """models = ["small", "frail-a", "frail-b"]
[strategy]
kind = "race"
""",
    "allfrail": """models = ["frail-c", "frail-d", "frail-e"]
[strategy]
kind = "race"
""",
    "frailfuse": """models = ["middle", "large", "frail-f"]
[strategy]
kind = "fuse"
n = 2
aggregator = "frail-f"
models = ["middle", "large"]
""",
    "frailvote": """models = ["small", "frail-g"]
[strategy]
kind = "vote"
models = ["frail-g"]
""",
    "careful": '[strategy]\nkind = "vote"\nn = 3\nmodels = ["thinker"]\n[effort]\nreasoning_effort = "low"\n',
}


def _policy(name: str, rest: str) -> str:
    """`rest` may begin with keys of the policy itself, each on a line, before its tables."""
    top, tables = "", rest
    while tables and not tables.startswith("["):
        key, _, tables = tables.partition("\n")
        top += f"{key}\n"
    if not top.startswith("models"):
        models = '["thinker"]' if name in ("thinking", "careful") else '["small", "middle", "large"]'
        top = f"models = {models}\n{top}"
    return f'schema = 1\nname = "{name}"\n{top}[router]\nkind = "rules"\n{tables}'


def _catalogue(url: str) -> str:
    rows = []
    for name, (quality, price_in, price_out) in {
        **MODELS,
        "thinker": (0.9, 1.0, 1.0),
        **dict.fromkeys(FRAIL, (0.5, 1.0, 1.0)),
    }.items():
        rows.append(
            f'[[model]]\nid = "{name}"\ncontext_tokens = 20000\nprior_quality = {quality}\nlogprobs = true\n'
            f"tools = true\nreasoning = {str(name == 'thinker').lower()}\nprice_in_usd_per_mtok = {price_in}\n"
            f'price_out_usd_per_mtok = {price_out}\n[[endpoint]]\nid = "at-{name}"\nmodel = "{name}"\n'
            f'provider = "openai"\nbase_url = "{url}"\nkey_ref = "env:CHOIR_SECRET"\n'
        )
    return "\n".join(rows)


@pytest.fixture(scope="session")
def choir() -> Iterator[Choir]:
    """The upstream."""
    with singing() as found:
        yield found


@pytest.fixture(scope="session")
def strategic(choir: Choir, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The gateway."""
    folder: Path = tmp_path_factory.mktemp("strategies")
    env = {"CHOIR_SECRET": "sk", "FINGERPOST_PRELOAD": "false"}
    policies = {name: _policy(name, rest) for name, rest in POLICIES.items()}
    with serving(folder, catalogue=_catalogue(choir.url), policies=policies, env=env) as served:
        yield served


@dataclass(slots=True)
class Line:
    """An application's client, and the books."""

    served: Served
    client: httpx.Client

    def ask(self, policy: str, text: str = "What is it?", **fields: Any) -> httpx.Response:
        """One chat request under a policy."""
        body = {"model": f"auto:{policy}", "messages": [{"role": "user", "content": text}], **fields}
        return self.client.post("/v1/chat/completions", json=body)

    def row(self, answer: httpx.Response) -> dict[str, Any]:
        """The request's row with its children, once the ledger has written it."""
        return self.row_of(answer.headers["x-request-id"])

    def row_of(self, request_id: str) -> dict[str, Any]:
        """Likewise, by id."""
        until = monotonic() + 10
        while monotonic() < until:
            found = httpx.get(
                f"{self.served.url}/admin/requests/{request_id}", headers=self.served.admin_headers, timeout=10
            )
            if found.status_code == 200:
                row: dict[str, Any] = found.json()
                return row
            sleep(0.05)
        raise AssertionError(f"{request_id} is not in the ledger")


@pytest.fixture
def line(strategic: Served) -> Iterator[Line]:
    """Asks and looks."""
    with httpx.Client(base_url=strategic.url, headers=strategic.headers, timeout=20) as client:
        yield Line(strategic, client)
