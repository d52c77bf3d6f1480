"""One scripted upstream and one gateway process in front of it: the same models by every protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.scripted_upstream import ScriptedUpstream, scripted_upstream
from tests.serving import APPLICATION_KEY, Served, serving

SECRET = "sk-upstream-secret"
POLICY = 'schema = 1\nname = "default"\nmodels = ["*"]\n[router]\nkind = "rules"\n'


def _model(name: str, task: str = "chat") -> str:
    return (
        f'[[model]]\nid = "{name}"\ntask = "{task}"\ncontext_tokens = 100000\ntools = true\njson_schema = true\n'
        'logprobs = true\nmodalities = ["text", "image", "audio", "file"]\n'
        "price_in_usd_per_mtok = 1.0\nprice_out_usd_per_mtok = 2.0\n"
    )


def _endpoint(name: str, model: str, provider: str, base_url: str, more: str = "") -> str:
    return (
        f'[[endpoint]]\nid = "{name}"\nmodel = "{model}"\nprovider = "{provider}"\nbase_url = "{base_url}"\n'
        f'wire_model = "wire-{model}"\nkey_ref = "env:UPSTREAM_SECRET"\nfirst_byte_timeout_s = 5\n{more}\n'
    )


def _catalogue(url: str) -> str:
    native = 'dialects = ["chat", "completions", "responses"]'
    return "\n".join(
        [
            _model("plain"),
            _endpoint("plain-1", "plain", "openai", f"{url}/plain/v1"),
            _model("native"),
            _endpoint("native-1", "native", "openai", f"{url}/native/v1", native),
            _model("gem"),
            _endpoint("gem-1", "gem", "gemini", f"{url}/gem/v1beta"),
            _model("ranker", "rerank"),
            _endpoint("ranker-1", "ranker", "openai", f"{url}/rank/v1"),
        ]
    )


@pytest.fixture(scope="session")
def scripted() -> Iterator[ScriptedUpstream]:
    """What answers behind the gateway."""
    with scripted_upstream() as found:
        yield found


@pytest.fixture(scope="session")
def dialects(scripted: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The gateway under test."""
    env = {"UPSTREAM_SECRET": SECRET, "FINGERPOST_PRELOAD": "false"}
    folder = tmp_path_factory.mktemp("dialects")
    with serving(folder, catalogue=_catalogue(scripted.url), policies={"default": POLICY}, env=env) as served:
        yield served


@pytest.fixture
def sdk(dialects: Served) -> Iterator[Any]:
    """The official client of an application, without its types, which know no plain objects."""
    with openai.OpenAI(base_url=f"{dialects.url}/v1", api_key=APPLICATION_KEY, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def http(dialects: Served) -> Iterator[httpx.Client]:
    """An application's bare client."""
    with httpx.Client(base_url=dialects.url, headers=dialects.headers, timeout=20) as client:
        yield client


@pytest.fixture(scope="session")
def other_key(dialects: Served) -> str:
    """The token of another application."""
    answer = httpx.post(f"{dialects.url}/admin/keys", json={"name": "other"}, headers=dialects.admin_headers)
    token: str = answer.json()["key"]
    return token
