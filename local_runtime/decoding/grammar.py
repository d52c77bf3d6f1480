"""Answers held to a JSON schema: only tokens that can still lead to such an answer are left to choose from.

What a schema allows is computed by llguidance (Earley's parser over a trie of the vocabulary); here are the masks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from local_runtime.decoding.base import DecodingStrategy, History, Row

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer


class SchemaError(ValueError):
    """A schema that is none, or that asks for what can't be enforced; the message says which part."""


class Grammar:
    """A schema, ready for any number of answers at once."""

    def __init__(self, matcher: LLMatcher, vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size

    def hold(self, strategy: DecodingStrategy) -> DecodingStrategy:
        """The strategy, with tokens left to choose from that the schema allows; for one answer."""
        return _Held(strategy, self._matcher.deep_copy(), self._vocab_size)


class Grammars:
    """Of one vocabulary. Making it takes tenths of a second, a schema about a millisecond."""

    def __init__(self, tokenizer_json: str, vocab_size: int, end_ids: Iterable[int]) -> None:
        from llguidance import LLTokenizer

        self._vocab_size = vocab_size
        self._tokenizer: LLTokenizer = LLTokenizer(tokenizer_json, n_vocab=vocab_size, eos_token=sorted(end_ids))

    def of_schema(self, schema: str) -> Grammar:
        """The grammar of a JSON schema, given as JSON; SchemaError where it is none."""
        from llguidance import LLMatcher

        try:
            whole = json.dumps(json.loads(schema))  # the library pastes the text into a larger one
        except ValueError as error:
            raise SchemaError(f"not JSON: {error}") from error
        matcher = LLMatcher(self._tokenizer, LLMatcher.grammar_from_json_schema(whole), log_level=0)
        if matcher.is_error():
            raise SchemaError(matcher.get_error().splitlines()[0][:300])
        return Grammar(matcher, self._vocab_size)


class _Held:
    """A DecodingStrategy under a grammar. Nothing is guessed beyond what was chosen: every token moves it on by one."""

    def __init__(self, strategy: DecodingStrategy, matcher: LLMatcher, vocab_size: int) -> None:
        self._strategy = strategy
        self._matcher = matcher
        self._mask = np.zeros((1, -(-vocab_size // 32)), dtype=np.int32)
        self._vocab_size = vocab_size

    def choose(self, logits: Row, history: History) -> int:
        """See DecodingStrategy.choose."""
        from llguidance.numpy import fill_next_token_bitmask

        fill_next_token_bitmask(self._matcher, self._mask, 0)
        bits = np.unpackbits(self._mask.view(np.uint8)[0], bitorder="little")[: self._vocab_size]
        token = self._strategy.choose(np.where(bits, logits, np.float32(-np.inf)).astype(np.float32), history)
        self._matcher.consume_token(token)
        return token
