"""Workers on hosts that the user reaches by `ssh`, with the user's keys and configuration as they are.

A worker is a detached process there, found again by files in a folder of that user (`ssh_host.sh`), so it outlives the
connection and this process. Everything goes to the host by the standard input of `ssh`. A host that does not answer or
refuses keeps no other from working: its orders go to others, or wait here with the reason.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
import shlex
import sys
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec
from msgspec.structs import replace

from jobkit.features.pools.launcher import (
    EngineUnavailable,
    Launcher,
    LaunchRefused,
    Unit,
    WorkerOrder,
    worker_command,
    worker_environment,
)
from jobkit.features.pools.launchers.support import checked_line, exports, last_line, plain, run
from jobkit.features.pools.wheel import own_wheel
from jobkit.model import JobkitError

T = TypeVar("T")

_HOST = re.compile(r"(?:[\w.+-]+@)?(?:[A-Za-z0-9_][\w.-]*|\[[\da-fA-F:]+\])(?::\d{1,5})?", re.ASCII)

#: Answers of a host about a unit: "unit NAME PID running", or "unit NAME PID ended STATUS LAST LINE".
_UNIT = re.compile(
    r"unit (?P<unit>[a-z0-9][a-z0-9-]{0,79}) (?P<pid>\d{1,10}) (?:running|ended (?P<status>\S+) ?(?P<line>.*))",
    re.ASCII,
)

#: Nothing is asked, forwarded or run but what jobkit sends; all else is as the user has configured it.
_OPTIONS = (
    "-T", "-x", "-oBatchMode=yes", "-oConnectTimeout=10", "-oServerAliveInterval=10", "-oServerAliveCountMax=3",
    "-oClearAllForwardings=yes", "-oForwardAgent=no", "-oRemoteCommand=none", "-oPermitLocalCommand=no",
    "-oLogLevel=ERROR",
)  # fmt: skip

#: Messages of `ssh` and what they mean; whether trying again may help.
_MEANINGS = (
    (r"HOST IDENTIFICATION HAS CHANGED", "its host key has changed: `ssh-keygen -R` forgets the old one", False),
    (r"host key|Host key verification", "its host key is not known here: log in once by `ssh {host}`", False),
    (
        r"Permission denied|Too many authentication",
        "it refuses the login: `ssh {host}` must work without a password",
        False,
    ),
    (r"Could not resolve|not known|Temporary failure in name", "its name cannot be resolved", True),
    (r"Bad configuration|bad .*option|percent_expand", "ssh cannot read its configuration", False),
)

#: Seconds: calls of ssh; after which workers of a host that does not answer count as ended; and before a host that did
#: not answer or refused gets orders again, which doubles up to the limit.
_CALL_S, _BUILD_S = 40.0, 270.0
_LOST_S = 60.0
_AVOIDED_S, _AVOIDED_MOST_S = 20.0, 600.0


class SshHost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One host of a pool.

    Attributes:
        workers: most workers at once. slots, resources: instead of those of the pool.
    """

    workers: int = 1
    slots: int = 0
    resources: dict[str, float] = {}


