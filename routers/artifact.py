"""A trained router on disk: a manifest (JSON) and arrays (npz), refused when truncated, changed or of another kind."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FORMAT = 1
MANIFEST, ARRAYS = "manifest.json", "arrays.npz"

Array = npt.NDArray[Any]


class ArtifactError(ValueError):
    """An artifact can't be used; the message names the file or field and the fix."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """What `fit` learned. `facts` are small JSON values; `sha256` covers manifest and arrays and names the artifact.

    `embedder` is the id of the embedder whose vectors it was fitted on ("" for kinds that need none), `dimensions`
    their length; `data` says which data (name, sha256, counts), `metrics` what was measured when it was made.
    """

    kind: str
    embedder: str
    dimensions: int
    features_version: int
    arrays: Mapping[str, Array]
    facts: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def sha256(self) -> str:
        """Hex hash of everything in it; the same training with the same seed gives the same."""
        return _hash(self._manifest(), _packed(self.arrays))

    def save(self, folder: Path) -> None:
        """Write the folder whole or not at all; an artifact that is there already is replaced."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            packed = _packed(self.arrays)
            manifest = self._manifest()
            (made / ARRAYS).write_bytes(packed)
            text = json.dumps({**manifest, "sha256": _hash(manifest, packed)}, indent=1, sort_keys=True)
            (made / MANIFEST).write_text(text + "\n")
            made.chmod(0o755)
            _replace(made, folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def _manifest(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "kind": self.kind,
            "embedder": self.embedder,
            "dimensions": self.dimensions,
            "features_version": self.features_version,
            "seed": self.seed,
            "facts": dict(self.facts),
            "data": dict(self.data),
            "metrics": dict(self.metrics),
        }


def read_artifact(folder: Path) -> Artifact:
    """Load and verify; raises `ArtifactError`."""
    manifest_file, arrays_file = folder / MANIFEST, folder / ARRAYS
    for file in (manifest_file, arrays_file):
        if not file.is_file():
            raise ArtifactError(f"{file} is missing: an artifact is a folder with {MANIFEST} and {ARRAYS}")
    try:
        manifest = json.loads(manifest_file.read_bytes())
        told = manifest.pop("sha256")
        if manifest["format"] != FORMAT:
            raise ArtifactError(f"{manifest_file}: format is {manifest['format']!r}, this version reads {FORMAT}")
        packed = arrays_file.read_bytes()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"{manifest_file} can't be read ({error}); train the artifact anew") from error
    found = _hash(manifest, packed)
    if found != told:
        raise ArtifactError(
            f"{folder}: the contents do not match the manifest's sha256 (says {str(told)[:12]}, is {found[:12]}):"
            " it was changed or cut short; copy it again or train it anew"
        )
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            loaded = {name: arrays[name] for name in arrays.files}
        manifest.pop("format")
        return Artifact(arrays=loaded, **manifest)
    except (ValueError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{folder} can't be read ({error}); train the artifact anew") from error


def _hash(manifest: Mapping[str, Any], packed: bytes) -> str:
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode() + b"\0" + packed).hexdigest()


def _packed(arrays: Mapping[str, Array]) -> bytes:
    """A zip of npy files whose bytes depend on the arrays alone: names sorted, one date for all."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(arrays):
            raw = io.BytesIO()
            np.lib.format.write_array(raw, np.asarray(arrays[name], order="C"), allow_pickle=False)
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), raw.getvalue(), zipfile.ZIP_DEFLATED
            )
    return out.getvalue()


def _replace(made: Path, folder: Path) -> None:
    """Put a finished folder in its place; the old one goes only when the new one stands there."""
    if not folder.exists():
        made.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    folder.rename(old / folder.name)
    made.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
