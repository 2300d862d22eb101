"""Storage by drivers of fsspec, which differ in what they refuse, and when."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobkit.files.places import Remote

fsspec = pytest.importorskip("fsspec")
local = pytest.importorskip("fsspec.implementations.local")


class Strict(local.LocalFileSystem):  # type: ignore[misc,name-defined]  # fsspec ships no types
    """Takes no option, as that of SFTP, and has another error for a missing folder, as that of SMB."""

    protocol = "strict"

    def __init__(self, **options: Any) -> None:
        assert not options, f"connect() got unexpected arguments: {options}"
        super().__init__(auto_mkdir=False)

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        try:
            return super()._open(path, mode, **options)
        except FileNotFoundError:
            raise DriverError(errno.ENOENT, "No such path") from None


class DriverError(OSError):
    """With the number of FileNotFoundError, and no such one."""


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Remote]:
    fsspec.register_implementation("strict", Strict, clobber=True)
    yield Remote(f"strict://{tmp_path}/results")
    Strict.clear_instance_cache()


def test_a_driver_that_takes_no_options_and_needs_folders_can_be_used(remote: Remote) -> None:
    remote.write("a/b/one", [b"1", b"23"])

    assert remote.read("a/b/one") == b"123"
    assert remote.sizes("a/b") == {"one": 3}
    remote.write("a/b/two", [])
    assert remote.names("a/b") == ["one", "two"]
