"""Policies and catalogues from TOML: what is accepted, and that every fault says file, line, key and fix."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.catalogue import Modality
from policies.errors import PolicyError, Problem
from policies.load import load_policies, load_policy, parse_catalogue, parse_policy, shipped_catalogue_path
from policies.schema import CacheMode
from tests.unit.policies.toml_writer import VALUES, Writer

GOOD = """\
schema = 1
name = "mine"
models = ["gpt-*", "claude-*"]

[objective]
quality = 1
cost = 0.5

[router]
kind = "rules"
[[router.rule]]
name = "pictures"
when = { modality = ["image"], category = ["code"] }
prefer = ["gpt-5"]

[[category]]
name = "code"
when = { code = true }
cache = { mode = "exact", ttl_s = 60 }

[fallback]
models = ["claude-1"]
"""


def refused(text: str) -> list[str]:
    """The lines that are said about a policy that is refused."""
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, "p.toml")
    return str(caught.value).splitlines()


def refused_catalogue(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        parse_catalogue(text, "c.toml")
    return str(caught.value).splitlines()


def test_a_good_policy_is_read_with_its_values() -> None:
    policy = parse_policy(GOOD, "p.toml")
    assert policy.objective.quality == 1.0
    assert policy.router.rule[0].when.modality == (Modality.IMAGE,)
    assert policy.cache_rule(policy.category[0].name)[0].mode is CacheMode.EXACT
    assert policy.allows("gpt-7") and not policy.allows("gemini")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "cost = 0.5",
            "cost = -1",
            "p.toml:7: objective.cost: must be >= 0, got -1. Fix: give a number from 0 to 1000.",
        ),
        ("cost = 0.5", "cost = nan", "p.toml:7: objective.cost: must be a finite number, got NaN"),
        (
            "cost = 0.5",
            'cost = "much"',
            'p.toml:7: objective.cost: must be a number, got "much". Fix: give a number from',
        ),
        (
            "cost = 0.5",
            "cots = 0.5",
            "p.toml:7: objective.cots: is not a known key. Fix: write 'cost' (known keys here: ",
        ),
        ("cost = 0.5", "zzz = 0.5", "Fix: remove it (known keys here: quality, cost, latency, cost_scale_usd"),
        (
            "quality = 1\ncost = 0.5",
            "quality = 0",
            "p.toml:5: objective: at least one of quality, cost and latency must",
        ),
        (
            "schema = 1",
            "schema = 2",
            "p.toml:1: schema: is 2, but this Fingerpost reads schemas up to 1. Fix: upgrade ",
        ),
        ("schema = 1\n", "", "p.toml:1: schema: is missing. Fix: add the line schema = 1 at the top of the file."),
        ('name = "mine"\n', "", "p.toml:1: name: is missing. Fix: add a line that sets name to text in quotes."),
        ('name = "mine"', 'name = "My Own"', "p.toml:2: name: must be made of lower-case letters"),
        ('name = "mine"', "name = 7", "p.toml:2: name: must be text, got 7. Fix: put the value in quotes."),
        ('["gpt-*", "claude-*"]', '"gpt-*"', 'models: must be a list, got "gpt-*". Fix: write it in square brackets'),
        ('["gpt-*", "claude-*"]', "[]", "p.toml:3: models: allows no model at all"),
        ('"gpt-*", "claude-*"', '"gpt-*", "claude-*", "a b"', "models[#3]: 'a b' is no model id or pattern"),
        ('"gpt-*", "claude-*"', '"gpt-*", "claude-*", "x[1"', "models[#3]: 'x[1' has an unclosed bracket"),
        (
            "code = true",
            'code = "yes"',
            'when.code: must be true or false, got "yes". Fix: write true or false, without',
        ),
        ("when = { code = true }", "", "category[code]: a category needs 'when' or 'examples'. Fix: add when = "),
        (
            "when = { code = true }",
            "when = 3",
            "category[code].when: must be a table, got 3. Fix: write its keys under",
        ),
        ("when = { code = true }", "when = { category = ['code'] }", "a category cannot be told by the category"),
        (
            '"exact"',
            '"exakt"',
            "category[code].cache.mode: must be one of 'off', 'exact' or 'semantic', got \"exakt\". Fix:",
        ),
        ('"exact"', '"never"', "Fix: write one of 'off', 'exact' or 'semantic'."),
        ("ttl_s = 60", "ttl_s = 0", "category[code].cache.ttl_s: must be > 0, got 0. Fix: give a whole number above 0"),
        ("ttl_s = 60", "ttl_s = 1.5", "ttl_s: must be a whole number, got 1.5. Fix: give a whole number above 0"),
        ('["image"]', '["imgae"]', "router.rule[pictures].when.modality[#1]: must be one of"),
        (
            'category = ["code"]',
            'category = ["cod"]',
            "no category is named 'cod'. Fix: add a [[category]] named 'cod', or",
        ),
        ('prefer = ["gpt-5"]', "prefer = []", "router.rule[pictures].prefer: must have at least 1 item."),
        ('prefer = ["gpt-5"]', 'prefer = ["gemini"]', "prefer[#1]: 'gemini' is not allowed by this policy's models"),
        ('["claude-1"]', '["llama"]', "fallback.models[#1]: 'llama' is not allowed by this policy's models"),
        ('kind = "rules"', 'kind = "fixed"', "router.model: is missing. Fix: add the line model ="),
        ('kind = "rules"', 'kind = "fixed"\nmodel = "x"', "router.model: 'x' is not allowed by this policy's models"),
        (
            "[fallback]",
            "[fallback]\nmax_attempts = 21",
            "must be <= 20, got 21. Fix: give a whole number from 1 to 20.",
        ),
        ("[fallback]", "exploration = 2\n[fallback]", "category[code].exploration: is not a known key"),
    ],
)
def test_a_fault_is_told_with_file_line_key_and_fix(old: str, new: str, said: str) -> None:
    assert old in GOOD
    lines = refused(GOOD.replace(old, new, 1))
    assert any(said in line for line in lines), lines


def test_all_faults_of_a_file_are_told_at_once_in_order() -> None:
    text = GOOD.replace("cost = 0.5", "cost = -1").replace('"exact"', '"x"').replace('"claude-1"', '"z"')
    assert [line.split(":")[1] for line in refused(text)] == ["7", "19", "22"]


def test_repeated_names_are_told_at_the_second_one() -> None:
    again = '[[category]]\nname = "code"\nexamples = ["x"]\n[[router.rule]]\nname = "pictures"\nprefer = ["gpt-1"]\n'
    lines = refused(GOOD + again)
    assert (
        lines[0] == "p.toml:24: category[code].name: 'code' appears twice. Fix: give every [[category]] its own name."
    )
    assert lines[1].startswith("p.toml:27: router.rule[pictures].name: 'pictures' appears twice. Fix: give every")
    assert len(lines) == 2


ROW = """\
[[model]]
id = "m"
context_tokens = 100
[[endpoint]]
id = "e"
model = "m"
provider = "openai"
base_url = "https://example.com/v1"
key_ref = "env:KEY"
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('model = "m"', 'model = "n"', "c.toml:6: endpoint[e].model: names model 'n', which no [[model]] row defines"),
        ("context_tokens = 100", "context_tokens = inf", "c.toml:3: model[m].context_tokens: must be a whole number"),
        (
            "context_tokens = 100\n",
            "",
            "c.toml:1: model[m].context_tokens: is missing. Fix: add a line that sets context_tokens to",
        ),
        ('id = "m"', 'id = "m m"', "must be made of letters, digits and . _ : / @ + -"),
        ('id = "m"', 'id = ""', "model[].id: must have at least 1 character."),
        ('id = "m"', f'id = "{"m" * 200}"', "must have at most 128 characters. Fix: shorten it."),
        (
            '"https://example.com/v1"',
            '"example.com"',
            "base_url must start with http://, https:// or env:NAME. Fix: write",
        ),
        ('base_url = "https://example.com/v1"\n', "", "base_url is required for every provider but 'local'. Fix: add"),
        ('provider = "openai"', 'provider = "OpenAI"', "must be a provider's name"),
        ("[[endpoint]]", "[[endpoints]]", "c.toml:4: endpoints: is not a known key. Fix: write 'endpoint'"),
    ],
)
def test_faults_of_catalogue_rows_are_told_the_same_way(old: str, new: str, said: str) -> None:
    assert old in ROW
    lines = refused_catalogue(ROW.replace(old, new, 1))
    assert any(said in line for line in lines), lines


