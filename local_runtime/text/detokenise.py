"""Token bytes to streamed text: whole characters only, and no prefix of a stop string ever leaves. Knows no tokens."""

from __future__ import annotations

import codecs
from collections import deque
from dataclasses import dataclass

from local_runtime.base import TokenLogprob


@dataclass(frozen=True, slots=True)
class Released:
    """What may leave now; `stopped` once a stop string was completed (it is not part of the text)."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    stopped: bool = False


class StopMatcher:
    """Holds back the longest tail that may still become a stop string; on bytes, so token borders do not matter."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stops = tuple(text.encode("utf-8", "surrogatepass") for text in stop)
        self._held = b""

    def push(self, piece: bytes) -> tuple[bytes, bool]:
        """Bytes that may leave, and whether a stop string is complete (the first to end, the longest of those)."""
        self._held += piece
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            free, self._held = self._held[: min(found)[1]], b""
            return free, True
        keep = max((self._overlap(stop) for stop in self._stops), default=0)
        border = len(self._held) - keep
        free, self._held = self._held[:border], self._held[border:]
        return free, False

    def flush(self) -> bytes:
        """Whatever was held back, when nothing can follow."""
        held, self._held = self._held, b""
        return held

    def _overlap(self, stop: bytes) -> int:
        longest = min(len(stop) - 1, len(self._held))
        return next((size for size in range(longest, 0, -1) if self._held.endswith(stop[:size])), 0)


class TextStream:
    """One answer's way from bytes to text; a token's logprob leaves when its last byte does."""

    def __init__(self, stop: tuple[str, ...] = (), *, drop_first_space: bool = False) -> None:
        self._matcher = StopMatcher(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._drop_first_space = drop_first_space
        self._waiting: deque[tuple[int, int, TokenLogprob]] = deque()
        self._taken = 0
        self._freed = 0

    def push(self, piece: bytes, logprob: TokenLogprob | None = None) -> Released:
        """Take one token's bytes."""
        if self._drop_first_space and piece:
            piece, self._drop_first_space = piece.removeprefix(b" "), False
        start, self._taken = self._taken, self._taken + len(piece)
        if logprob is not None:
            self._waiting.append((start, self._taken, logprob))
        free, stopped = self._matcher.push(piece)
        self._freed += len(free)
        return Released(self._decoder.decode(free, stopped), self._freed_logprobs(stopped), stopped)

    def finish(self) -> Released:
        """The rest, when the answer ends without a stop string; half a character becomes a replacement character."""
        free = self._matcher.flush()
        self._freed += len(free)
        return Released(self._decoder.decode(free, True), self._freed_logprobs(False))

    def _freed_logprobs(self, stopped: bool) -> tuple[TokenLogprob, ...]:
        """Tokens whose bytes have all left; at a stop also the one that the stop string cut in two."""
        free = []
        while self._waiting and self._is_free(self._waiting[0], stopped):
            free.append(self._waiting.popleft()[2])
        return tuple(free)

    def _is_free(self, item: tuple[int, int, TokenLogprob], stopped: bool) -> bool:
        start, end, _ = item
        return end <= self._freed or (stopped and start < self._freed)
