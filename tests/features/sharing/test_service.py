"""The worker of a joined place as a service: what is written, and what the service manager is asked."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from jobkit.embedded.home import Home
from jobkit.features.sharing import hosting
from jobkit.features.sharing.members import Members
from jobkit.features.sharing.service import agent_text, unit_text
from jobkit.joined import REVOKED, joined_places, membership_of
from jobkit.settings import Settings
from tests.features.sharing.conftest import member_of, run
from tests.support import free_port

ARGV = ["/opt/my python/bin/python", "-m", "jobkit", "worker", "--resources", "gpu=2"]
ENVIRON = {"JOBKIT_URL": "joined://lab", "JOBKIT_HOME": "/home/ada/50% of it"}


def test_a_unit_keeps_spaces_and_percent_signs(tmp_path: Path) -> None:
    unit = unit_text("lab", ARGV, ENVIRON)
    assert 'ExecStart="/opt/my python/bin/python" "-m" "jobkit" "worker" "--resources" "gpu=2"\n' in unit
    assert 'Environment="JOBKIT_HOME=/home/ada/50%% of it"\n' in unit
    if shutil.which("systemd-analyze"):
        path = tmp_path / "jobkit-lab.service"
        path.write_text(unit_text("lab", [sys.executable, *ARGV[1:]], ENVIRON))
        done = subprocess.run(["systemd-analyze", "verify", "--user", str(path)], capture_output=True, text=True)
        assert str(path.name) not in done.stderr, done.stderr


def test_an_agent_of_launchd_is_a_property_list_that_starts_the_worker_at_login() -> None:
    agent = plistlib.loads(agent_text("lab", ARGV, ENVIRON).encode())
    assert agent["ProgramArguments"] == ARGV
    assert agent["EnvironmentVariables"] == ENVIRON
    assert agent["RunAtLoad"] is agent["KeepAlive"] is True


@pytest.mark.skipif(sys.platform == "darwin", reason="launchd has other commands")
def test_join_writes_enables_and_starts_a_unit_without_secrets(shared: Settings, other: Path, tmp_path: Path) -> None:
    calls, word = tmp_path / "calls", hosting.new_word(shared).text()
    done = run(
        "join", word, "--as", "lab", "--service", "-c", "3", home=other, **_environ(tmp_path, f'echo "$@" >> {calls}')
    )
    unit = tmp_path / "systemd" / "user" / "jobkit-lab.service"

    assert done.returncode == 0, done.stderr
    assert "systemctl --user disable --now jobkit-lab.service" in done.stderr
    assert [line.split()[1] for line in calls.read_text().splitlines()] == ["daemon-reload", "enable", "restart"]
    assert '"worker" "-c" "3"' in unit.read_text()
    assert "JOBKIT_URL=joined://lab" in unit.read_text()
    assert f"RestartPreventExitStatus={REVOKED}\n" in unit.read_text()
    assert word not in unit.read_text()


@pytest.mark.skipif(sys.platform == "darwin", reason="launchd has other commands")
def test_a_machine_leaves_with_its_service_and_credentials(shared: Settings, other: Path, tmp_path: Path) -> None:
    calls, word = tmp_path / "calls", hosting.new_word(shared).text()
    environ = _environ(tmp_path, f'echo "$@" >> {calls}')
    assert run("join", word, "--as", "lab", "--service", home=other, **environ).returncode == 0
    members = Members(Home.at(shared.home))
    place, known = membership_of("joined://lab", other), len(members.read().members)

    done = run("join", "--leave", "lab", home=other, **environ)

    assert done.returncode == 0, done.stderr
    assert "left lab: its workers" in done.stderr
    assert calls.read_text().splitlines()[-2:] == ["--user disable --now jobkit-lab.service", "--user daemon-reload"]
    assert not (tmp_path / "systemd" / "user" / "jobkit-lab.service").exists()
    assert joined_places(other) == []
    assert members.read().member(place.user, place.password) is None
    assert len(members.read().members) == known - 1
    again = run("join", "--leave", "lab", home=other, **environ)
    assert again.returncode == 2
    assert "has not joined 'lab'" in again.stderr


def test_a_machine_leaves_a_place_that_is_away(shared: Settings, other: Path) -> None:
    place = member_of(shared, other)
    path = other / "joined" / f"{place.name}.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(place, port=free_port())))
    done = run("join", "--leave", place.name, home=other)
    assert done.returncode == 0, done.stderr
    assert "the sharing machine does not know yet" in done.stderr
    assert joined_places(other) == []


@pytest.mark.skipif(sys.platform == "darwin", reason="launchd has other commands")
def test_a_service_manager_that_refuses_is_one_sentence(shared: Settings, other: Path, tmp_path: Path) -> None:
    word, environ = hosting.new_word(shared).text(), _environ(tmp_path, "echo no bus >&2; exit 1")
    done = run("join", word, "--service", home=other, **environ)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("jobkit: `systemctl --user daemon-reload` fails (no bus)")


def _environ(folder: Path, script: str) -> dict[str, str]:
    """Return the environment of a command that finds this script as systemctl."""
    program = folder / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}", "XDG_CONFIG_HOME": str(folder)}
