"""Migrations on both databases."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from gateway.ledger.engine import open_engine
from gateway.ledger.faults import SchemaError
from gateway.ledger.revision import VERSION_TABLE, head, upgraded
from gateway.ledger.schema import check, downgrade, upgrade
from gateway.ledger.versions import alembic_config


def test_the_tables_go_up_and_down_and_up_again_without_drift(database_url: str) -> None:
    first = upgrade(database_url)
    empty = downgrade(database_url, "base")
    again = upgrade(database_url)

    assert first == again == check(database_url)
    assert first.current == first.head and first.drift == () and first.problem is None
    assert empty.current is None


def test_a_database_that_is_as_it_must_be_is_told_by_one_row(database_url: str) -> None:
    program = "import sys\nfrom gateway.ledger.revision import upgraded\n"
    program += "print(upgraded(sys.argv[1]), 'alembic' in sys.modules)"

    command_line = [sys.executable, "-c", program, database_url]
    told = [
        subprocess.run(command_line, capture_output=True, text=True, check=True, timeout=60).stdout for _ in range(2)
    ]

    assert [one.split() for one in told] == [[head(), "True"], [head(), "False"]]
    assert check(database_url).problem is None


def test_a_database_of_a_newer_release_is_refused_at_the_start(database_url: str) -> None:
    upgrade(database_url)
    _run_sql(database_url, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")

    with pytest.raises(SchemaError, match="a newer Fingerpost has upgraded it"):
        upgraded(database_url)


def test_rows_of_the_release_before_are_kept_up_and_down(database_url: str) -> None:
    upgrade(database_url, "0001")
    values = "'k', 'h', 'n', 'admin', NULL, NULL, 0, NULL, NULL, '{}'"
    _run_sql(database_url, f"INSERT INTO api_key VALUES ({values})")
    _run_sql(database_url, "INSERT INTO request_log (id, at, route) VALUES ('r', 1.5, 'chat')")

    assert upgrade(database_url).problem is None
    assert _run_sql(database_url, "SELECT id, team_id, root_id FROM api_key") == [("k", None, None)]
    assert _run_sql(database_url, "SELECT id, at, budget_exhausted FROM request_log") == [("r", 1.5, False)]
    downgrade(database_url, "0001")
    assert _run_sql(database_url, "SELECT id, role FROM api_key") == [("k", "admin")]
    assert upgrade(database_url).problem is None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET actor = 'nobody'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "INSERT OR REPLACE INTO audit_log VALUES (1, 0, 'x', 'x', 'x', 'x', 'x', 'x')",
        "INSERT OR REPLACE INTO audit_log VALUES (2, 0, 'x', 'x', 'x', 'x', 'p', 'x')",
    ],
)
def test_the_database_itself_refuses_to_change_the_audit_log(database_url: str, statement: str) -> None:
    upgrade(database_url)
    _run_sql(database_url, "INSERT INTO audit_log VALUES (1, 0, 'ann', 'key.issue', 'k', '{}', 'p', 's')")

    with pytest.raises(DBAPIError):
        _run_sql(database_url, statement)

    assert _run_sql(database_url, "SELECT actor FROM audit_log") == [("ann",)]


def test_a_name_is_taken_only_while_its_owner_lives(database_url: str) -> None:
    upgrade(database_url)
    insert = "INSERT INTO organisation (id, name, created_at, revoked_at, metadata) VALUES "
    _run_sql(database_url, insert + "('a', 'acme', 0, 1, '{}'), ('b', 'acme', 0, NULL, '{}')")

    with pytest.raises(DBAPIError):
        _run_sql(database_url, insert + "('c', 'acme', 0, NULL, '{}')")


def test_a_database_that_was_never_upgraded_is_told_the_command(database_url: str) -> None:
    assert "fingerpost db upgrade" in (check(database_url).problem or "")


def test_a_second_upgrade_changes_nothing_and_keeps_the_rows(database_url: str) -> None:
    upgrade(database_url)
    _run_sql(database_url, "INSERT INTO policy_version VALUES (1, 'default', 'b', 's', 'a', 'n', 0, 'ready', NULL)")

    assert upgrade(database_url).problem is None
    assert _run_sql(database_url, "SELECT name FROM policy_version") == [("default",)]


def test_a_table_changed_by_hand_is_drift(database_url: str) -> None:
    upgrade(database_url)
    _run_sql(database_url, "ALTER TABLE request_log DROP COLUMN finish_reason")

    problem = check(database_url).problem

    assert problem is not None and "finish_reason" in problem


def test_a_table_of_another_application_is_no_drift(database_url: str) -> None:
    upgrade(database_url)
    _run_sql(database_url, "CREATE TABLE guest (id INTEGER)")

    assert check(database_url).drift == ()


def test_a_database_of_a_newer_release_is_refused_with_the_remedy(database_url: str) -> None:
    upgrade(database_url)
    _run_sql(database_url, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")

    for change, target in ((upgrade, "head"), (downgrade, "base")):
        with pytest.raises(SchemaError, match="newer Fingerpost"):
            change(database_url, target)
    assert "9999" in (check(database_url).problem or "")


def test_tables_of_another_origin_are_not_taken_over(database_url: str) -> None:
    _run_sql(database_url, "CREATE TABLE api_key (secret TEXT)")

    with pytest.raises(SchemaError, match="api_key"):
        upgrade(database_url)


def test_an_unknown_revision_is_a_clear_error_and_changes_nothing(database_url: str) -> None:
    upgrade(database_url)

    with pytest.raises(SchemaError, match="4711"):
        downgrade(database_url, "4711")
    assert check(database_url).problem is None


def test_processes_that_start_at_once_do_not_clash(database_url: str) -> None:
    program = "import sys; from gateway.ledger.schema import upgrade; print(upgrade(sys.argv[1]).problem)"

    running = [
        subprocess.Popen([sys.executable, "-c", program, database_url], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=60) for process in running]

    assert said == [(b"None\n", b"")] * 3


def test_an_unreachable_database_is_named_without_its_password() -> None:
    with pytest.raises(SchemaError) as caught:
        check("postgresql://someone:s3cret@127.0.0.1:9/nothing")

    assert "127.0.0.1:9" in str(caught.value) and "s3cret" not in str(caught.value)


def test_the_alembic_command_works_on_a_url_of_its_own(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/own.sqlite3"
    config = alembic_config()
    config.cmd_opts = _Options(x=[f"url={url}"])  # type: ignore[assignment]

    command.upgrade(config, "head")

    assert check(url).problem is None


class _Options:
    def __init__(self, x: Sequence[str]) -> None:
        self.x = x


def _run_sql(database_url: str, statement: str) -> list[tuple[object, ...]]:
    async def run() -> list[tuple[object, ...]]:
        engine = open_engine(database_url)
        try:
            async with engine.begin() as connection:
                result = await connection.execute(text(statement))
                return [tuple(row) for row in result] if result.returns_rows else []
        finally:
            await engine.dispose()

    return asyncio.run(run())


def test_what_was_in_force_before_pointers_stays_in_force_up_and_down(database_url: str) -> None:
    upgrade(database_url, "0008")
    columns = "name, body, sha256, author, note, created_at"
    for values in (
        "'default', 'old', 's', 'a', '', 1",
        "'default', 'new', 's', 'b', 'n', 2",
        "'x', 'y', '', 'c', '', 3",
    ):
        _run_sql(database_url, f"INSERT INTO policy_version ({columns}) VALUES ({values})")

    assert upgrade(database_url).problem is None
    found = _run_sql(database_url, "SELECT name, scope, version_id, revision, actor FROM policy_active ORDER BY name")
    moved = _run_sql(database_url, "SELECT name, version_id, action, note FROM policy_move ORDER BY name")
    assert found == [("default", "", 2, 1, "b"), ("x", "", 3, 1, "c")]
    assert moved == [("default", 2, "activate", "n"), ("x", 3, "activate", "")]

    _run_sql(database_url, "UPDATE policy_active SET version_id = 1 WHERE name = 'default'")
    _run_sql(database_url, "UPDATE policy_active SET version_id = NULL WHERE name = 'x'")
    downgrade(database_url, "0008")
    newest = "SELECT name, body FROM policy_version WHERE id IN (SELECT max(id) FROM policy_version GROUP BY name)"
    assert _run_sql(database_url, newest) == [("default", "old")]
