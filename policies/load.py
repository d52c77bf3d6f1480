"""Reads policies and catalogues from TOML; every fault of a file is told at once, each with line and fix.

The one door to this folder's files. Knows no HTTP and no SQL, and reads no environment variable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from policies.catalogue import Catalogue
from policies.consistency import catalogue_faults, policy_faults
from policies.document import Document, parse_document, read_document
from policies.errors import PolicyError, Problem
from policies.explain import Fault, faults
from policies.merge import merge
from policies.schema import Policy
from policies.upgrade import SchemaVersionError, upgrade

CATALOGUE_FILE = "catalogue.toml"

_Model = TypeVar("_Model", bound=BaseModel)


def load_policy(path: Path) -> Policy:
    """The policy of a file, lifted to today's schema; raises `PolicyError`."""
    return _policy(read_document(path))


def parse_policy(text: str, name: str) -> Policy:
    """The policy of a TOML text; `name` is what messages call it. Raises `PolicyError`."""
    return _policy(parse_document(text, name))


def load_policies(folder: Path) -> dict[str, Policy]:
    """Every policy of a folder by name; each file must be called as its policy, `NAME.toml`.

    Hidden files and a `catalogue.toml` there are left out. Raises one `PolicyError` with the problems of all files.
    """
    if not folder.is_dir():
        fix = "create it, or give the folder that holds the policy files"
        raise PolicyError([Problem(str(folder), None, "", "is not a folder", fix)])
    policies: dict[str, Policy] = {}
    problems: list[Problem] = []
    for path in sorted(folder.glob("*.toml")):
        if path.name == CATALOGUE_FILE or path.name.startswith("."):
            continue
        try:
            policies[path.stem] = _named_as_its_file(path)
        except PolicyError as error:
            problems += error.problems
    if problems:
        raise PolicyError(problems)
    return policies


def load_catalogue(path: Path, over: Path | None = None) -> Catalogue:
    """The catalogue of a file, with the file `over` laid on it where given; raises `PolicyError`."""
    if over is None:
        return _catalogue(read_document(path))
    return merge_catalogues(read_document(path), read_document(over))


def parse_catalogue(text: str, name: str) -> Catalogue:
    """The catalogue of a TOML text; `name` is what messages call it. Raises `PolicyError`."""
    return _catalogue(parse_document(text, name))


def merge_catalogues(base: Document, over: Document) -> Catalogue:
    """`over` laid on `base`: rows of the same id are replaced field by field, new rows are appended.

    Documents come from `read_document` or `parse_document`. Raises `PolicyError` naming the file at fault.
    """
    merged = merge(base, over)
    repeats = [over.problem(*fault) for fault in catalogue_faults(over.body) if fault[1].endswith("appears twice")]
    return _validated(Catalogue, merged.body, catalogue_faults(merged.body), merged.problem, repeats)


def shipped_catalogue_path() -> Path:
    """The catalogue that ships with Fingerpost."""
    return _shipped_folder() / CATALOGUE_FILE


def shipped_policies() -> dict[str, Policy]:
    """The policies that ship with Fingerpost, by name."""
    return load_policies(_shipped_folder())


def shipped_text(name: str) -> str:
    """The TOML of a policy that ships with Fingerpost; `OSError` where there is none of that name."""
    return (_shipped_folder() / f"{name}.toml").read_text(encoding="utf-8")


def _shipped_folder() -> Path:
    return Path(str(files("policies")))


def _policy(document: Document) -> Policy:
    try:
        body = upgrade(document.body)
    except SchemaVersionError as error:
        raise PolicyError([document.problem(("schema",), str(error), error.fix)]) from error
    return _validated(Policy, body, policy_faults(body), lambda fault: document.problem(*fault))


def _catalogue(document: Document) -> Catalogue:
    return _validated(Catalogue, document.body, catalogue_faults(document.body), lambda fault: document.problem(*fault))


def _validated(
    model: type[_Model],
    body: dict[str, Any],
    across: Iterable[Fault],
    problem: Callable[[Fault], Problem],
    problems: Iterable[Problem] = (),
) -> _Model:
    """The body as `model`, checked strictly (a TOML string is no number), or all problems at once."""
    found = [*problems, *map(problem, across)]
    valid: _Model | None = None
    try:
        valid = model.model_validate_json(to_json(body, inf_nan_mode="constants"), strict=True)
    except ValidationError as error:
        # A fault of the file as a whole repeats what `across` has told with its line.
        found += [problem(fault) for fault in faults(error, model) if fault[0] or not found]
    if found or valid is None:
        raise PolicyError(sorted(dict.fromkeys(found), key=lambda one: (one.file, one.line or 0)))
    return valid


def _named_as_its_file(path: Path) -> Policy:
    document = read_document(path)
    policy = _policy(document)
    if policy.name != path.stem:
        message = f"is '{policy.name}', but the file is called '{path.name}'"
        raise PolicyError([document.problem(("name",), message, f'write name = "{path.stem}" or rename the file')])
    return policy
