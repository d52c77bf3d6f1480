"""A gateway in front of a scripted upstream of all three vendors, for the tests of what may leave and what may not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet

from tests.command_line import fingerpost
from tests.scripted_upstream import JSON, SSE, ScriptedUpstream, scripted_upstream
from tests.serving import Served, environment, serving

# Of no vendor's shape, so that nothing hides them but that they are known to be secret.
VENDOR_KEY = "plain-words-of-a-vendor-key"
KEY = "<the key>"
STORED_KEY = "other-words-in-the-database"
POLICY = (
    'schema = 1\nname = "default"\nmodels = ["*"]\n[router]\nkind = "rules"\n'
    "[fallback]\nretries = 0\n[log]\nprompts = true\n"
)
USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
CHAT = {"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}], "usage": USAGE}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 1},
}
RESPONSE = {"id": "resp_1", "object": "response", "status": "completed", "output": []}
TEXTS = {"id": "t", "choices": [{"index": 0, "text": "hi", "finish_reason": "stop"}], "usage": USAGE}
GEMINI = {"candidates": [{"content": {"role": "model", "parts": [{"text": "hi"}]}, "finishReason": "STOP"}]}
VECTORS = {"object": "list", "data": [{"index": 0, "embedding": [0.5]}], "usage": USAGE}
RANKED = {"results": [{"index": 0, "relevance_score": 0.5}]}
ANSWERS = {
    "/o/v1/chat/completions": CHAT,
    "/s/v1/chat/completions": CHAT,
    "/n/v1/completions": TEXTS,
    "/n/v1/responses": RESPONSE,
    "/o/v1/embeddings": VECTORS,
    "/o/v1/rerank": RANKED,
    "/a/v1/messages": MESSAGE,
    "/a/v1/messages/count_tokens": {"input_tokens": 3},
    "/g/v1beta/models/wire-gemini:generateContent": GEMINI,
}
TRACES = "/v1/traces"


def _rows(
    name: str, provider: str, base_url: str, key: str = "env:ODDLY_NAMED", task: str = "chat", more: str = ""
) -> str:
    return (
        f'[[model]]\nid = "{name}"\ntask = "{task}"\ncontext_tokens = 100000\n'
        "price_in_usd_per_mtok = 1.0\nprice_out_usd_per_mtok = 2.0\n"
        f'[[endpoint]]\nid = "{name}-1"\nmodel = "{name}"\nprovider = "{provider}"\nbase_url = "{base_url}"\n'
        f'wire_model = "wire-{name}"\nkey_ref = "{key}"\n{more}\n'
    )


def catalogue(url: str) -> str:
    """One model by each provider, dialect and kind of key."""
    return "".join(
        [
            _rows("openai", "openai", f"{url}/o/v1"),
            _rows("native", "openai", f"{url}/n/v1", more='dialects = ["chat", "completions", "responses"]'),
            _rows("anthropic", "anthropic", f"{url}/a/v1"),
            _rows("gemini", "gemini", f"{url}/g/v1beta"),
            _rows("vectors", "openai", f"{url}/o/v1", task="embedding"),
            _rows("ranker", "openai", f"{url}/o/v1", task="rerank"),
            _rows("stored", "openai", f"{url}/s/v1", "secret:STORED"),
        ]
    )


@dataclass
class Guarded:
    """A running gateway, what is behind it, and the command line beside it."""

    served: Served
    upstream: ScriptedUpstream
    env: Mapping[str, str]
    folder: Path

    @property
    def log(self) -> str:
        """Its standard error so far."""
        return (self.folder / "stderr.log").read_text()

    def shell(self, *arguments: str, said: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `fingerpost` on the same database."""
        return fingerpost(*arguments, env=environment(self.served.data_dir, self.env), said=said, check=check)

    def well(self) -> None:
        """From now on the upstream answers as it should."""
        for path, answer in ANSWERS.items():
            self.upstream.answers[path] = (200, JSON, json.dumps(answer).encode())

    def says(self, status: int, kind: str, body: bytes) -> None:
        """From now on it answers everything so, with the key that it was sent in place of `KEY`; traces it takes."""
        for path in (*ANSWERS, "/g/v1beta/models/wire-gemini:streamGenerateContent?alt=sse"):
            key = STORED_KEY if path.startswith("/s/") else VENDOR_KEY
            self.upstream.answers[path] = (status, kind.replace(KEY, key), body.replace(KEY.encode(), key.encode()))


@contextmanager
def guarded(folder: Path, **more: str) -> Iterator[Guarded]:
    """Everything that could tell a secret is on: debug logs, traces, prompts in the ledger, secrets in the database."""
    with scripted_upstream() as upstream:
        upstream.answers[TRACES] = (200, "application/x-protobuf", b"")
        env = {
            "ODDLY_NAMED": VENDOR_KEY,
            "FINGERPOST_SECRET_KEYS": Fernet.generate_key().decode(),
            "FINGERPOST_OTLP_ENDPOINT": upstream.url,
            "FINGERPOST_LOG_LEVEL": "debug",
            "FINGERPOST_LOG_FORMAT": "json",
            "FINGERPOST_PRELOAD": "false",
            **more,
        }
        with serving(folder, catalogue=catalogue(upstream.url), policies={"default": POLICY}, env=env) as served:
            found = Guarded(served, upstream, env, folder)
            found.well()
            yield found


__all__ = ["JSON", "KEY", "SSE", "STORED_KEY", "VENDOR_KEY", "Guarded", "guarded"]
