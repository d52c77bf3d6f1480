"""Streaming: whole characters only, no prefix of a stop string, whatever the token borders."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from local_runtime.base import TokenLogprob
from local_runtime.text.detokenise import TextStream

few = st.text("ab\u00e9\U0001f600", max_size=30)
stops = st.lists(st.text("ab\u00e9", min_size=1, max_size=4), max_size=3).map(tuple)
sizes = st.lists(st.integers(1, 5), min_size=1, max_size=10)


def pieces(text: str, lengths: list[int]) -> list[bytes]:
    raw, at = text.encode(), 0
    out: list[bytes] = []
    while at < len(raw):
        size = lengths[len(out) % len(lengths)]
        out.append(raw[at : at + size])
        at += size
    return out


def run(parts: list[bytes], stop: tuple[str, ...] = ()) -> tuple[list[str], bool]:
    stream, texts = TextStream(stop), []
    for part in parts:
        released = stream.push(part)
        texts.append(released.text)
        if released.stopped:
            return texts, True
    return [*texts, stream.finish().text], False


def cut_at_first_stop(text: str, stop: tuple[str, ...]) -> tuple[str, bool]:
    """The plain meaning: read on until a stop string is complete, then take the longest that ends here away."""
    for end in range(1, len(text) + 1):
        matches = [s for s in stop if text[:end].endswith(s)]
        if matches:
            return text[: end - max(map(len, matches))], True
    return text, False


@given(st.text(max_size=40), sizes)
@example("\U0001f468\u200d\U0001f469\u200d\U0001f467 na\u00efve \u4f60\u597d", [1])
def test_streamed_text_is_the_text_and_every_piece_is_whole_characters(text: str, lengths: list[int]) -> None:
    text = text.encode("utf-8", "replace").decode()
    streamed, _ = run(pieces(text, lengths))
    assert "".join(streamed) == text
    assert "\ufffd" not in "".join(streamed) or "\ufffd" in text


def test_an_emoji_split_over_four_tokens_leaves_at_once_with_the_last() -> None:
    stream = TextStream()
    texts = [stream.push(bytes([byte])).text for byte in "\U0001f600".encode()]
    assert texts == ["", "", "", "\U0001f600"]


def test_half_a_character_at_the_end_becomes_a_replacement_character() -> None:
    streamed, _ = run([b"a", "\U0001f600".encode()[:3]])
    assert streamed == ["a", "", "\ufffd"]


def test_bytes_that_are_no_utf8_do_not_break_the_stream() -> None:
    streamed, _ = run([b"a\xff", b"\x80b", b"\xe4\xbd", b"c"])
    assert "".join(streamed) == "a\ufffd\ufffdb\ufffdc"


@given(few, sizes, stops)
@example("xxab", [1], ("ab", "b"))
def test_stop_strings_cut_alike_whatever_the_token_borders(
    text: str, lengths: list[int], stop: tuple[str, ...]
) -> None:
    streamed, stopped = run(pieces(text, lengths), stop)
    assert ("".join(streamed), stopped) == cut_at_first_stop(text, stop)


@given(few, sizes, stops)
def test_no_prefix_of_a_stop_string_leaks_before_it_completes(
    text: str, lengths: list[int], stop: tuple[str, ...]
) -> None:
    final, stopped = cut_at_first_stop(text, stop)
    streamed, _ = run(pieces(text, lengths), stop)
    for count in range(len(streamed)):
        assert final.startswith("".join(streamed[: count + 1]))
    assert stopped or "".join(streamed) == text


def test_a_false_start_of_a_stop_string_is_released_as_soon_as_it_fails() -> None:
    stream = TextStream(("</end>",))
    assert [stream.push(part).text for part in (b"a<", b"/e", b"x", b"b")] == ["a", "", "</ex", "b"]


def named(text: bytes) -> TokenLogprob:
    return TokenLogprob(text.decode("utf-8", "replace"), text, -1.0)


def test_logprobs_wait_for_their_text_and_die_with_the_stop_string() -> None:
    stream = TextStream(("STOP",))
    seen = [stream.push(part, named(part)) for part in (b"x S", b"T", b"OP")]
    assert [released.logprobs for released in seen] == [(), (), (named(b"x S"),)]
    assert [released.text for released in seen] == ["x ", "", ""]


def test_logprobs_of_a_split_character_all_arrive() -> None:
    stream = TextStream()
    parts = [bytes([byte]) for byte in "\u20ac".encode()]
    got = [name for part in parts for name in stream.push(part, named(part)).logprobs]
    assert got == [named(part) for part in parts]


def test_the_first_space_of_a_sentencepiece_answer_is_dropped_once() -> None:
    stream = TextStream(drop_first_space=True)
    assert [stream.push(part).text for part in (b" Hello", b" world")] == ["Hello", " world"]