class SshOptions(msgspec.Struct, frozen=True):
    """Options of a pool on ssh.

    Attributes:
        hosts: names as `ssh` knows them, also "user@host:port": a list, or a text with spaces or commas; a table
            gives the most workers of each, {"lab1": 2}, or an `SshHost`, {"lab1": {"workers": 2, "slots": 8}}.
        directory: working directory of the workers. folder: of jobkit's own files there; default: ~/.jobkit.
        requirements: file on this machine with packages of the hosts' environment: requirements.txt or uv.lock.
        ssh: the program with options: "ssh -J bastion".
    """

    hosts: str | tuple[str, ...] | dict[str, int | SshHost]
    directory: str = ""
    folder: str = ""
    requirements: str = ""
    ssh: str = "ssh"

    def __post_init__(self) -> None:
        checked_line("directory", self.directory)
        checked_line("folder", self.folder)
        hosts = self.table()
        if not hosts:
            raise ValueError("hosts must name at least one host")
        for name, host in hosts.items():
            if not _HOST.fullmatch(name):
                raise ValueError(f'hosts must be names as ssh knows them, like "lab1" or "me@lab1:2222", not {name!r}')
            if (
                not 1 <= host.workers <= 1000
                or host.slots < 0
                or any(amount <= 0 for amount in host.resources.values())
            ):
                raise ValueError(f"workers of host {name} must be 1 to 1000, its slots and resources above 0")
        if self.requirements and not Path(self.requirements).expanduser().is_file():
            raise ValueError(f"requirements must be a file on this machine, not {self.requirements!r}")
        if not shlex.split(self.ssh):
            raise ValueError('ssh must be a program with options, like "ssh -J bastion"')

    def table(self) -> dict[str, SshHost]:
        """Return the hosts by name."""
        if isinstance(self.hosts, dict):
            return {n: SshHost(host) if isinstance(host, int) else host for n, host in self.hosts.items()}
        names = re.split(r"[\s,]+", self.hosts.strip()) if isinstance(self.hosts, str) else self.hosts
        return {name: SshHost() for name in names if name}


class _Trouble(msgspec.Struct):
    """Why a host cannot be used, or (`refuses`) only gets no orders. Times are monotonic."""

    error: JobkitError
    refuses: bool
    since: float
    pause_s: float
    until: float


