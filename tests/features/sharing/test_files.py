"""Files of jobs on the machine that shares: what a joined machine may do, and what a bad link does to it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import http.client
import math
import os
import random
import secrets
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import pytest

from jobkit.codec import Blob
from jobkit.embedded.home import Home
from jobkit.features.sharing import shared_files
from jobkit.features.sharing.members import Members
from jobkit.features.sharing.places import PART_BYTES, _in_parts
from jobkit.features.sharing.shared_files import SharedFiles
from jobkit.features.sharing.web import Refused
from jobkit.files import FileStore
from jobkit.files.host_cache import HostCache
from tests.features.sharing.serving import BASE, FOLDER, FileServer, cutting, login
from tests.support import wait_until

PATH = f"{FOLDER}/result.1"
LARGE = random.Random(1).randbytes(3 * PART_BYTES + 12_345)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    server = FileServer(tmp_path / "home" / "results")
    server.start()
    yield server
    server.close()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def parts(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), 1_000_003):
        yield content[start : start + 1_000_003]


@pytest.mark.parametrize("content", [b"", b"small", LARGE], ids=["empty", "small", "large"])
def test_what_is_written_is_read_and_is_a_file_of_the_sharing_machine(
    server: FileServer, cache: Path, content: bytes
) -> None:
    files = server.files(cache)
    files.write(PATH, parts(content), is_durable=True)

    assert files.read(PATH) == content == (server.root / PATH).read_bytes()
    assert files.sizes(FOLDER) == {"result.1": len(content)}
    with files.open(PATH) as file:
        file.seek(2)
        assert file.read() == content[2:]
    assert (server.root / PATH).stat().st_mode & 0o777 == 0o600

    files.delete(PATH)
    files.delete(PATH)
    with pytest.raises(FileNotFoundError):
        files.read(PATH)
    files.remove(FOLDER)
    files.remove(FOLDER)
    assert files.names(FOLDER) == []


def test_a_link_that_is_cut_again_and_again_loses_nothing(server: FileServer, cache: Path) -> None:
    chances = random.Random(2)
    with cutting(server.port, lambda: chances.randrange(200_000, 6_000_000)) as port:
        files = server.files(cache, port=port)
        files.write(PATH, parts(LARGE))

        assert (server.root / PATH).read_bytes() == LARGE
        assert files.read(PATH) == LARGE
    assert os.listdir(server.root / FOLDER) == ["result.1"]


def test_a_link_that_stalls_is_left_and_its_upload_goes_on(server: FileServer, cache: Path) -> None:
    counts = iter([1_000_000, 3_000_000])
    with cutting(server.port, lambda: next(counts, 1 << 40), stalls=True) as port:
        files = server.files(cache, port=port, limit_s=0.3)
        files.write(PATH, parts(LARGE))
        assert files.read(PATH) == LARGE


def test_an_upload_goes_on_when_the_server_was_killed_in_its_middle(server: FileServer, cache: Path) -> None:
    files = server.files(cache)
    said = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield LARGE[: PART_BYTES + 1]  # the first part is sent
        server.kill()
        said.set()
        yield LARGE[PART_BYTES + 1 :]

    writing = threading.Thread(target=files.write, args=(PATH, slowly()))
    writing.start()
    assert said.wait(10)
    assert not (server.root / PATH).exists()
    server.start()
    writing.join(20)

    assert not writing.is_alive()
    assert (server.root / PATH).read_bytes() == LARGE


def test_a_download_that_was_cut_is_continued_by_the_next_process(server: FileServer, cache: Path) -> None:
    (server.root / FOLDER).mkdir(parents=True)
    (server.root / PATH).write_bytes(LARGE)
    with cutting(server.port, lambda: 5_000_000) as port:
        impatient = server.files(cache, port=port, patience_s=0)
        with pytest.raises(OSError, match="is not reached"):
            impatient.read(PATH)
    begun = next(path for path in cache.rglob("*.part"))
    was = begun.stat().st_size
    assert was > 1_000_000
    begun.write_bytes(begun.read_bytes())

    with cutting(server.port, lambda: len(LARGE) - was + 100_000) as port:  # enough for the rest only
        assert server.files(cache, port=port, patience_s=0).read(PATH) == LARGE


def test_a_connection_that_the_gateway_has_closed_meanwhile_is_not_used_again(server: FileServer, cache: Path) -> None:
    files = server.files(cache)
    files.write(PATH, [b"first"])
    server.kill()
    server.start()
    files.wait(0)  # its worker stops, and waits no more

    files.write(PATH, [b"second"])

    assert (server.root / PATH).read_bytes() == b"second"


def test_files_of_a_machine_that_joined_before_they_went_to_a_bucket_are_refused(tmp_path: Path) -> None:
    home = Home(tmp_path)
    members = Members(home)
    members.set(results="s3://bucket/jobs")
    with pytest.raises(Refused) as caught:
        SharedFiles.of(home, members).check_room(1)
    assert caught.value.message == "files are kept in s3://bucket/jobs now: let this machine join again with a new word"


def test_a_wait_for_another_process_that_fetches_the_file_ends(server: FileServer, cache: Path) -> None:
    digest = hashlib.sha256(LARGE).hexdigest()
    (server.root / FOLDER).mkdir(parents=True)
    (server.root / PATH).write_bytes(LARGE)
    part = cache / digest[:2] / f"{digest}.part"
    part.parent.mkdir(parents=True)
    with part.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="another process of this machine fetches the file"):
            server.files(cache, patience_s=0.2).read(PATH)
    assert server.files(cache).read(PATH) == LARGE


def test_a_large_body_is_not_copied_as_a_whole() -> None:
    body = bytes(16 * PART_BYTES)
    tracemalloc.start()
    try:
        sent = [(len(data), is_last) for data, is_last in _in_parts([memoryview(body)])]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sent == [(PART_BYTES, False)] * 15 + [(PART_BYTES, True)]
    assert peak < 8 * PART_BYTES


def test_a_file_that_takes_long_to_hash_is_waited_for_and_read_once(
    server: FileServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (server.root / FOLDER).mkdir(parents=True)
    (server.root / PATH).write_bytes(LARGE)
    was, read = hashlib.file_digest, list[str]()

    def slowly(file: BinaryIO, name: str) -> Any:
        read.append(name)
        time.sleep(0.5)
        return was(file, name)

    monkeypatch.setattr(hashlib, "file_digest", slowly)
    monkeypatch.setattr(shared_files, "_HASH_S", 0.02)
    assert server.files(cache, patience_s=0.2).read(PATH) == LARGE
    assert len(read) == 1


def test_the_digest_of_a_file_that_grows_meanwhile_is_not_remembered(
    server: FileServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (server.root / FOLDER).mkdir(parents=True)
    (server.root / PATH).write_bytes(b"begin")
    was = hashlib.file_digest

    def digest(file: BinaryIO, name: str) -> Any:
        found = was(file, name)
        monkeypatch.undo()
        with (server.root / PATH).open("ab") as more:
            more.write(b" and end")
        return found

    monkeypatch.setattr(hashlib, "file_digest", digest)
    with pytest.raises(OSError, match="changed on the way"):
        server.files(cache).read(PATH)
    assert server.files(cache).read(PATH) == b"begin and end"


def test_without_the_sharing_machine_it_is_one_sentence(server: FileServer, cache: Path) -> None:
    server.kill()
    with pytest.raises(OSError, match="lab is not reached") as caught:
        server.files(cache, patience_s=0.2).read(PATH)
    assert caught.value.strerror == "the machine that shares lab is not reached (Connection refused)"


def test_a_wait_for_the_link_ends_when_the_worker_does(server: FileServer, cache: Path) -> None:
    server.kill()
    files = server.files(cache)
    files.wait(math.inf)
    ending = threading.Timer(0.2, files.wait, [0])
    ending.start()
    with pytest.raises(OSError, match="is not reached"):
        files.write(PATH, [b"x"])
    ending.join()


def test_a_file_that_is_not_what_was_announced_does_not_appear(server: FileServer) -> None:
    upload = secrets.token_hex(16)
    status, said = ask(server, "PUT", f"{PATH}?upload={upload}&offset=0&sha256={'0' * 64}", body=b"something else")
    assert (status, b"SHA-256" in said) == (422, True)
    assert os.listdir(server.root / FOLDER) == []


def test_a_part_without_those_before_it_is_refused(server: FileServer) -> None:
    status, said = ask(server, "PUT", f"{PATH}?upload={secrets.token_hex(16)}&offset=5", body=b"later")
    assert (status, b"0 bytes are here" in said) == (409, True)


def test_a_large_argument_must_be_what_its_name_says(server: FileServer, cache: Path) -> None:
    store = FileStore(server.files(cache), BASE)
    blob = Blob.of(b"content")
    assert store.blob(store.put_blob(blob)) == cache / blob.name[:2] / blob.name
    with pytest.raises(OSError, match="named after its SHA-256"):
        store.put_blob(Blob(Blob.of(b"other").name, b"content"))


@pytest.mark.parametrize(
    "path",
    [
        "../../../etc/passwd",
        f"{BASE}/../../etc/passwd",
        f"{FOLDER}/../../../../secret",
        f"{FOLDER}/.hidden",
        f"{FOLDER}/A",
        f"{FOLDER}/a\0",
        f"{FOLDER}/a/b",
        f"{'f' * 16}/ab/{'c' * 30}/result.1",
        f"{BASE}/",
        "/etc/passwd",
        "",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_only_paths_that_jobkit_makes_in_this_namespace_are_served(server: FileServer, path: str, method: str) -> None:
    (server.root / "secret").parent.mkdir(parents=True, exist_ok=True)
    (server.root / "secret").write_text("x")
    where = f"{quote(path)}?upload={secrets.token_hex(16)}&sha256={'0' * 64}" if method == "PUT" else quote(path)
    assert ask(server, method, where, body=b"x" if method == "PUT" else b"")[0] == 404
    assert sorted(path.name for path in server.root.rglob("*")) == ["secret"]


def test_a_link_in_the_folder_of_a_job_is_not_followed(server: FileServer, tmp_path: Path) -> None:
    (server.root / FOLDER).mkdir(parents=True)
    (tmp_path / "outside").write_text("secret")
    (server.root / FOLDER / "result.1").symlink_to(tmp_path / "outside")
    status, said = ask(server, "GET", PATH)
    assert status == 500
    assert b"secret" not in said


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_link_instead_of_a_jobs_folder_is_not_followed(server: FileServer, tmp_path: Path, method: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "result.1").write_text("of another program")
    (server.root / FOLDER).parent.mkdir(parents=True)
    (server.root / FOLDER).symlink_to(outside)

    for path in (PATH, f"{FOLDER}/"):
        where = f"{path}?upload={secrets.token_hex(16)}&sha256={'0' * 64}" if method == "PUT" else path
        assert ask(server, method, where, body=b"x" if method == "PUT" else b"")[0] in (404, 405)
    assert {each.name for each in outside.iterdir()} == {"result.1"}


def test_a_viewer_reads_and_writes_nothing(server: FileServer, cache: Path) -> None:
    server.files(cache).write(PATH, [b"content"])
    viewer = server.files(cache, "viewer")
    assert viewer.read(PATH) == b"content"
    for act in (lambda: viewer.write(PATH, [LARGE]), lambda: viewer.delete(PATH), lambda: viewer.remove(FOLDER)):
        with pytest.raises(PermissionError, match="joined to look on"):
            act()
    with pytest.raises(FileNotFoundError):  # of another namespace
        server.files(cache, "stranger").read(PATH)
    with pytest.raises(PermissionError, match="or has not joined"):
        server.files(cache, "nobody").read(PATH)
    assert (server.root / PATH).read_bytes() == b"content"


def test_an_upload_of_a_machine_that_is_revoked_meanwhile_replaces_nothing(server: FileServer, cache: Path) -> None:
    server.files(cache).write(PATH, [b"content"])
    begun = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    with contextlib.closing(begun):
        digest, upload = hashlib.sha256(b"forged").hexdigest(), secrets.token_hex(16)
        begun.putrequest("PUT", f"/files/{PATH}?upload={upload}&offset=0&sha256={digest}")
        begun.putheader("Authorization", login("worker"))
        begun.putheader("Content-Length", "6")
        begun.endheaders(b"for")
        wait_until(lambda: list((server.root / FOLDER).glob(".*.part")), what="the upload to begin")
        server.members.revoked.add("worker")
        begun.send(b"ged")
        reply = begun.getresponse()
        assert (reply.status, b"was revoked" in reply.read()) == (401, True)
    assert (server.root / PATH).read_bytes() == b"content"


def test_a_download_of_a_machine_that_is_revoked_meanwhile_ends(server: FileServer, cache: Path) -> None:
    server.files(cache).write(PATH, [b"content"])
    os.truncate(server.root / PATH, 64 << 20)  # more than sockets buffer
    begun = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    with contextlib.closing(begun):
        begun.request("GET", f"/files/{PATH}", headers={"Authorization": login("worker")})
        reply = begun.getresponse()
        assert reply.read(7) == b"content"
        server.members.revoked.add("worker")
        with pytest.raises((http.client.IncompleteRead, OSError)):
            reply.read()


def test_a_disk_of_the_sharing_machine_that_becomes_full_is_one_sentence(server: FileServer, cache: Path) -> None:
    def filling() -> Iterator[bytes]:
        yield LARGE[: 2 * PART_BYTES]
        assert list(server.root.rglob("*result*"))
        server.fill()
        yield LARGE[2 * PART_BYTES :]

    with pytest.raises(OSError, match="is full") as caught:
        server.files(cache).write(PATH, filling())
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.strerror == f"the disk of {os.uname().nodename}, which shares its place, is full"
    assert list(server.root.rglob("*result*")) == []


def test_processes_of_one_machine_fetch_a_file_once(server: FileServer, cache: Path) -> None:
    server.files(cache).write(PATH, parts(LARGE))
    server.asked.clear()
    found: list[Path] = []
    readers = [threading.Thread(target=lambda: found.append(server.files(cache).fetched(PATH))) for _ in range(6)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(20)

    assert len(found) == 6
    assert len(set(found)) == 1
    assert server.asked.count("GET bytes=0-") == 1


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    kept = HostCache(tmp_path, most_bytes=1_000)
    contents = [bytes([n]) * 400 for n in range(4)]

    def get(content: bytes, fetches: bool = True) -> Path:
        def fetch(offset: int) -> Iterator[bytes]:
            assert fetches
            yield content[offset:]

        return kept.get(hashlib.sha256(content).hexdigest(), len(content), fetch)

    first, second = map(get, contents[:2])
    for path in (first, second):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 3600))
    get(contents[0], fetches=False)  # now it was used later
    third, fourth = map(get, contents[2:])

    assert [path.exists() for path in (first, second, third, fourth)] == [True, False, True, True], "they are in use"
    for path in (first, third, fourth):
        os.utime(path, (1, 1))
    assert get(b"x").exists()
    assert sum(path.exists() for path in (first, third, fourth)) == 2


def test_a_file_that_was_replaced_is_read_anew(server: FileServer, cache: Path) -> None:
    files = server.files(cache)
    for content in (b"a" * 100_000, b"b" * 100_000):
        files.write(PATH, [content])
        assert files.read(PATH) == content


def test_uploads_that_were_given_up_are_deleted(server: FileServer, cache: Path) -> None:
    ask(server, "PUT", f"{PATH}?upload={secrets.token_hex(16)}&offset=0", body=b"begun")
    (begun,) = (server.root / FOLDER).iterdir()
    server.files(cache).write(PATH, [b"x"])
    assert begun.exists()
    os.utime(begun, (1, 1))
    server.files(cache).write(PATH, [b"x"])
    assert not begun.exists()


def ask(server: FileServer, method: str, path: str, body: bytes = b"", who: str = "worker") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, f"/files/{path}", body, {"Authorization": login(who)})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def test_a_range_is_replied_to_as_http_wants_it(server: FileServer, cache: Path) -> None:
    server.files(cache).write(PATH, [b"0123456789"])
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for wanted, status, content in [
        ("bytes=2-4", 206, b"234"),
        ("bytes=8-", 206, b"89"),
        ("bytes=8-99", 206, b"89"),
        ("bytes=11-", 416, None),
        ("lines=1-2", 416, None),
        ("bytes=5-2", 200, b""),
    ]:
        connection.request("GET", f"/files/{PATH}", headers={"Authorization": login("worker"), "Range": wanted})
        reply = connection.getresponse()
        found = reply.read()
        assert reply.status == status, wanted
        assert content is None or found == content, wanted
    connection.close()
    wait_until(lambda: len(server.asked) == 7, what="the replies")
