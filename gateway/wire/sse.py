"""Server-sent events: cut a byte stream at event borders without parsing what is inside.

Format: WHATWG HTML, section 9.2. Carriage returns are normalised away; events end with an empty line.
"""

from __future__ import annotations

from gateway.errors import UpstreamBroken

DONE = b"data: [DONE]\n\n"
# The most bytes that one event of an upstream may have.
EVENT_LIMIT = 8 * 1024 * 1024
_BORDER = b"\n\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventCutter:
    """Feeds on blocks as the network delivers them; gives back whole events only."""

    __slots__ = ("_begun", "_limit", "_rest")

    def __init__(self, limit: int) -> None:
        self._rest = b""
        self._limit = limit
        self._begun = False

    def feed(self, block: bytes) -> bytes:
        """All events that are complete now (may be empty); what is left waits for the next block."""
        if not self._begun:
            self._begun = True
            block = block.removeprefix(_BYTE_ORDER_MARK)
        if b"\r" in block or self._rest.endswith(b"\r"):
            block, self._rest = self._normalised(block), b""
        elif self._rest:
            block, self._rest = self._rest + block, b""
        if block.endswith(_BORDER):
            return block
        cut = block.rfind(_BORDER) + 2
        if cut == 1:
            cut = 0
        self._rest = block[cut:]
        if len(self._rest) > self._limit:
            raise UpstreamBroken(f"The upstream sent an event of more than {self._limit} bytes.")
        return block[:cut]

    def _normalised(self, block: bytes) -> bytes:
        whole = self._rest + block
        held = b"\r" if whole.endswith(b"\r") else b""
        text = whole.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return text + held

    @property
    def rest(self) -> bytes:
        """Bytes of an event that was never finished."""
        return self._rest.strip()


def payload_of(text: bytes) -> bytes:
    """The data of one event, its lines joined; empty for a comment. Field order and other fields do not matter."""
    lines = [line[5:].removeprefix(b" ") for line in text.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)


def ends(text: bytes) -> bool:
    """Whether an event is the mark at the end of a stream, however it is spaced."""
    return b"[DONE]" in text and payload_of(text).strip() == b"[DONE]"


def event(payload: bytes) -> bytes:
    """One `data:` event around a JSON payload."""
    return b"data: " + payload + b"\n\n"
