"""What is published names no machine of ours: no local path, no package host, no private page."""

from __future__ import annotations

import re

from tests.house.source import ROOT, report, tracked

# Written in two parts, so that this file does not hold what it looks for.
PATHS = ("/wo" + "rk/", "/ro" + "ot/", "/opt/py" + "pi", "/opt/wh" + "eels", ".py" + "env")
HOSTS = ("py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "download.pyt" + "orch.org", "deb." + "debian.org")
PAGES = tuple(name + ".md" for name in ("DES" + "IGN", "REFER" + "ENCE", "CAC" + "HE", "ROUT" + "ING", "RUNT" + "IME"))
FORBIDDEN = re.compile("|".join(rf"(?<![\w-]){re.escape(word)}" for word in (*PATHS, *HOSTS, *PAGES)))


def forbidden_words(path: str, text: str) -> list[str]:
    """`path:line: word` of everything that must not be published."""
    return [
        f"{path}:{number}: {match.group()}"
        for number, line in enumerate(text.splitlines(), 1)
        for match in FORBIDDEN.finditer(line)
    ]


def _texts() -> dict[str, str]:
    texts = {}
    for path in tracked():
        try:
            texts[path] = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:  # a picture or an array
            continue
    return texts


def test_no_file_names_a_machine_or_a_host_of_ours() -> None:
    found = [one for path, text in _texts().items() for one in forbidden_words(path, text)]

    assert not found, report(found)


def test_a_forbidden_word_is_found() -> None:
    text = f"fine\nsee {PATHS[0]}main and https://{HOSTS[0]}/simple\nframe{PATHS[0]}ok\n"

    assert forbidden_words("a.md", text) == [f"a.md:2: {PATHS[0]}", f"a.md:2: {HOSTS[0]}"]