def test_repeated_ids_of_a_catalogue_are_told_once_each() -> None:
    lines = refused_catalogue(ROW + ROW)
    assert [line.split(". Fix")[0] for line in lines] == [
        "c.toml:11: model[m].id: 'm' appears twice",
        "c.toml:14: endpoint[e].id: 'e' appears twice",
    ]


def test_a_key_pasted_in_place_of_its_variable_is_never_printed() -> None:
    lines = refused_catalogue(ROW.replace("env:KEY", "sk-secret"))
    assert "sk-secret" not in str(lines)
    assert "must name an environment variable as env:NAME" in lines[0]


def test_files_of_a_folder_are_policies_by_name(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(GOOD)
    (tmp_path / "catalogue.toml").write_text(ROW)
    (tmp_path / "notes.txt").write_text("not a policy")
    (tmp_path / ".#mine.toml").write_text("an editor's lock")
    assert load_policies(tmp_path) == {"mine": load_policy(tmp_path / "mine.toml")}


def test_problems_of_all_files_of_a_folder_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(GOOD)
    (tmp_path / "worse.toml").write_text("schema = 1")
    with pytest.raises(PolicyError) as caught:
        load_policies(tmp_path)
    first, second = str(caught.value).splitlines()
    assert "other.toml:2: name: is 'mine', but the file is called 'other.toml'. Fix: write name = \"other\"" in first
    assert "worse.toml:1: name: is missing" in second


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="is not a folder"):
        load_policies(tmp_path / "nowhere")


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(*path, step) for step, _ in steps] + [
        deeper for step, child in steps for deeper in _paths(child, (*path, step))
    ]


