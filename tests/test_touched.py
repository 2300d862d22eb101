"""The tests that belong to a change, as the pre-push hook selects them."""

from __future__ import annotations

import pytest

from tests.support import ROOT
from tests.touched import ELSEWHERE, paths_for


@pytest.mark.parametrize(
    ("changed", "tests"),
    [
        (["jobkit/store/redis.py", "tests/store/test_once.py"], ["tests/store", "tests/test_layers.py"]),
        (["jobkit/codec.py"], ["tests/test_codec.py", "tests/test_layers.py"]),
        (["jobkit/features/notify/notifier.py"], ["tests/features/notify", "tests/test_layers.py"]),
        (["jobkit/joblib.py"], ["tests/features/executors/test_joblib.py", "tests/test_layers.py"]),
        (["tests/ui/stage.py"], ["tests/ui"]),
        (["docs/dashboard.md", "README.md"], ["tests/docs", "tests/http/test_scripts.py", "tests/test_docs.py"]),
        (["tests/http/test_that_was_removed.py", "LICENSE"], []),
    ],
)
def test_the_paths_for_a_change(changed: list[str], tests: list[str]) -> None:
    assert paths_for(changed) == tests


def test_every_room_has_tests() -> None:
    rooms = {path.relative_to(ROOT / "jobkit").parts[0].removesuffix(".py") for path in (ROOT / "jobkit").rglob("*.py")}

    without = [room for room in rooms if paths_for([f"jobkit/{room}/module.py"]) in ([], ["tests/test_layers.py"])]

    assert sorted(without) == ["__init__", "__main__"]
    assert all((ROOT / path).exists() for paths in ELSEWHERE.values() for path in paths)
