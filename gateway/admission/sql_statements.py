"""The statements behind budgets in SQL, made once from the tables and run as the driver takes them.

Executed raw, they spare SQLAlchemy's work on each value. Lists of ids travel as one parameter: an array on
PostgreSQL, JSON on SQLite. Knows no rule.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Double,
    Executable,
    FromClause,
    Select,
    Text,
    any_,
    bindparam,
    cast,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.compiler import SQLCompiler

from gateway.ledger.tables import budget_lock, budget_spend, lease

# `reserved_nanousd` of a lease that has ended, kept for a while so that it can't end (or begin) once more.
ENDED: Final = -1
# That of one that has expired and was charged c is EXPIRED - c, until it is told what it really cost.
EXPIRED: Final = -2
REAP_AT_ONCE: Final = 200


class Statement:
    """One statement in a dialect's own spelling."""

    def __init__(self, statement: Executable, dialect: Dialect) -> None:
        compiled: SQLCompiler = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        self.sql = str(compiled)
        self._names = tuple(compiled.positiontup or ())
        self._fixed = {name: value for name, value in compiled.params.items() if value is not None}

    def values(self, given: Mapping[str, Any]) -> tuple[Any, ...]:
        """The parameters in the order in which the driver wants them."""
        return tuple(given[name] if name in given else self._fixed[name] for name in self._names)

    def rows(self, connection: Connection, **given: Any) -> Sequence[Any]:
        """Run it once; all rows."""
        return connection.exec_driver_sql(self.sql, self.values(given)).all()

    def each(self, connection: Connection, many: Sequence[Mapping[str, Any]]) -> None:
        """Run it for each set of parameters, in one go, or not at all where there is none."""
        if many:
            connection.exec_driver_sql(self.sql, [self.values(given) for given in many])


class Statements:
    """All statements in one dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self.is_sqlite = dialect.name == "sqlite"
        self.lock = Statement(_lock(), dialect) if not self.is_sqlite else None
        self.look = Statement(_look(self.is_sqlite), dialect)
        self.add_rows = Statement(_add_rows(self.is_sqlite), dialect)
        self.reserve = Statement(_reserve(), dialect)
        self.spend = Statement(_spend(self.is_sqlite), dialect)
        self.forget = Statement(_forget(), dialect)
        self.leases = Statement(select(lease.c.id, lease.c.reserved_nanousd).where(self._listed()), dialect)
        self.begin_lease = Statement(_begin_lease(), dialect)
        self.extend_lease = Statement(_extend_lease(), dialect)
        self.end_leases = Statement(_end_leases(self._listed()), dialect)
        self.renew = Statement(_renew(self._listed(), self.is_sqlite), dialect)
        self.bring_near = Statement(_bring_near(), dialect)
        self.expired = Statement(_expired(), dialect)
        self.reap = Statement(_reap(self._listed()), dialect)
        self.forget_leases = Statement(_forget_leases(self._listed()), dialect)
        self.clock = Statement(_clock(), dialect) if not self.is_sqlite else None

    def many(self, values: Sequence[Any]) -> Any:
        """A list as one parameter."""
        return json.dumps(values) if self.is_sqlite else list(values)

    def _listed(self) -> ColumnElement[bool]:
        return _is_listed(lease.c.id, self.is_sqlite)


def mapping(value: Any) -> dict[str, int]:
    """A JSON column's value as a driver returns it: parsed, or as text."""
    found: dict[str, int] = json.loads(value) if isinstance(value, str) else value
    return found


def _is_listed(column: ColumnElement[str], is_sqlite: bool) -> ColumnElement[bool]:
    """Whether the column is among the parameter `ids`."""
    if is_sqlite:
        return column.in_(select(func.json_each(bindparam("ids")).table_valued("value").c.value))
    return column == any_(bindparam("ids", type_=ARRAY(Text)))


def _lock() -> Select[Any]:
    """Wait for the budgets' rows, in the order of their ids, so that no two transactions wait for each other.

    A process that stops while it holds them is thrown out, so that it can't hold up all others.
    """
    within = func.set_config("idle_in_transaction_session_timeout", bindparam("idle_ms", type_=Text), True)
    rows = select(budget_lock.c.budget_id, within).where(_is_listed(budget_lock.c.budget_id, False))
    return rows.order_by(budget_lock.c.budget_id).with_for_update()