SHIPPED = tomllib.loads(shipped_catalogue_path().read_text())
SEEDS = {
    "policy": tomllib.loads(GOOD),
    "catalogue": {"model": SHIPPED["model"][:2], "endpoint": SHIPPED["endpoint"][:2]},
}


@settings(deadline=None)
@given(st.sampled_from(sorted(SEEDS)), st.data(), VALUES)
def test_junk_at_a_key_is_accepted_or_told_with_line_and_fix(kind: str, data: st.DataObject, junk: Any) -> None:
    seed = SEEDS[kind]
    writer = Writer(data.draw)
    writer.document(_with(seed, data.draw(st.sampled_from(_paths(seed))), junk), {})
    for problem in _problems(kind, writer.text):
        assert re.fullmatch(r"p\.toml:\d+: .+\. Fix: .+\.", str(problem))
        assert 1 <= (problem.line or 0) <= writer.text.count("\n") + 1
        assert problem.fix != "correct the value", f"no sentence of its own for: {problem}"


def _problems(kind: str, text: str) -> tuple[Problem, ...]:
    try:
        (parse_policy if kind == "policy" else parse_catalogue)(text, "p.toml")
    except PolicyError as error:
        return error.problems
    return ()


def _with(value: Any, path: tuple[str | int, ...], junk: Any) -> Any:
    if not path:
        return junk
    copied: Any = value.copy()
    copied[path[0]] = _with(value[path[0]], path[1:], junk)
    return copied
