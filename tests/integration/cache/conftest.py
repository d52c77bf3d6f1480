"""A choir and a gateway before it that caches, with a policy for each mode."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.cache.prompter import Prompter, prompting
from tests.integration.cache.stage import Stage
from tests.integration.strategies.choir import Choir, Voice, singing
from tests.serving import Served, serving

POLICIES = {
    "default": '[cache]\nmode = "exact"\nttl_s = 600\n',
    "alike": '[cache]\nmode = "semantic"\n[[category]]\nname = "never"\nwhen = { contains = ["secretly"] }\n'
    'cache = { mode = "off" }\n[[category]]\nname = "literal"\nwhen = { contains = ["literally"] }\n'
    'cache = { mode = "exact" }\n',
    "uncached": "",
    "short": '[cache]\nmode = "exact"\nttl_s = 1\n',
    "voted": '[cache]\nmode = "exact"\n[strategy]\nkind = "vote"\nn = 3\nmax_calls = 3\n',
    "kept": '[cache]\nmode = "exact"\n[log]\nprompts = true\n',
}


def policies(*names: str) -> dict[str, str]:
    """The texts of these policies."""
    head = 'schema = 1\nname = "{}"\nmodels = ["*"]\n[router]\nkind = "rules"\n'
    return {name: head.format(name) + POLICIES[name] for name in names}


def catalogue(url: str) -> str:
    """Two models at one upstream."""
    return "\n".join(
        f'[[model]]\nid = "{name}"\ncontext_tokens = 20000\nprior_quality = {quality}\ntools = true\n'
        f"price_in_usd_per_mtok = 1.0\nprice_out_usd_per_mtok = 2.0\n"
        f'[[endpoint]]\nid = "at-{name}"\nmodel = "{name}"\nprovider = "openai"\nbase_url = "{url}"\n'
        f'key_ref = "env:CHOIR_SECRET"\n'
        for name, quality in (("small", 0.4), ("large", 0.9))
    )


@pytest.fixture(scope="session")
def choir() -> Iterator[Choir]:
    """The upstream."""
    with singing() as found:
        yield found


@pytest.fixture(scope="session")
def caching(choir: Choir, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The gateway."""
    folder: Path = tmp_path_factory.mktemp("cache")
    env = {"CHOIR_SECRET": "sk", "FINGERPOST_PRELOAD": "false", "FINGERPOST_EMBED_TIMEOUT_S": "60"}
    with serving(folder, catalogue=catalogue(choir.url), policies=policies(*POLICIES), env=env) as served:
        yield served


@dataclass(slots=True)
class Line:
    """An application's client; each of its questions is another text, so that tests share nothing."""

    served: Served
    client: httpx.Client
    choir: Choir
    numbers: Iterator[int] = field(default_factory=count)

    def sings(self, *texts: str, **voice: Any) -> None:
        """What both models say from now on, in turn."""
        self.choir.sings(small=Voice(list(texts), **voice), large=Voice(list(texts), **voice))

    def ask(self, text: str, policy: str = "default", headers: dict[str, str] | None = None, **more: Any) -> Any:
        """One chat request."""
        model = f"auto:{policy}"
        body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 50, **more}
        return self.client.post("/v1/chat/completions", json=body, headers=headers)

    def again(self, text: str, policy: str = "default", **more: Any) -> httpx.Response:
        """Likewise, until what was asked before can have been kept."""
        for _ in range(200):
            found: httpx.Response = self.ask(text, policy, **more)
            if found.headers["x-fingerpost-cache"].startswith("hit"):
                return found
        raise AssertionError("it never comes from the cache")


_NUMBERS = count()


@pytest.fixture
def line(caching: Served, choir: Choir) -> Iterator[Line]:
    """Asks."""
    with httpx.Client(base_url=caching.url, headers=caching.headers, timeout=60) as client:
        yield Line(caching, client, choir)


@pytest.fixture
def question() -> str:
    """One that no other test asks."""
    return f"What is written on page {next(_NUMBERS)} of the book?"


@pytest.fixture(scope="session")
def prompter() -> Iterator[Prompter]:
    with prompting() as found:
        yield found


@pytest.fixture(scope="session")
def prompted(prompter: Prompter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    env = {"CHOIR_SECRET": "sk", "FINGERPOST_PRELOAD": "false", "FINGERPOST_EMBED_TIMEOUT_S": "60"}
    texts = policies("default", "alike", "kept")
    once = "[fallback]\nretries = 0\nenabled = false\n"
    texts = {name: text + once for name, text in texts.items()}
    folder = tmp_path_factory.mktemp("along")
    with serving(folder, catalogue=catalogue(prompter.url), policies=texts, env=env) as found:
        yield found


@pytest.fixture
async def stage(prompted: Served, prompter: Prompter) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=prompted.url, timeout=20))
        yield Stage(prompted, prompter, client, f"What is on page {next(_NUMBERS)}?", len(prompter.parts))
