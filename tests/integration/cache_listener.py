"""A worker of its own that only listens to the cache's store; says "ready", is told an id, and says what it can find.

python -m tests.integration.cache_listener REDIS_URL
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from gateway.cache.redis_store import RedisStore
from gateway.redis_link import RedisLink
from tests.contract.cache_stores import Heard
from tests.eventually import eventually


async def listen(url: str) -> None:
    """Until standard input ends; then until the id is known, and a moment longer."""
    heard, link = Heard(), RedisLink(url)
    store = RedisStore(link, url, heard, time.time)
    await link.start()
    await store.start()
    await eventually(lambda: heard.clears)
    print("ready", flush=True)
    last = (await asyncio.to_thread(sys.stdin.read)).strip()
    await eventually(lambda: last in heard.ids)
    before = -1
    while before != len(heard.told):
        before = len(heard.told)
        await asyncio.sleep(0.5)
    print(json.dumps({"clears": heard.clears, "ids": sorted(heard.ids)}))
    await store.close()
    await link.close()


if __name__ == "__main__":
    asyncio.run(listen(sys.argv[1]))
