"""A new model joins a running gateway by its card alone, gets traffic, and is known better after sixteen feedbacks.

Run: python -m benchmarks.new_model FOLDER --new MODEL [--seed 0] [--questions 150]
FOLDER is as in docs/data.md, with texts. The router learns from its outcomes without that model. Then the real
`fingerpost serve` answers questions that it has not learned from; behind it stands a server that gives the answers that
the folder recorded, graded there. Every step prints what it saw. Nothing is trained after the beginning.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any, cast

import httpx
import numpy as np

from gateway.cli.outcomes import reader
from gateway.settings import Settings
from policies.catalogue import ModelCard
from routers.kinds.bandit import Bandit
from routers.kinds.graph import GraphRouter
from routers.training.dataset import Dataset
from routers.training.splits import by_group

FEEDBACKS = 16
KEY = "fp-application-key-of-the-benchmark"
POLICY = """schema = 1
name = "default"
exploration = 0.05
[objective]
quality = 1.0
cost = 1.0
cost_scale_usd = 0.1
[router]
kind = "bandit"
artifact = "mine"
"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Graded answers of the folder, by model and text; says what a question is worth."""

    data: Dataset
    rows: dict[str, int] = field(default_factory=dict)
    columns: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Dataset) -> Recorded:
        """All of it."""
        rows = {text: row for row, text in enumerate(data.texts)}
        return cls(data, rows, {card.id: column for column, card in enumerate(data.models)})

    def score(self, model: str, text: str) -> float:
        """0..1, NaN where nobody has asked."""
        return float(self.data.score[self.rows[text], self.columns[model]])

    def answer(self, model: str, text: str) -> dict[str, Any]:
        """As a vendor would give it, of as many tokens as there were."""
        row, column = self.rows[text], self.columns[model]
        tokens = [int(one[row, column]) for one in (self.data.input_tokens, self.data.output_tokens)]
        message = {"role": "assistant", "content": f"(the recorded answer of {model})"}
        return {
            "id": f"{model}-{row}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)},
        }


@contextmanager
def vendor(recorded: Recorded) -> Iterator[str]:
    """A server that gives recorded answers; its address."""

    class Teller(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            said = json.dumps(recorded.answer(body["model"], body["messages"][-1]["content"])).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Teller)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def toml_of(cards: Sequence[ModelCard], url: str) -> str:
    """A catalogue that serves these models from one vendor."""
    lines = []
    for card in cards:
        lines.append("[[model]]")
        facts = card.model_dump(mode="json", exclude_defaults=True)
        lines += [f"{name} = {json.dumps(value)}" for name, value in facts.items()]
        lines += ["[[endpoint]]", f'id = "{card.id}-1"', f'model = "{card.id}"', 'provider = "openai"']
        lines += [f'base_url = "{url}"', f'wire_model = "{card.id}"', 'key_ref = "env:VENDOR_SECRET"']
    return "\n".join(lines) + "\n"


