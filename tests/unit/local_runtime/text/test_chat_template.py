"""Chat templates: rendering, content forms, and the sandbox."""

from __future__ import annotations

from typing import Any

import pytest

from local_runtime.base import TemplateFailed
from local_runtime.text.chat_template import ChatTemplate

PLAIN = "{% for m in messages %}[{{ m.role }}:{{ m.content }}]{% endfor %}{% if add_generation_prompt %}>{% endif %}"


def render(source: str, messages: list[Any] | None = None, **special: str) -> str:
    return ChatTemplate(source, special).render(messages or [{"role": "user", "content": "hi"}])


def test_text_parts_join_by_newlines_and_null_is_empty() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": None}, {"role": "tool"}]
    assert render(PLAIN, messages) == "[user:a\nb][assistant:][tool:]>"


@pytest.mark.parametrize(
    ("message", "where"),
    [
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            r"messages\[0\]\.content\[0\]",
        ),
        ({"role": "user", "content": [{"type": "text", "text": 3}]}, r"messages\[0\]\.content\[0\]"),
        ({"role": "user", "content": ["loose"]}, r"messages\[0\]\.content\[0\]"),
        ({"role": "user", "content": 7}, r"messages\[0\]\.content"),
        ({"content": "no role"}, r"messages\[0\]"),
        ("not an object", r"messages\[0\]"),
    ],
)
def test_a_message_that_cannot_be_read_is_named(message: Any, where: str) -> None:
    with pytest.raises(ValueError, match=where):
        render(PLAIN, [message])


def test_special_tokens_json_and_raise_exception_are_there() -> None:
    assert render("{{ bos_token }}{{ {'é': 1} | tojson }}", bos_token="<s>") == '<s>{"é": 1}'
    with pytest.raises(TemplateFailed, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


def test_generation_blocks_and_loop_controls_compile() -> None:
    assert (
        render("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% break %}{% endfor %}")
        == "hi"
    )


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append('x') }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ 1 / 0 }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(attack: str) -> None:
    with pytest.raises(TemplateFailed):
        render(attack)


def test_a_template_that_does_not_compile_says_so() -> None:
    with pytest.raises(TemplateFailed, match="does not compile"):
        ChatTemplate("{% if %}", {})
