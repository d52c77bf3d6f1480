"""`fingerpost local serve`: one model behind a port of its own, by itself and as an endpoint of a gateway."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.command_line import fingerpost
from tests.eventually import comes_true
from tests.serving import Served, environment, serving
from tests.unit.local_runtime.adapters.made import save_adapter
from tests.unit.local_runtime.tiny import save_tiny, save_tokenizer

KEY = "a-key-of-the-model-server"
QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
CATALOGUE = """
[[model]]
id = "afar"
context_tokens = 2048

[[endpoint]]
id = "afar-1"
model = "afar"
provider = "openai"
base_url = "{url}/v1"
key_ref = "env:AFAR_KEY"
wire_model = "smollm2"
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(
        tmp_path_factory.mktemp("alone"),
        verb=("local", "serve", "bundled:smollm2"),
        env={"FINGERPOST_LOCAL_KEY": KEY, "FINGERPOST_LOCAL_THREADS": "1"},
    ) as served:
        yield served


@pytest.fixture
def client(alone: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=KEY, base_url=f"{alone.url}/v1", max_retries=0) as made:
        yield made


def test_an_openai_client_is_answered_whole_and_as_a_stream(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="smollm2", messages=QUESTION, max_tokens=20)
    chunks = list(client.chat.completions.create(model="smollm2", messages=QUESTION, max_tokens=20, stream=True))

    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "Paris" in said
    assert said == whole.choices[0].message.content
    assert whole.usage is not None
    assert whole.usage.completion_tokens > 0
    assert all(chunk.choices for chunk in chunks)  # usage is told to those alone who ask for it


def test_usage_of_a_stream_is_told_to_who_asks(client: openai.OpenAI) -> None:
    chunks = client.chat.completions.create(
        model="smollm2", messages=QUESTION, max_tokens=5, stream=True, stream_options={"include_usage": True}
    )

    usage = list(chunks)[-1].usage
    assert usage is not None
    assert usage.completion_tokens == 5


def test_models_health_and_figures_are_told(alone: Served, client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    one = client.models.retrieve("smollm2")
    figures = httpx.get(f"{alone.url}/metrics", headers={"Authorization": f"Bearer {KEY}"}).text

    assert names == [one.id] == ["smollm2"]
    assert httpx.get(f"{alone.url}/health/ready").status_code == 200
    assert 'fingerpost_local_engine{name="bundled:smollm2/tokens_out"' in figures


@pytest.mark.parametrize("path", ["/v1/models", "/metrics"])
def test_without_the_key_nothing_is_told(alone: Served, path: str) -> None:
    missing = httpx.get(f"{alone.url}{path}")
    wrong = httpx.get(f"{alone.url}{path}", headers={"Authorization": "Bearer another"})

    assert (missing.status_code, wrong.status_code) == (401, 401)
    assert wrong.json()["error"]["code"] == "invalid_api_key"


def test_without_the_key_nothing_is_answered(alone: Served) -> None:
    stranger = openai.OpenAI(api_key="another", base_url=f"{alone.url}/v1", max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError):
        stranger.chat.completions.create(model="smollm2", messages=QUESTION)


def test_another_model_is_not_found_by_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="this is 'smollm2'"):
        client.chat.completions.create(model="gpt-5", messages=QUESTION)
    with pytest.raises(openai.NotFoundError, match="this is 'smollm2'"):
        client.models.retrieve("gpt-5")


def test_a_bad_field_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as told:
        client.chat.completions.create(model="smollm2", messages=QUESTION, temperature=7)

    assert told.value.param == "temperature"


def test_a_client_that_leaves_frees_its_place(alone: Served) -> None:
    body = {"model": "smollm2", "messages": [{"role": "user", "content": "Tell a long story."}], "stream": True}
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.stream("POST", f"{alone.url}/v1/chat/completions", json=body, headers=headers, timeout=30) as reply:
        next(reply.iter_lines())

    def idle() -> bool:
        figures = httpx.get(f"{alone.url}/metrics", headers=headers).text
        return 'fingerpost_local_engine{name="bundled:smollm2/running"} 0.0' in figures

    assert comes_true(idle, 10)


