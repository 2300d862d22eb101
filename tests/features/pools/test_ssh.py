"""Pools on ssh with real servers: what hosts refuse, in sentences; the common suite, and hosts that come and go."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

import jobkit
from jobkit.features.pools.launcher import Launcher, WorkerOrder, checked_options
from jobkit.features.pools.launchers import ssh, support
from jobkit.features.pools.launchers.ssh import SshHost, SshLauncher, SshOptions
from jobkit.features.pools.wheel import own_wheel
from jobkit.model import InvalidParams, JobkitError
from tests.features.pools.ssh_server import SshHosts, missing
from tests.features.pools.suite import EngineBench, LauncherSuite, listed, processes, state
from tests.support import environment, until


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "a pool on ssh needs the option hosts"),
        ({"hosts": " "}, "hosts must name at least one host"),
        ({"hosts": ["-oProxyCommand=x"]}, 'hosts must be names as ssh knows them, like "lab1" or "me@lab1:2222", not'),
        ({"hosts": {"lab1": 0}}, "workers of host lab1 must be 1 to 1000"),
        ({"hosts": {"lab1": {"worker": 2}}}, "hosts of a pool on ssh: Object contains unknown field worker"),
        ({"hosts": "lab1", "requirements": "/no/such"}, "requirements must be a file on this machine, not '/no/such'"),
    ],
)
def test_wrong_options_are_refused_with_what_is_allowed(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParams, match=message):
        checked_options("ssh", given)


def test_hosts_are_a_text_a_list_or_a_table() -> None:
    def hosts(given: Any) -> dict[str, SshHost]:
        return checked_options("ssh", {"hosts": given}).table()

    assert (
        hosts("lab1, me@lab2:2222") == hosts(["lab1", "me@lab2:2222"]) == {"lab1": SshHost(), "me@lab2:2222": SshHost()}
    )
    assert hosts({"lab1": 2, "lab2": {"slots": 8}}) == {"lab1": SshHost(2), "lab2": SshHost(slots=8)}


def test_the_wheel_for_hosts_is_whole_and_the_same_each_time() -> None:
    name, content = own_wheel()

    with zipfile.ZipFile(BytesIO(content)) as wheel:
        files = wheel.namelist()
    assert name == f"panel_jobkit-{jobkit.__version__}-py3-none-any.whl"
    assert {"jobkit/__init__.py", "jobkit/features/pools/launchers/ssh_host.sh", "jobkit/store/lua/lib/queue.lua"} <= {
        *files
    }
    assert not [file for file in files if "__pycache__" in file]
    own_wheel.cache_clear()
    assert own_wheel()[1] == content


# -- with real servers -------------------------------------------------------------------------------------------------

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHosts]:
    if why := missing():
        pytest.skip(why)
    hosts = SshHosts(tmp_path_factory.mktemp("ssh"))
    try:
        hosts.add("lab1")
        hosts.add("lab2")
        yield hosts
    finally:
        hosts.close()


def order(**changes: Any) -> WorkerOrder:
    values = {"queues": ("default",), "python": sys.executable, "environment": environment(), **changes}
    return WorkerOrder("gpu", f"gpu-{secrets.token_hex(3)}", **values)


async def refused(launcher: SshLauncher, ordered: WorkerOrder) -> str:
    """Return why a unit was not started, or has ended at once."""
    try:
        await launcher.start([ordered])
        (unit,) = await state(launcher, [ordered.unit], "ended")
    except JobkitError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        await launcher.close()
    return unit.error


async def test_a_host_that_cannot_be_used_says_why_in_one_sentence(hosts: SshHosts, tmp_path: Path) -> None:
    hosts.add("stranger", is_known=False)
    hosts.add("closed", knows_us=False)
    hosts.add("down")
    hosts.stop("down")
    blocked = tmp_path / "file"
    blocked.touch()
    other = tmp_path / "python"
    other.write_text('#!/bin/sh\nexec "$JOBKIT_PYTHON" -c "import sys; sys.version_info = (3, 9); $2"\n')
    other.chmod(0o700)
    none = tmp_path / "python-without"
    none.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    none.chmod(0o700)

    async def why(host: str, ordered: WorkerOrder | None = None, **options: Any) -> str:
        launcher = SshLauncher(f"jk-{secrets.token_hex(4)}", SshOptions(host, ssh=hosts.ssh, **options))
        return await refused(launcher, ordered or order())

    stranger, closed, down = await why("stranger"), await why("closed"), await why("down")
    assert stranger.startswith("LaunchRefused: stranger: its host key is not known here: log in once by `ssh stranger`")
    assert closed.startswith("LaunchRefused: closed: it refuses the login: `ssh closed` must work without a password")
    assert down.startswith("EngineUnavailable: down does not answer: ssh: connect to host 127.0.0.1 port")
    nowhere = await why("nowhere.invalid")
    assert nowhere.startswith("EngineUnavailable: nowhere.invalid: its name cannot be resolved")
    full = await why("lab1", folder=str(blocked))
    assert full.startswith(f"LaunchRefused: lab1: {blocked}/pools/jk-")
    assert full.endswith("cannot be written: Not a directory")
    assert "can't cd to /no/such" in await why("lab1", directory="/no/such")
    assert (await why("lab1", order(python="/no/such"))).endswith(
        "/no/such was not found: give the pool python=, or leave it out"
    )
    version = "{}.{}".format(*sys.version_info)
    variables = environment(JOBKIT_PYTHON=sys.executable)
    assert f"is Python 3.9, but jobs come from Python {version}" in await why(
        "lab1", order(python=str(other), environment=variables)
    )
    assert "has no jobkit: install panel-jobkit there" in await why("lab1", order(python=str(none)))
    assert (await why("lab1", order(setup="echo no module >&2; false"))) == "exit status 1 on lab1: no module"


async def test_a_disk_without_space_is_a_sentence() -> None:
    shown = await support.run(["sh"], stdin=f"{ssh._HELPERS}\nput /dev/full <<'END'\ntext\nEND\n".encode())

    assert shown.out == "jobkit error /dev/full cannot be written: No space left on device\n"


async def test_brackets_of_an_address_are_not_given_to_ssh(tmp_path: Path) -> None:
    program, shown = tmp_path / "ssh", tmp_path / "shown"
    program.write_text(f'#!/bin/sh\necho "$*" >{shown}\n')
    program.chmod(0o700)

    assert await SshLauncher("jk-1", SshOptions("me@[fe80::1]:2222", ssh=str(program))).list() == []

    assert shown.read_text().endswith("-p 2222 -- me@fe80::1 exec sh -s\n")


async def test_an_environment_is_built_once_though_two_hosts_of_one_home_need_it(tmp_path: Path) -> None:
    uv, log = tmp_path / "uv", tmp_path / "log"
    uv.write_text(f'#!/bin/sh\nfor last; do :; done\necho "$1" >>{log}\n[ "$1" = venv ] && mkdir "$last"\nsleep 0.5\n')
    uv.chmod(0o700)

    def script(part: str) -> bytes:
        lines = [ssh._HELPERS, f"PATH={tmp_path}:$PATH", f"environment={tmp_path}/env", f"folder={tmp_path}/{part}"]
        return "\n".join([*lines, "open_folder", "build_environment 3.11", ""]).encode()

    ran = await asyncio.gather(*(support.run(["sh"], stdin=script(part)) for part in ("in-1", "in-2")))

    assert [(one.status, one.out, one.err) for one in ran] == [(0, "", "")] * 2
    assert log.read_text().split() == ["venv", "pip"]
    assert {path.name for path in tmp_path.iterdir()} == {"uv", "log", "env"}


async def test_processes_are_known_by_their_start_on_systems_without_proc() -> None:
    padded = """ps() { if [ "$2" = lstart= ]; then echo "Fri Nov  7 18:00:00 2026    "; else echo S; fi; }"""
    helpers = ssh._HELPERS.replace("/proc/self/stat", "/no/proc")
    check = f'{padded}\nfolder={{}}\necho "$$ $(born $$)" >$folder/a.pid\nfind_unit a && say found\n'
    with tempfile.TemporaryDirectory() as folder:
        ran = await support.run(["sh"], stdin=f"{helpers}\n{check.replace('{}', folder)}".encode())

    assert ran.out == "jobkit found\n"


def test_answers_of_hosts_that_say_something_else_are_left_out() -> None:
    said = ["unit", "unit a", "is great", "unit a 1 ended", "unit ../a 1 running", "unit A 1 running"]

    assert not [line for line in said if ssh._UNIT.fullmatch(line)]
    launcher = SshLauncher("jk-1", SshOptions("lab1"))
    unit = launcher._unit("lab1", "unit gpu-1 12 ended 1 \x1b[31mno\x1b[0m module\x07")
    assert unit.error == "exit status 1 on lab1: no module"
    assert launcher._unit("lab1", "unit gpu-1 12 running").state == "running"


async def test_other_hosts_go_on_while_one_refuses_and_the_pool_says_so(hosts: SshHosts) -> None:
    hosts.add("other", is_known=False)
    launcher = SshLauncher(f"jk-{secrets.token_hex(4)}", SshOptions(("other", "lab1"), ssh=hosts.ssh))
    orders = [order(setup="exec sleep 600") for _ in range(2)]

    first, second = await launcher.start(orders)

    assert (first.state, first.host) == ("running", "lab1")
    assert second.state == "pending"
    assert second.reason == launcher.problem
    assert launcher.problem.startswith("other: its host key is not known here")
    await launcher.stop([order.unit for order in orders], now=True)
    await state(launcher, [order.unit for order in orders], "ended")
    assert not processes(orders[0])


class SshBench(EngineBench):
    room = 3

    def __init__(self, hosts: SshHosts) -> None:
        super().__init__()
        self.hosts = hosts

    def make(self, pool: str, table: Any = None, **options: Any) -> Launcher:
        return SshLauncher(pool, SshOptions(table or {"lab1": 2, "lab2": 1}, ssh=self.hosts.ssh, **options))

    def make_away(self) -> Launcher:
        if "away" not in self.hosts.ports:
            self.hosts.add("away")
            self.hosts.stop("away")
        return self.make(self.pool, ("away",))

    def make_refusing(self) -> Launcher:
        if "refusing" not in self.hosts.ports:
            self.hosts.add("refusing", is_known=False)
        return self.make(self.pool, ("refusing",))


@pytest.mark.nightly
class TestSsh(LauncherSuite):
    @pytest.fixture
    def engine(self, hosts: SshHosts) -> EngineBench:
        return SshBench(hosts)

    async def test_a_host_has_its_own_slots_and_resources(self, bench: SshBench, place: dict[str, str]) -> None:
        variables = {f"JOBKIT_{name.upper()}": value for name, value in place.items()}
        launcher = bench.make(bench.pool, {"lab1": SshHost(slots=7, resources={"gpu": 2})})
        ordered = bench.order(setup="", slots=1, environment=variables)
        with jobkit.connect(**place) as kit:
            await launcher.start([ordered])
            (worker,) = await until(lambda: kit.aio.workers(), "the worker")

            assert (worker.slots, worker.resources, worker.engine) == (7, {"gpu": 2}, "ssh lab1")
        await launcher.stop([ordered.unit])
        await state(launcher, [ordered.unit], "ended")

    async def test_hosts_that_share_a_home_list_their_own_units(self, bench: SshBench, tmp_path: Path) -> None:
        launcher, orders = (
            bench.make(bench.pool, ("lab1", "lab2"), folder=str(tmp_path)),
            [bench.order(), bench.order()],
        )

        started = await launcher.start(orders)

        assert {unit.host for unit in started} == {"lab1", "lab2"}
        for each in (launcher, bench.make(bench.pool, ("lab2", "lab1"), folder=str(tmp_path))):
            assert {unit.unit: unit.host for unit in await each.list()} == {unit.unit: unit.host for unit in started}
        await launcher.stop([order.unit for order in orders], now=True)
        await state(launcher, [order.unit for order in orders], "ended")

    async def test_a_killed_worker_is_told_from_a_host_that_does_not_answer(
        self, bench: SshBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ssh, "_AVOIDED_S", 0.0)
        launcher, orders = bench.launcher(), [bench.order() for _ in range(3)]
        places = {unit.host: order for unit, order in zip(await launcher.start(orders), orders, strict=True)}

        processes(places["lab1"])[0].kill()
        (ended,) = await state(launcher, [places["lab1"].unit], "ended")
        assert ended.error.startswith("exit status 137 on lab1")

        bench.hosts.stop("lab2")
        try:
            unit = (await listed(launcher))[places["lab2"].unit]
            assert (unit.state, unit.reason.startswith("lab2 does not answer")) == ("running", True)
            monkeypatch.setattr(ssh, "_LOST_S", 0.0)
            unit = (await listed(launcher))[places["lab2"].unit]
            assert (unit.state, unit.error.startswith("lab2 does not answer")) == ("ended", True)
            await launcher.stop([places["lab2"].unit], now=True)
            assert processes(places["lab2"])
        finally:
            bench.hosts.start("lab2")

        await state(launcher, [places["lab2"].unit], "ended")
        await until(lambda: not processes(places["lab2"]), "the process that was to be stopped")

    async def test_a_host_with_uv_gets_an_environment_with_this_jobkit(
        self, bench: SshBench, place: dict[str, str], tmp_path: Path
    ) -> None:
        if shutil.which("uv") is None:
            pytest.skip("needs uv")
        requirements = tmp_path / "requirements.txt"
        requirements.write_text("attrs\n")
        variables = {f"JOBKIT_{name.upper()}": value for name, value in place.items()}
        launcher = bench.make(bench.pool, ("lab1",), requirements=str(requirements))
        ordered = bench.order(setup="", python="", environment=variables)
        with jobkit.connect(**place) as kit:
            job = await kit.aio.submit(_executable)
            await launcher.start([ordered])
            await until(lambda: kit.aio.workers(), "the worker")
            assert (await listed(launcher))[ordered.unit].error == ""

            found, version, package = await job
            assert package == "attrs"
            assert found.startswith(str(bench.hosts.home("lab1") / ".jobkit" / "envs"))
            assert version == jobkit.__version__
        await launcher.stop([ordered.unit])
        await state(launcher, [ordered.unit], "ended")

    async def test_a_worker_goes_on_while_the_network_is_cut(
        self, bench: SshBench, namespace: tuple[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name, address = namespace
        monkeypatch.setattr(ssh, "_AVOIDED_S", 0.0)
        bench.hosts.add("far", address, within=["ip", "netns", "exec", name])
        launcher, ordered = bench.make(bench.pool, ("far", "lab1")), bench.order()
        (before,) = await launcher.start([ordered])
        assert before.host == "far"

        _ip("-n", name, "link", "set", "eth0", "down")
        cut = (await listed(launcher))[ordered.unit]
        _ip("-n", name, "link", "set", "eth0", "up")

        assert (cut.state, cut.reason.startswith("far d")) == ("running", True)
        assert (await listed(launcher))[ordered.unit] == before
        await launcher.stop([ordered.unit])
        await state(launcher, [ordered.unit], "ended")
        bench.hosts.stop("far")

    @pytest.fixture
    def namespace(self) -> Iterator[tuple[str, str]]:
        """Name and address of a network namespace, a separate host."""
        if os.geteuid() != 0 or shutil.which("ip") is None:
            pytest.skip("network namespaces need root and ip (Debian: iproute2)")
        name, link, net = f"jk{secrets.token_hex(3)}", f"jk{secrets.token_hex(3)}", f"10.213.{secrets.randbelow(250)}"
        _ip("netns", "add", name)
        try:
            _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("addr", "add", f"{net}.1/30", "dev", link)
            _ip("link", "set", link, "up")
            _ip("-n", name, "addr", "add", f"{net}.2/30", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            yield name, f"{net}.2"
        finally:
            _ip("netns", "del", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _executable() -> tuple[str, str, str]:
    import sys

    import attrs

    import jobkit

    return sys.executable, jobkit.__version__, attrs.__name__


_executable.__module__ = "__main__"  # sent by value, as from a notebook
