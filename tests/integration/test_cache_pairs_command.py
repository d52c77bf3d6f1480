"""`fingerpost cache pairs`: what may share an answer, judged without a gateway."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.command_line import fingerpost
from tests.serving import environment

ASKED = {"model": "m", "messages": [{"role": "user", "content": "What does a 502 error mean?"}]}


def judged(folder: Path, rows: list[dict[str, Any]], *options: str) -> subprocess.CompletedProcess[str]:
    file = folder / "pairs.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return fingerpost("cache", "pairs", "--file", str(file), *options, env=environment(folder))


def row(number: int, may_share: bool | None, **second: Any) -> dict[str, Any]:
    tenants = {"tenant_a": "t1", "tenant_b": "t1"}
    return {"id": number, "a": ASKED, "b": {**ASKED, **second}, "may_share": may_share, "reason": "because", **tenants}


def test_pairs_that_come_out_right_are_counted(tmp_path: Path) -> None:
    done = judged(tmp_path, [row(1, True, stream=True), row(2, False, seed=7), row(3, None)])

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3 pairs: 1 may share, served, ")


def test_a_wrong_pair_is_shown_with_its_reasons_and_fails(tmp_path: Path) -> None:
    done = judged(tmp_path, [row(1, True), row(7, True, n=2), row(8, False, user="u")])

    assert done.returncode == 1
    seven, eight = done.stdout.splitlines()[2:]
    assert seven.split("  ")[0] == "7"
    assert "tenant, model or context differ" in seven
    assert eight.startswith("8 ")
    assert "exact" in eight
    assert "because" in eight


def test_programs_read_it_as_json(tmp_path: Path) -> None:
    done = judged(tmp_path, [row(1, True), row(8, False, user="u")], "--json")

    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert (told["pairs"], told["may share, served"], told["must not share, served"]) == (2, 1, 1)
    assert [(one["id"], one["served"]) for one in told["wrong"]] == [(8, "exact")]


def test_a_file_that_can_not_be_judged_is_named(tmp_path: Path) -> None:
    for rows, said in (([{"id": 1}], "line 1 is no pair"), ([], "has no pairs"), ([row(1, True, n=0)], "pair 1: 'n'")):
        done = judged(tmp_path, rows)

        assert done.returncode == 2
        assert said in done.stderr
