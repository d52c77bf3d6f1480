"""What is set aside covers what calls take, as often as promised, also where the router's forecast is wrong."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.admission.estimates import Estimates
from gateway.ledger.engine import open_engine, writing
from gateway.ledger.every_table import metadata
from gateway.ledger.inserts import Inserter
from gateway.ledger.record import Record
from gateway.ledger.rows import to_row
from gateway.wire.chat_request import ChatRequest, parse_chat
from gateway.wire.completions_request import CompletionsDialect
from policies.catalogue import Endpoint, Modality, ModelCard
from routers.decision import Candidate, Features, Forecast, Query, Ranked

HIGH = 600


@dataclass(frozen=True, slots=True)
class Used:
    input_tokens: int
    output_tokens: int
    estimated: bool = False


def card(**more: object) -> ModelCard:
    fields = {"context_tokens": 100_000, "price_in_usd_per_mtok": 1, "price_out_usd_per_mtok": 4, **more}
    return ModelCard.model_validate({"id": "m", **fields})


def ranked(model: ModelCard | None = None, high: int = HIGH) -> Ranked:
    endpoint = Endpoint(id="m-1", model="m", provider="openai", base_url="http://x")
    forecast = Forecast("m-1", 0.5, 0.4, 0.6, high // 3, high, 800)
    return Ranked(Candidate(endpoint, model or card(), 800), forecast, 0, 0, 0.5, 1.0)


def query(tokens: int = 100, category: str = "general", cap: int | None = None, *kinds: Modality) -> Query:
    modalities = frozenset({Modality.TEXT, *kinds})
    return Query("q", Features(tokens, tokens * 4, modalities=modalities, max_output_tokens=cap), category)


def request(**more: object) -> ChatRequest:
    return parse_chat(msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "q"}], **more}))


PLAIN = request(stream=True)
WHOLE = request()


def covered(
    estimates: Estimates, rng: random.Random, rounds: int, factor: float, category: str = "general", cut: bool = False
) -> float:
    """The share of calls whose output stayed within what was reserved; real outputs are `factor` times the forecast."""
    asked, plain, kept = query(category=category), ranked(), 0
    for _ in range(rounds):
        wanted = max(round(HIGH * factor * rng.lognormvariate(-0.9, 0.7)), 1)  # its 90th percentile is HIGH * factor
        reserved = estimates.need(plain, asked, PLAIN).output_tokens
        kept += wanted <= reserved
        got = min(wanted, reserved) if cut else wanted
        estimates.learn(plain, asked, Used(120, got), "length" if got < wanted else "stop")
    return kept / rounds


@pytest.mark.parametrize("factor", [0.1, 0.4, 1.0, 3.0, 10.0])
def test_outputs_stay_within_what_is_reserved_whatever_the_forecast(factor: float) -> None:
    estimates, rng = Estimates(), random.Random(3)
    covered(estimates, rng, 300, factor)

    assert 0.885 <= covered(estimates, rng, 8000, factor) <= 0.935
    assert estimates.need(ranked(), query(), PLAIN).output_tokens == pytest.approx(HIGH * factor, rel=0.25)


def test_answers_cut_at_the_reservation_itself_teach_to_reserve_more() -> None:
    estimates, rng = Estimates(), random.Random(4)
    covered(estimates, rng, 600, 5.0, cut=True)

    assert covered(estimates, rng, 4000, 5.0, cut=True) >= 0.88


def test_a_category_that_differs_gets_its_own_bound_once_it_is_known() -> None:
    estimates, rng = Estimates(), random.Random(5)
    covered(estimates, rng, 500, 0.3, "chitchat")
    before = estimates.need(ranked(), query(category="code"), PLAIN).output_tokens
    covered(estimates, rng, 400, 4.0, "code")

    assert before < HIGH * 0.5
    assert covered(estimates, rng, 4000, 4.0, "code") >= 0.885
    assert estimates.need(ranked(), query(category="chitchat"), PLAIN).output_tokens < HIGH * 0.5


def test_models_learn_apart() -> None:
    estimates = Estimates()
    covered(estimates, random.Random(6), 300, 5.0)

    assert estimates.need(ranked(card(id="other")), query(), PLAIN).output_tokens == HIGH


def test_prompts_stay_within_what_is_reserved() -> None:
    estimates, rng, kept = Estimates(), random.Random(7), 0
    for number in range(6000):
        tokens = rng.randint(5, 3000)
        real = round(tokens * rng.lognormvariate(0.5, 0.15)) + 12
        need = estimates.need(ranked(), query(tokens), PLAIN)
        kept += number >= 1000 and real <= need.tokens - need.output_tokens
        estimates.learn(ranked(), query(tokens), Used(real, 5), "stop")

    assert 0.985 <= kept / 5000 <= 0.999


def test_before_anything_is_known_a_third_more_and_a_constant_are_reserved() -> None:
    need = Estimates().need(ranked(), query(1000), PLAIN)

    assert need.tokens == 1350 + 16 + HIGH and need.output_tokens == HIGH
    assert need.cost_nanousd == 1366 * 1000 + HIGH * 4000 and need.endpoint_id == "m-1"


@pytest.mark.parametrize(
    ("cap", "most", "n", "tokens"),
    [(100, None, 1, 100), (5000, 256, 1, 256), (100, None, 3, 300), (1, None, 1, 1), (5000, None, 1, HIGH)],
)
def test_output_is_bounded_by_caller_and_card(cap: int, most: int | None, n: int, tokens: int) -> None:
    model = card(max_output_tokens=most)
    need = Estimates().need(ranked(model, min(HIGH, cap)), query(cap=cap), request(max_tokens=cap, n=n, stream=True))

    assert need.output_tokens == tokens


def test_a_prompt_is_never_reserved_beyond_the_context() -> None:
    need = Estimates().need(ranked(card(context_tokens=1000)), query(990), PLAIN)

    assert need.tokens - need.output_tokens == 1000


@given(
    st.integers(1, 10**6), st.integers(1, 10**6), st.none() | st.integers(1, 10**6), st.none() | st.integers(1, 10**5)
)
def test_needs_are_consistent(tokens: int, high: int, cap: int | None, most: int | None) -> None:
    model = card(max_output_tokens=most)
    need = Estimates().need(ranked(model, high), query(tokens, cap=cap), PLAIN)
    prompt = need.tokens - need.output_tokens

    assert 1 <= need.output_tokens <= min(cap or 10**6, most or model.context_tokens)
    assert 1 <= prompt <= model.context_tokens
    assert need.cost_nanousd == model.cost_nanousd(prompt, need.output_tokens)


def test_calls_that_the_cap_decided_and_estimated_prompts_teach_nothing() -> None:
    estimates, small = Estimates(), query(cap=5)
    for _ in range(200):
        estimates.learn(ranked(high=5), small, Used(500, 5, estimated=True), "length")
        estimates.learn(ranked(), query(), Used(500, 5, estimated=True), "stop", choices=4)

    assert estimates.need(ranked(), query(1000), PLAIN).tokens == 1350 + 16 + HIGH


def test_pictures_do_not_spoil_what_is_known_of_texts() -> None:
    estimates, picture = Estimates(), query(100, "general", None, Modality.IMAGE)
    for _ in range(200):
        estimates.learn(ranked(), picture, Used(700, 5), "stop")

    needs = [estimates.need(ranked(), one, PLAIN) for one in (query(), picture)]
    assert needs[0].tokens - needs[0].output_tokens == 151
    assert 700 <= needs[1].tokens - needs[1].output_tokens <= 730


@pytest.mark.parametrize(
    ("more", "answers"),
    [({"n": 3}, 3), ({"prompt": ["a", "b"], "n": 2}, 4), ({"prompt": [[1, 2], [3]], "best_of": 5}, 10)],
)
def test_every_answer_that_is_written_is_covered(more: dict[str, object], answers: int) -> None:
    body = msgspec.json.encode({"model": "m", "prompt": "q", "max_tokens": 50, **more})

    asked = CompletionsDialect().parse(body)

    assert Estimates().need(ranked(), query(cap=50), asked).output_tokens == 50 * answers


def test_a_model_that_thinks_starts_with_more() -> None:
    assert Estimates().need(ranked(card(reasoning=True)), query(), PLAIN).output_tokens == 10 * HIGH
    assert Estimates().need(ranked(card(reasoning=True)), query(), PLAIN).tokens == 151 + 4 * HIGH


@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_the_money_for_answers_that_nobody_sees_written_covers_nearly_all(factor: float) -> None:
    estimates, rng, kept = Estimates(), random.Random(8), 0
    before = estimates.need(ranked(), query(), WHOLE)
    for number in range(6000):
        wanted = max(round(HIGH * factor * rng.lognormvariate(-0.9, 0.7)), 1)
        need = estimates.need(ranked(), query(), WHOLE)
        got = min(wanted, need.output_tokens)
        kept += number >= 1000 and got == wanted
        estimates.learn(ranked(), query(), Used(100, got), "stop" if got == wanted else "length")

    assert (before.output_tokens, before.tokens) == (2.5 * HIGH, 151 + HIGH)
    assert 0.982 <= kept / 5000 <= 0.999
    assert need.tokens < need.output_tokens + 151


@pytest.mark.parametrize(
    ("prices", "body", "nanousd_more"),
    [
        ({"price_cache_write_usd_per_mtok": 3}, {}, 0),
        ({"price_cache_write_usd_per_mtok": 3}, {"cache_control": {"type": "ephemeral"}}, 151 * 2000),
        ({"price_cache_write_long_usd_per_mtok": 5}, {"tools": [{"cache_control": {"ttl": "1h"}}]}, 151 * 4000),
        ({"price_reasoning_usd_per_mtok": 6}, {}, HIGH * 2000),
        ({"price_audio_out_usd_per_mtok": 9}, {"audio": {"voice": "x"}}, HIGH * 5000),
    ],
)
def test_the_dearest_kind_of_token_is_reserved(
    prices: dict[str, float], body: dict[str, object], nanousd_more: int
) -> None:
    need = Estimates().need(ranked(card(**prices)), query(), request(stream=True, **body))

    assert need.cost_nanousd == 151 * 1000 + HIGH * 4000 + nanousd_more


def test_pictures_and_sound_are_reserved_at_their_own_price() -> None:
    model = card(price_image_usd=0.01, price_audio_in_usd_per_mtok=11)
    part = {"type": "image_url", "image_url": {"url": "data:,"}}
    asked = request(stream=True, messages=[{"role": "user", "content": [part, part]}])
    need = Estimates().need(ranked(model), query(100, "general", None, Modality.IMAGE, Modality.AUDIO), asked)

    assert need.cost_nanousd == 216 * 11_000 + HIGH * 4000 + 20_000_000


def test_calls_without_output_are_learned_from_too() -> None:
    estimates = Estimates()
    for _ in range(150):
        estimates.learn_prompt(card(), 100, Used(316, 0))
    need = estimates.prompt_need("e", card(), 1000)

    assert need.output_tokens == 0 and 3016 <= need.tokens <= 3150 and need.cost_nanousd == need.tokens * 1000


def test_memory_is_bounded_in_models_and_categories() -> None:
    estimates = Estimates()
    for number in range(1100):
        estimates.learn(ranked(card(id=f"m{number}")), query(), Used(1, 1), "stop")
    for number in range(100):
        estimates.learn(ranked(card(id="m1099")), query(category=str(number)), Used(1, 1), "stop")

    assert len(estimates._models) == 1024 and len(estimates._models["m1099"].categories) == 64


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    opened = open_engine(f"sqlite:///{tmp_path / 'log.sqlite3'}")
    async with writing(opened).begin() as connection:
        await connection.run_sync(metadata.create_all)
    yield opened
    await opened.dispose()


def logged(number: int, **more: object) -> Record:
    record = Record(f"r{number}", float(number), "chat", model="m", endpoint="m-1", category="code", status=200)
    record.features = {"tokens": 100, "modalities": ["text"], "max_output_tokens": None}
    record.decision = [{"endpoint": "other", "output_tokens_high": 1}, {"endpoint": "m-1", "output_tokens_high": HIGH}]
    record.input_tokens, record.output_tokens, record.finish_reason = 216, 1800, "stop"
    return replace(record, **more)  # type: ignore[arg-type]


async def test_the_ledger_teaches_at_the_start(engine: AsyncEngine) -> None:
    odd = [logged(900, status=499), logged(901, cache_status="hit"), logged(902, features=None, decision=None)]
    sums = [logged(904 + number, strategy="vote", input_tokens=9000, output_tokens=9000) for number in range(50)]
    records = [*(logged(number) for number in range(150)), *odd, *sums, logged(903, decision=[{"endpoint": "m-1"}])]
    await Inserter(engine, 10).insert(list(map(to_row, records)))
    estimates = Estimates()

    assert await estimates.seed(engine, [card(), card(id="unknown")], per_model=140) == 140
    need = estimates.need(ranked(), query(1000, "code"), PLAIN)
    assert 1800 <= need.output_tokens <= 1800 * 1.1 and 2016 <= need.tokens - need.output_tokens <= 2120
