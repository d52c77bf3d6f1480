"""llama.cpp as a worker, through the pure-Python bindings of llama-cpp-python; needs that package's environment."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runtime.clock import Stopwatch
from benchmarks.runtime.serve import CHUNK, Answer, Logits, run

CONTEXT_TOKENS = 1024
BATCH_TOKENS = 512


def bindings(log: list[str]) -> tuple[Any, object]:
    """The bindings, with llama.cpp's own log kept in `log`; and the callback that must live as long as the library."""
    llama = importlib.import_module("llama_cpp.llama_cpp")

    @llama.llama_log_callback  # type: ignore[untyped-decorator]
    def keep(_level: int, text: bytes, _data: object) -> None:
        log.append(text.decode(errors="replace").strip())

    llama.llama_log_set(keep, None)
    llama.llama_backend_init()
    return llama, keep


class Llama:
    """One model, one context, one sequence."""

    def __init__(self, path: Path, flash: bool) -> None:
        self._path = path
        self._flash = flash
        self._log: list[str] = []

    def bring(self) -> None:
        """Import the bindings, which open the library."""
        self._llama, self._callback = bindings(self._log)

    def load(self) -> Answer:
        """Model and context with llama.cpp's defaults, but for the context's size and flash attention."""
        llama = self._llama
        self._model = llama.llama_model_load_from_file(str(self._path).encode(), llama.llama_model_default_params())
        if not self._model:
            raise SystemExit(f"llama.cpp can't load {self._path}: {' '.join(self._log[-3:])}")
        wanted = llama.llama_context_default_params()
        wanted.n_ctx, wanted.n_batch, wanted.n_ubatch = CONTEXT_TOKENS, BATCH_TOKENS, BATCH_TOKENS
        wanted.flash_attn_type = int(self._flash)
        wanted.no_perf = True
        self._context = llama.llama_init_from_model(self._model, wanted)
        if not self._context:
            raise SystemExit(f"llama.cpp can't make a context: {' '.join(self._log[-3:])}")
        self._vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model))
        self._batch = llama.llama_batch_init(BATCH_TOKENS, 0, 1)
        buffers = [line for line in self._log if "buffer size" in line]
        features = llama.llama_print_system_info().decode()
        return {"flash_attention": self._flash, "buffers": buffers, "features": features}

    def use_threads(self, threads: int) -> None:
        """Threads of single tokens and of batches."""
        self._llama.llama_set_n_threads(self._context, threads, threads)

    def prefill(self, tokens: Sequence[int], watch: Stopwatch) -> None:
        """One batch."""
        self._forget()
        watch.start()
        self._prompt(tokens)
        watch.stop()

    def decode(self, prompt: Sequence[int], count: int, watch: Stopwatch) -> int:
        """A batch of one a token."""
        self._forget()
        token = self._prompt(prompt)
        watch.start()
        for at in range(len(prompt), len(prompt) + count):
            token = int(np.argmax(self._compute((token,), at, 1)[-1]))
        watch.stop()
        return count

    def logits(self, tokens: Sequence[int]) -> Iterator[Logits]:
        """Chunk by chunk; each array is valid until the next."""
        self._forget()
        for start in range(0, len(tokens), CHUNK):
            chunk = tokens[start : start + CHUNK]
            yield self._compute(chunk, start, len(chunk))

    def _forget(self) -> None:
        self._llama.llama_memory_clear(self._llama.llama_get_memory(self._context), False)

    def _prompt(self, tokens: Sequence[int]) -> int:
        return int(np.argmax(self._compute(tokens, 0, 1)[-1]))

    def _compute(self, tokens: Sequence[int], start: int, rows: int) -> Logits:
        """Logits of the last `rows` of these tokens; the memory is llama.cpp's."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index] = token
            batch.pos[index] = start + index
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = 0
            batch.logits[index] = index >= len(tokens) - rows
        status = self._llama.llama_decode(self._context, batch)
        if status:
            raise SystemExit(f"llama_decode gave status {status}: {' '.join(self._log[-3:])}")
        pointer = self._llama.llama_get_logits(self._context)
        made: Logits = np.ctypeslib.as_array(pointer, shape=(rows, self._vocabulary))
        return made


def requantise(source: Path, target: Path) -> None:
    """Write `source` with its matrices as Q4_0; what llama.cpp keeps at another format by default stays so."""
    log: list[str] = []
    llama, callback = bindings(log)
    wanted = llama.llama_model_quantize_default_params()
    wanted.ftype, wanted.allow_requantize, wanted.nthread = llama.LLAMA_FTYPE_MOSTLY_Q4_0, True, 1
    if llama.llama_model_quantize(str(source).encode(), str(target).encode(), wanted):
        raise SystemExit(f"llama.cpp can't requantise {source}: {' '.join(log[-3:])}")
    del callback


def main() -> None:
    """`python -m benchmarks.runtime.model_llama FILE [--flash on|off] [--requantise TARGET]`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--flash", choices=("on", "off"), default="off")
    parser.add_argument("--requantise", type=Path)
    given = parser.parse_args()
    if given.requantise:
        requantise(given.file, given.requantise)
    else:
        run(Llama(given.file, given.flash == "on"))


if __name__ == "__main__":
    main()