class SshLauncher(Launcher):
    """See `jobkit.features.pools.launcher.Launcher`."""

    Options: ClassVar[type[msgspec.Struct]] = SshOptions

    def __init__(self, pool: str, options: SshOptions) -> None:
        self._pool, self._options = pool, options
        self._hosts = options.table()
        self._seen: dict[str, dict[str, Unit]] = {}  # by host, of its last answer
        self._troubles: dict[str, _Trouble] = {}
        self._waiting: dict[str, WorkerOrder] = {}  # for room, or a host that answers
        self._to_stop: dict[str, bool] = {}  # units that were to end while their host did not answer; whether at once
        self._environments: dict[str, str] = {}  # Python of the ready environment, by host

    @property
    def problem(self) -> str:
        """Why some hosts cannot be used while others can; "" if all can."""
        return "; ".join(str(trouble.error) for trouble in self._troubles.values())

    async def start(self, orders: Sequence[WorkerOrder]) -> list[Unit]:
        await self._look(host for host in self._hosts if host not in self._seen and self._is_due(host))
        self._waiting |= {order.unit: order for order in orders}
        started = await self._place()
        if len(self._troubles) == len(self._hosts):
            for order in orders:
                self._waiting.pop(order.unit, None)
            raise self._all_down()
        return [started.get(order.unit) or self._pending(order.unit) for order in orders]

    async def list(self) -> list[Unit]:
        await self._look(host for host in self._hosts if self._is_due(host) or self._troubles[host].refuses)
        if len(self._troubles) == len(self._hosts) and not any(each.refuses for each in self._troubles.values()):
            raise EngineUnavailable(str(self._all_down()))
        for now in (False, True):
            if late := [unit for unit, is_now in self._to_stop.items() if is_now is now]:
                await self.stop(late, now=now)
        await self._place()
        found = {}
        for unit in (unit for host in self._hosts for unit in self._units(host)):
            if unit.unit not in found or unit.state == "running":  # one that went to a second host after a time-out
                found[unit.unit] = unit
        return [*found.values(), *map(self._pending, self._waiting)]

    async def stop(self, units: Sequence[str], *, now: bool = False) -> None:
        for unit in units:
            self._waiting.pop(unit, None)
        await self._look(host for host in self._hosts if host not in self._seen and self._is_due(host))
        places = {host: [unit for unit in units if unit in seen] for host, seen in self._seen.items()}
        self._to_stop |= {unit: now for named in places.values() for unit in named}
        how = "now" if now else "gently"

        async def end(host: str, named: Sequence[str]) -> None:
            await self._run(host, [f"stop_unit {shlex.quote(unit)} {how}" for unit in named])
            for unit in named:
                self._to_stop.pop(unit, None)

        await self._each({host: end(host, named) for host, named in places.items() if named and self._is_due(host)})
        if len(self._troubles) == len(self._hosts):
            raise EngineUnavailable(str(self._all_down()))

    # -- hosts --------------------------------------------------------------------------------------------------------

    async def _each(self, calls: Mapping[str, Coroutine[Any, Any, T]], *, starts: bool = False) -> dict[str, T]:
        """Do something on several hosts at once; return the results of those that can be used."""
        answers = await asyncio.gather(*calls.values(), return_exceptions=True)
        found = {}
        for host, answer in zip(calls, answers, strict=True):
            if not isinstance(answer, BaseException):
                found[host] = answer
            elif isinstance(answer, JobkitError):
                refuses = starts and isinstance(answer, LaunchRefused)
                now, before = time.monotonic(), self._troubles.get(host)
                pause_s = _AVOIDED_S if before is None else min(2 * before.pause_s, _AVOIDED_MOST_S)
                since = now if before is None else before.since
                self._troubles[host] = _Trouble(answer, refuses, since, pause_s, now + pause_s)
            else:
                raise answer
        return found

    def _is_due(self, host: str) -> bool:
        """Return whether a host has no trouble, or had its last one some time ago."""
        trouble = self._troubles.get(host)
        return trouble is None or time.monotonic() >= trouble.until

    def _all_down(self) -> JobkitError:
        errors = [trouble.error for trouble in self._troubles.values()]
        kind = LaunchRefused if all(isinstance(error, LaunchRefused) for error in errors) else EngineUnavailable
        return kind("; ".join(map(str, errors))[:580])

    async def _look(self, hosts: Iterable[str]) -> None:
        for host, units in (await self._each({host: self._listed(host) for host in hosts})).items():
            self._seen[host] = {unit.unit: unit for unit in units}
            for unit in units:  # the connection was lost while it was started
                self._waiting.pop(unit.unit, None)
            if any(unit.error for unit in units):  # perhaps for want of its environment, which a user has deleted
                self._environments.pop(host, None)
            if host in self._troubles and not self._troubles[host].refuses:
                del self._troubles[host]

    async def _listed(self, host: str) -> Sequence[Unit]:
        return [self._unit(host, answer) for answer in await self._run(host, ["list_units"])]

    def _unit(self, host: str, answer: str) -> Unit:
        """Return what a line says."""
        found = _UNIT.fullmatch(answer)
        assert found is not None, answer  # `_run` has checked it
        unit, pid, status, line = found["unit"], found["pid"], found["status"], plain(found["line"] or "")
        id_ = f"{host}:{pid}"
        if not status:
            return Unit(unit, id_, "running", f"runs on {host}", host=host)
        error = ""
        if status == "?":
            error = f"it was killed on {host}, or the host was restarted"
        elif status not in ("asked", "0"):
            error = f"exit status {status} on {host}{f': {line}' if line else ''}"
        return Unit(unit, id_, "ended", f"has ended on {host}", host=host, error=error)

    def _units(self, host: str) -> Sequence[Unit]:
        """Return the units of a host; if it does not answer, as they were before, and after a while as ended."""
        units, trouble = list(self._seen.get(host, {}).values()), self._troubles.get(host)
        if trouble is None or trouble.refuses:
            return units
        why, is_lost = str(trouble.error), time.monotonic() - trouble.since > _LOST_S
        gone = {"state": "ended", "error": why} if is_lost else {}
        return [replace(unit, reason=why, **gone) for unit in units if unit.state != "ended"]

    # -- placing ------------------------------------------------------------------------------------------------------

    async def _place(self) -> dict[str, Unit]:
        """Start waiting orders on hosts with room; return the units that were started."""
        started: dict[str, Unit] = {}
        while plan := self._plan():
            done = await self._each({host: self._started(host, orders) for host, orders in plan.items()}, starts=True)
            for host, units in done.items():
                self._troubles.pop(host, None)
                for unit in units:
                    self._waiting.pop(unit.unit, None)
                    started[unit.unit] = self._seen[host][unit.unit] = unit
        return started

    def _plan(self) -> Mapping[str, Sequence[WorkerOrder]]:
        """Return waiting orders by host: those with the most room first."""
        room: dict[str, int] = {}
        for name, host in self._hosts.items():
            if name in self._seen and self._is_due(name):
                live = sum(unit.state != "ended" for unit in self._seen[name].values())
                room[name] = host.workers - live
        plan: dict[str, list[WorkerOrder]] = {}
        for order in self._waiting.values():
            name = max(room, key=lambda each: room[each], default="")
            if not name or room[name] <= 0:
                break
            plan.setdefault(name, []).append(order)
            room[name] -= 1
        return plan

    def _pending(self, unit: str) -> Unit:
        places = sum(host.workers for host in self._hosts.values())
        return Unit(unit, "", "pending", self.problem or f"all {places} places of the pool's hosts are taken")

    async def _started(self, host: str, orders: Sequence[WorkerOrder]) -> Sequence[Unit]:
        given = _place_of(orders[0].python) if orders[0].python else ""
        python = given or self._environments.get(host) or await self._environment(host)
        lines = ["open_folder"]
        for order in orders:
            unit = shlex.quote(order.unit)
            lines += [_written(f'"$folder"/{unit}.sh', self._script(host, order, python)), f"start_unit {unit}"]
        return [self._unit(host, answer) for answer in await self._run(host, lines)]

    def _script(self, host: str, order: WorkerOrder, python: str) -> str:
        """Return the script of a unit, which deletes itself: it has secrets."""
        own = self._hosts[host]
        order = replace(order, slots=own.slots or order.slots, resources=own.resources or order.resources)
        version = "{}.{}".format(*sys.version_info)
        check = _CHECK.format(version=version)
        return "\n".join(
            [
                'rm -f -- "$0"',
                self._root,
                f"jobkit_python={python}",
                exports(worker_environment(order, f"ssh {host}")),
                f"cd {_place_of(self._options.directory)} || exit 2" if self._options.directory else "",
                "set -e",
                order.setup,
                "set +e",
                'if ! command -v "$jobkit_python" >/dev/null; then',
                '  echo "jobkit: $jobkit_python was not found: give the pool python=, or leave it out" >&2',
                "  exit 2",
                "fi",
                f'"$jobkit_python" -c {shlex.quote(check)} || exit 2',
                f'exec "$jobkit_python" {shlex.join(worker_command(order))}',
                "",
            ]
        )

    async def _environment(self, host: str) -> str:
        """Return the Python (a word of a shell) of an environment on a host with this jobkit; build it if needed."""
        name, wheel = await asyncio.to_thread(own_wheel)
        requirements = await self._requirements()
        version = "{}.{}".format(*sys.version_info)
        key = hashlib.sha256(b"\0".join([wheel, requirements.encode(), version.encode()])).hexdigest()[:16]
        place = [f"environment=$root/envs/{key}", "look_for_environment"]
        if await self._run(host, place) != ["environment ready"]:
            build = [
                f"environment=$root/envs/{key}",
                f'folder="$environment.in-{secrets.token_hex(4)}"',  # others may build it, too, for hosts of one home
                "open_folder",
                _written(f'"$folder"/{name}.base64', base64.encodebytes(wheel).decode()),
                f'base64 -d <"$folder"/{name}.base64 >"$folder"/{name} 2>/dev/null ||'
                f' base64 -D <"$folder"/{name}.base64 >"$folder"/{name} || fail "$folder cannot be written"',
                _written('"$folder"/all.txt', f"./{name}\n{requirements}"),
                f"build_environment {version}",
            ]
            await self._run(host, build, timeout_s=_BUILD_S)
        python = self._environments[host] = f'"$root"/envs/{key}/bin/python'
        return python

    async def _requirements(self) -> str:
        """Return the packages of the pool as lines of a requirements file."""
        if not self._options.requirements:
            return ""
        path = Path(self._options.requirements).expanduser()
        if path.name != "uv.lock":
            return await asyncio.to_thread(path.read_text, "utf-8")
        options = ["--quiet", "--frozen", "--no-emit-project", "--no-hashes", "--project", str(path.parent)]
        ran = await run(["uv", "export", *options])
        if ran.status:
            raise LaunchRefused(f"{path} cannot be read by uv: {last_line(ran.err)}")
        return ran.out

    # -- ssh ----------------------------------------------------------------------------------------------------------

    @property
    def _root(self) -> str:
        """The line of a shell that names the folder of jobkit on a host."""
        return f"root={_place_of(self._options.folder or '~/.jobkit')}"

    async def _run(self, host: str, lines: Sequence[str], *, timeout_s: float = _CALL_S) -> Sequence[str]:
        """Run lines of a shell on a host; return its answers without the first word.

        Raises:
            EngineUnavailable: it does not answer. LaunchRefused: it answers, and trying again does not help.
        """
        name, port = (host, "") if host.endswith("]") or ":" not in host else host.rsplit(":", 1)
        name = re.sub(r"[\[\]]", "", name)  # around an IPv6 address, which `ssh` takes without
        argv = [*shlex.split(self._options.ssh), *_OPTIONS, *(["-p", port] if port else []), "--", name, "exec sh -s"]
        folder = f"folder=$root/pools/{self._pool}/{shlex.quote(host)}"  # hosts may share a home
        script = "\n".join([_HELPERS, self._root, folder, *lines, ""])
        try:
            ran = await run(argv, stdin=script.encode(), timeout_s=timeout_s)
        except EngineUnavailable:
            raise EngineUnavailable(f"{host} did not answer within {timeout_s:g} s") from None
        answers = [line[7:] for line in ran.out.splitlines() if line.startswith("jobkit ")]
        errors = [plain(answer[6:]) for answer in answers if answer.startswith("error ")]
        if errors:
            raise LaunchRefused(f"{host}: {errors[-1]}"[:500])
        if ran.status:
            raise _failed(host, ran.err or ran.out, ran.status)
        return [answer for answer in answers if answer.startswith("environment ") or _UNIT.fullmatch(answer)]


