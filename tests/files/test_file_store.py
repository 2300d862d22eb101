"""Files of jobs on a disk: complete or absent, private, sealed, and removed when orphaned."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from jobkit.codec import FILE, MSGPACK, RAW, Codec, Subject, decode, is_reference
from jobkit.files import FileStore, LogFile
from jobkit.files import log as log_module
from jobkit.files.file_store import opened
from jobkit.files.log import NO_MARK, join
from jobkit.files.places import place_of
from jobkit.files.storage import Directory
from jobkit.model import InvalidParams, ResultExpired, ResultUnavailable, SignatureError
from jobkit.settings import Settings

CODEC = Codec([b"key"])
SUBJECT = Subject("result", "j1", "simulate")
BASE = "0123456789abcdef"


@pytest.fixture
def file_store(tmp_path: Path) -> FileStore:
    return FileStore(Directory(tmp_path / "results"), BASE)


@pytest.fixture(params=[0o000, 0o777])
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    old = os.umask(request.param)
    yield
    os.umask(old)


def put(file_store: FileStore, job_id: str = "j1", us: int = 1, body: bytes = b"\x01") -> tuple[str, bytes]:
    folder = file_store.folder(job_id, us)
    return folder.path, folder.put("result.1", MSGPACK, body, SUBJECT, CODEC)


@pytest.mark.usefixtures("_umask")
def test_files_are_private_under_any_umask(file_store: FileStore, tmp_path: Path) -> None:
    put(file_store)
    LogFile(tmp_path / "results" / "folder" / "log", "j 1\n").write((b"line\n", NO_MARK))

    paths = list((tmp_path / "results").rglob("*"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in paths if path.is_file()} == {0}


def test_a_body_comes_back_through_its_reference(file_store: FileStore) -> None:
    _, sealed = put(file_store, body=msgspec.msgpack.encode({"a": bytes(3_000_000)}))

    assert is_reference(sealed)
    assert len(sealed) < 300
    assert decode(*opened(sealed, SUBJECT, CODEC, file_store)) == {"a": bytes(3_000_000)}


def test_a_file_is_copied_as_it_is(file_store: FileStore, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(range(256)) * 50_000)

    sealed = file_store.folder("j1", 1).put("artifact.ab", RAW, tmp_path / "big", SUBJECT, CODEC)

    assert opened(sealed, SUBJECT, CODEC, file_store) == (RAW, bytes(range(256)) * 50_000)


def test_no_reader_sees_a_partial_file(file_store: FileStore) -> None:
    """The disk is full in the middle of a write."""

    def parts() -> Iterator[bytes]:
        yield b"half"
        raise OSError("no space left")

    folder = file_store.folder("j1", 1).path
    file_store.place.write(f"{folder}/result.1", [b"old"])
    with pytest.raises(OSError, match="no space"):
        file_store.place.write(f"{folder}/result.1", parts())

    assert file_store.place.read(f"{folder}/result.1") == b"old"
    path = file_store.place.local(folder)
    assert path is not None
    assert [file.name for file in path.iterdir()] == ["result.1"]


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "/etc/passwd", f"{BASE}/ab/../../x", f"{BASE}/ab/{'0' * 30}/../x", ""]
)
def test_a_reference_to_anywhere_else_is_refused_even_without_a_key(file_store: FileStore, path: str) -> None:
    unsigned = Codec()
    sealed = unsigned.seal(FILE, msgspec.msgpack.encode([path, 1, "x"]), SUBJECT)

    with pytest.raises(SignatureError, match="not one that jobkit wrote"):
        opened(sealed, SUBJECT, unsigned, file_store)


def test_a_file_of_another_job_or_name_is_refused(file_store: FileStore) -> None:
    first, sealed = put(file_store)
    second, _ = put(file_store, "j2")
    file_store.place.write(f"{first}/result.1", [file_store.place.read(f"{second}/result.1")])

    with pytest.raises(SignatureError):
        opened(sealed, SUBJECT, CODEC, file_store)
    with pytest.raises(SignatureError):
        opened(sealed, Subject("result", "j2", "simulate"), CODEC, file_store)


def test_a_file_that_was_sealed_again_with_the_same_key_is_refused(file_store: FileStore) -> None:
    """A machine that was revoked may reach the storage, and knows the key."""
    folder, sealed = put(file_store)
    put(file_store, body=b"forged")

    with pytest.raises(SignatureError, match="was replaced"):
        opened(sealed, SUBJECT, CODEC, file_store)
    assert len(file_store.place.names(folder)) == 2


def test_a_missing_or_unreachable_file_is_reported_in_one_sentence(file_store: FileStore, tmp_path: Path) -> None:
    folder, sealed = put(file_store)
    file_store.remove([folder])

    with pytest.raises(ResultExpired, match=r"cannot be read from .*results on this machine \(No such file"):
        opened(sealed, SUBJECT, CODEC, file_store)
    with pytest.raises(ResultExpired, match=f"it was written to {tmp_path}/results"):
        opened(sealed, SUBJECT, CODEC, FileStore(Directory(tmp_path / "other")))
    with pytest.raises(ResultUnavailable, match="set JOBKIT_RESULTS to the directory of the workers"):
        opened(sealed, SUBJECT, CODEC, None)


def test_a_folder_belongs_to_one_submission(file_store: FileStore) -> None:
    """An id may be used again once its job is deleted."""
    assert file_store.folder("a", 1) != file_store.folder("a", 2)
    assert file_store.folder("a", 1) == file_store.folder("a", 1)
    assert file_store.folder("a", 1).path != FileStore(file_store.place, "f" * 16).folder("a", 1).path


def test_old_folders_name_their_job(file_store: FileStore) -> None:
    folder, _ = put(file_store, "job with:strange id", 42)
    nameless = file_store.folder("x", 1).path
    file_store.place.write(f"{nameless}/result.1", [b"written by a worker that died at once"])
    put(FileStore(file_store.place, "f" * 16), "of another namespace")

    found = {(one.folder, one.job_id, one.us) for one in file_store.old(0)}

    assert found == {(folder, "job with:strange id", 42), (nameless, "", 0)}
    assert list(file_store.old(3600)) == []


def test_only_folders_of_the_file_store_are_removed(file_store: FileStore, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    folder, _ = put(file_store)

    gone = file_store.remove(["../mine", str(tmp_path / "mine"), folder, folder, ""])

    assert len(gone) == 5
    assert (tmp_path / "mine").is_dir()
    assert not file_store.has(folder)


def test_without_the_setting_there_is_no_file_store(tmp_path: Path) -> None:
    assert FileStore.of(Settings(url="redis://x")) is None
    assert FileStore.of(Settings(url="redis://x", results=str(tmp_path))) is not None


def test_urls_need_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)

    with pytest.raises(InvalidParams, match=r"'s3://key:\*\*\*@bucket' is a URL, and URLs need the package fsspec"):
        place_of("s3://key:secret@bucket")


# -- logs -------------------------------------------------------------------------------------------------------------


def test_a_log_becomes_a_file_only_when_it_is_long(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "folder" / "log", "j 1\n")
    log.add(["short"])
    log.flush()
    assert not log.path.exists()

    log.add(f"line {n}" for n in range(600))
    log.flush()
    log.add(["one more"])
    log.flush()

    assert log.path.read_text().splitlines() == ["short", *(f"line {n}" for n in range(600)), "one more"]
    assert (tmp_path / "folder" / "job").read_text() == "j 1\n"


def test_two_writers_never_split_each_others_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "PIECE_BYTES", 500_000)

    def write(letter: str) -> None:
        log = LogFile(tmp_path / "log", "j 1\n")
        for _ in range(100):
            log.write(((letter * 99 + "\n").encode() * 40, NO_MARK * 40))

    writers = [threading.Thread(target=write, args=(letter,)) for letter in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    join(tmp_path / "log")

    lines = (tmp_path / "log").read_text().splitlines()
    assert {line for line in lines if line} == {"a" * 99, "b" * 99}
    assert len(lines) == 8_000


def test_the_end_of_an_endless_log_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "PIECE_BYTES", 10_000)
    log = LogFile(tmp_path / "log", "j 1\n")
    for n in range(1_000):
        log.write((f"{n:0>99}\n".encode(), NO_MARK))
    size = sum(path.stat().st_size for path in tmp_path.glob("log*"))

    join(log.path)

    lines = log.path.read_text().splitlines()
    assert size <= 21_000
    assert "the beginning of this log was left out" in lines[0]
    assert [int(line) for line in lines[1:]] == list(range(1001 - len(lines), 1000))
    assert not log.path.with_name("log.1").exists()


def test_a_disk_error_ends_only_the_log(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    log = LogFile(tmp_path / "file" / "log", "j 1\n")

    log.write((b"line\n", NO_MARK))
    log.write((b"line\n", NO_MARK))

    assert not log.is_file
