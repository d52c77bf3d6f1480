"""Sampling refuses what cannot be meant, naming the field."""

from __future__ import annotations

import math
from typing import Any

import pytest

from local_runtime.base import ContextTooLong, GenerationError, Sampling

WRONG: list[tuple[str, Any]] = [
    ("max_tokens", 0),
    ("max_tokens", True),
    ("max_tokens", 1.5),
    ("temperature", -0.1),
    ("temperature", math.nan),
    ("temperature", math.inf),
    ("temperature", "hot"),
    ("top_k", -1),
    ("top_p", 1.01),
    ("min_p", -0.01),
    ("presence_penalty", 2.5),
    ("frequency_penalty", math.nan),
    ("repetition_penalty", 0.0),
    ("logit_bias", {3: 101}),
    ("logit_bias", {-3: 1}),
    ("logit_bias", {"3": 1}),
    ("seed", 1.0),
    ("seed", 2**64),
    ("stop", ("",)),
    ("stop", "END"),
    ("top_logprobs", 21),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        Sampling(**{name: value})


def test_top_logprobs_without_logprobs_is_refused() -> None:
    with pytest.raises(ValueError, match="top_logprobs needs logprobs"):
        Sampling(top_logprobs=3)


def test_the_callers_bias_can_change_later_without_changing_ours() -> None:
    biases = {1: 2.0}
    sampling = Sampling(logit_bias=biases)
    biases[1] = 50.0
    assert sampling.logit_bias == {1: 2.0}


def test_a_long_context_error_carries_both_numbers() -> None:
    error = ContextTooLong(9000, 8192)
    assert isinstance(error, GenerationError)
    assert (error.prompt_tokens, error.limit) == (9000, 8192)
    assert "9000" in str(error)
