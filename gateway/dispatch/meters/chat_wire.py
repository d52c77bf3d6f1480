"""What a meter reads of OpenAI's chat dialect: usage objects in every vendor's spelling, and the text of answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.dispatch.meters.base import Usage, shown_cost
from gateway.errors import UpstreamBroken
from gateway.wire.sse import payload_of
from policies.catalogue import ModelCard

Count = Annotated[int, Meta(ge=0, le=2**40)]
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _PromptDetails(Struct):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    cache_write_long_tokens: Count | None = None
    cache_creation_tokens: Count | None = None
    audio_tokens: Count | None = None


class _OutputDetails(Struct):
    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None


class _Usage(Struct):
    """OpenAI's names first; then DeepSeek's, Moonshot's, and Anthropic's as some proxies pass them on."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    prompt_cache_hit_tokens: Count | None = None
    cached_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(Struct):
    function: _Function | None = None


class _Part(Struct):
    text: str | None = None


class _Audio(Struct):
    transcript: str | None = None


class _Said(Struct):
    """A delta or a message."""

    content: str | list[_Part] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    audio: _Audio | None = None

    @property
    def holds_more(self) -> bool:
        """Whether there is anything but plain content."""
        return bool(
            self.reasoning_content
            or self.tool_calls
            or self.reasoning
            or self.refusal
            or self.function_call
            or self.audio
            or isinstance(self.content, list)
        )


class _Choice(Struct):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None


class _Answer(Struct):
    choices: list[_Choice] | None = None


_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_USAGE = msgspec.json.Decoder(_Usage)
_ANSWER = msgspec.json.Decoder(_Answer)
_NO_PROMPT, _NO_OUTPUT = _PromptDetails(), _OutputDetails()


class ChoiceReader:
    """Draws the output text from events or whole answers; keeps which choices have begun and not ended."""

    __slots__ = ("open",)

    def __init__(self) -> None:
        self.open: set[int] = set()

    def text(self, payload: bytes) -> str:
        """Everything the payload says that is billed as output; "" where it can't be read."""
        try:
            choices = _ANSWER.decode(payload).choices
        except UNREADABLE:
            return ""
        said = ""
        for choice in choices or ():
            if choice.finish_reason:
                self.open.discard(choice.index)
            else:
                self.open.add(choice.index)
            one = choice.delta or choice.message
            if one is None:
                continue
            if isinstance(one.content, str):
                said += one.content
            if one.holds_more:
                said += "".join(_others(one))
        return said


def _others(said: _Said) -> Iterator[str]:
    """Everything but plain content."""
    if isinstance(said.content, list):
        yield from (part.text for part in said.content if part.text)
    # Vendors that send both names for reasoning send the same text twice.
    yield from filter(None, (said.reasoning_content or said.reasoning, said.refusal))
    calls = [call.function for call in said.tool_calls or ()]
    for function in (*calls, said.function_call):
        if function:
            yield from filter(None, (function.name, function.arguments))
    if said.audio and said.audio.transcript:
        yield said.audio.transcript


def fields_of(body: bytes, required: str) -> dict[str, Raw]:
    """The top-level fields of a whole answer; `UpstreamBroken` where it is none."""
    try:
        fields = _FIELDS.decode(body)
    except UNREADABLE as error:
        raise UpstreamBroken("The upstream's answer is not valid JSON.") from error
    if required not in fields:
        raise UpstreamBroken(f"The upstream's answer has no '{required}'.")
    return fields


def usage_fields(raw: Raw | None, usage: Usage, card: ModelCard, counted: Mapping[str, Any]) -> dict[str, Any]:
    """The upstream's usage object with our `cost` in it; with what we `counted`, where it has told too little.

    A cost that the upstream names itself (OpenRouter) is what it charges the operator for, in its own units: it is
    shown beside ours as `upstream_cost`, and never believed.
    """
    try:
        fields: dict[str, Any] = dict(_FIELDS.decode(raw or b"{}"))
    except UNREADABLE:
        fields = {}
    if usage.estimated:
        fields |= {**counted, "estimated": True}
    if "cost" in fields:
        fields["upstream_cost"] = fields["cost"]
    return fields | {"cost": shown_cost(usage, card)}


def event_fields(text: bytes) -> dict[str, Raw]:
    """The top-level fields of one event; none where it is not a JSON object."""
    try:
        return _FIELDS.decode(payload_of(text))
    except UNREADABLE:
        return {}


def head_of(frame: bytes) -> dict[str, Raw]:
    """What every chunk of a stream repeats, from the last event of a frame that is one."""
    events = (event_fields(text) for text in reversed(frame.split(b"\n\n")))
    fields = next(filter(None, events), {})
    return {name: fields[name] for name in ("id", "object", "created", "model") if name in fields}


def read_usage(raw: Raw | None) -> Usage | None:
    """A vendor's usage object in our counting; None for what is none, or only zeros.

    Missing counts follow from the total where they can, else are 0. A total above prompt and completion holds hidden
    output (xAI and Gemini count reasoning beside the completion), or cache tokens that stand beside the prompt.
    """
    try:
        found = _USAGE.decode(raw or b"null")
    except UNREADABLE:
        return None
    if not (found.prompt_tokens or found.completion_tokens):
        return None
    prompt, output = found.prompt_tokens_details or _NO_PROMPT, found.completion_tokens_details or _NO_OUTPUT
    usage = Usage(
        input_tokens=_or_rest(found.prompt_tokens, found.total_tokens, found.completion_tokens),
        output_tokens=_or_rest(found.completion_tokens, found.total_tokens, found.prompt_tokens),
        cached_tokens=prompt.cached_tokens
        or found.prompt_cache_hit_tokens
        or found.cached_tokens
        or found.cache_read_input_tokens
        or 0,
        cache_write_tokens=prompt.cache_write_tokens
        or prompt.cache_creation_tokens
        or found.cache_creation_input_tokens
        or 0,
        cache_write_long_tokens=prompt.cache_write_long_tokens or 0,
        reasoning_tokens=output.reasoning_tokens or 0,
        audio_input_tokens=prompt.audio_tokens or 0,
        audio_output_tokens=output.audio_tokens or 0,
    )
    _share_out(usage, (found.total_tokens or 0) - usage.input_tokens - usage.output_tokens)
    return usage


def _or_rest(count: int | None, total: int | None, other: int | None) -> int:
    return count if count is not None else max((total or 0) - (other or 0), 0)


def _share_out(usage: Usage, beside: int) -> None:
    """Put tokens that only the total has where they belong."""
    if beside <= 0:
        return
    if beside == usage.cached_tokens + usage.cache_write_tokens:
        usage.input_tokens += beside
    else:
        usage.output_tokens += beside
        usage.reasoning_tokens = max(usage.reasoning_tokens, beside)
