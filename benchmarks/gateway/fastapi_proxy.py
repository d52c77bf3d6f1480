"""The bare FastAPI + httpx proxy, written the way most people write one: the yardstick, with no duties at all."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from starlette.background import BackgroundTask


def make_app(upstream: str) -> FastAPI:
    """A proxy in front of `upstream` (http://host:port): JSON parsed and sent again, streams relayed as they come.

    The client is httpx's default (its own connection pool, its own limits); only the time-out is longer.
    """
    client = httpx.AsyncClient(base_url=upstream, timeout=60.0)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await client.aclose()

    app = FastAPI(lifespan=lifespan)

    @app.post("/{path:path}")
    async def relay(path: str, request: Request) -> Response:
        body = await request.json()
        headers = {"authorization": request.headers.get("authorization", "")}
        if not body.get("stream"):
            answer = await client.post(f"/{path}", json=body, headers=headers)
            return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))
        outgoing = client.build_request("POST", f"/{path}", json=body, headers=headers)
        opened = await client.send(outgoing, stream=True)
        return StreamingResponse(
            opened.aiter_raw(),
            opened.status_code,
            media_type=opened.headers.get("content-type"),
            background=BackgroundTask(opened.aclose),
        )

    return app


def main() -> None:
    """Serve with one uvicorn worker on uvloop and httptools."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway.fastapi_proxy", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="http://host:port")
    arguments = parser.parse_args()
    app = make_app(arguments.upstream)
    uvicorn.run(
        app, host="127.0.0.1", port=arguments.port, loop="uvloop", http="httptools", access_log=False,
        log_level="warning",
    )  # fmt: skip


if __name__ == "__main__":
    main()
