"""One model, one worker thread, an asyncio face: prompts in, deltas out. Knows no HTTP and no torch."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Mapping
from collections.abc import Sequence as Items
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from local_runtime.adapters.engine import AdaptedEngine
from local_runtime.base import (
    ContextTooLong,
    EngineBusy,
    EngineFailed,
    EngineStats,
    EngineStopped,
    GenerationError,
    Sampling,
    TemplateFailed,
    UnsupportedModel,
)
from local_runtime.bundled import located
from local_runtime.decoding.grammar import Grammar, Grammars
from local_runtime.scheduler import Scheduler, StepResult
from local_runtime.sequence import Sequence, new_sequence
from local_runtime.stream import Channel, Generation, Outcome, deliver
from local_runtime.text.conversation import Conversation

if TYPE_CHECKING:
    from local_runtime.decoding.draft_model import DraftModel
    from local_runtime.models.load import LoadedModel

log = logging.getLogger(__name__)


def default_threads() -> int:
    """Half of the cores that this process may use: the other half keeps event loops and embedders awake.

    Two compute threads on two busy cores are slower than one, by a factor of ten and more: every operation waits at a
    barrier for a thread that has lost its core.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // 2)


class Engine:
    """Generates text for many callers at once. `context_tokens` and `model_name` say what it serves."""

    def __init__(
        self, loaded: LoadedModel, *, threads: int, max_batch: int, max_waiting: int, draft: DraftModel | None = None
    ) -> None:
        self.model_name = loaded.name
        self.context_tokens = loaded.context_tokens
        self.fingerprint = loaded.fingerprint
        self._loaded = loaded
        self._conversation = Conversation(loaded.template, loaded.tokenizer) if loaded.template else None
        self._threads = threads
        self._capacity = max_batch + max_waiting
        self._draft = draft
        self._scheduler = Scheduler(loaded.model, max_batch, draft=draft)
        self._changed = threading.Condition()
        self._grammars: Grammars | None = None
        self._grammars_made = threading.Lock()
        self._arrived: list[Sequence] = []
        self._live: dict[Sequence, Channel] = {}
        self._worker: threading.Thread | None = None
        self._closing = False

    @classmethod
    def load(
        cls,
        source: str,
        *,
        dtype: str = "auto",
        activation_bits: int = 16,
        threads: int | None = None,
        max_batch: int = 8,
        max_waiting: int = 64,
        context_tokens: int | None = None,
        expert_bytes: int | None = None,
        expert_folder: Path | None = None,
        expert_dtype: str | None = None,
        layers: str | None = None,
        kv_policy: str = "full",
        draft: str | None = None,
        expert_top_p: float | None = None,
    ) -> Self:
        """Read a model; blocks for seconds. `source` is "bundled:NAME", a .gguf path or a Hugging Face folder.

        For `dtype`, `activation_bits`, `expert_bytes`, `expert_dtype`, `layers`, `kv_policy` see LoadOptions; experts
        lie in a folder of the model's name in `expert_folder`; for `draft` see models.draft.draft_for. `context_tokens`
        None: the model's own, at most 8192: keys and values of `max_batch` sequences of that length are reserved
        (memory is used as sequences grow).
        Raises WeightsNotFound, UnsupportedModel, BadWeights, BudgetTooSmall, StoreFull.
        """
        from local_runtime.models.draft import draft_for
        from local_runtime.models.load import LoadOptions, load_model  # brings gguf, and torch where it computes

        if max_batch < 1 or max_waiting < 0 or (threads is not None and threads < 1):
            raise ValueError("max_batch and threads must be at least 1, max_waiting at least 0")
        path = located(source)
        folder = expert_folder / path.resolve().name if expert_folder else None
        options = LoadOptions(
            dtype=dtype,
            slots=max_batch,
            context_tokens=context_tokens,
            activation_bits=activation_bits,
            expert_bytes=expert_bytes,
            expert_folder=folder,
            expert_dtype=expert_dtype,
            layers=layers,
            kv_policy=kv_policy,
            expert_top_p=expert_top_p,
        )
        loaded = load_model(path, options)
        guesses = draft_for(loaded, draft, options) if draft else None
        threads = threads or default_threads()
        return cls(loaded, threads=threads, max_batch=max_batch, max_waiting=max_waiting, draft=guesses)

    def start(self) -> None:
        """Start the worker thread; EngineStopped after close."""
        with self._changed:
            if self._closing:
                raise EngineStopped("the engine is closed")
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name=f"engine-{self.model_name}", daemon=True)
                self._worker.start()

    def close(self) -> None:
        """Stop after the step that is running; all generations end with EngineStopped. Harmless when repeated."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._worker is not None and self._worker is not threading.current_thread():
            self._worker.join()

    def encode_chat(self, messages: Items[Mapping[str, Any]]) -> list[int]:
        """Prompt ids of a conversation, ready for the answer.

        ValueError names a message that is malformed or has parts other than text; TemplateFailed where the model has
        no chat template or its template refuses.
        """
        if self._conversation is None:
            raise TemplateFailed(f"{self.model_name} has no chat template")
        return self._conversation.encode(messages)

    def encode(self, text: str) -> list[int]:
        """Prompt ids of plain text, with the start token where the model's tokenizer adds one."""
        return self._loaded.tokenizer.encode(text, add_special_tokens=True)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text by itself."""
        return len(self._loaded.tokenizer.encode(text))

    def grammar(self, schema: str) -> Grammar:
        """What holds answers to a JSON schema, given as JSON; blocks for tenths of a second the first time.

        SchemaError where it is none that can be enforced; ImportError where llguidance is not installed.
        """
        with self._grammars_made:
            if self._grammars is None:
                tokenizer = self._loaded.tokenizer
                self._grammars = Grammars(tokenizer.to_json(), self._loaded.model.vocab_size, tokenizer.end_ids)
        return self._grammars.of_schema(schema)

    def generate(
        self,
        prompt: Items[int],
        sampling: Sampling,
        circle: str = "",
        grammar: Grammar | None = None,
        priority: int = 0,
        adapter: int | None = None,
    ) -> Generation:
        """Begin to generate; call it with an event loop running and iterate the result on that loop.

        What prompts of one circle begin with alike is computed once, and circles have their turns alike; those of
        a higher priority come first. The answer is held to `grammar` and computed with `adapter` (see `adapted`).

        Raises on the call, before any work: ContextTooLong, EngineBusy, EngineStopped, ValueError for an empty prompt
        or ids beyond the vocabulary. The iteration raises EngineStopped or EngineFailed. An answer that reaches the
        end of the context finishes with "length".
        """
        self._check(prompt, sampling)
        sequence = new_sequence(
            prompt, sampling, self._loaded.tokenizer, self.context_tokens, circle, priority, adapter
        )
        if grammar is not None:
            sequence.strategy = grammar.hold(sequence.strategy)
        channel = Channel(asyncio.get_running_loop())
        with self._changed:
            if self._worker is None or self._closing:
                raise EngineStopped("the engine is not running")
            if len(self._live) >= self._capacity:
                raise EngineBusy(f"{len(self._live)} generations are under way or waiting")
            self._live[sequence] = channel
            self._arrived.append(sequence)
            self._changed.notify_all()
        return Generation(channel, lambda: self._cancel(sequence))

    def adapted(self, adapters: str) -> AdaptedEngine:
        """This engine, running or not, with what "+lora:FOLDER" names added to its weights; blocks while it is read.

        Raises ValueError for another grammar, WeightsNotFound, UnsupportedModel, BadWeights.
        """
        from local_runtime.adapters.load import fingerprint_with, load_adapter

        wears = self._loaded.wears
        if wears is None:
            raise UnsupportedModel(f"{self.model_name} takes no adapters")
        adapter = load_adapter(adapters, wears.spec)
        return AdaptedEngine(self, wears.wear(adapter), fingerprint_with(self.fingerprint, adapter))

    def stats(self) -> EngineStats:
        """A snapshot; cheap, from any thread."""
        scheduler = self._scheduler
        running = len(scheduler.running)
        return EngineStats(
            running,
            max(0, len(self._live) - running),
            scheduler.steps,
            scheduler.tokens_out,
            self.wait_s(),
            scheduler.guessed,
            scheduler.guessed_right,
            scheduler.pages.found_tokens,
        )

    def wait_s(self) -> float:
        """Seconds that a prompt which comes now would wait before it is begun, by what others take; from any thread."""
        return self._scheduler.expected_wait_s(len(self._arrived))

    def _check(self, prompt: Items[int], sampling: Sampling) -> None:
        if len(prompt) >= self.context_tokens:
            raise ContextTooLong(len(prompt), self.context_tokens)
        vocabulary = self._loaded.model.vocab_size
        if not prompt or min(prompt) < 0 or max(prompt) >= vocabulary:
            raise ValueError(f"prompt must hold token ids between 0 and {vocabulary - 1}")
        if any(token >= vocabulary for token in sampling.logit_bias):
            raise ValueError(f"logit_bias names a token beyond the vocabulary of {vocabulary}")

    def _cancel(self, sequence: Sequence) -> None:
        sequence.cancelled = True
        with self._changed:
            self._live.pop(sequence, None)

    def _work(self) -> None:
        self._loaded.model.use_threads(self._threads)
        if self._draft is not None:
            self._draft.use_threads(self._threads)
        while self._take_arrivals():
            try:
                results = self._scheduler.step()
            except Exception as error:  # a step that fails must not take the engine with it
                log.exception("a step of %s failed", self.model_name)
                self._end(self._scheduler.abandon(), EngineFailed(f"a step failed: {error}"), error)
            else:
                self._send(results)
        self._scheduler.abandon()
        with self._changed:
            left = list(self._live)
        self._end(left, EngineStopped("the engine was closed"), None)

    def _take_arrivals(self) -> bool:
        """Wait until there is something to do; False when the engine closes."""
        with self._changed:
            while not self._closing and not self._arrived and self._scheduler.idle:
                self._changed.wait()
            for sequence in self._arrived:
                self._scheduler.add(sequence)
            self._arrived.clear()
            return not self._closing

    def _send(self, results: list[StepResult]) -> None:
        outcomes: list[tuple[Channel, Outcome]] = []
        with self._changed:
            for result in results:
                ended = result.sequence.finished or isinstance(result.outcome, GenerationError)
                channel = self._live.get(result.sequence)
                if ended:
                    self._live.pop(result.sequence, None)
                if channel is not None:
                    outcomes.append((channel, result.outcome))
        deliver(outcomes)

    def _end(self, sequences: list[Sequence], error: GenerationError, cause: Exception | None) -> None:
        error.__cause__ = cause
        with self._changed:
            channels = [channel for sequence in sequences if (channel := self._live.pop(sequence, None)) is not None]
        deliver((channel, error) for channel in channels)
