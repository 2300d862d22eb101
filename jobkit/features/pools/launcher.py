"""Interface of the engines that run workers: start, list and stop them, with an environment that reaches the store.

A *unit* is one worker process of jobkit on an engine. Each engine is a module `launchers/{engine}.py` whose class is
named in `ENGINES`; it is imported when a pool of that engine is made or run.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar, Literal, Protocol

import msgspec

from jobkit.model import InvalidParams, JobkitError
from jobkit.model.limits import resources_text
from jobkit.settings import Settings

#: Module and class of each engine.
ENGINES = {
    "local": "LocalLauncher",
    "ssh": "SshLauncher",
    "slurm": "SlurmLauncher",
    "dask": "DaskLauncher",
    "ray": "RayLauncher",
    "kubernetes": "KubernetesLauncher",
}


class LaunchRefused(JobkitError):
    """The engine refused to start workers; trying the same again does not help: "sbatch refused: invalid partition"."""


class EngineUnavailable(JobkitError):
    """The engine does not answer now: "squeue: connection refused". What runs there goes on, and may answer later."""


class WorkerOrder(msgspec.Struct, frozen=True):
    """Description of the worker of one unit, the same for every engine.

    Attributes:
        pool: name of the pool. unit: our id of the unit, unique in the namespace: "gpu-3f2a9c".
        queues, slots, resources, tasks: what the worker serves, as the options of `jobkit worker`.
        walltime_s: the engine ends the unit after so many seconds; 0 for no limit.
        idle_s: without an autoscaler the worker ends after so long without a job; 0 for never.
        environment: `JOBKIT_URL`, `JOBKIT_SECRET`, ... Secret: never in a command line, nor in a file that other users
            can read. Use `worker_environment`.
        setup: shell lines to run before. python: the Python to use; "" for the default of the engine.
    """

    pool: str
    unit: str
    queues: tuple[str, ...]
    slots: int = 1
    resources: Mapping[str, float] = {}
    tasks: tuple[str, ...] = ()
    walltime_s: float = 0.0
    environment: Mapping[str, str] = {}
    setup: str = ""
    python: str = ""
    idle_s: float = 0.0

    def __repr__(self) -> str:
        """Hide the environment, which has secrets."""
        return f"<WorkerOrder {self.unit}>"


class Unit(msgspec.Struct, frozen=True):
    """State of one unit, as its engine reports it.

    Attributes:
        unit: our id. id: that of the engine: "4711_3", "lab2:8123", the name of a pod.
        reason: the words of the engine in one line: "PENDING (Priority)".
        expected_ms: time (Unix, ms) at which the engine expects to start it; 0 if unknown.
        host: its machine, if known. error: why it ended, if not as requested.
    """

    unit: str
    id: str
    state: Literal["pending", "running", "ended"]
    reason: str = ""
    expected_ms: int = 0
    host: str = ""
    error: str = ""


class Launcher(Protocol):
    """Starts, lists and stops the units of one pool on one engine.

    Finds its units again after the process that started them has died: names or labels of the engine carry `pool` and
    the unit.

    Args:
        pool: label of the pool, different for each pool of each namespace and server: "jk-3f2a9c1b-gpu". At most 50
            characters of a-z, 0-9 and "-", so that it may be a part of names and labels of any engine.
        options: an instance of `Options`.

    Attributes:
        LIST_S: seconds between two lists: ssh connects to each host for one, and administrators of Slurm ask for few.
    """

    Options: ClassVar[type[msgspec.Struct]]
    LIST_S: ClassVar[float] = 10.0

    def __init__(self, pool: str, options: Any) -> None: ...

    @property
    def problem(self) -> str:
        """Why a part of the engine, such as one of several hosts, cannot be used while others can; "" if all can."""
        return ""

    async def start(self, orders: Sequence[WorkerOrder]) -> list[Unit]:
        """Start a unit for each order; return their states.

        Raises LaunchRefused or EngineUnavailable; what was started nevertheless is found by `list`."""

    async def list(self) -> list[Unit]:
        """Return all units that run or wait, and those that ended lately with the reason. Raises EngineUnavailable."""

    async def stop(self, units: Sequence[str], *, now: bool = False) -> None:
        """End units by our ids: their workers finish running jobs, or (`now`) end at once. Unknown and ended ones are
        ignored. Raises EngineUnavailable."""

    async def close(self) -> None:
        """Release connections and files. Units go on."""
        return  # there are none, unless a launcher has some


def launcher_class(engine: str) -> type[Launcher]:
    """Return the launcher of an engine.

    Raises:
        InvalidParams: there is no such engine.
    """
    if engine not in ENGINES:
        raise InvalidParams(f"on must be one of {', '.join(ENGINES)}, not {engine!r}", "on")
    try:
        module = importlib.import_module(f"jobkit.features.pools.launchers.{engine}")
    except ModuleNotFoundError as error:
        if error.name != f"jobkit.features.pools.launchers.{engine}":
            raise
        raise InvalidParams(f"this version of jobkit has no launcher for {engine}", "on") from None
    found: type[Launcher] = getattr(module, ENGINES[engine])
    return found


def checked_options(engine: str, given: Mapping[str, Any]) -> Any:
    """Return the options of an engine as its `Options`. Texts, as of the command line, count as numbers and flags.

    A `__post_init__` of `Options` may raise `InvalidParams`, or ValueError with what is allowed.

    Raises:
        InvalidParams: unknown, missing or wrong; the message names option, value and what is allowed.
    """
    kind = launcher_class(engine).Options
    known = {field.name: field for field in msgspec.structs.fields(kind)}
    values = {}
    for name, value in given.items():
        if name not in known:
            allowed = f"allowed are {', '.join(known)}" if known else f"{engine} has none"
            raise InvalidParams(f"{name} is not an option of pools on {engine}; {allowed}", name)
        try:
            values[name] = msgspec.convert(value, known[name].type, strict=False)
        except msgspec.ValidationError as error:
            wanted = str(error).partition(" - at ")[0].replace("`", "").replace("Expected", "expected")
            raise InvalidParams(f"{name} of a pool on {engine}: {wanted}; given is {value!r}", name) from None
    for name, field in known.items():
        if field.required and name not in values:
            raise InvalidParams(f"a pool on {engine} needs the option {name}", name)
    try:
        return kind(**values)
    except InvalidParams:
        raise
    except ValueError as error:
        raise InvalidParams(f"pool on {engine}: {error}") from None


def label_of(place: str, pool: str) -> str:
    """Return the label of a pool for its launcher.

    Args:
        place: the mark of the namespace (`RedisStore.place`).
    """
    return f"jk-{place[:8]}-{slug(pool)}"


def slug(pool: str) -> str:
    """Return the name of a pool in lower-case letters, digits and "-": itself, or a similar one with a hash."""
    plain = re.sub(r"[^a-z0-9]+", "-", pool.lower()).strip("-")[:30]
    return plain if plain == pool else f"{plain or 'pool'}-{hashlib.sha256(pool.encode()).hexdigest()[:4]}"


def worker_command(order: WorkerOrder) -> list[str]:
    """Return the arguments behind the Python of a unit: "-m", "jobkit", "worker", ... They have no secrets."""
    command = ["-m", "jobkit", "worker", "--slots", str(order.slots)]
    for queue in order.queues:
        command += ["--queue", queue]
    for module in order.tasks:
        command += ["--tasks", module]
    if order.resources:
        command += ["--resources", resources_text(order.resources)]
    return command


def worker_environment(order: WorkerOrder, engine: str) -> dict[str, str]:
    """Return the environment of a unit, beside that of its machine. It has secrets.

    Args:
        engine: the place that the worker's record names: "slurm 4711". An engine that knows its id only on the
            machine of the unit sets `JOBKIT_ENGINE` there again.
    """
    own = {"JOBKIT_POOL": order.pool, "JOBKIT_UNIT": order.unit, "JOBKIT_ENGINE": engine, "PYTHONUNBUFFERED": "1"}
    if order.walltime_s:
        own["JOBKIT_WALLTIME"] = f"{order.walltime_s:g}"  # seconds from the start of the worker
    if order.idle_s:
        own["JOBKIT_IDLE"] = f"{order.idle_s:g}"
    return {**order.environment, **own}


#: Settings that workers of pools inherit from the autoscaler.
_PASSED_ON = (
    "url", "secret", "secret_file", "namespace", "lease", "heartbeat", "cancel_grace", "drain", "result_ttl",
    "max_losses", "keep", "results", "archive", "archive_files", "start_method", "locals", "made_by", "made_env",
)  # fmt: skip

#: Engines whose workers are always on other machines.
_REMOTE = ("ssh", "slurm", "kubernetes")

#: Engines on this machine; "" is the autoscaler itself.
_HERE = ("", "local")


def worker_settings(settings: Settings, engine: str) -> dict[str, str]:
    """Return the variables with which a worker on an engine reaches the store; secret.

    A Redis on the network is reached by its URL, and a joined place by the credentials of this machine. The server of a
    home is reached by its socket, on this machine only.

    Raises:
        LaunchRefused: the engine's machines cannot reach it.
    """
    if settings.url.startswith("unix:") and engine in _REMOTE:
        raise LaunchRefused(
            f"workers on {engine} cannot reach the jobs, whose server answers on this machine only: "
            "`jobkit share` makes it reachable"
        )
    has_file = bool(settings.secret_file) and (engine in _HERE or settings.url.startswith("unix:"))
    settings = replace(settings, secret="") if has_file else replace(settings, secret_file="")
    defaults = {field.name: field.default for field in fields(Settings)}
    values = {name: getattr(settings, name) for name in _PASSED_ON}
    if engine not in _HERE and (member := settings.membership):  # other machines have not joined under that name
        values["url"] = member.inline_url
    return {
        f"JOBKIT_{name.upper()}": f"{value}"
        for name, value in values.items()
        if value != defaults[name] or name in ("url", "namespace")
    }
