"""`fingerpost policy` beside a repository of policy files: push, pull, diff, activate, rollback, history."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.test_commands import Shell

MINE = 'schema = 1\nname = "mine"\nmodels = ["smollm2-*"]\n[objective]\nquality = {quality}\n'
OTHER = MINE.format(quality=0.5)
FIRST = MINE.format(quality=1.0)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    found = Shell(tmp_path)
    found.run("db", "upgrade")
    return found


def test_versions_are_pushed_put_in_force_and_taken_back(shell: Shell) -> None:
    for text in (FIRST, OTHER):
        assert shell.run("policy", "push", shell.file("mine.toml", text), "--note", "why").returncode == 0
    back = shell.run("policy", "rollback", "mine")
    forth = shell.run("policy", "activate", "mine", "2", "--if-revision", "3")
    stale = shell.run("policy", "activate", "mine", "1", "--if-revision", "3")
    nobody = shell.run("policy", "activate", "mine", "7")

    assert back.stdout.startswith("mine: database version 1, revision 3")
    assert forth.stdout.startswith("mine: database version 2, revision 4")
    assert (stale.returncode, nobody.returncode) == (1, 1)
    assert "it is at revision 4" in stale.stderr and "no version '7'" in nobody.stderr
    rows = json.loads(shell.run("policy", "history", "mine", "--json").stdout)
    assert [(row["id"], row["active"], row["note"]) for row in rows] == [(2, True, "why"), (1, False, "why")]


def test_a_draft_may_be_pushed_with_faults_and_is_never_in_force(shell: Shell) -> None:
    path = shell.file("mine.toml", FIRST + "colour = 1\n")

    draft = shell.run("policy", "push", path, "--draft")
    forced = shell.run("policy", "activate", "mine", "1")
    whole = shell.run("policy", "push", shell.file("mine.toml", FIRST), "--draft")
    unready = shell.run("policy", "activate", "mine", "2")

    assert draft.stdout == "mine: database version 1, a draft\n" and whole.returncode == 0
    assert forced.returncode == 2 and "objective.colour" in forced.stderr
    assert unready.returncode == 1 and "is a draft" in unready.stderr
    assert "mine" not in {row["name"] for row in json.loads(shell.run("policy", "show", "--json").stdout)}


def test_files_are_written_from_the_database_and_never_over_other_words(shell: Shell) -> None:
    path = shell.file("mine.toml", FIRST)
    shell.run("policy", "push", path)
    repository = shell.folder / "repository"

    pulled = shell.run("policy", "pull", "--into", str(repository))
    (repository / "mine.toml").write_text(OTHER)
    refused = shell.run("policy", "pull", "mine", "--into", str(repository))
    forced = shell.run("policy", "pull", "mine@1", "--into", str(repository), "--force")

    assert pulled.stdout.split() == [str(repository / "mine.toml")] == forced.stdout.split()
    assert refused.returncode == 1 and "say something else" in refused.stderr
    assert (repository / "mine.toml").read_text() == FIRST
    assert [one.name for one in repository.iterdir()] == ["mine.toml"]


def test_texts_are_compared_and_a_difference_is_an_exit_code(shell: Shell) -> None:
    first = shell.file("mine.toml", FIRST)
    shell.run("policy", "push", first)

    same = shell.run("policy", "diff", "mine", first)
    other = shell.run("policy", "diff", "mine@1", shell.file("other.toml", OTHER))
    shipped = shell.run("policy", "diff", "thrifty")
    nobody = shell.run("policy", "diff", "nobody", "mine")

    assert (same.returncode, same.stdout) == (0, "no changes\n")
    assert (other.returncode, other.stdout) == (1, "~ objective.quality: 1.0 -> 0.5\n")
    assert (shipped.returncode, shipped.stdout) == (0, "no changes\n")
    assert nobody.returncode == 1 and "no policy 'nobody'" in nobody.stderr


def test_a_file_that_is_overruled_is_told(shell: Shell) -> None:
    folder = shell.folder / "policies"
    folder.mkdir()
    (folder / "mine.toml").write_text(OTHER)
    shell.run("policy", "push", shell.file("mine.toml", FIRST))

    shown = shell.run("policy", "show", FINGERPOST_POLICIES=str(folder))
    compared = shell.run("policy", "diff", "mine", FINGERPOST_POLICIES=str(folder))
    shell.run("policy", "activate", "mine", "file", FINGERPOST_POLICIES=str(folder))
    after = shell.run("policy", "show", FINGERPOST_POLICIES=str(folder))

    assert "mine.toml says something else than database version 1" in shown.stderr
    assert (compared.returncode, compared.stdout) == (1, "~ objective.quality: 0.5 -> 1.0\n")
    assert after.stderr == "" and "mine.toml" in after.stdout
