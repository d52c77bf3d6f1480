"""Runs the `wrk` load generator (Debian package `wrk`) in a closed loop, or our own client where it is missing."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

from benchmarks.gateway.client import Target
from benchmarks.gateway.load import LoadResult, Spread, closed_loop

_SCRIPT = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
{authorization}
wrk.body = [==[{body}]==]
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nRESULT {{"requests":%d,"us":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,' ..
    '"p50":%d,"p90":%d,"p99":%d,"max":%d}}\\n',
    summary.requests, summary.duration, e.connect, e.read, e.write, e.status, e.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
"""
_ERROR_KINDS = ("connect", "read", "write", "status", "timeout")


def find_wrk() -> str | None:
    """Where wrk is, or None."""
    return shutil.which("wrk")


def script(target: Target) -> str:
    """The Lua script that makes wrk send `target` and print one line of JSON (times in microseconds)."""
    body = target.body.decode()
    if "]==]" in body:
        raise ValueError("the body must not hold ']==]'")
    authorization = f'wrk.headers["authorization"] = "Bearer {target.key}"' if target.key else ""
    return _SCRIPT.format(authorization=authorization, body=body)


def parse(output: str) -> LoadResult:
    """Read the line that the script printed; wrk counts answers of any status, so bad ones are taken off."""
    line = next((line for line in output.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise RuntimeError(f"wrk printed no result: {output.strip()[-300:]}")
    told: dict[str, int] = json.loads(line.removeprefix("RESULT "))
    good = told["requests"] - told["status"]
    spread = Spread(told["requests"], told["p50"] / 1e3, told["p90"] / 1e3, told["p99"] / 1e3, told["max"] / 1e3)
    errors = {kind: told[kind] for kind in _ERROR_KINDS if told[kind]}
    return LoadResult("wrk", good, told["us"] / 1e6, errors, spread if told["requests"] else None)


async def hammer(target: Target, connections: int, seconds: int, folder: Path) -> LoadResult:
    """Closed loop with `connections` for whole `seconds`: by wrk (one thread) if it is installed."""
    wrk = find_wrk()
    if wrk is None:
        return await closed_loop(target, connections, seconds=seconds)
    lua = folder / "request.lua"
    lua.write_text(script(target))
    url = f"http://{target.host}:{target.port}{target.path}"
    process = await asyncio.create_subprocess_exec(
        wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(lua), url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return parse(output.decode(errors="replace"))
