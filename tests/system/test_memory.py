"""The memory that a worker may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobkit.system import memory


@pytest.fixture(autouse=True)
def _uncached() -> Iterator[None]:
    memory.available_bytes.cache_clear()
    yield
    memory.available_bytes.cache_clear()


def test_the_memory_of_a_container_is_its_limit_and_else_that_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "counter_file", lambda: tmp_path / "memory.events")
    limit = tmp_path / "memory.max"
    limit.write_text("1048576\n")
    assert memory.available_bytes() == 1_048_576

    memory.available_bytes.cache_clear()
    limit.write_text("max\n")
    assert memory.available_bytes() > 1_048_576
