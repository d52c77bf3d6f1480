"""What one worker finds by likeness: whose entries, for how long, and what it makes of bad ones."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.base import Known
from gateway.cache.index import LikenessIndex, any_likeness
from gateway.cache.parsed import BUCKETS, Parsed, parse
from gateway.cache.partition import Vector
from gateway.cache.semantic import FLOOR, JUDGED, Candidate, Entry

EVEN = [1.0] * BUCKETS
NOW = 1000.0


def by_cosine(query: Entry, candidates: Sequence[Candidate], cosines: Vector) -> npt.NDArray[np.float64]:
    assert all(candidate.parsed.words for candidate in candidates)
    return np.asarray(cosines, dtype=np.float64)


def vector(angle: float) -> Vector:
    return np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)


def known(key: str, angle: float = 0.0, until_s: float = 2000.0, tenant: str = "org:1") -> Known:
    return Known(key, tenant, "part", "code", f"text {key}", vector(angle), "mini", until_s)


def index(*entries: Known, max_entries: int = 100, max_parsed: int = 100) -> LikenessIndex:
    made = LikenessIndex(
        by_cosine, lambda text: parse(text, EVEN), max_entries=max_entries, max_parsed=max_parsed, clock=lambda: NOW
    )
    made.added(entries)
    return made


def found(
    cache: LikenessIndex,
    angle: float = 0.0,
    *,
    now_s: float = NOW,
    tenant: str = "org:1",
    partition: str = "part",
    stale_s: float = 0.0,
) -> list[str]:
    matches = cache.find(
        tenant, partition, "asked", "code", vector(angle), "mini", now_s, any_likeness, stale_s=stale_s
    )
    return [match.key for match in matches]


def test_the_likeliest_comes_first() -> None:
    cache = index(known("far", 0.4), known("near", 0.1), known("other side", 2.0))

    assert found(cache) == ["near", "far"]


def test_an_entry_that_has_expired_is_found_no_more_and_then_gone() -> None:
    cache = index(known("short", 0.1, until_s=1010.0), known("long", 0.2))

    assert found(cache, now_s=1009.9) == ["short", "long"]
    assert found(cache, now_s=1010.0) == ["long"]
    assert len(cache) == 1


def test_one_that_is_kept_stale_is_found_by_those_who_take_that_only_and_then_gone() -> None:
    cache = index(replace(known("old", 0.1, until_s=1010.0), stale_s=50.0), known("long", 0.2))

    assert found(cache, now_s=1010.0) == ["long"]
    assert found(cache, now_s=1019.0, stale_s=10.0) == ["old", "long"]
    assert found(cache, now_s=1020.0, stale_s=10.0) == ["long"]
    assert len(cache) == 2
    assert found(cache, now_s=1060.0, stale_s=100.0) == ["long"]
    assert len(cache) == 1


def test_many_that_expire_at_once_hide_nobody_and_are_cleared_by_and_by() -> None:
    cache = index(*(known(f"s{n}", 0.0, until_s=1010.0) for n in range(500)), known("long", 0.3), max_entries=1000)

    assert found(cache, now_s=1011.0) == ["long"]
    assert 1 < len(cache) < 500
    for _ in range(10):
        assert found(cache, now_s=1011.0) == ["long"]
    assert len(cache) == 1


def test_nobody_finds_what_belongs_to_another_tenant_partition_or_embedder() -> None:
    cache = index(known("one"))

    assert found(cache, tenant="org:2") == []
    assert found(cache, partition="another") == []
    assert cache.find("org:1", "part", "asked", "code", vector(0), "another", NOW) == []
    assert found(cache) == ["one"]


def test_one_id_of_two_tenants_is_two_entries() -> None:
    cache = index(known("id", tenant="org:1"), known("id", tenant="org:2"))

    cache.dropped("org:1", ["id", "never heard of"])

    assert (found(cache, tenant="org:1"), found(cache, tenant="org:2")) == ([], ["id"])


def test_an_entry_told_again_replaces_the_first_even_in_another_partition() -> None:
    cache = index(known("id", 0.0))

    cache.added([replace(known("id", 0.2), partition="moved", text="other words")])

    assert (found(cache), found(cache, partition="moved"), len(cache)) == ([], ["id"], 1)


def test_what_was_told_before_clearing_is_void() -> None:
    cache = index(known("one"))

    cache.cleared()
    cache.added([known("two")])

    assert found(cache) == ["two"]


def test_the_soonest_to_expire_gives_way_where_there_are_too_many() -> None:
    cache = index(*(known(str(n), 0.1, until_s=2000.0 + (n * 7) % 10) for n in range(10)), max_entries=4)

    assert len(cache) == 4
    assert sorted(found(cache)) == list("1478")
    assert cache.counts["evicted"] == 6


def test_the_caller_says_how_likely_an_answer_must_be_by_its_topic() -> None:
    cache = index(known("code", 0.1), replace(known("math", 0.1), topic="math"), replace(known("off"), topic="off"))
    least = {"code": 0.9, "math": 0.9999, "off": None}

    matches = cache.find("org:1", "part", "asked", "code", vector(0), "mini", NOW, least.__getitem__)

    assert [match.key for match in matches] == ["code"]
    assert matches[0].probability == pytest.approx(np.cos(0.1))


BAD = [
    ("vector", np.array([np.nan, 0.0])),
    ("vector", np.array([np.inf, 0.0])),
    ("vector", np.array([0.0, 0.0])),
    ("vector", np.array([3.0, 0.0])),
    ("vector", np.array([[1.0, 0.0]])),
    ("vector", np.array([])),
    ("vector", np.array(["a", "b"])),
    ("vector", None),
    ("dimensions", np.array([1.0, 0.0, 0.0])),
]


@pytest.mark.parametrize(("reason", "bad"), BAD)
def test_an_entry_without_a_usable_vector_is_counted_and_left_out(reason: str, bad: Vector) -> None:
    cache = index(known("good"))
    assert found(cache) == ["good"]

    cache.added([replace(known("bad"), vector=bad), known("next", 0.1)])

    assert found(cache) == ["good", "next"]
    assert cache.rejected == {reason: 1}


@pytest.mark.parametrize(("reason", "until_s"), [("expiry", np.nan), ("expiry", np.inf), ("expired", NOW)])
def test_an_entry_without_a_usable_expiry_is_counted_and_left_out(reason: str, until_s: float) -> None:
    cache = index(known("bad", until_s=until_s))

    assert (len(cache), cache.rejected) == (0, {reason: 1})


@pytest.mark.parametrize("bad", [np.array([np.nan, 1.0]), "text", None, np.ones(3)])
def test_a_query_without_a_usable_vector_finds_nothing(bad: object) -> None:
    assert index(known("one")).find("org:1", "part", "asked", "code", bad, "mini", NOW) == []


def test_half_precision_will_do() -> None:
    cache = index(replace(known("half"), vector=vector(0.7).astype(np.float16)))

    assert found(cache, 0.7) == ["half"]


def test_texts_are_read_when_they_first_come_near_and_not_again() -> None:
    read: list[str] = []

    def reading(text: str) -> Parsed:
        read.append(text)
        return parse(text, EVEN)

    cache = LikenessIndex(by_cosine, reading, clock=lambda: NOW)
    cache.added([known("near"), known("far", 3.0)])
    assert read == []
    found(cache)
    found(cache)

    assert read == ["asked", "text near", "asked"]


def test_only_so_many_texts_stay_read() -> None:
    cache = index(*(known(str(n), n * 0.1) for n in range(30)), max_parsed=5)

    for n in range(30):
        assert found(cache, n * 0.1)[0] == str(n)

    assert cache.figures()["parsed"] <= 5


@pytest.mark.parametrize("text", ["", "\ud800", "\0" * 3000, "?" * 50_000, "'" * 3000, "\uff11\uff12 \u0664 \u202e"])
def test_hostile_texts_and_topics_are_only_texts(text: str) -> None:
    cache = LikenessIndex(
        lambda q, c, cosines: np.array([len(one.parsed.words) + 1.0 for one in c]), lambda t: parse(t, EVEN)
    )
    cache.added([replace(known("one", until_s=1e12), text=text, topic=text, tenant=text, partition=text)])

    assert [one.key for one in cache.find(text, text, text, text, vector(0), "mini", NOW)] == ["one"]


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add", "drop", "find", "wait"]),
        st.integers(0, 12),
        st.integers(0, 2),
        st.integers(0, 40),
    ),
    max_size=60,
)


@given(ACTS)
def test_it_finds_what_a_list_of_all_entries_finds(acts: list[tuple[str, int, int, int]]) -> None:
    now = [NOW]
    cache = LikenessIndex(by_cosine, lambda text: parse(text, EVEN), clock=lambda: now[0])
    model: dict[tuple[str, str], Known] = {}
    for act, key, owner, number in acts:
        tenant = f"org:{owner}"
        if act == "add":
            one = known(str(key), number * 0.0137 * (key + 1), now[0] + number, tenant)
            model.pop((tenant, str(key)), None)
            cache.added([one])
            model |= {(tenant, str(key)): one} if number else {}
        elif act == "drop":
            cache.dropped(tenant, [str(key)])
            model.pop((tenant, str(key)), None)
        elif act == "wait":
            now[0] += number / 4
        alive = [one for one in model.values() if one.tenant == tenant and one.expires_s > now[0]]
        cosines = sorted((float(one.vector @ vector(number * 0.05)) for one in alive), reverse=True)
        wanted = [cosine for cosine in cosines if cosine >= FLOOR][:JUDGED]
        told = cache.find(tenant, "part", "asked", "code", vector(number * 0.05), "mini", now[0])
        assert [match.cosine for match in told] == pytest.approx(wanted, abs=1e-6)
        assert {match.key for match in told} <= {one.id for one in alive}