def test_a_gateway_takes_it_for_an_endpoint(alone: Served, tmp_path: Path) -> None:
    env = {"AFAR_KEY": KEY}
    with serving(tmp_path, catalogue=CATALOGUE.format(url=alone.url), env=env) as gateway:
        body = {"model": "afar", "messages": QUESTION, "max_tokens": 20}
        reply = httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=gateway.headers, timeout=60)

    assert "Paris" in reply.json()["choices"][0]["message"]["content"]
    assert reply.headers["x-fingerpost-endpoint"] == "afar-1"


def test_it_ends_when_it_is_told_and_finishes_what_it_has_begun(tmp_path: Path) -> None:
    with serving(tmp_path, verb=("local", "serve", "bundled:smollm2", "--name", "mine")) as served:
        body = {"model": "mine", "messages": QUESTION, "stream": True, "max_tokens": 200}
        with httpx.stream("POST", f"{served.url}/v1/chat/completions", json=body, timeout=30) as reply:
            lines = reply.iter_lines()
            next(lines)
            served.process.send_signal(signal.SIGTERM)
            rest = list(lines)
        began = time.monotonic()

        assert served.stop() == 0
        assert time.monotonic() - began < 15
        assert "data: [DONE]" in rest


@pytest.mark.parametrize(
    ("arguments", "env", "told"),
    [
        (["bundled:nothing"], {}, "nothing"),
        (["/no/such.gguf"], {}, "/no/such.gguf"),
        (["bundled:smollm2", "--host", "0.0.0.0"], {}, "FINGERPOST_LOCAL_KEY"),
        (["bundled:smollm2"], {"FINGERPOST_LOCAL_KEY": "short"}, "FINGERPOST_LOCAL_KEY"),
    ],
)
def test_what_cannot_be_served_is_one_clear_line(
    arguments: list[str], env: dict[str, str], told: str, tmp_path: Path
) -> None:
    ended = fingerpost("local", "serve", *arguments, "--port", "0", env=environment(tmp_path, env))

    assert ended.returncode != 0
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A tiny model, by itself and with two adapters."""
    folder = tmp_path_factory.mktemp("adapted")
    theirs = save_tiny("llama wide", folder / "base")
    save_tokenizer(folder / "base")
    for seed in (1, 2):
        save_adapter(theirs, folder / str(seed), seed)
    adapters = (f"one={folder / '1'}", f"two={folder / '2'}")
    flags = ("--name", "plain", "--lora", adapters[0], "--lora", adapters[1])
    with serving(folder, verb=("local", "serve", str(folder / "base"), *flags)) as served:
        yield served


def test_each_adapter_is_a_model_of_its_own_name(adapted: Served) -> None:
    with openai.OpenAI(api_key="any", base_url=f"{adapted.url}/v1", max_retries=0) as client:
        names = [model.id for model in client.models.list()]
        answers = [
            client.chat.completions.create(model=name, messages=QUESTION, max_tokens=12) for name in (*names, *names)
        ]

    assert names == ["plain", "one", "two"]
    said = [(answer.choices[0].message.content, answer.system_fingerprint) for answer in answers]
    assert said[:3] == said[3:]
    assert len({text for text, _ in said}) == len({told for _, told in said}) == 3
    assert [answer.model for answer in answers[:3]] == names


def test_a_name_that_is_none_of_them_is_told_all(adapted: Served) -> None:
    body = {"model": "three", "messages": QUESTION}

    answer = httpx.post(f"{adapted.url}/v1/chat/completions", json=body)

    assert answer.status_code == 404
    assert "'plain', 'one', 'two'" in answer.json()["error"]["message"]


@pytest.mark.parametrize("told", ["one", "=folder", "smollm2=/a"])
def test_an_adapter_without_a_name_of_its_own_is_refused(told: str, tmp_path: Path) -> None:
    refused = fingerpost("local", "serve", "bundled:smollm2", "--lora", told, env=environment(tmp_path))

    assert refused.returncode == 2
    assert "NAME=FOLDER" in refused.stderr
