"""Tool calls of a chat stream in line: chat may mix the pieces of several calls, Anthropic's blocks come one by one."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from gateway.wire.chat_reply import ToolCall
from gateway.wire.messages_reply import tool_id


class OpenCall:
    """One call as far as it is known; `begun` once its block is open, `unsent` the rest of its arguments."""

    __slots__ = ("_sent", "_words", "begun", "id", "name")

    def __init__(self, call_id: str) -> None:
        self.id = call_id
        self.name = ""
        self.begun = False
        self._words: list[str] = []
        self._sent = 0

    def add(self, call: ToolCall) -> None:
        """Take another piece."""
        if call.function is not None:
            self.name = self.name or call.function.name or ""
            if call.function.arguments:
                self._words.append(call.function.arguments)

    def unsent(self) -> str:
        """Arguments that were not asked for yet."""
        words = "".join(self._words[self._sent :])
        self._sent = len(self._words)
        return words

    @property
    def is_complete(self) -> bool:
        """Whether the arguments are a whole object, so that nothing more can come."""
        try:
            return isinstance(msgspec.json.decode("".join(self._words)), dict)
        except (msgspec.DecodeError, RecursionError):
            return False


class CallLine:
    """All calls of an answer in the order of their beginnings; `live` is the one that may be written."""

    __slots__ = ("_by_place", "calls", "live")

    def __init__(self) -> None:
        self.calls: list[OpenCall] = []
        self.live: OpenCall | None = None
        self._by_place: dict[int, OpenCall] = {}

    def take(self, piece: ToolCall) -> OpenCall | None:
        """Take a piece; the call that may be written now, None while the one before it is not complete."""
        call = self._of(piece)
        call.add(piece)
        if call is not self.live and (self.live is None or self.live.is_complete):
            self.live = next((one for one in self.calls if not one.begun), self.live)
        return self.live if call is self.live or (self.live and not self.live.begun) else None

    def waiting(self) -> Iterator[OpenCall]:
        """At the end: those whose block was never opened."""
        return (call for call in self.calls if not call.begun and call.name)

    def _of(self, piece: ToolCall) -> OpenCall:
        """Some vendors give whole calls without an index, which their ids then tell apart."""
        place = piece.index
        if place is None:
            known = next((at for at, call in self._by_place.items() if piece.id in (None, call.id)), None)
            place = len(self._by_place) if known is None else known
        call = self._by_place.get(place)
        if call is None:
            call = self._by_place[place] = OpenCall(tool_id(piece))
            self.calls.append(call)
        return call
