"""A dense transformer on the native kernels: weights of 4 or 8 bits, activations of 16 or 8, keys and values in halves.

What a token's row comes to depends on its own sequence alone, bit for bit: not on the batch, on how a prompt is cut
into chunks, on threads, or on whether the processor has AVX2 or AVX-512.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Sequence
from threading import Lock
from time import perf_counter
from typing import Any

import numpy as np

from local_runtime.adapters.base import Adapter
from local_runtime.adapters.native_lora import NativeLora
from local_runtime.base import GenerationError, UnsupportedModel
from local_runtime.kernels import abi
from local_runtime.kernels.governor import Governor
from local_runtime.kernels.library import Kernels
from local_runtime.models.base import Logits, Segment
from local_runtime.models.native_weights import NativeWeights
from local_runtime.models.offload import Offload
from local_runtime.models.spec import ModelSpec

# Rows that one pass takes; more are computed in several.
MOST_ROWS = 256


class NativeModel:
    """A LanguageModel. `pages` of keys and values are reserved; memory is taken as they are written.

    `experts` brings those of sparse layers where they are not among the weights; the model closes it.
    """

    def __init__(
        self,
        kernels: Kernels,
        spec: ModelSpec,
        weights: NativeWeights,
        pages: int,
        *,
        fine: bool = True,
        experts: Offload | None = None,
    ) -> None:
        self.spec = spec
        self.vocab_size = spec.vocab_size
        self.invariant = True
        self.shares = True
        self.page_count = pages
        self._weights = weights
        self._adapters: list[NativeLora] = []
        self._wearing = Lock()
        self._library = kernels.library
        self.layers = range(len(spec.layers))
        model = _model(spec, weights, fine)
        self._context = self._library.fp_open(kernels.level, ctypes.byref(model), pages, MOST_ROWS)
        if not self._context:
            raise GenerationError(
                f"no memory for the keys and values of {pages * abi.PAGE} tokens: lower max_batch or context_tokens"
            )
        self.governor = Governor(1)
        self.experts = experts
        self._kernels, self._fine = kernels, fine
        weakref.finalize(self, _close, self._library, self._context, weights, experts)

    def twin(self, pages: int) -> NativeModel:
        """Another model of the same weights in memory, with pages of its own; UnsupportedModel where experts are read
        as they are wanted."""
        if self.experts is not None:
            raise UnsupportedModel("a model whose experts are read as they are wanted can't be had twice")
        return NativeModel(self._kernels, self.spec, self._weights, pages, fine=self._fine)

    def wear(self, adapter: Adapter) -> int:
        """See Wears."""
        if adapter.gate is not None:
            raise UnsupportedModel("X-LoRA's gate is computed by torch: set dtype to bfloat16 or float32")
        lora = NativeLora(self.spec, adapter)
        with self._wearing:
            self._adapters.append(lora)
            return len(self._adapters) - 1

    @property
    def layers(self) -> Sequence[int]:
        """See LanguageModel."""
        return self._layers

    @layers.setter
    def layers(self, layers: Sequence[int]) -> None:
        self._layers = layers
        self._listed = np.array(layers, dtype=np.int32)

    def use_threads(self, threads: int) -> None:
        """Up to so many, as long as they pay; GenerationError where the system has no more."""
        if self._library.fp_threads(self._context, max(1, threads)):
            raise GenerationError(f"the system gives no {threads} threads")
        self.governor = Governor(threads)

    def forward(self, segments: Sequence[Segment]) -> Logits:
        """See LanguageModel.forward; ValueError for a segment that does not fit its pages."""
        logits = np.empty((sum(segment.logits for segment in segments), self.vocab_size), dtype=np.float32)
        done = 0
        for part in _passes(segments, MOST_ROWS):
            done += self._compute(part, logits[done:])
        return logits

    def _compute(self, segments: list[Segment], logits: Logits) -> int:
        """One pass; how many rows of logits were filled."""
        listed = (abi.Segment * len(segments))()
        tokens: list[int] = []
        wanted: list[int] = []
        for one, segment in zip(listed, segments, strict=True):
            rows, room = len(segment.tokens), len(segment.pages) * abi.PAGE
            if not 0 <= segment.start <= room - rows:
                raise ValueError(f"{rows} tokens from {segment.start} do not fit {room} positions")
            one.pages, one.start, one.rows = segment.pages.buffer_info()[0], segment.start, rows
            if segment.adapter is not None:
                one.adapter = ctypes.pointer(self._adapters[segment.adapter].table)
            tokens += segment.tokens
            wanted += range(len(tokens) - segment.logits, len(tokens))
        ids, rows_wanted = np.array(tokens, dtype=np.int32), np.array(wanted, dtype=np.int32)
        library, context = self._library, self._context
        threads = self.governor.threads(len(tokens))
        library.fp_threads(context, threads)
        began = perf_counter()
        _check(library.fp_begin(context, listed, len(segments), ids.ctypes.data))
        if self.experts is None:
            _check(library.fp_layers(context, self._listed.ctypes.data, len(self._listed)))
        else:
            self.experts.through(context, len(tokens), self.layers)
        if wanted:
            _check(library.fp_head(context, rows_wanted.ctypes.data, len(wanted), logits.ctypes.data))
        self.governor.took(len(tokens), threads, perf_counter() - began)
        return len(wanted)


def _passes(segments: Sequence[Segment], most: int) -> list[list[Segment]]:
    """The same tokens in the same order, at most `most` at once."""
    passes: list[list[Segment]] = [[]]
    room = most
    for segment in segments:
        at, count = 0, len(segment.tokens)
        while at < count:
            if not room:
                passes.append([])
                room = most
            take = min(room, count - at)
            logits = min(take, max(0, segment.logits - (count - at - take)))
            passes[-1].append(
                Segment(segment.pages, segment.start + at, segment.tokens[at : at + take], logits, segment.adapter)
            )
            at, room = at + take, room - take
    return passes


def _check(code: int) -> None:
    if code:
        raise ValueError("a token or a page beyond the model's")


def _close(library: Any, context: int, _weights: NativeWeights, experts: Offload | None) -> None:
    """The weights' memory goes with the last model that has them."""
    library.fp_close(context)
    if experts is not None:
        experts.pool.close()


def _model(spec: ModelSpec, weights: NativeWeights, fine: bool) -> abi.Model:
    moe = spec.moe
    return abi.Model(
        layers=weights.layers,
        embed=weights.embed,
        head=weights.head,
        norm=weights.norm,
        frequencies=(ctypes.c_void_p * 2)(*weights.frequencies),
        layer_count=len(spec.layers),
        hidden=spec.hidden,
        heads=spec.heads,
        kv_heads=spec.kv_heads,
        head_dim=spec.head_dim,
        rotary_dim=spec.head_dim,
        intermediate=max(spec.intermediate, moe.shared if moe else 0),
        vocab=spec.vocab_size,
        activation=abi.GELU_TANH if spec.gelu else abi.SILU,
        fine=fine,
        eps=spec.norm_eps,
        embed_scale=spec.embed_scale,
        attn_scale=spec.score_scale,
        attn_cap=spec.attn_cap,
        logit_cap=spec.logit_cap,
        active=moe.active if moe else 0,
        expert_width=moe.intermediate if moe else 0,
        weighting=(2 if moe.even else int(moe.normalise)) if moe else 0,
        early=moe.early if moe else 0,
        routed_scale=moe.scale if moe else 1.0,
        top_p=moe.top_p if moe else math.inf,
    )
