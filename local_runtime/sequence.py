"""One generation on its way through the scheduler: each station reads and changes this record. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from local_runtime.base import Delta, FinishReason, Sampling, TokenLogprob
from local_runtime.decoding import filters
from local_runtime.decoding.base import DecodingStrategy, History, Row
from local_runtime.decoding.drafts import PromptLookup
from local_runtime.decoding.sampling import strategy_for
from local_runtime.kv.pages import Held
from local_runtime.text.detokenise import Released, TextStream
from local_runtime.text.tokenizer import Tokenizer


@dataclass(eq=False, slots=True)
class Sequence:
    """`computed` tokens have keys and values in `held`; `limit` new tokens may come at most. `circle` shares pages
    among those of one `adapter`.
    A higher `priority` has its turn first; `entered` is when it had it (perf_counter).

    `cancelled` may be set from any thread; the next step drops the sequence.
    """

    sampling: Sampling
    strategy: DecodingStrategy
    tokenizer: Tokenizer
    history: History
    limit: int
    stream: TextStream
    lookup: PromptLookup
    circle: str = ""
    adapter: int | None = None
    priority: int = 0
    entered: float = 0.0
    held: Held | None = None
    computed: int = 0
    cancelled: bool = False
    finished: bool = False

    @property
    def sharing(self) -> tuple[str, int | None]:
        """Whose pages it may begin with: keys and values of another adapter are other ones."""
        return self.circle, self.adapter

    @property
    def length(self) -> int:
        """Prompt and generated tokens together."""
        return len(self.history.prompt) + len(self.history.generated)

    @property
    def prefilling(self) -> bool:
        """Whether more than the last generated token is to be computed: a prompt, or all of it anew."""
        return self.computed < self.length - 1 or not self.history.generated

    def tokens(self, first: int, end: int) -> Items[int]:
        """Prompt and generated tokens at positions first .. end - 1."""
        prompt, generated = self.history.prompt, self.history.generated
        count = len(prompt)
        if end <= count:
            return prompt[first:end]
        return [*prompt[first:], *generated[max(0, first - count) : end - count]]

    def next_tokens(self, chunk: int) -> Items[int]:
        """What to compute next: up to the next multiple of `chunk`, at most what there is.

        Chunk borders depend on the tokens alone, so that a sequence is computed alike whatever else is running.
        """
        if not self.prefilling:
            return self.history.generated[-1:]
        return self.tokens(self.computed, min((self.computed // chunk + 1) * chunk, self.length))

    @property
    def room(self) -> int:
        """How many tokens may come beside the next one."""
        return self.limit - len(self.history.generated) - 1

    def take(self, rows: npt.NDArray[np.float32], guessed: Items[int] = ()) -> tuple[Delta | None, int]:
        """Pick a token from each row of logits [guesses + 1, vocab_size], up to the first that was guessed otherwise.

        The delta that may leave now, None when all is held back, and how many tokens were picked. The tokens are those
        that would have been picked one by one.
        """
        deltas = []
        for row, guess in zip(rows, [*guessed, None], strict=True):
            deltas.append(self._take(row))
            if self.finished or self.history.generated[-1] != guess:
                break
        told = [delta for delta in deltas if delta is not None]
        return (_together(told) if told else None), len(deltas)

    def _take(self, logits: Row) -> Delta | None:
        token = self.strategy.choose(logits, self.history)
        self.history.generated.append(token)
        count = len(self.history.generated)
        if token in self.tokenizer.end_ids:
            return self._delta(self.stream.finish(), "stop")
        logprob = self._logprob(logits, token) if self.sampling.logprobs else None
        released = self.stream.push(self.tokenizer.visible_bytes(token), logprob)
        if released.stopped:
            return self._delta(released, "stop")
        if count >= self.limit:
            return self._delta(_joined(released, self.stream.finish()), "length")
        return self._delta(released, None) if released.text or released.logprobs else None

    def _delta(self, released: Released, reason: FinishReason | None) -> Delta:
        self.finished = reason is not None
        return Delta(released.text, released.logprobs, reason, len(self.history.generated))

    def _logprob(self, logits: Row, token: int) -> TokenLogprob:
        values = filters.log_probabilities(logits)
        top = filters.best_first(logits, self.sampling.top_logprobs) if self.sampling.top_logprobs else []
        alternatives = tuple(self._named(candidate, float(values[candidate])) for candidate in top)
        return self._named(token, float(values[token]), alternatives)

    def _named(self, token: int, logprob: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        spelled = self.tokenizer.token_bytes(token)
        return TokenLogprob(spelled.decode("utf-8", "replace"), spelled, logprob, top)


def new_sequence(
    prompt: Items[int],
    sampling: Sampling,
    tokenizer: Tokenizer,
    context_tokens: int,
    circle: str = "",
    priority: int = 0,
    adapter: int | None = None,
) -> Sequence:
    """A sequence that ends at the context's end at the latest; `prompt` must be shorter than the context."""
    room = context_tokens - len(prompt)
    history = History(tuple(prompt))
    return Sequence(
        sampling=sampling,
        strategy=strategy_for(sampling),
        tokenizer=tokenizer,
        history=history,
        limit=min(sampling.max_tokens or room, room),
        stream=TextStream(sampling.stop, drop_first_space=tokenizer.drops_first_space),
        lookup=PromptLookup(history),
        circle=circle,
        adapter=adapter,
        priority=priority,
    )


def _joined(first: Released, last: Released) -> Released:
    return Released(first.text + last.text, first.logprobs + last.logprobs)


def _together(deltas: Items[Delta]) -> Delta:
    """What came in one step as one."""
    text = "".join(delta.text for delta in deltas)
    logprobs = tuple(one for delta in deltas for one in delta.logprobs)
    return Delta(text, logprobs, deltas[-1].finish_reason, deltas[-1].output_tokens)
