"""Messages to prompt text by the model's own Jinja template, in a sandbox: templates are written by strangers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from local_runtime.base import TemplateFailed

Message = Mapping[str, Any]


class _GenerationBlock(Extension):
    """`{% generation %}`: marks assistant text for training; here it is only its contents."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class ChatTemplate:
    """A compiled template with the special tokens that it may name."""

    def __init__(self, source: str, special: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _GenerationBlock]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = _now
        self.source = source
        self._special = dict(special)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise TemplateFailed(f"the chat template does not compile: {error}") from error

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The prompt. Content may be a string, null, or a list of text parts; other parts are a ValueError."""
        plain = [plain_message(i, message) for i, message in enumerate(messages)]
        try:
            return self._template.render(
                messages=plain,
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._special,
            )
        except Exception as error:  # a stranger's program may raise anything; it is mapped, with its words
            raise TemplateFailed(f"the chat template refused the messages: {error}") from error


def plain_message(index: int, message: object) -> dict[str, Any]:
    """The message with its content as one string, text parts joined by newlines."""
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise ValueError(f"messages[{index}] must be an object with a role")
    content = message.get("content")
    if content is None:
        content = ""
    elif isinstance(content, Sequence) and not isinstance(content, str | bytes):
        content = "\n".join(_part_text(f"messages[{index}].content[{i}]", part) for i, part in enumerate(content))
    elif not isinstance(content, str):
        raise ValueError(f"messages[{index}].content must be a string or a list of parts")
    return {**message, "content": content}


def _part_text(where: str, part: Any) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind != "text" or not isinstance(part.get("text"), str):
        raise ValueError(f"{where}: this model reads text parts only, not {kind!r}")
    return str(part["text"])


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(layout: str) -> str:
    return datetime.now(UTC).astimezone().strftime(layout)
