"""Fixtures: certificates, and an object that reports when it is unpickled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.store.server import Server
from tests.support import make_certificates
from tests.worker.conftest import bench, own_bench, shared_server

__all__ = ["bench", "own_bench", "shared_server"]


class Trap:
    """Object that creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.fixture
def redis() -> Iterator[Server]:
    """A separate server."""
    server = Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="package")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a test CA with a certificate for `localhost` only."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))