def _look(is_sqlite: bool) -> Select[Any]:
    """For each of `ids`: what is reserved, and spent in buckets from its first one in `firsts` on; in their order."""
    parts: tuple[FromClause, ...]
    wanted: FromClause
    if is_sqlite:
        ids = func.json_each(bindparam("ids")).table_valued("key", "value", name="ids")
        firsts = func.json_each(bindparam("firsts")).table_valued("key", "value", name="firsts")
        parts, wanted = (ids, firsts), ids.join(firsts, ids.c.key == firsts.c.key)
        budget_id, first, number = ids.c.value, firsts.c.value, ids.c.key
    else:
        arrays = (bindparam("ids", type_=ARRAY(Text)), bindparam("firsts", type_=ARRAY(BigInteger)))
        pairs = func.unnest(*arrays).table_valued("id", "first", with_ordinality="number", name="wanted")
        pairs = pairs.render_derived()
        parts, wanted = (pairs,), pairs
        budget_id, first, number = pairs.c.id, pairs.c.first, pairs.c.number
    counts = (budget_spend.c.budget_id == budget_id, budget_spend.c.bucket_start >= first)
    spent = select(func.sum(budget_spend.c.spent_nanousd)).where(*counts).correlate(*parts).scalar_subquery()
    reserved = func.coalesce(budget_lock.c.reserved_nanousd, 0)
    rows = select(cast(func.coalesce(spent, 0), BigInteger), reserved, budget_lock.c.budget_id)
    return rows.select_from(wanted.outerjoin(budget_lock, budget_lock.c.budget_id == budget_id)).order_by(number)


def _add_rows(is_sqlite: bool) -> Executable:
    make = sqlite.insert if is_sqlite else postgresql.insert
    row = make(budget_lock).values(budget_id=bindparam("budget"), reserved_nanousd=0)
    return row.on_conflict_do_nothing(index_elements=["budget_id"])


def _reserve() -> Executable:
    more = budget_lock.c.reserved_nanousd + bindparam("more", type_=BigInteger)
    return update(budget_lock).where(budget_lock.c.budget_id == bindparam("budget")).values(reserved_nanousd=more)


def _spend(is_sqlite: bool) -> Executable:
    make = sqlite.insert if is_sqlite else postgresql.insert
    row = make(budget_spend).values(
        budget_id=bindparam("budget"), bucket_start=bindparam("bucket"), spent_nanousd=bindparam("cost")
    )
    total = budget_spend.c.spent_nanousd + row.excluded.spent_nanousd
    return row.on_conflict_do_update(index_elements=["budget_id", "bucket_start"], set_={"spent_nanousd": total})


def _forget() -> Executable:
    bucket = budget_spend.c.bucket_start
    old = (bucket > 0, bucket < bindparam("first", type_=BigInteger))
    return delete(budget_spend).where(budget_spend.c.budget_id == bindparam("budget"), *old)


def _begin_lease() -> Executable:
    return insert(lease).values(
        id=bindparam("lease"),
        expires_at=bindparam("until"),
        reserved_nanousd=bindparam("reserved"),
        buckets=bindparam("buckets", type_=lease.c.buckets.type),
    )


def _extend_lease() -> Executable:
    return (
        update(lease)
        .where(lease.c.id == bindparam("lease"))
        .values(
            reserved_nanousd=lease.c.reserved_nanousd + bindparam("more", type_=BigInteger),
            buckets=bindparam("buckets", type_=lease.c.buckets.type),
            expires_at=bindparam("until"),
        )
    )


def _end_leases(listed: ColumnElement[bool]) -> Executable:
    """Those that run, and those that have expired and are told their real cost now."""
    open_yet = lease.c.reserved_nanousd != ENDED
    return delete(lease).where(listed, open_yet).returning(lease.c.id, lease.c.reserved_nanousd, lease.c.buckets)


def _renew(listed: ColumnElement[bool], is_sqlite: bool) -> Executable:
    """Leases that someone is about to end are left alone, so that nobody waits for anybody."""
    chosen = select(lease.c.id).where(listed, lease.c.reserved_nanousd > ENDED)
    if not is_sqlite:
        chosen = chosen.with_for_update(skip_locked=True)
    return update(lease).where(lease.c.id.in_(chosen)).values(expires_at=bindparam("until"))


def _bring_near() -> Executable:
    """A lease that ends later than any can was begun before the clock was set back."""
    far = lease.c.expires_at > bindparam("far", type_=Double)
    return update(lease).where(far, lease.c.reserved_nanousd > ENDED).values(expires_at=bindparam("until"))


def _expired() -> Select[Any]:
    late = lease.c.expires_at < bindparam("now", type_=Double)
    return select(lease.c.id, lease.c.buckets).where(late).order_by(lease.c.expires_at).limit(REAP_AT_ONCE)


def _reap(listed: ColumnElement[bool]) -> Executable:
    late = (lease.c.expires_at < bindparam("now", type_=Double), lease.c.reserved_nanousd > ENDED)
    charged = EXPIRED - lease.c.reserved_nanousd
    kept = update(lease).where(listed, *late).values(reserved_nanousd=charged, expires_at=bindparam("until"))
    return kept.returning(lease.c.id, lease.c.reserved_nanousd, lease.c.buckets)


def _forget_leases(listed: ColumnElement[bool]) -> Executable:
    late = lease.c.expires_at < bindparam("now", type_=Double)
    return delete(lease).where(listed, late, lease.c.reserved_nanousd <= ENDED).returning(lease.c.id)


def _clock() -> Select[Any]:
    return select(cast(func.extract("epoch", func.clock_timestamp()), Double))