@contextmanager
def gateway(home: Path, catalogue: str) -> Iterator[httpx.Client]:
    """The real command with this catalogue; a client of it."""
    (home / "catalogue.toml").write_text(catalogue)
    (home / "policies").mkdir(exist_ok=True)
    (home / "policies" / "default.toml").write_text(POLICY)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FINGERPOST_")}
    env = kept | {
        "FINGERPOST_DATA_DIR": str(home),
        "FINGERPOST_CATALOGUE": str(home / "catalogue.toml"),
        "FINGERPOST_POLICIES": str(home / "policies"),
        "FINGERPOST_PRIVATE_NETWORKS": "127.0.0.0/8",
        "FINGERPOST_BOOTSTRAP_KEY": KEY,
        "FINGERPOST_LOG_LEVEL": "warning",
        "VENDOR_SECRET": "sk-vendor",
    }
    command = [sys.executable, "-m", "gateway.cli.main", "serve", "--port", "0"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=quiet, text=True)
    try:
        out = cast(IO[str], process.stdout)
        ready = next(line for line in out if line.startswith("ready "))
        threading.Thread(target=out.read, daemon=True).start()
        with httpx.Client(base_url=ready.split()[1], headers={"authorization": f"Bearer {KEY}"}, timeout=60) as client:
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def asked(client: httpx.Client, model: str, text: str) -> tuple[str, str]:
    """Who answered, and the request's id."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], "cache": {"mode": "off"}}
    answer = client.post("/v1/chat/completions", json=body).raise_for_status()
    return answer.headers["x-fingerpost-model"], answer.headers["x-request-id"]


def forecasts(client: httpx.Client, texts: Sequence[str], model: str) -> np.ndarray[Any, Any]:
    """What the gateway forecasts of a model for these questions; nothing is called."""
    found = []
    for text in texts:
        body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
        told = client.post("/v1/route", json=body).raise_for_status().json()
        found.append(next(row["quality"]["mean"] for row in told["candidates"] if row["model"] == model))
    return np.array(found)


def traffic(client: httpx.Client, recorded: Recorded, texts: Sequence[str], new: str) -> list[tuple[str, str, str]]:
    """Ask all of them and print who answered and what that was worth; (model, id, text) of each."""
    seen = [(*asked(client, "auto", text), text) for text in texts]
    counts = Counter(model for model, _, _ in seen)
    worth = np.mean([recorded.score(model, text) for model, _, text in seen])
    rows, columns = [recorded.rows[text] for _, _, text in seen], [recorded.columns[model] for model, _, _ in seen]
    cost = 1e3 * recorded.data.cost_usd[rows, columns].mean()
    told = ", ".join(f"{model} {count}" for model, count in counts.most_common(4))
    print(f"   {len(seen)} questions: {told}; score {worth:.3f}, {cost:.3f} USD a thousand; the new one: {counts[new]}")
    return seen


def known(client: httpx.Client, recorded: Recorded, texts: Sequence[str], new: str) -> float:
    """Print and give how well a model is forecast on questions that nobody gives feedback on."""
    told = forecasts(client, texts, new)
    true = np.array([recorded.score(new, text) for text in texts])
    print(f"   forecast of {new} on {len(texts)} other questions: mean {told.mean():.3f} (true {true.mean():.3f}),")
    print(f"   Brier {np.mean((told - true) ** 2):.4f}")
    return float(told.mean())


def learned(data: Dataset, new: str, seed: int, home: Path) -> list[str]:
    """Train without the new model, save, and give the texts that were not learned from and that all models answered."""
    first, second, test = by_group(data, seed)
    columns = [place for place, card in enumerate(data.models) if card.id != new]
    train = data.rows(first).columns(columns)
    prior = GraphRouter.fit(train, validation=data.rows(second).columns(columns), seed=seed)
    Bandit.upon(prior, train).artifact.save(home / "artifacts" / "mine")
    return [data.texts[row] for row in test if data.observed[row].all()]


def run(data: Dataset, new: str, seed: int, questions: int, home: Path) -> None:
    """The whole story."""
    recorded = Recorded.of(data)
    texts = learned(data, new, seed, home)
    parts = [texts[place::3][:questions] for place in range(3)]
    others = [card for card in data.models if card.id != new]
    print(f"1. {len(others)} models, a router trained on {data.name} without {new}:")
    with vendor(recorded) as url:
        with gateway(home, toml_of(others, url)) as client:
            traffic(client, recorded, parts[0], new)
        print(f"2. {new} is added to the catalogue, the gateway restarted, nothing trained:")
        with gateway(home, toml_of(data.models, url)) as client:
            before = known(client, recorded, parts[2], new)
            seen = traffic(client, recorded, parts[1], new)
            judged = [(one, text) for model, one, text in seen if model == new][:FEEDBACKS]
            for text in parts[1][: FEEDBACKS - len(judged)]:
                judged.append((asked(client, new, text)[1], text))
            print(f"3. {len(judged)} of its answers are graded through POST /v1/feedback:")
            for one, text in judged:
                said = {"request_id": one, "score": recorded.score(new, text), "source": "tests"}
                client.post("/v1/feedback", json=said).raise_for_status()
            until = time.monotonic() + 30
            while forecasts(client, parts[2][:5], new).mean() == before and time.monotonic() < until:
                time.sleep(0.5)
            time.sleep(3)  # until the last of them is learned from
            known(client, recorded, parts[2], new)
            traffic(client, recorded, parts[2], new)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--new", required=True, help="the model that joins")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--questions", type=int, default=150)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = reader(Settings(data_dir=Path(folder)), lambda *_: None).read(given.folder)
        run(data, given.new, given.seed, given.questions, Path(folder))


if __name__ == "__main__":
    main()
