"""A content that cannot be read is told from a storage that is not reached."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from jobkit.features.moving.belongings import Content, ContentGone
from jobkit.files.storage import Directory


def content(folder: Path, monkeypatch: pytest.MonkeyPatch, error: OSError) -> Content:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(Directory, "open", refuse)
    return Content("file", "a/b", 3, place=Directory(folder), path="a/b")


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EISDIR])
def test_one_file_that_cannot_be_read_does_not_stop_those_who_copy_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with pytest.raises(ContentGone, match="cannot be read: no"):
        list(content(tmp_path, monkeypatch, OSError(number, "no")).chunks())


def test_a_storage_that_is_not_reached_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="down"):
        list(content(tmp_path, monkeypatch, OSError(errno.EHOSTDOWN, "down")).chunks())


def test_credentials_that_a_bucket_refuses_are_not_an_error_of_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Directory, "local", lambda place, path: None)
    with pytest.raises(PermissionError, match="expired"):
        list(content(tmp_path, monkeypatch, PermissionError(errno.EACCES, "expired")).chunks())
