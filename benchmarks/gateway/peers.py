"""Other gateways as contestants: each from PyPI in an environment of its own, one worker, its documented settings."""

from __future__ import annotations

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway.contestant import HOST, CannotStart, Contestant
from benchmarks.gateway.processes import free_port
from benchmarks.gateway.upstream import PACES
from benchmarks.gateway.upstream_bodies import MODEL

ENVIRONMENTS = Path(__file__).resolve().parents[1] / ".environments"
_INSTALL_S = 1800


@dataclass(frozen=True, slots=True)
class Peer:
    """A package at the version that was measured, and what else it needs."""

    name: str
    requirements: tuple[str, ...]

    def python(self) -> Path:
        """The interpreter of its environment, which is made once; `CannotStart` where that fails."""
        folder = ENVIRONMENTS / f"{self.name}-{self.requirements[0].partition('==')[2]}"
        python = folder / "bin" / "python"
        finished = folder / ".finished"
        if finished.exists():
            return python
        venv.create(folder, with_pip=True, clear=True)
        command = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *self.requirements)
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
        if done.returncode:
            raise CannotStart(f"can't be installed: {done.stderr.strip().splitlines()[-1][:300]}")
        finished.touch()
        return python


LITELLM = Peer("litellm", ("litellm[proxy]==1.106.2", "prisma==0.15.0"))
TENSORZERO = Peer("tensorzero", ("tensorzero==2026.6.0",))


def litellm(upstream_port: int, folder: Path) -> Contestant:
    """LiteLLM's proxy: one worker, a master key, production mode, logging of errors only, no database."""
    python = LITELLM.python()
    port, key = free_port(), "sk-bench-litellm-0123456789"
    rows = "".join(
        f"""
  - model_name: {_named(mode)}
    litellm_params:
      model: openai/{MODEL}
      api_base: http://{HOST}:{upstream_port}/{mode}/v1
      api_key: sk-bench-upstream
"""
        for mode in PACES
    )
    config = folder / "litellm.yaml"
    config.write_text(
        f"model_list:{rows}\n"
        "litellm_settings:\n  request_timeout: 600\n  set_verbose: false\n  json_logs: true\n  telemetry: false\n"
        f"general_settings:\n  master_key: {key}\n"
    )
    command = (
        str(python.parent / "litellm"), "--config", str(config), "--host", HOST, "--port", str(port),
        "--num_workers", "1",
    )  # fmt: skip
    environment = {
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_DOCS": "True",
    }
    return Contestant("litellm", port, command, environment, key, models={mode: _named(mode) for mode in PACES})


def tensorzero(upstream_port: int, folder: Path) -> Contestant:
    """TensorZero's gateway with observability off (it would need ClickHouse), as its Python package starts it."""
    python = TENSORZERO.python()
    rows = "".join(
        f"""
[models.{_named(mode)}]
routing = ["upstream"]

[models.{_named(mode)}.providers.upstream]
type = "openai"
model_name = "{MODEL}"
api_base = "http://{HOST}:{upstream_port}/{mode}/v1/"
api_key_location = "none"
"""
        for mode in PACES
    )
    config, port_file = folder / "tensorzero.toml", folder / "tensorzero.port"
    config.write_text(f"[gateway]\nobservability.enabled = false\n{rows}")
    script = Path(__file__).with_name("tensorzero_server.py")
    return Contestant(
        "tensorzero",
        0,
        (str(python), str(script), str(config), str(port_file)),
        path="/openai/v1/chat/completions",
        models={mode: f"tensorzero::model_name::{_named(mode)}" for mode in PACES},
        port_file=port_file,
    )


def _named(mode: str) -> str:
    return f"bench-{mode}"


def main() -> int:
    """`python -m benchmarks.gateway.peers`: make the environments beforehand."""
    for peer in (LITELLM, TENSORZERO):
        try:
            print(f"{peer.name}: {peer.python()}")
        except CannotStart as reason:
            print(f"{peer.name} {reason}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
