"""Table of outages. Each is a function that breaks one thing of a world.

A generator yields the seconds that its outage lasts, and then repairs it; a function without `yield` breaks something
at once that heals without help. Random choices come from the given generator only, so a seed repeats them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import psutil

from tests.store.server import stop_flushes
from tests.support import wait_until

if TYPE_CHECKING:
    from tests.chaos.world import World

LEASE_S, HEARTBEAT_S, MAX_LOSSES = 2.0, 0.5, 4

_STRANGE = (b"S\xff", b"J\xff", b"\xff\x00", b"", b"{}", b"[1]", b'{"id": 1}\n\xff', b"x" * 100_000)

Break = Callable[["World", Random], Iterator[float] | None]


@dataclass(frozen=True, slots=True)
class Outage:
    """One row of the table.

    Attributes:
        begin: breaks it. weight: relative frequency in a run of everything; 0: only in pairs and by its name.
        disturbs: it is between the dashboard and the records, so pages may be late for a moment.
        costs: what jobs may pay for it: "losses" or "releases" of attempts. A claim whose reply is lost is a loss.
        places: kinds of worlds (`World.place`) in which it can happen.
    """

    begin: Break
    weight: float
    disturbs: bool
    costs: frozenset[str]
    places: frozenset[str]


OUTAGES: dict[str, Outage] = {}


def outage(
    weight: float = 0.0, *, disturbs: bool = False, costs: str = "", at: str = "team home"
) -> Callable[[Break], Break]:
    """Add a function to the table, by its name."""

    def add(begin: Break) -> Break:
        row = Outage(begin, weight, disturbs, frozenset(costs.split()), frozenset(at.split()))
        OUTAGES[begin.__name__] = row  # type: ignore[attr-defined]
        return begin

    return add


# -- workers -----------------------------------------------------------------------------------------------------------


@outage(5, costs="losses")
def kill(world: World, rng: Random) -> None:
    """SIGKILL of a worker."""
    for worker in _one(world, rng):
        worker.kill()


@outage(2, costs="releases")
def terminate(world: World, rng: Random) -> None:
    """SIGTERM of a worker, which has too little time for its jobs."""
    for worker in _one(world, rng):
        world.retire(worker)


@outage(1, costs="releases", at="team")
def hang_up(world: World, rng: Random) -> None:
    """SIGHUP to a worker, whose terminal is closed."""
    for worker in _one(world, rng):
        world.retire(worker, signal.SIGHUP)


@outage(3, costs="losses")
def sleep(world: World, rng: Random) -> Iterator[float]:
    """A worker alone, or with all of its processes, is stopped for longer than a lease."""
    alone, seconds = rng.random() < 0.5, LEASE_S * rng.uniform(1.2, 2.5)
    stopped = [process for worker in _one(world, rng) for process in _family(worker.pid)[: 1 if alone else None]]
    _signal(stopped, signal.SIGSTOP)
    yield seconds
    _signal(stopped, signal.SIGCONT)


@outage(1, costs="losses")
def zygote(world: World, rng: Random) -> None:
    """SIGKILL of the processes that fork a worker's jobs."""
    for worker in _one(world, rng):
        _signal(_children(worker.pid), signal.SIGKILL)


@outage(1, costs="losses")
def family(world: World, rng: Random) -> None:
    """SIGKILL of a worker and its zygotes at the same moment."""
    for worker in _one(world, rng):
        both = [*_children(worker.pid), psutil.Process(worker.pid)]
        _signal(both, signal.SIGSTOP)  # none may see the other's death
        _signal(both, signal.SIGKILL)


@outage(0.5, costs="releases")
def descriptors(world: World, rng: Random) -> Iterator[float]:
    """A worker may open only two more files, and its children too few.

    One that is still starting would take that for the limit of its jobs, for ever.
    """
    seconds = rng.uniform(0.5, 2)
    short = [psutil.Process(worker.pid) for worker in _one(world, rng) if _children(worker.pid)]
    for process in short:
        _limit_files(process, process.num_fds() + 2)
    yield seconds
    for process in short:
        for each in _family(process.pid):
            _limit_files(each)


# -- files -------------------------------------------------------------------------------------------------------------


@outage(0.5)
def cleaner(world: World, rng: Random) -> None:
    """All temporary folders are deleted, as by a cleaner of /tmp."""
    for entry in world.temporary.iterdir():
        shutil.rmtree(entry, ignore_errors=True)


@outage(0.5, disturbs=True, costs="losses")
def full(world: World, rng: Random) -> Iterator[float]:
    """The disk of the home and of temporary folders is full."""
    seconds, ballast = rng.uniform(1, 2) * LEASE_S, _ballast(world)
    yield seconds
    ballast.unlink(missing_ok=True)


# -- Redis -------------------------------------------------------------------------------------------------------------


@outage(1.5, disturbs=True, costs="losses")
def crash(world: World, rng: Random) -> None:
    """SIGKILL of Redis, which is restarted at once."""
    if world.server.is_running and not world.may_lose_writes:
        world.server.kill()
        world.server.start()


