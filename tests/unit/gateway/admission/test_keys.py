"""The keyring over a store in memory."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

import pytest

from gateway.admission.grants import Grant
from gateway.admission.key_store import token_hash
from gateway.admission.keys import MAX_UNKNOWN_LOOKUPS, Keyring, KeyStoreUnavailable, Trust
from gateway.admission.rules import NO_RULES, Budget, Caller, Rules, Scope
from gateway.ledger.acts import EVERYTHING, Change
from tests.eventually import eventually

_TRUST = Trust(ttl_s=5, unknown_ttl_s=1, grace_s=300, retry_s=2, lookup_timeout_s=0.05, max_known=3, max_unknown=5)


@dataclass
class Keys:
    """A store in memory, with a clock, that can be away, or slow until it is let go."""

    rows: dict[str, Grant] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    away: bool = False
    gate: asyncio.Event | None = None
    at_once: int = 0
    most_at_once: int = 0
    now: float = 1_000.0

    def add(self, token: str, expires_at: float | None = None) -> str:
        """Make a token valid; returns its key id."""
        caller = Caller(f"id-{token}", "application", "best", ("a*",))
        self.rows[token_hash(token)] = Grant(token_hash(token), caller, inf if expires_at is None else expires_at)
        return caller.key_id

    def change(self, token: str, **fields: Any) -> None:
        """As an admin in another process would."""
        grant = self.rows[token_hash(token)]
        self.rows[grant.sha256] = replace(grant, caller=replace(grant.caller, **fields))

    def revoke(self, token: str) -> None:
        """Likewise."""
        sha256 = token_hash(token)
        self.rows[sha256] = replace(self.rows[sha256], valid_until=-inf)

    async def find(self, sha256_hex: str) -> Grant | None:
        """As `KeyStore.find`."""
        self.asked.append(sha256_hex)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.at_once -= 1
        if self.away:
            raise ConnectionError("away")
        return self.rows.get(sha256_hex)

    def clock(self) -> float:
        """Stands still unless a test moves it."""
        return self.now


@pytest.fixture
def keys() -> Keys:
    """A store without keys."""
    return Keys()


@pytest.fixture
def keyring(keys: Keys) -> Keyring:
    """A keyring over it, on its clock."""
    return Keyring(keys, _TRUST, clock=keys.clock, now=keys.clock)


async def test_a_valid_token_gives_its_caller_and_is_asked_about_once(keys: Keys, keyring: Keyring) -> None:
    keys.add("good")

    callers = [await keyring.authenticate("good") for _ in range(3)]

    assert callers == [Caller("id-good", "application", "best", ("a*",))] * 3
    assert keys.asked == [token_hash("good")]


async def test_a_known_key_needs_no_step_of_the_event_loop(keys: Keys, keyring: Keyring) -> None:
    keys.add("good")
    await keyring.authenticate("good")

    with pytest.raises(StopIteration) as done:
        keyring.authenticate("good").send(None)

    assert done.value.value == Caller("id-good", "application", "best", ("a*",))


async def test_tokens_that_differ_only_late_are_different_keys(keys: Keys, keyring: Keyring) -> None:
    keys.add("fp-same-beginning-A")

    assert await keyring.authenticate("fp-same-beginning-A") is not None
    assert await keyring.authenticate("fp-same-beginning-B") is None


@pytest.mark.parametrize("token", ["", "x" * 513, "x" * 10_000_000, "\0", "\ud800", "ключ"])
async def test_odd_tokens_are_unknown(keyring: Keyring, token: str) -> None:
    assert await keyring.authenticate(token) is None


async def test_a_revocation_elsewhere_counts_after_the_ttl(keys: Keys, keyring: Keyring) -> None:
    keys.add("good")
    await keyring.authenticate("good")
    keys.revoke("good")

    keys.now += 4.9
    still = await keyring.authenticate("good")
    keys.now += 0.2

    assert still is not None
    assert await keyring.authenticate("good") is None


async def test_a_forgotten_key_is_asked_about_at_once(keys: Keys, keyring: Keyring) -> None:
    key_id = keys.add("good")
    await keyring.authenticate("good")
    keys.revoke("good")

    keyring.take_up([Change(Scope.KEY, key_id)])

    assert await keyring.authenticate("good") is None


@pytest.mark.parametrize(
    ("what", "subject"),
    [(Scope.KEY, "id-good"), (Scope.KEY, "root"), (Scope.TEAM, "web"), (Scope.ORGANISATION, "acme"), (EVERYTHING, "")],
)
async def test_a_change_of_whatever_stands_above_a_key_counts_at_once(
    keys: Keys, keyring: Keyring, what: str, subject: str
) -> None:
    keys.add("good")
    keys.change("good", team_id="web", organisation_id="acme", root_id="root")
    await keyring.authenticate("good")
    keys.revoke("good")

    keyring.take_up([Change(what, subject)])

    assert await keyring.authenticate("good") is None


async def test_a_change_of_something_else_costs_no_look_up(keys: Keys, keyring: Keyring) -> None:
    keys.add("good")
    await keyring.authenticate("good")

    keyring.take_up([Change(Scope.TEAM, "other"), Change(Scope.MODEL, "id-good"), Change("secret", "id-good")])

    assert await keyring.authenticate("good") is not None and len(keys.asked) == 1


async def test_an_answer_that_a_change_overtook_is_not_believed(keys: Keys, keyring: Keyring) -> None:
    keys.add("good")
    keys.gate = asyncio.Event()
    waiting = asyncio.create_task(keyring.authenticate("good"))
    await eventually(lambda: keys.asked, every_s=0)

    keys.revoke("good")
    keyring.take_up([Change(Scope.KEY, "id-good")])
    later = asyncio.create_task(keyring.authenticate("good"))
    keys.gate.set()

    assert (await waiting, await later) == (None, None)
    assert len(keys.asked) == 3  # the one overtaken, once more, and the one that came after the change


async def test_a_revoked_key_stays_out_while_the_store_is_away_and_others_stay_in(keys: Keys, keyring: Keyring) -> None:
    keys.add("good")
    keys.add("bad")
    for token in ("good", "bad"):
        await keyring.authenticate(token)
    keyring.take_up([Change(Scope.KEY, "id-bad"), Change(EVERYTHING)])

    keys.away = True

    assert await keyring.authenticate("good") is not None
    with pytest.raises(KeyStoreUnavailable):
        await keyring.authenticate("bad")


async def test_a_key_that_was_just_issued_opens_at_once_also_where_it_was_tried_before(
    keys: Keys, keyring: Keyring
) -> None:
    await keyring.authenticate("new")
    key_id = keys.add("new")

    keyring.take_up([Change(Scope.KEY, key_id)])

    assert await keyring.authenticate("new") is not None


async def test_callers_of_equal_rules_share_one_object_while_nothing_changes(keys: Keys, keyring: Keyring) -> None:
    for token in ("one", "two"):
        keys.add(token)
    seen = []
    for _ in range(3):
        for token in ("one", "two"):
            keys.change(token, rules=Rules((Budget("b", Scope.TEAM, "web", 5),)))
            caller = await keyring.authenticate(token)
            assert caller is not None
            seen.append(caller.rules)
        keys.now += 6

    assert len({id(rules) for rules in seen}) == 1
    keys.add("free")
    free = await keyring.authenticate("free")
    assert free is not None and free.rules is NO_RULES


async def test_an_expiry_counts_to_the_moment_also_for_a_known_key(keys: Keys, keyring: Keyring) -> None:
    keys.add("short", expires_at=1_002.0)
    before = await keyring.authenticate("short")

    keys.now = 1_002.0

    assert before is not None and await keyring.authenticate("short") is None
    assert len(keys.asked) == 1


async def test_an_unknown_token_is_asked_about_again_after_its_shorter_ttl(keys: Keys, keyring: Keyring) -> None:
    first = [await keyring.authenticate("new") for _ in range(3)]
    keys.add("new")

    keys.now += 1.1

    assert first == [None] * 3
    assert await keyring.authenticate("new") is not None
    assert len(keys.asked) == 2


async def test_random_tokens_do_not_push_out_good_keys(keys: Keys, keyring: Keyring) -> None:
    keys.add("good")
    await keyring.authenticate("good")
    for number in range(100):
        await keyring.authenticate(f"random {number}")
    keys.asked.clear()

    await keyring.authenticate("good")

    assert keys.asked == []
    assert (len(keyring._known), len(keyring._unknown)) == (1, 5)


async def test_of_too_many_good_keys_the_least_recently_used_is_forgotten(keys: Keys, keyring: Keyring) -> None:
    for token in "abcd":
        keys.add(token)
    for token in "abcad":
        await keyring.authenticate(token)
    keys.asked.clear()

    for token in "acd":
        await keyring.authenticate(token)

    assert keys.asked == []
    await keyring.authenticate("b")
    assert keys.asked == [token_hash("b")]


async def test_while_the_store_is_away_known_keys_work_until_their_grace_is_over(keys: Keys, keyring: Keyring) -> None:
    keys.add("good")
    await keyring.authenticate("good")
    keys.away = True

    keys.now += 299
    still = await keyring.authenticate("good")
    keys.now += 3

    assert still is not None
    with pytest.raises(KeyStoreUnavailable):
        await keyring.authenticate("good")


async def test_while_the_store_is_away_unknown_keys_cannot_be_judged(keys: Keys, keyring: Keyring) -> None:
    keys.away = True

    for token in ("some", "some", "other"):
        with pytest.raises(KeyStoreUnavailable):
            await keyring.authenticate(token)
    assert len(keys.asked) == 1

    keys.away = False
    keys.now += 2.1
    assert await keyring.authenticate("some") is None


async def test_during_the_grace_an_expiry_still_counts(keys: Keys, keyring: Keyring) -> None:
    keys.add("short", expires_at=1_010.0)
    await keyring.authenticate("short")
    keys.away = True

    keys.now = 1_010.5

    assert await keyring.authenticate("short") is None


async def test_a_store_that_hangs_costs_one_wait_and_is_then_left_in_peace(keys: Keys, keyring: Keyring) -> None:
    keys.add("good")
    await keyring.authenticate("good")
    keys.gate = asyncio.Event()
    keys.now += 6

    callers = [await keyring.authenticate("good") for _ in range(5)]

    assert None not in callers and len(keys.asked) == 2


async def test_requests_with_the_same_token_share_one_look_up(keys: Keys, keyring: Keyring) -> None:
    keys.add("good")

    callers = await asyncio.gather(*(keyring.authenticate("good") for _ in range(50)))

    assert None not in callers and len(keys.asked) == 1


async def test_a_client_that_leaves_does_not_stop_the_look_up_of_others(keys: Keys, keyring: Keyring) -> None:
    keys.add("good")
    keys.gate = asyncio.Event()
    leaving, staying = (asyncio.create_task(keyring.authenticate("good")) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()

    keys.gate.set()

    assert await staying is not None
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_few_unknown_tokens_ask_at_once_and_too_many_are_turned_away(keys: Keys) -> None:
    keyring = Keyring(keys, replace(_TRUST, lookup_timeout_s=30), clock=keys.clock, now=keys.clock)
    keys.gate = asyncio.Event()
    asking = [asyncio.create_task(keyring.authenticate(f"random {number}")) for number in range(300)]
    for _ in range(3):
        await asyncio.sleep(0)

    keys.gate.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)

    assert keys.most_at_once == MAX_UNKNOWN_LOOKUPS
    assert answers.count(None) == 256
    assert sum(isinstance(answer, KeyStoreUnavailable) for answer in answers) == 44


async def test_a_known_key_costs_little(keys: Keys, keyring: Keyring) -> None:
    token = "fp-abcdefghijkl-" + "x" * 43
    keys.add(token)
    await keyring.authenticate(token)

    best_s = min([await _cpu_s_of(keyring, token) for _ in range(5)])

    assert best_s < 20e-6  # far over what it takes, far under what a look-up takes


async def _cpu_s_of(keyring: Keyring, token: str) -> float:
    before = time.process_time()
    for _ in range(2_000):
        await keyring.authenticate(token)
    return (time.process_time() - before) / 2_000
