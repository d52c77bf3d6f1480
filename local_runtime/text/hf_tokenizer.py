"""Tokenizer and chat template from the files of a Hugging Face folder. Knows no weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from local_runtime.base import BadWeights, UnsupportedModel
from local_runtime.models.metadata import Metadata
from local_runtime.text.tokenizer import Tokenizer

ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")


def read_json(path: Path) -> Metadata:
    """A JSON object as Metadata; an absent file is an empty one."""
    if not path.is_file():
        return Metadata({}, path.name)
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadWeights(f"{path.name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadWeights(f"{path.name} must hold an object")
    return Metadata(value, path.name)


def tokenizer_from_folder(folder: Path, config: Metadata) -> Tokenizer:
    """The tokenizer of tokenizer.json; answers end at every end token that any of the folder's files names."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UnsupportedModel(f"{folder}: tokenizer.json is missing (only fast tokenizers are supported)")
    try:
        backend = Backend.from_file(str(path))
    except Exception as error:
        raise BadWeights(f"tokenizer.json cannot be read: {error}") from error
    backend.no_truncation()
    backend.no_padding()
    settings = read_json(folder / "tokenizer_config.json")
    special = {role: text for role in ROLES if (text := _content(settings.values.get(role)))}
    ends = set(config.integers("eos_token_id"))
    ends |= set(read_json(folder / "generation_config.json").integers("eos_token_id"))
    if (end := backend.token_to_id(special.get("eos_token", ""))) is not None:
        ends.add(end)
    return Tokenizer(backend, special, ends)


def template_from_folder(folder: Path) -> str | None:
    """chat_template.jinja, or the template in tokenizer_config.json (of several the one called default)."""
    if (path := folder / "chat_template.jinja").is_file():
        return path.read_text("utf-8")
    template = read_json(folder / "tokenizer_config.json").values.get("chat_template")
    if isinstance(template, list):
        named = {item.get("name"): item.get("template") for item in template if isinstance(item, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _content(token: Any) -> str:
    """A special token is a string or an object with `content`."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""
