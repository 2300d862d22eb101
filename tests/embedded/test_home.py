"""Owner and access rights of a home."""

from __future__ import annotations

import os
import signal
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobkit.embedded.home import Home, holding
from jobkit.embedded.server import answers, ask
from jobkit.model import JobkitError


def test_a_home_is_created_with_its_parents_for_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        home = Home.open(tmp_path / "a" / "b")
    finally:
        os.umask(before)

    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720])
def test_a_home_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)

    with pytest.raises(JobkitError, match=rf"can be written to by others \(mode {mode:04o}\): run `chmod 700"):
        Home.open(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_home_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)

    with pytest.raises(JobkitError, match="belongs to another user"):
        Home.open(tmp_path)


def test_a_home_that_cannot_be_created_is_reported_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(JobkitError, match="set JOBKIT_HOME to a directory of yours"):
        Home.open(tmp_path / "file" / "home")
    with pytest.raises(JobkitError, match="is not a directory"):
        Home.open(tmp_path / "file")


def test_a_path_that_is_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobkitError, match=r"JOBKIT_HOME '.*\\udcff' is not text: set it to another directory"):
        Home.open(tmp_path / "\udcff")


def test_the_secret_is_created_once_and_private_also_by_concurrent_callers(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    before = os.umask(0)
    try:
        with ThreadPoolExecutor(8) as threads:
            secrets = set(threads.map(lambda _: home.secret("default"), range(32)))
    finally:
        os.umask(before)

    (secret,) = secrets
    assert len(bytes.fromhex(secret)) == 32
    assert stat.S_IMODE((home.path / "secret").stat().st_mode) == 0o600
    assert [path.name for path in home.path.glob("secret*")] == ["secret"]


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    home.secret("default")
    (home.path / "secret").chmod(0o644)

    with pytest.raises(JobkitError, match="can be read by others"):
        home.secret("default")


def test_the_lock_shows_if_a_supervisor_lives(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    assert not home.is_supervised()

    with holding(home.lock) as is_mine:
        assert is_mine
        assert home.is_supervised()
        with holding(home.lock) as is_mine_too:
            assert not is_mine_too

    assert not home.is_supervised()


def test_a_process_that_is_forked_meanwhile_does_not_keep_a_lock(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    with holding(home.launch_lock):
        child = os.fork()  # as by another thread
        if child == 0:
            signal.pause()
    try:
        with holding(home.launch_lock) as is_free:
            assert is_free
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_home_is_gone_only_if_the_file_system_says_so(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    home.lock.touch()
    assert home.identity() is not None

    home.lock.unlink()
    assert home.identity() is None

    home.lock.symlink_to(home.lock)  # cannot be read, as on a network file system that is away
    with pytest.raises(OSError, match="symbolic links"):
        home.identity()


def test_the_socket_of_a_long_path_depends_only_on_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / ("x" * 120))
    first = home.socket
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/elsewhere")

    assert home.socket == first
    assert Home(tmp_path / ("y" * 120)).socket != first


@pytest.mark.parametrize("trap", ["a link", "a directory that others write to", "another user's"])
def test_a_socket_directory_of_another_user_is_refused(
    trap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if trap == "another user's" and os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    directory, home = tmp_path / "jobkit-uid", Home.open(tmp_path / "home")
    monkeypatch.setattr(Home, "socket", property(lambda self: directory / "x.sock"))
    if trap == "a link":
        (tmp_path / "private").mkdir(0o700)
        directory.symlink_to(tmp_path / "private")
    else:
        directory.mkdir()
        directory.chmod(0o777 if "others" in trap else 0o700)
        if trap == "another user's":
            os.chown(directory, 65534, 65534)

    with pytest.raises(JobkitError, match="the socket directory"):
        home.check_socket_directory()


def test_a_server_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()
        monkeypatch.setattr("jobkit.embedded.server.unix_peer_uid", lambda connection: os.geteuid() + 1)
        with pytest.raises(PermissionError, match="another user listens here"):
            ask(str(path), "PING")
        assert not answers(str(path))