_HELPERS = Path(__file__).with_name("ssh_host.sh").read_text("utf-8")

#: Run by the Python of a unit, before its worker.
_CHECK = """
import importlib.util, sys
here = "%d.%d" % sys.version_info[:2]
if here != "{version}":
    sys.exit("jobkit: " + sys.executable + " is Python " + here + ", but jobs come from Python {version}")
if importlib.util.find_spec("jobkit") is None:
    sys.exit("jobkit: " + sys.executable + " has no jobkit: install panel-jobkit there, or leave out python=")
"""


def _written(path: str, text: str) -> str:
    """Return lines of a shell that write a file."""
    end = f"END_{secrets.token_hex(8)}"
    return f"put {path} <<'{end}'\n{text}\n{end}"


def _place_of(path: str) -> str:
    """Return a path on a host as a word of a shell there; "~/" is the home there."""
    return f'"$HOME"/{shlex.quote(path[2:])}' if path.startswith("~/") else shlex.quote(path)


def _failed(host: str, said: str, status: int) -> JobkitError:
    """Return the sentence for a call that has failed."""
    line = last_line(said, f"exit status {status}")
    for pattern, meaning, may_help in _MEANINGS:
        if re.search(pattern, said, re.IGNORECASE):
            kind = EngineUnavailable if may_help else LaunchRefused
            return kind(f"{host}: {meaning.format(host=host)} ({line})"[:500])
    if status == 255:
        return EngineUnavailable(f"{host} does not answer: {line}"[:500])
    return LaunchRefused(f"{host}: {line}"[:500])