@outage(disturbs=True, costs="losses")
def busy_disk(world: World, rng: Random) -> Iterator[float]:
    """SIGKILL of Redis, whose disk has been busy: it could not flush its append-only file."""
    if world.server.is_running and not world.may_lose_writes:
        stop_flushes(world.server.pid)
        yield rng.uniform(0.5, 2)
        crash(world, rng)


@outage(1, disturbs=True, at="team", costs="losses")
def outage_of_redis(world: World, rng: Random) -> Iterator[float]:
    """Redis is away, for less or more than a lease."""
    world.server.kill()
    yield rng.choice([0.5, 1.5 * LEASE_S, 2.5 * LEASE_S])
    world.server.start()


@outage(0.5)
def forget_functions(world: World, rng: Random) -> None:
    """Redis loses the library of functions."""
    world.ask("FUNCTION", "FLUSH")


@outage(2, disturbs=True, costs="losses")
def kill_subscribers(world: World, rng: Random) -> None:
    """Redis disconnects all subscribers."""
    world.ask("CLIENT", "KILL", "TYPE", "pubsub")


@outage(1)
def strange_bytes(world: World, rng: Random) -> None:
    """Another program publishes on the channels of workers, clients and pages."""
    message = rng.choice(_STRANGE)
    for channel in world.ask("PUBSUB", "CHANNELS", f"jk:{world.settings['namespace']}:*") or ():
        world.ask("PUBLISH", channel, message)


@outage(0.5)
def damage(world: World, rng: Random) -> None:
    """Another program replaces a key of the namespace by one of another type."""
    key = rng.choice(["idle:default", "lending", "rules", "took"])
    world.ask("SET", f"jk:{world.settings['namespace']}:{key}", "junk")


# -- connections -------------------------------------------------------------------------------------------------------


@outage(3, disturbs=True, at="team", costs="losses")
def cut(world: World, rng: Random) -> None:
    """Some or all connections end."""
    world.tell_proxy(f"cut {rng.choice([0.2, 1.0])}")


@outage(3, disturbs=True, at="team", costs="losses")
def swallow(world: World, rng: Random) -> Iterator[float]:
    """Requests reach Redis, replies are lost."""
    seconds = rng.uniform(0.05, 0.5)
    world.tell_proxy(f"swallow {seconds}")
    yield seconds


@outage(0.2, disturbs=True, at="team", costs="losses")
def silence(world: World, rng: Random) -> Iterator[float]:
    """Requests reach Redis, replies are lost, for longer than a submit waits."""
    world.tell_proxy("swallow 6.5")
    yield 6.5


@outage(1, disturbs=True, at="team", costs="losses")
def freeze(world: World, rng: Random) -> Iterator[float]:
    """Nothing passes, for less or more than a lease."""
    seconds = rng.choice([0.3, 1.5 * LEASE_S])
    world.tell_proxy(f"freeze {seconds}")
    yield seconds


@outage(0.4, disturbs=True)
def dashboard(world: World, rng: Random) -> None:
    """SIGKILL of the dashboard's server."""
    if world.dashboard is not None:
        world.dashboard.kill()
        world.dashboard.wait()


# -- the embedded place ------------------------------------------------------------------------------------------------


@outage(1, disturbs=True, costs="losses", at="home")
def supervisor(world: World, rng: Random) -> None:
    """SIGKILL of the home's supervisor, with which its server and workers end."""
    if not world.may_lose_writes:
        world.kill_supervisor()


@outage(disturbs=True, costs="losses", at="home")
def starved(world: World, rng: Random) -> Iterator[float]:
    """SIGKILL of the home's supervisor while the disk is full, which it still is when another one starts.

    What Redis takes between the last write to its disk and the first one that fails is lost with it: it takes nothing.
    """
    seconds = rng.uniform(1, 2) * LEASE_S
    if world.may_lose_writes:
        return
    world.ask("CLIENT", "PAUSE", "10000", "WRITE")
    wait_until(
        lambda: (world.ask("INFO", "persistence") or {}).get("aof_buffer_length") == 0, what="Redis's last write"
    )
    ballast = _ballast(world)
    world.kill_supervisor()
    yield seconds
    ballast.unlink(missing_ok=True)


# -- helpers -----------------------------------------------------------------------------------------------------------


def _one(world: World, rng: Random) -> Sequence[psutil.Process | psutil.Popen]:
    """Return one living worker that is not asleep, or none."""
    luck = rng.random()
    awake = [worker for worker in world.workers if _is_awake(worker.pid)]
    return awake[int(luck * len(awake)) :][:1]


def _ballast(world: World) -> Path:
    """Fill the disk by a file."""
    ballast = world.disk / "ballast"
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return ballast


def _limit_files(process: psutil.Process, count: int | None = None) -> None:
    """Limit the open files of a process; None: to what is allowed at most."""
    with contextlib.suppress(psutil.Error):
        _, most = process.rlimit(psutil.RLIMIT_NOFILE)
        process.rlimit(psutil.RLIMIT_NOFILE, (most if count is None else count, most))


def _is_awake(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _children(pid: int, *, recursive: bool = False) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=recursive)
    except psutil.NoSuchProcess:
        return []


def _family(pid: int) -> list[psutil.Process]:
    """Return a worker and all of its descendants."""
    try:
        return [psutil.Process(pid), *_children(pid, recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _signal(processes: Sequence[psutil.Process], what: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, what)
