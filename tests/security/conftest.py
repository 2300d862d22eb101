"""Fixtures: certificates, and an object that reports when it is unpickled."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.store.server import Server
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
    if shutil.which("openssl") is None:
        pytest.skip("no openssl in PATH")
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "server"):
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
    openssl("req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=tests", "-days", "2", "-out", "ca.crt",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip  # Python 3.13 asks for it
    openssl("req", "-new", "-key", "server.key", "-subj", "/CN=localhost", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=DNS:localhost\nauthorityKeyIdentifier=keyid\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "names", "-out", "server.crt")  # fmt: skip
    return folder
