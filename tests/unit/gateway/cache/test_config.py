"""Which configuration is in use, and one made stricter from another."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.build import build
from gateway.cache.config import SHIPPED, calibration_of, in_use, read, read_served, tighten
from gateway.cache.semantic import Thresholds
from gateway.cache.topics import likeness
from gateway.settings import Settings
from policies.errors import PolicyError


@pytest.fixture
def stricter(tmp_path: Path) -> Path:
    """What ships, with .95 in place of support's .90, and without medical questions."""
    served = read_served(SHIPPED)
    assert served is not None
    left = [
        (share, Thresholds({name: 0.95 if at == 0.9 and name == "support_faq" else None for name, at in told.items()}))
        for share, told in ((share, thresholds.by_category) for share, thresholds in served[1])
    ]
    tighten(SHIPPED, out := tmp_path / "c.json", left, [{"why": "a test"}])
    return out


def test_settings_are_replaced_and_all_else_stays(stricter: Path) -> None:
    (before, given), (after, left) = read(SHIPPED), read(stricter)

    assert after.linear.tolist() == before.linear.tolist() and after.categories == before.categories
    _, topics = likeness(stricter)
    assert topics.needed("support_faq", "support_faq", 0.1) == 0.95
    assert topics.needed("medical", "medical", 0.1) is None
    assert '"why": "a test"' in stricter.read_text()
    assert given.of("support_faq", "support_faq") == 0.94
    assert all(at is None for at in left.by_category.values())  # nothing is left of those for .05, as it is certified


def test_the_one_that_a_setting_names_is_in_use(stricter: Path, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, embedder="hashing", cache_configuration=stricter)

    assert in_use(None) == SHIPPED and in_use(stricter) == stricter
    assert build(settings).cache.trust.calibration == calibration_of(stricter) != calibration_of(SHIPPED)


def test_one_that_can_not_be_read_is_named_at_the_start(stricter: Path, tmp_path: Path) -> None:
    stricter.with_suffix(".npz").write_bytes(b"no model")

    for path in (stricter, tmp_path / "none.json"):
        with pytest.raises(PolicyError, match="FINGERPOST_CACHE_CONFIGURATION"):
            build(Settings(data_dir=tmp_path, embedder="hashing", cache_configuration=path))
