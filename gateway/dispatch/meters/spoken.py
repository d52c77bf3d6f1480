"""Counts the output of a stream that has not told its usage (yet); knows no dialect.

Frames are kept raw, up to a bound, and their text is drawn out only when somebody asks: most streams tell in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from gateway.wire.sse import payload_of
from routers.tokens import weigh_tokens

KEPT_BYTES = 65_536
# Of passages in nineteen kinds of text, cut into pieces of 3 to 20 tokens, 99.6 % weigh at least their o200k or cl100k
# count when multiplied with this; half weigh 1.3 times as much or more.
MARGIN = 1.25
# A stream of single tokens tells its count by its events: hardly any of them has a space between words, and they weigh
# about one token each. Told apart from pieces of three tokens on the same texts without fault, but for codes and Thai.
_FEWEST_EVENTS = 8
_HEAVIEST_TOKEN = 1.7
_SHARE_OF_WORDS = 50
# Frames like those before are counted this many at a time: what is drawn together costs a third.
_TOGETHER = 8


class Spoken:
    """`text_of` gives the output text (reasoning and tools' arguments too) of one event's payload, "" for none.

    `scale` corrects our weighing for a tokenizer that is known to count otherwise.
    """

    __slots__ = (
        "_bytes",
        "_events",
        "_kept",
        "_per_frame",
        "_phrases",
        "_text_of",
        "_upper",
        "_usual",
        "_weight",
        "scale",
    )

    def __init__(self, text_of: Callable[[bytes], str]) -> None:
        self._text_of = text_of
        self._kept: list[bytes] = []
        self._bytes = 0  # in `_kept`
        self._events = 0  # that said something
        self._phrases = 0  # of them, those with more than one word
        self._weight = 0.0
        self._upper = 0  # when text was drawn last
        self._per_frame = 1  # tokens that a frame had then
        self._usual = 0  # bytes that a frame had then, and somewhat more
        self.scale = 1.0

    def hear(self, frame: bytes) -> None:
        """Note a frame of one or more whole events."""
        self._kept.append(frame)
        self._bytes += len(frame)
        if self._bytes > KEPT_BYTES:
            self._draw()

    def upper(self, exact: bool = False) -> int:
        """Output tokens so far, rather too many than too few: every event that says something has at least one.

        The last few frames may be taken to hold what those before them held, unless it is to be `exact`.
        """
        frames = len(self._kept)
        if exact or frames >= _TOGETHER or self._bytes > frames * self._usual:
            self._draw()
            return self._upper
        return self._upper + frames * self._per_frame

    def weigh(self, frame: bytes, text_of: Callable[[bytes], str]) -> int:
        """How much `upper` (or `estimate`, where that is more) would grow with a frame that is not heard yet; what was
        heard is counted exactly from here on. `text_of` reads a frame by itself, and may forget it.

        Without a frame: how much it would grow if what was heard turned out not to be single tokens.
        """
        self._draw()
        if not frame:
            return max(ceil(self._weight * self.scale * MARGIN) - self._upper, 0)
        said = _said_in(frame, text_of)
        if not said:
            return 0
        before = (self._events, self._phrases, self._weight)
        self._count(said)
        growth = max(self._bound(), round(self._weight * self.scale)) - self._upper
        self._events, self._phrases, self._weight = before
        return max(growth, 0)

    def estimate(self) -> int:
        """Output tokens so far, as near as can be told."""
        self._draw()
        if self._says_single_tokens():
            return self._events
        return max(round(self._weight * self.scale), min(self._events, 1))

    def _says_single_tokens(self) -> bool:
        return (
            self._events >= _FEWEST_EVENTS
            and self._phrases * _SHARE_OF_WORDS <= self._events
            and self._weight < self._events * _HEAVIEST_TOKEN
        )

    def _draw(self) -> None:
        """Count what was kept and let it go."""
        frames = len(self._kept)
        if not frames:
            return
        self._count(_said_in(b"".join(self._kept), self._text_of))
        before, self._upper = self._upper, self._bound()
        self._per_frame = max(-(-(self._upper - before) // frames), 1)
        self._usual = self._bytes * 5 // (frames * 4)
        self._kept.clear()
        self._bytes = 0

    def _count(self, said: list[str]) -> None:
        self._events += len(said)
        self._phrases += sum(" " in spoken[1:].rstrip() for spoken in said)
        self._weight += weigh_tokens("".join(said))

    def _bound(self) -> int:
        if self._says_single_tokens():
            return self._events + self._events // 20 + 1
        return max(self._events, ceil(self._weight * self.scale * MARGIN))


def _said_in(frame: bytes, text_of: Callable[[bytes], str]) -> list[str]:
    """What each event says, without those that say nothing."""
    said = []
    for text in frame.split(b"\n\n"):
        payload = text[6:] if text.startswith(b"data: ") and b"\n" not in text else payload_of(text)
        if payload and (spoken := text_of(payload)):
            said.append(spoken)
    return said
