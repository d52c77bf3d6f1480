"""What is built once, under benchmarks/.environments: llama.cpp, its own file, a folder for transformers, the reader.

Nothing of it is committed. Each part is made in a folder with a marker that is written last, so that what was
interrupted is made again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from benchmarks.runtime.workers import CannotRun, clean_environment

ENVIRONMENTS = Path(__file__).resolve().parents[1] / ".environments"
LLAMA_VERSION = "0.3.36"
BINDINGS_NEED = ("numpy==2.4.6", "typing-extensions==4.15.0", "diskcache==5.6.3", "jinja2==3.1.6")
# Only the library: no tools, no tests, no server; made for this very processor, with llama.cpp's fastest CPU paths.
LLAMA_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    *("-DGGML_NATIVE=ON", "-DGGML_OPENMP=ON", "-DGGML_LLAMAFILE=ON", "-DGGML_CPU_REPACK=ON"),
    *(f"-DLLAMA_BUILD_{part}=OFF" for part in ("COMMON", "TESTS", "TOOLS", "EXAMPLES", "SERVER")),
)
_DOWNLOAD_S, _BUILD_S, _CONVERT_S = 900.0, 5400.0, 600.0


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """A built llama.cpp: the interpreter with the bindings' needs, and the environment that finds both."""

    python: Path
    environment: Mapping[str, str]


def once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of that name, which `make` has filled completely; CannotRun says why it can't be."""
    folder = ENVIRONMENTS / name
    marker = folder / ".finished"
    if not marker.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make(folder)
        marker.touch()
    return folder


def llama_cpp() -> LlamaCpp:
    """llama.cpp as llama-cpp-python brings it, built with low priority (minutes at the first time)."""
    folder = once(f"llama-cpp-{LLAMA_VERSION}", _make_llama_cpp)
    return _llama_in(folder)


def _llama_in(folder: Path) -> LlamaCpp:
    paths = {
        "PYTHONPATH": os.pathsep.join((str(Path(__file__).resolve().parents[2]), str(folder / "source"))),
        "LLAMA_CPP_LIB_PATH": str(folder / "build" / "bin"),
    }
    return LlamaCpp(folder / "python" / "bin" / "python", paths)


def _make_llama_cpp(folder: Path) -> None:
    if missing := [tool for tool in ("cmake", "ninja", "c++") if shutil.which(tool) is None]:
        raise CannotRun(f"llama.cpp needs {', '.join(missing)} (Debian: apt-get install cmake ninja-build g++)")
    print(f"building llama.cpp {LLAMA_VERSION} once, some minutes", file=sys.stderr)
    python = folder / "python" / "bin" / "python"
    venv.create(folder / "python", with_pip=True)
    pip = (str(python), "-m", "pip", "--disable-pip-version-check")
    carry_out((*pip, "install", "--quiet", *BINDINGS_NEED), _DOWNLOAD_S)
    package = f"llama-cpp-python=={LLAMA_VERSION}"
    download = ("download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-python", "--dest", str(folder))
    carry_out((*pip, *download, package), _DOWNLOAD_S)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    archive.unlink()
    (unpacked,) = folder.glob("llama_cpp_python-*")
    unpacked.rename(folder / "source")
    build = str(folder / "build")
    source = str(folder / "source" / "vendor" / "llama.cpp")
    carry_out(("cmake", "-S", source, "-B", build, "-G", "Ninja", *LLAMA_OPTIONS), _DOWNLOAD_S)
    carry_out(("nice", "ninja", "-C", build, "llama"), _BUILD_S)


def requantised(source: Path) -> Path:
    """The same model as Q4_0, made by llama.cpp itself."""
    built = llama_cpp()

    def make(folder: Path) -> None:
        command = (str(built.python), "-m", "benchmarks.runtime.model_llama", str(source))
        carry_out((*command, "--requantise", str(folder / "Q4_0.gguf")), _CONVERT_S, built.environment)

    return once(f"{source.stem}-Q4_0-{_size(source)}", make) / "Q4_0.gguf"


def transformers_folder(source: Path) -> Path:
    """The dequantised tensors as a float32 folder; needs transformers, which comes with the development tools."""
    try:
        version("transformers")
    except ModuleNotFoundError:
        raise CannotRun("transformers is not installed (pip install -e .[dev])") from None

    def make(folder: Path) -> None:
        command = (sys.executable, "-m", "benchmarks.runtime.model_transformers", str(folder), "--save", str(source))
        carry_out(command, _CONVERT_S)

    return once(f"{source.stem}-transformers-{_size(source)}", make)


def reader() -> Path:
    """The compiled memory reader."""
    source = Path(__file__).with_name("arena.c")
    if shutil.which("cc") is None:
        raise CannotRun("no C compiler (Debian: apt-get install gcc)")

    def make(folder: Path) -> None:
        flags = ("-O3", "-march=native", "-shared", "-fPIC")
        carry_out(("cc", *flags, str(source), "-o", str(folder / "arena.so")), _CONVERT_S)

    return once(f"arena-{sha256(source.read_bytes()).hexdigest()[:12]}", make) / "arena.so"


def _size(file: Path) -> int:
    return file.stat().st_size


def carry_out(command: Sequence[str], timeout_s: float, environment: Mapping[str, str] | None = None) -> None:
    """Run a command to its end; CannotRun with its last line when it fails or takes too long."""
    env = clean_environment(environment or {})
    try:
        done = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise CannotRun(f"{' '.join(command[:4])} took more than {timeout_s:.0f} s") from None
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
        raise CannotRun(f"{' '.join(command[:4])} failed: {lines[-1].strip()[:300]}")
