"""What comes back: a status, a few headers and frames; a whole answer is a reply of one frame."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Protocol

# The message of a cancellation that means: nobody is there to read on.
CLIENT_LEFT = "client left"


class Frames(Protocol):
    """Ordered frames. Streaming: each frame is one or more complete server-sent events. Whole: one JSON body.

    Errors raised while iterating are of `gateway.errors`; `aclose` stops the source at once.
    """

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


class OneFrame:
    """The frames of a whole answer."""

    __slots__ = ("_frame",)

    def __init__(self, frame: bytes) -> None:
        self._frame: bytes | None = frame

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._frame is None:
            raise StopAsyncIteration
        frame, self._frame = self._frame, None
        return frame

    async def aclose(self) -> None:
        """Nothing is held."""
        self._frame = None


class Held:
    """Frames that are all in hand."""

    __slots__ = ("_frames",)

    def __init__(self, frames: Iterable[bytes]) -> None:
        self._frames = iter(frames)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for frame in self._frames:
            return frame
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Nothing is held open; what is left is not said."""
        self._frames = iter(())


@dataclass(slots=True)
class Reply:
    """An opened answer in a dialect; whoever holds it must exhaust or close `frames`."""

    frames: Frames
    stream: bool
    dialect: str = "chat"
    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
