"""Answers held to a JSON schema, whatever the model would rather say."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runtime.base import Sampling
from local_runtime.decoding.base import History
from local_runtime.decoding.grammar import Grammars, SchemaError
from local_runtime.decoding.sampling import strategy_for
from tests.unit.local_runtime.tiny import byte_tokenizer

END = 257
SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    {"type": "array", "items": {"enum": ["red", "green"]}, "minItems": 1, "maxItems": 3},
    {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False},
    {"anyOf": [{"type": "null"}, {"const": 5}]},
]


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(byte_tokenizer().to_str(), 258, [END])


def answer(grammars: Grammars, schema: dict[str, Any], seed: int, temperature: float = 1.0, most: int = 400) -> str:
    """What a model with random opinions says under a schema."""
    rng = np.random.default_rng(seed)
    strategy = grammars.of_schema(json.dumps(schema)).hold(strategy_for(Sampling(temperature=temperature, seed=seed)))
    history = History([1])
    while len(history.generated) < most:
        token = strategy.choose(rng.standard_normal(258).astype(np.float32) * 3, history)
        if token == END:
            break
        history.generated.append(token)
    return bytes(history.generated).decode()


@settings(max_examples=60, deadline=None)
@given(schema=st.sampled_from(SCHEMAS), seed=st.integers(0, 2**32 - 1), temperature=st.sampled_from([0.0, 0.7, 2.0]))
def test_whatever_a_model_says_is_an_instance_of_the_schema(
    grammars: Grammars, schema: dict[str, Any], seed: int, temperature: float
) -> None:
    said = answer(grammars, schema, seed, temperature)

    # A whole number may be long, and blanks may go on: what is not finished says nothing.
    if len(said) < 400:
        jsonschema_rs.validate(schema, json.loads(said))


def test_what_the_schema_allows_is_chosen_as_without_it(grammars: Grammars) -> None:
    held = grammars.of_schema('{"enum": ["red", "green"]}').hold(strategy_for(Sampling(temperature=0)))
    history = History([1])
    said = b""
    for wish in b'"green"':
        row = np.zeros(258, dtype=np.float32)
        row[wish] = 1.0
        row[ord("x")] = 9.0  # what it would rather say
        history.generated.append(held.choose(row, history))
        said += bytes(history.generated[-1:])
    assert said == b'"green"' and held.choose(np.ones(258, dtype=np.float32), history) == END


def test_answers_of_one_grammar_do_not_disturb_each_other(grammars: Grammars) -> None:
    grammar = grammars.of_schema('{"enum": ["red", "green"]}')
    one, two = (grammar.hold(strategy_for(Sampling(temperature=0))) for _ in range(2))
    row = np.zeros(258, dtype=np.float32)
    row[[ord('"'), ord("r")]] = (5.0, 1.0)

    first = [one.choose(row, History([1])) for _ in range(2)]
    second = [two.choose(row, History([1])) for _ in range(2)]

    assert bytes(first) == bytes(second) == b'"r'


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ('{"type": "nonsense"}', "nonsense"),
        ('{"properties": {"a": {"$ref": "#/nope"}}}', "nope"),
        ('{"type": "object"', "not JSON"),
        ('{"type": "string", "pattern": "("}', "regex"),
    ],
)
def test_a_schema_that_is_none_says_where(grammars: Grammars, schema: str, words: str) -> None:
    with pytest.raises(SchemaError, match=words):
        grammars.of_schema(schema)
