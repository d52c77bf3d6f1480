"""Runs in TensorZero's own environment: starts its HTTP gateway, writes the port that it took, waits to be stopped."""

import signal
import sys
from pathlib import Path
from urllib.parse import urlsplit


def main(config: str, port_file: str) -> None:
    """Serve until SIGTERM."""
    from tensorzero.tensorzero import _start_http_gateway  # type: ignore[import-not-found]

    gateway = _start_http_gateway(
        config_file=config, clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
    )
    Path(port_file).write_text(str(urlsplit(gateway.base_url).port))
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    gateway.close()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(sys.argv[1], sys.argv[2])
