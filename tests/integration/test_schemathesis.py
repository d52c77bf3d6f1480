"""Everything that our own API description allows, and what it forbids, is sent to a served gateway: no answer is a 5xx.

The models answer, so that requests get past the door; ids and models that exist take the place of invented ones in
every other request, because invented ones end in a 404.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation as AnyOperation

from tests.integration.speaking_upstream import speaking
from tests.serving import ADMIN_KEY, APPLICATION_KEY, Served, serving

Operation = AnyOperation[Any, Any, Any, Any]

CATALOGUE = """
[[model]]
id = "plain"
context_tokens = 100000
prior_quality = 0.5
tools = true
json_schema = true
logprobs = true
modalities = ["text", "image"]
price_in_usd_per_mtok = 1.0
price_out_usd_per_mtok = 2.0
[[endpoint]]
id = "plain-1"
model = "plain"
provider = "openai"
base_url = "{url}"
"""
POLICY = 'schema = 1\nname = "default"\nmodels = ["plain"]\n[router]\nkind = "rules"\n'
TURN = [{"role": "user", "content": "Hello"}]
# What each operation takes; empty ids stand for ones that exist.
SOUND: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "plain", "messages": TURN},
    "/v1/route": {"model": "auto", "messages": TURN},
    "/v1/completions": {"model": "plain", "prompt": "Hello"},
    "/v1/responses": {"model": "plain", "input": "Hello"},
    "/v1/messages": {"model": "plain", "max_tokens": 16, "messages": TURN},
    "/v1/messages/count_tokens": {"model": "plain", "messages": TURN},
    "/v1/embeddings": {"model": "all-minilm-l6-v2", "input": "Hello"},
    "/v1/rerank": {"model": "all-minilm-l6-v2", "query": "Hello", "documents": ["Hello", "Goodbye"]},
    "/keys": {"name": "k"},
    "/keys/{key_id}": {},
    "/keys/{key_id}/rotate": {},
    "/organisations/{organisation_id}": {},
    "/teams": {"name": "t", "organisation_id": ""},
    "/teams/{team_id}": {},
    "/budgets": {"scope": "team", "scope_id": "", "limit_usd": 5},
    "/budgets/{budget_id}": {},
    "/limits": {"scope": "team", "scope_id": "", "requests_per_minute": 5},
    "/limits/{limit_id}": {},
}
# The words that the gateway itself reads from headers, and what may stand in them.
HEADERS = ("x-fingerpost-tags", "x-fingerpost-timeout", "x-fingerpost-session", "traceparent", "tracestate")
# What may stand in a header: printable Latin-1.
HEADER_TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_categories=["Cc"]), max_size=40)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """SQLite, budgets and limits as in production, one upstream that answers."""
    folder = tmp_path_factory.mktemp("fuzzed")
    with speaking() as upstream:
        env = {"FINGERPOST_PRELOAD": "false", "FINGERPOST_LOG_LEVEL": "error"}
        catalogue, policies = CATALOGUE.format(url=upstream.url), {"default": POLICY}
        with serving(folder, catalogue=catalogue, policies=policies, env=env) as found:
            yield found


@pytest.fixture(scope="module")
def ids(served: Served) -> dict[str, str]:
    """One of everything that a path can name."""
    made: dict[str, str] = {"name": "default", "model_id": "plain"}

    def make(kind: str, named: str, /, **fields: Any) -> None:
        answer = requests.post(f"{served.url}/admin/{kind}", json=fields, headers=served.admin_headers, timeout=20)
        assert answer.status_code == 201, answer.text
        made[named] = answer.json()["id"]

    make("organisations", "organisation_id", name="acme")
    make("teams", "team_id", name="web", organisation_id=made["organisation_id"])
    make("keys", "key_id", name="app", team_id=made["team_id"])
    make("budgets", "budget_id", scope="team", scope_id=made["team_id"], limit_usd=5)
    make("limits", "limit_id", scope="team", scope_id=made["team_id"], requests_per_minute=5)
    asked = {"model": "plain", "input": "Hello"}
    answer = requests.post(f"{served.url}/v1/responses", json=asked, headers=served.headers, timeout=20)
    made["response_id"] = answer.json()["id"]
    return made


@schemathesis.serializer("application/toml")
def _toml(_: schemathesis.SerializationContext, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def operations(served: Served, wanted: Callable[[str], bool]) -> list[Operation]:
    """What the running gateway says that it can do; what removes things comes last."""
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    found = [one.ok() for one in schema.get_all_operations() if isinstance(one, Ok)]
    return sorted((one for one in found if wanted(one.path)), key=lambda one: one.method == "delete")


def steered(case: Case[Any], ids: dict[str, str], kept: set[int]) -> None:
    """Let a request name what exists, and be sound but for a few of its generated fields: one fault at a time."""
    for name in case.path_parameters or {}:
        case.path_parameters[name] = ids.get(name, case.path_parameters[name])
    sound = SOUND.get(case.path.removeprefix("/admin"))
    if sound is None or not isinstance(case.body, dict):
        return
    names = sorted(case.body)
    fields = {names[place % len(names)] for place in kept if names}
    case.body = {
        **sound,
        **{name: ids[name] for name in sound if name in ids},
        **{one: case.body[one] for one in fields},
    }
    if case.body.get("scope_id") == "":
        case.body["scope_id"] = ids["team_id"]


def failures(served: Served, operation: Operation, key: str, ids: dict[str, str], examples: int) -> list[str]:
    """Every 5xx that one operation answers, with what was asked; the same requests in every run."""
    found: list[str] = []
    session = requests.Session()
    modes = [operation.as_strategy(generation_mode=mode) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)]

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        case=st.one_of(modes),
        kept=st.none() | st.sets(st.integers(0, 40), max_size=3),
        more=st.dictionaries(st.sampled_from(HEADERS), HEADER_TEXT),
    )
    def ask(case: Case[Any], kept: set[int] | None, more: dict[str, str]) -> None:
        if kept is not None:
            steered(case, ids, kept)
        said = {name: value.encode("latin-1") for name, value in more.items()}
        answer = case.call(session=session, headers={**said, "Authorization": f"Bearer {key}"}, timeout=20)
        if answer.status_code >= 500:
            asked = f"{case.path_parameters} {case.query} {case.body!r}"[:600]
            found.append(f"{operation.label}: {answer.status_code} {answer.text[:200]} for {asked}")

    ask()
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("key", "part", "examples"), [(APPLICATION_KEY, "/v1/", 40), (ADMIN_KEY, "/", 20)])
def test_nothing_that_can_be_asked_is_answered_with_a_5xx(
    served: Served, ids: dict[str, str], key: str, part: str, examples: int
) -> None:
    asked = operations(served, lambda path: path.startswith(part))
    assert len(asked) >= 13

    found = [one for operation in asked for one in failures(served, operation, key, ids, examples)]

    assert found == []
    log = (served.data_dir.parent / "stderr.log").read_text()
    assert "Traceback" not in log


def test_the_requests_get_past_the_door(served: Served, ids: dict[str, str]) -> None:
    body: dict[str, Any] = {"model": "plain", "messages": [{"role": "user", "content": "Hello"}]}

    answer = requests.post(f"{served.url}/v1/chat/completions", json=body, headers=served.headers, timeout=20)

    assert answer.status_code == 200
    assert len(ids) == 8
