"""Facts of this process: gathered once, and again after a change."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import jobkit.__main__
from jobkit.codec import Codec
from jobkit.features.provenance import facts, git, machine
from jobkit.features.provenance.facts import Gatherer, Made, name_of, opened, sealed
from jobkit.features.provenance.made_by import GitFacts, MadeBy, Origin, ProcessFacts
from jobkit.model import SignatureError
from tests.support import environment, is_alive, wait_until


def read(made: Made) -> ProcessFacts:
    return msgspec.json.decode(made.contents[made.name], type=ProcessFacts)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "program", lambda: "")
    return tmp_path


def test_facts_name_packages_machine_and_repository(repository: Path) -> None:
    made = Gatherer().current(60)
    found = read(made)

    assert found.git is not None
    assert found.git.root == str(repository)
    assert f"numpy=={np.__version__}".encode() in made.contents[found.packages].split(b"\n")
    assert (found.host, found.cores) == (os.uname().nodename, len(os.sched_getaffinity(0)))
    assert set(made.contents) == {made.name, found.packages}
    assert all(name_of(content) == name for name, content in made.contents.items())


def test_equal_facts_have_equal_names(repository: Path) -> None:
    assert Gatherer().current(60).name == Gatherer().current(60).name


def test_nothing_is_gathered_again_without_a_change(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gatherer = Gatherer()
    before = gatherer.current(60)
    monkeypatch.setattr(facts, "LOOK_S", 0.0)
    monkeypatch.setattr(git, "state_of", lambda *_, **__: pytest.fail("git was asked"))

    assert gatherer.current(60) is before


def test_a_change_of_a_known_file_is_seen_by_the_next_submit(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = repository / "train.py"
    script.write_text("lr = 1\n")
    gatherer = Gatherer()
    before = gatherer.current(60)
    monkeypatch.setattr(facts, "LOOK_S", 0.0)
    script.write_text("lr = 0.25\n")

    after = gatherer.current(60)

    state = read(after).git
    assert after.name != before.name
    assert state is not None
    assert b"+lr = 0.25" in after.contents[state.diff]


def test_a_slow_git_holds_up_one_submit_for_a_limited_time(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answered = threading.Event(), threading.Event()

    def slow(root: str, **_: Any) -> tuple[GitFacts, str]:
        asked.set()
        answered.wait(60)
        return GitFacts(root, "c" * 40, is_dirty=False), ""

    monkeypatch.setattr(git, "state_of", slow)
    gatherer = Gatherer()

    first = read(gatherer.current(0.01)).git
    assert asked.wait(60)
    assert first is not None
    assert first.problem == "git had not answered yet"
    monkeypatch.setattr(facts, "LOOK_S", 0)
    began = time.monotonic()
    assert read(gatherer.current(30)).git == first  # later ones do not wait again
    assert time.monotonic() - began < 20
    answered.set()
    deadline = time.monotonic() + 60
    while (state := read(gatherer.current()).git) == first and time.monotonic() < deadline:
        time.sleep(0.01)
    assert state is not None
    assert state.commit == "c" * 40


def test_the_first_submit_takes_what_was_gathered_since_the_connect(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gatherer = Gatherer()
    gatherer.begin()
    wait_until(lambda: gatherer._made is not None and gatherer._run is None, what="the facts")
    monkeypatch.setattr(git, "state_of", lambda *_, **__: pytest.fail("git was asked again"))

    gatherer.begin()
    found = read(gatherer.current(60)).git

    assert found is not None
    assert (found.root, found.problem) == (str(repository), "")


def test_a_module_that_is_loaded_later_counts_as_changed_only_if_it_was(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = repository / "old.py", repository / "new.py"
    old.write_text("")
    os.utime(old, (0, 0))
    gatherer = Gatherer()
    gatherer.current(60)
    monkeypatch.setattr(facts, "_loaded", lambda _: [str(old)])
    assert not gatherer._has_changed()
    new.write_text("")
    os.utime(new, ns=(time.time_ns(), time.time_ns()))  # file systems take the time of the last tick, some ms ago
    monkeypatch.setattr(facts, "_loaded", lambda _: [str(old), str(new)])
    assert gatherer._has_changed()


@pytest.mark.parametrize("has_submodules", [False, True])
def test_git_ends_with_the_program_that_has_started_it(tmp_path: Path, has_submodules: bool) -> None:
    """If a command that is ended is not the last one, the next one ends, too."""
    programs, pid = tmp_path / "programs", tmp_path / "pid"
    programs.mkdir()
    status = r"# branch.oid 1\0001 .M N... 100644 100644 100644 1 1 f.py\0"
    answers = f"case \"$*\" in *filter*) exit 1;; *status*) printf '{status}'; exit;; esac\n" if has_submodules else ""
    (programs / "git").write_text(f"#!/bin/sh\n{answers}echo $$ >> {pid}.new; cp {pid}.new {pid}\nexec sleep 600\n")
    (programs / "git").chmod(0o755)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitmodules").touch()
    (tmp_path / "script.py").write_text(
        "import atexit, os, time\n"
        "atexit.register(time.sleep, 0.3)\n"  # after what jobkit does at the end
        "from jobkit.features.provenance.facts import Gatherer\n"
        "Gatherer().begin()\n"
        f"while not os.path.exists({str(pid)!r}): time.sleep(0.01)\n"
    )
    environ = {**environment(), "PATH": f"{programs}:{os.environ['PATH']}"}

    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stderr == ""
    wait_until(lambda: not any(map(is_alive, map(int, pid.read_text().split()))), what="git to end")


def test_only_the_variables_that_were_asked_for_are_kept_and_secrets_are_masked(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_THREADS", "4")
    monkeypatch.setenv("MY_TOKEN", "abc")
    monkeypatch.setenv("MY_URL", "https://me:pw@host")
    monkeypatch.setenv("OTHER", "1")

    found = read(Gatherer(env=["MY_*"]).current(60))

    assert found.env == {"MY_THREADS": "4", "MY_TOKEN": "***", "MY_URL": "https://me:***@host"}


def test_contents_are_sealed_under_their_names() -> None:
    codec, other = Codec([b"key"]), Codec([b"other"])
    made = Made(name_of(b"facts"), {name_of(b"facts"): b"facts"})

    ((name, envelope),) = sealed(made, codec).items()

    assert opened(envelope, name, codec) == b"facts"
    with pytest.raises(SignatureError):
        opened(envelope, name_of(b"others"), codec)
    with pytest.raises(SignatureError):
        opened(envelope, name, other)


def origin(diff: str = "", packages: dict[str, str] | None = None, **changes: Any) -> Origin:
    state = GitFacts("/p", changes.pop("commit", "a" * 40), "main", bool(diff))
    return Origin(ProcessFacts(host="h", python="3.11.7", git=state, **changes), packages or {}, diff)


def test_differences_name_packages_files_and_machine() -> None:
    old = origin(packages={"numpy": "2.4", "old": "1"})
    new = origin(
        "diff --git a/train.py b/train.py\n+lr = 2\n", {"numpy": "2.5", "new": "1"}, commit="b" * 40, gpus=("A100",)
    )

    one, other = MadeBy(1, old, old), MadeBy(2, new, new)

    assert one.differences(other) == [
        "commit aaaaaaaa → bbbbbbbb",
        "train.py changed",
        "new not there → 1",
        "numpy 2.4 → 2.5",
        "old 1 → not there",
        "GPU none → A100",
        "seed 1 → 2",
    ]
    assert one.differences(one) == []


def test_packages_that_differ_between_submitter_and_worker_are_named() -> None:
    made = MadeBy(None, origin(packages={"numpy": "2.4"}), Origin(ProcessFacts(host="w"), {"numpy": "2.5", "x": "1"}))

    assert made.mismatches == ["numpy 2.4 → 2.5"]
    assert (made.host, made.packages, made.branch) == ("w", {"numpy": "2.5", "x": "1"}, "main")
    assert dict(made.lines())["Other on worker"] == "numpy 2.4 → 2.5"


def test_a_command_of_the_environment_is_no_program_of_the_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def found(file: str) -> str:
        monkeypatch.setattr("__main__.__file__", file, raising=False)
        return machine.program()

    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert found(str(tmp_path / "train.py")) == str(tmp_path / "train.py")
    assert found(os.path.join(sys.prefix, "bin", "jobkit")) == ""
    assert found(jobkit.__main__.__file__) == ""
