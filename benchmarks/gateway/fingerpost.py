"""Fingerpost as a contestant: as a user starts it, and with every duty of a gateway for teams switched on."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.gateway.contestant import HOST, CannotStart, Contestant
from benchmarks.gateway.processes import clean_environment, free_port
from benchmarks.gateway.upstream import PACES
from benchmarks.gateway.upstream_bodies import MODEL

_SET_UP_S = 120


def fingerpost(upstream_port: int, folder: Path) -> Contestant:
    """Fingerpost as a user starts it: key check, policy, rules router and SQL log (SQLite) on, embedding off."""
    return _plain("fingerpost", _program(), upstream_port, folder)


def fingerpost_full(upstream_port: int, folder: Path) -> Contestant:
    """The same with Redis, and a key of a team of an organisation: rate limits and hard budgets at every level."""
    program, server = _program(), shutil.which("redis-server")
    if server is None:
        raise CannotStart("redis-server is not installed (Debian: apt-get install redis-server)")
    plain = _plain("fingerpost-full", program, upstream_port, folder)
    redis_port = free_port()
    environment = {**plain.environment, "FINGERPOST_REDIS_URL": f"redis://{HOST}:{redis_port}/0"}
    environment["FINGERPOST_DATA_DIR"] = str(folder / "fingerpost-full" / "data")
    key = _tenant(program, environment)
    redis = (server, "--port", str(redis_port), "--bind", HOST, "--save", "", "--appendonly", "no")
    return replace(plain, environment=environment, key=key, beside=(redis,))


def _tenant(program: str, environment: dict[str, str]) -> str:
    """An organisation, a team and a key, all bounded far above what a benchmark uses; the key's secret."""

    def run(*words: str) -> dict[str, str]:
        command = (program, *words, "--json")
        done = subprocess.run(
            command, env=clean_environment(environment), capture_output=True, text=True, timeout=_SET_UP_S, check=False
        )
        if done.returncode:
            raise CannotStart(f"`fingerpost {' '.join(words)}` failed: {done.stderr.strip()[-300:]}")
        found: dict[str, str] = json.loads(done.stdout)
        return found

    upgrade, variables = (program, "db", "upgrade"), clean_environment(environment)
    subprocess.run(upgrade, env=variables, check=True, capture_output=True, timeout=_SET_UP_S)
    organisation = run("org", "create", "bench")["id"]
    team = run("team", "create", "bench", "--org", organisation)["id"]
    key = run("key", "issue", "bench", "--team", team)
    for scope, name in (("organisation", organisation), ("team", team), ("key", key["id"])):
        run("budget", "create", scope, name, "1000000", "--window", "calendar", "--period", "month")
        run("limit", "create", scope, name, "--rpm", "100000000", "--tpm", "100000000000", "--concurrent", "100000")
    return key["key"]


def _program() -> str:
    program = shutil.which("fingerpost", path=str(Path(sys.executable).parent)) or shutil.which("fingerpost")
    if program is None:
        raise CannotStart("the command 'fingerpost' is not installed (pip install -e .)")
    return program


def _plain(name: str, program: str, upstream_port: int, folder: Path) -> Contestant:
    port, home = free_port(), folder / name
    policies = home / "policies"
    policies.mkdir(parents=True)
    (home / "catalogue.toml").write_text("".join(_catalogue_rows(mode, upstream_port) for mode in PACES))
    for mode in PACES:
        policy = "default" if mode == "instant" else mode
        (policies / f"{policy}.toml").write_text(_policy(policy, mode))
    key = f"fp-{secrets.token_urlsafe(32)}"
    command = (program, "serve", "--host", HOST, "--port", str(port), "--data-dir", str(home / "data"))
    environment = {
        "FINGERPOST_CATALOGUE": str(home / "catalogue.toml"),
        "FINGERPOST_POLICIES": str(policies),
        "FINGERPOST_BOOTSTRAP_KEY": key,
        "FINGERPOST_PRELOAD": "false",
        "FINGERPOST_LOG_LEVEL": "warning",
        "BENCH_UPSTREAM_KEY": "sk-bench-upstream",
    }
    return Contestant(name, port, command, environment, key, models=_POLICIES)


_POLICIES = {mode: "auto" if mode == "instant" else f"auto:{mode}" for mode in PACES}


def model_name(mode: str) -> str:
    """The model that the catalogue serves from a mode of the upstream."""
    return MODEL if mode == "instant" else f"{MODEL}-{mode}"


def _catalogue_rows(mode: str, upstream_port: int) -> str:
    name = model_name(mode)
    return f"""
[[model]]
id = "{name}"
context_tokens = 131072
price_in_usd_per_mtok = 0.5
price_out_usd_per_mtok = 1.5
prior_quality = 0.7
description = "The benchmark upstream, mode {mode}"

[[endpoint]]
id = "{name}-upstream"
model = "{name}"
provider = "openai"
base_url = "http://{HOST}:{upstream_port}/{mode}/v1"
wire_model = "{MODEL}"
key_ref = "env:BENCH_UPSTREAM_KEY"
"""


def _policy(policy: str, mode: str) -> str:
    return f"""
schema = 1
name = "{policy}"
models = ["{model_name(mode)}"]

[router]
kind = "rules"

[[router.rule]]
name = "everything"
prefer = ["{model_name(mode)}"]
"""
