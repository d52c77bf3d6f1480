"""Writes what a local model says in OpenAI's chat dialect: chunks of a stream, or one whole completion."""

from __future__ import annotations

import os
from time import time
from typing import Any

import msgspec

from gateway.wire.sse import DONE, event
from local_runtime.base import Delta, TokenLogprob


class ChatWriter:
    """The writer of one answer; choices may interleave."""

    def __init__(self, model: str, prompt_tokens: int, fingerprint: str) -> None:
        self._id = f"chatcmpl-{os.urandom(12).hex()}"
        self._created = int(time())
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._fingerprint = fingerprint
        self._texts: dict[int, list[str]] = {}
        self._logprobs: dict[int, list[TokenLogprob]] = {}
        self._output_tokens: dict[int, int] = {}
        self._finish: dict[int, str | None] = {}

    def begin(self, choices: int) -> bytes:
        """The opening chunks that name the role."""
        return b"".join(
            self._event([{"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
            for index in range(choices)
        )

    def chunk(self, index: int, delta: Delta) -> bytes:
        """One piece of a choice, and its end where the delta says so."""
        self._count(index, delta)
        frame = b""
        if delta.text or delta.logprobs:
            choice: dict[str, Any] = {"index": index, "delta": {"content": delta.text}, "finish_reason": None}
            if delta.logprobs:
                choice["logprobs"] = {"content": [_logprob(one) for one in delta.logprobs], "refusal": None}
            frame = self._event([choice])
        if delta.finish_reason:
            frame += self._event([{"index": index, "delta": {}, "finish_reason": delta.finish_reason}])
        return frame

    def end(self) -> bytes:
        """The usage chunk and the end mark; the meter hides usage from clients that did not ask."""
        return self._event([], usage=self._usage()) + DONE

    def keep(self, index: int, delta: Delta) -> None:
        """Collect a piece of a choice for `whole`."""
        self._count(index, delta)
        self._texts.setdefault(index, []).append(delta.text)
        self._logprobs.setdefault(index, []).extend(delta.logprobs)

    def whole(self) -> bytes:
        """The completion object of everything kept."""
        choices = []
        for index in sorted(self._texts):
            logprobs = [_logprob(one) for one in self._logprobs[index]]
            choices.append(
                {
                    "index": index,
                    "message": {"role": "assistant", "content": "".join(self._texts[index]), "refusal": None},
                    "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
                    "finish_reason": self._finish.get(index) or "stop",
                }
            )
        return msgspec.json.encode({**self._head("chat.completion"), "choices": choices, "usage": self._usage()})

    def _count(self, index: int, delta: Delta) -> None:
        self._output_tokens[index] = delta.output_tokens
        if delta.finish_reason:
            self._finish[index] = delta.finish_reason

    def _usage(self) -> dict[str, int]:
        output = sum(self._output_tokens.values())
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": output,
            "total_tokens": self._prompt_tokens + output,
        }

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": self._fingerprint,
        }

    def _event(self, choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> bytes:
        body = {**self._head("chat.completion.chunk"), "choices": choices}
        if usage is not None:
            body["usage"] = usage
        return event(msgspec.json.encode(body))


def _logprob(one: TokenLogprob) -> dict[str, Any]:
    return {
        "token": one.token,
        "logprob": one.logprob,
        "bytes": list(one.token_bytes),
        "top_logprobs": [
            {"token": top.token, "logprob": top.logprob, "bytes": list(top.token_bytes)} for top in one.top
        ],
    }
