"""The link to a real Redis: order, pipelining, time-outs, outages, passwords."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator

import pytest

from gateway.redis_link import RedisLink, RedisRefused, RedisUnavailable, encoded
from gateway.redis_wire import packed
from tests.eventually import eventually
from tests.integration.redis_server import RedisServer, locked_redis_server, redis_running, redis_server

__all__ = ["locked_redis_server", "redis_running", "redis_server"]

BOUND_S = 0.06
SLACK_S = 0.05


@pytest.fixture
async def link(redis_server: RedisServer) -> AsyncIterator[RedisLink]:
    link = RedisLink(redis_server.url, BOUND_S)
    await link.start()
    yield link
    await link.close()


async def until_up(link: RedisLink) -> None:
    async with asyncio.timeout(10):
        await link.until_up()


async def failing_s(link: RedisLink) -> float:
    """How long a call takes that must fail."""
    begun = time.perf_counter()
    with pytest.raises(RedisUnavailable):
        await link.call("PING")
    return time.perf_counter() - begun


async def test_replies_come_back_to_those_who_asked(link: RedisLink) -> None:
    asked = [f"text-{number}" for number in range(1_000)]

    replies = await asyncio.gather(*(link.call("ECHO", text) for text in asked))

    assert replies == [text.encode() for text in asked]


async def test_commands_of_one_turn_leave_in_one_write(link: RedisLink, redis_server: RedisServer) -> None:
    before = _reads(redis_server)

    await asyncio.gather(*(link.call("INCR", "count") for _ in range(50)))

    assert await link.call("GET", "count") == b"50"
    assert _reads(redis_server) - before < 10


def _reads(server: RedisServer) -> int:
    line = next(line for line in server.ask("INFO", "stats").splitlines() if line.startswith("total_reads_processed"))
    return int(line.partition(":")[2])


async def test_every_kind_of_reply_is_understood(link: RedisLink) -> None:
    assert await link.call("SET", "key", b"\x00\xff") == b"OK"
    assert await link.call("GET", "key") == b"\x00\xff"
    assert await link.call("GET", "nothing") is None
    assert await link.call("EVAL", "return {1, {'a', false}}", 0) == [1, [b"a", None]]


async def test_a_caller_who_left_does_not_shift_the_replies_of_others(link: RedisLink) -> None:
    leaving = asyncio.create_task(link.call("ECHO", "leaving"))
    staying = asyncio.create_task(link.call("ECHO", "staying"))
    await asyncio.sleep(0)
    leaving.cancel()

    assert await staying == b"staying"


async def test_an_error_of_redis_reaches_its_caller_alone(link: RedisLink) -> None:
    wrong, right = await asyncio.gather(error_of(link, "NO-SUCH"), link.call("PING"))

    assert wrong.code == "ERR"
    assert right == b"PONG"


async def error_of(link: RedisLink, command: str) -> RedisRefused:
    with pytest.raises(RedisRefused) as refused:
        await link.call(command)
    return refused.value


async def test_a_script_that_redis_has_forgotten_is_taught_again(link: RedisLink) -> None:
    script = link.script("return ARGV[1] .. KEYS[1]")
    assert await script.run(encoded((1, "key")), encoded(("text",))) == b"textkey"

    await link.call("SCRIPT", "FLUSH")

    assert await script.run(encoded((1, "key")), encoded(("again",))) == b"againkey"


async def test_a_frozen_redis_costs_its_bound_once_and_then_nothing(link: RedisLink, redis_server: RedisServer) -> None:
    redis_server.freeze()

    first = [link.send(packed(("PING",))) for _ in range(50)]
    await asyncio.sleep(0)  # they leave
    left = time.perf_counter()
    said = await asyncio.gather(*first, return_exceptions=True)
    first_s = time.perf_counter() - left
    later_s = [await failing_s(link) for _ in range(1_000)]

    assert {type(one) for one in said} == {RedisUnavailable}
    assert first_s < BOUND_S + SLACK_S
    assert sorted(later_s)[500] < 0.000_1
    assert not link.state.up
    assert "60 ms" in link.state.reason


async def test_a_redis_that_thaws_is_used_again(link: RedisLink, redis_server: RedisServer) -> None:
    redis_server.freeze()
    await failing_s(link)
    redis_server.thaw()

    await until_up(link)

    assert await link.call("PING") == b"PONG"
    assert link.state.up


async def test_a_redis_that_is_killed_and_started_again_is_used_again(
    link: RedisLink, redis_server: RedisServer
) -> None:
    redis_server.stop(signal.SIGKILL)
    assert await failing_s(link) < BOUND_S + SLACK_S
    away_since = link.state.since
    redis_server.start()

    await until_up(link)

    assert await link.call("PING") == b"PONG"
    assert link.state.since > away_since


async def test_a_connection_that_redis_closes_is_opened_anew_without_anybody_noticing(
    link: RedisLink, redis_server: RedisServer
) -> None:
    link._up_since_s -= 60
    redis_server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    await eventually(lambda: link._wire is None, every_s=0)

    assert await link.call("PING") == b"PONG"


async def test_a_link_starts_without_redis_and_finds_it_later(redis_server: RedisServer) -> None:
    redis_server.stop()
    link = RedisLink(redis_server.url, BOUND_S)
    await link.start()
    assert not link.state.up
    redis_server.start()

    await until_up(link)

    assert await link.call("PING") == b"PONG"
    await link.close()


async def test_an_event_loop_that_was_busy_does_not_take_redis_for_dead(link: RedisLink) -> None:
    asked = asyncio.create_task(link.call("PING"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    time.sleep(3 * BOUND_S)

    assert await asked == b"PONG"
    assert link.state.up


async def test_a_closed_link_refuses(link: RedisLink) -> None:
    await link.close()

    assert await failing_s(link) < 0.01


async def test_a_password_opens_and_a_wrong_one_is_never_told(
    locked_redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    right = RedisLink(locked_redis_server.url.replace("//", "//:open-sesame@"))
    wrong = RedisLink(locked_redis_server.url.replace("//", "//:open-barley@"))
    await asyncio.gather(right.start(), wrong.start())

    assert await right.call("PING") == b"PONG"
    with pytest.raises(RedisUnavailable, match="WRONGPASS") as refused:
        await wrong.call("PING")
    assert "barley" not in str(refused.value) + repr(wrong.address) + repr(wrong.state) + caplog.text
    await asyncio.gather(right.close(), wrong.close())


async def test_a_database_number_and_a_unix_socket_are_understood(redis_server: RedisServer) -> None:
    third = RedisLink(redis_server.url.removesuffix("0") + "3")
    same = RedisLink(f"unix://{redis_server.socket}?db=3")
    await asyncio.gather(third.start(), same.start())

    await third.call("SET", "here", "yes")

    assert await same.call("GET", "here") == b"yes"
    await asyncio.gather(third.close(), same.close())


async def test_redis_is_not_late_for_what_a_busy_loop_could_not_send(redis_server: RedisServer) -> None:
    link = RedisLink(redis_server.url, timeout_s=0.5)
    await link.start()
    answer = asyncio.ensure_future(link.call("BLPOP", "nobody", "0.2"))
    await asyncio.sleep(0)
    time.sleep(0.6)

    assert await answer is None
    assert link.state.up
    await link.close()


async def test_no_connection_is_left_open_by_one_who_gives_up_connecting() -> None:
    arrived, left = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        while await reader.read(100):
            pass
        left.set()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        link = RedisLink(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", 60)
        start = asyncio.create_task(link.start())
        await asyncio.wait_for(arrived.wait(), 5)
        await asyncio.sleep(0.01)
        start.cancel()

        await asyncio.wait_for(left.wait(), 5)
