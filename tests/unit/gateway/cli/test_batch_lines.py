"""A batch's files: what is wrong is told before anything is sent, what was written is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.batch_lines import Answers, BatchError, read_lines

BODY = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}


def line(**fields: Any) -> str:
    return json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": BODY} | fields)


def written(folder: Path, *lines: str) -> Path:
    path = folder / "requests.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_bodies_travel_as_they_were_written(tmp_path: Path) -> None:
    body = '{"model": "m", "temperature": 1.10, "seed": 123456789012345678901234567890, "x": 1}'
    path = written(tmp_path, line().replace(json.dumps(BODY), body), "", line(custom_id="b"))

    found = read_lines(path)

    assert [(one.number, one.custom_id, one.model) for one in found] == [(1, "a", "m"), (3, "b", "auto")]
    assert found[0].body == body.encode()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("{", "line 2 is not JSON"),
        ("[]", "line 2 is no object: write"),
        (line(custom_id=7), "line 2: 'custom_id' must be a text"),
        (line(custom_id="a"), "line 2: 'custom_id' 'a' is that of line 1 too: give each line its own"),
        (line(custom_id="b", method="GET"), "line 2: 'method' must be \"POST\", not 'GET'"),
        (line(custom_id="b", url="/v1/files"), "line 2: 'url' must be one of /v1/chat/completions, "),
        (line(custom_id="b", body="hi"), "line 2: 'body' must be the request, an object"),
        (line(custom_id="b", body={**BODY, "stream": True}), "line 2: 'body.stream' must be false"),
    ],
)
def test_a_bad_line_is_told_with_its_field_and_the_fix(tmp_path: Path, bad: str, said: str) -> None:
    with pytest.raises(BatchError) as caught:
        read_lines(written(tmp_path, line(), bad))

    assert said in str(caught.value)


def test_all_bad_lines_are_told_at_once_but_not_without_end(tmp_path: Path) -> None:
    with pytest.raises(BatchError) as caught:
        read_lines(written(tmp_path, *["{"] * 30))

    assert len(str(caught.value).splitlines()) == 21 and str(caught.value).endswith("... and 10 more")


def test_answers_are_appended_and_half_a_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    first = Answers.opened(path)
    first.put("a", {"status_code": 200, "request_id": "r", "body": {}}, None)
    first.close()
    with path.open("a") as file:
        file.write('{"id": "batch_req_1", "custom_id": "b", "resp')

    again = Answers.opened(path)
    again.put("c", None, {"code": "no_answer", "message": "gone"})
    again.close()

    assert [json.loads(one)["custom_id"] for one in path.read_text().splitlines()] == ["a", "c"]
    assert again.done == {"a", "c"}


def test_two_batches_do_not_write_to_one_file(tmp_path: Path) -> None:
    held = Answers.opened(tmp_path / "answers.jsonl")

    with pytest.raises(BatchError, match="is being written by another batch"):
        Answers.opened(tmp_path / "answers.jsonl")

    held.close()


def test_another_file_is_not_appended_to(tmp_path: Path) -> None:
    path = written(tmp_path, "dear diary")

    with pytest.raises(BatchError, match=r"line 1 is no answer of a batch"):
        Answers.opened(path)

    assert path.read_text() == "dear diary\n"
