"""The public words of the runtime: how to sample, what comes out, what can go wrong. Knows no torch and no asyncio."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

FinishReason = Literal["stop", "length"]

MAX_TOP_LOGPROBS = 20


class GenerationError(Exception):
    """Anything the runtime refuses or fails at.

    GenerationError
      WeightsNotFound   no such package, file or folder
      UnsupportedModel  the weights are sound, but of a kind that this runtime does not compute
      BadWeights        the weights are truncated, inconsistent or hostile
      TemplateFailed    the model's chat template is missing or rejected the messages
      ContextTooLong    the prompt alone fills the context
      EngineBusy        the waiting queue is full; trying again later may help
      EngineStopped     the engine is not running, or stopped meanwhile
      EngineFailed      a step failed; the sequence is lost, the engine goes on
    """


class WeightsNotFound(GenerationError):
    """The named weights are not on this machine; the message says how to get them."""


class UnsupportedModel(GenerationError):
    """Sound weights of a kind that is not implemented (architecture, tokenizer, quantisation, rope scaling)."""


class BadWeights(GenerationError):
    """Weights or metadata that contradict themselves or lie outside their file."""


class TemplateFailed(GenerationError):
    """No chat template, or the template raised; the message is the template's own."""


class ContextTooLong(GenerationError):
    """The prompt leaves no room for one token; raised before any work."""

    def __init__(self, prompt_tokens: int, limit: int) -> None:
        super().__init__(f"the prompt has {prompt_tokens} tokens, the context holds {limit}")
        self.prompt_tokens = prompt_tokens
        self.limit = limit


class EngineBusy(GenerationError):
    """Every slot is taken and the waiting queue is full."""


class EngineStopped(GenerationError):
    """The engine was never started, is closed, or closed while this generation ran."""


class EngineFailed(GenerationError):
    """A step raised; the cause is in the log and in `__cause__`."""


def _in_range(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number")
    if not low <= value <= high:
        raise ValueError(f"{name} must lie between {low:g} and {high:g}")


def _whole(name: str, value: object, low: int, high: float = math.inf) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be an integer")
    if not low <= value <= high:
        raise ValueError(f"{name} must be at least {low}" + ("" if high == math.inf else f" and at most {high:g}"))


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to pick tokens and when to end; every field is checked, a ValueError names the field.

    `temperature` 0 is greedy. `top_k` 0, `top_p` 1 and `min_p` 0 are off. Presence and frequency penalties count
    generated tokens (as OpenAI), the repetition penalty prompt and generated tokens (as CTRL, arXiv:1909.05858).
    `max_tokens` None means up to the end of the context.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens is not None:
            _whole("max_tokens", self.max_tokens, 1)
        if self.seed is not None:
            _whole("seed", self.seed, -(2**63), 2**64 - 1)
        _whole("top_k", self.top_k, 0)
        _whole("top_logprobs", self.top_logprobs, 0, MAX_TOP_LOGPROBS)
        _in_range("temperature", self.temperature, 0, 100)
        _in_range("top_p", self.top_p, 0, 1)
        _in_range("min_p", self.min_p, 0, 1)
        _in_range("presence_penalty", self.presence_penalty, -2, 2)
        _in_range("frequency_penalty", self.frequency_penalty, -2, 2)
        _in_range("repetition_penalty", self.repetition_penalty, 0.01, 100)
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs")
        self._check_stop()
        self._freeze_bias()

    def _check_stop(self) -> None:
        stop: object = self.stop
        if not isinstance(stop, tuple) or not all(isinstance(text, str) and text for text in stop):
            raise ValueError("stop must be a tuple of non-empty strings")

    def _freeze_bias(self) -> None:
        for token, bias in self.logit_bias.items():
            _whole("logit_bias key", token, 0)
            _in_range("logit_bias", bias, -100, 100)
        object.__setattr__(self, "logit_bias", MappingProxyType(dict(self.logit_bias)))


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token with its natural-log probability under the unmodified model (temperature 1, no penalty or filter).

    `token_bytes` is exact; `token` shows replacement characters where the token is half a character.
    """

    token: str
    token_bytes: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of answer: whole characters only; `output_tokens` counts all tokens so far, the end token too."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Gauges (running, waiting sequences; seconds that a prompt which comes now would wait) and counters since start
    (steps, tokens generated, tokens guessed, those of them that were right, prompt tokens found computed)."""

    running: int
    waiting: int
    steps: int
    tokens_out: int
    wait_s: float = 0.0
    guessed: int = 0
    guessed_right: int = 0
    found_tokens: int = 0
