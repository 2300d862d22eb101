"""Workers as jobs of Slurm: `sbatch`, `squeue` and `scancel` of a login node, without root and without `sacct`.

One `sbatch` starts all units of a call, several as an array. What finds them again is in Slurm: the job's name is the
pool's label, its comment lists the units. Secrets are in a file that only its user can read, in a folder that login and
compute nodes share: Slurm keeps scripts and exported variables, and some sites keep them for years.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import re
import shlex
import sys
from collections.abc import Sequence
from typing import ClassVar

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
from jobkit.features.pools.launchers.support import PrivateFolder, Ran, checked_line, exports, last_line, run
from jobkit.tasks.masking import is_secret_name

#: Messages of Slurm's programs about a controller or a login that is away for now.
_AWAY = re.compile(
    r"contact slurm|timed out|standby|zero bytes|munge|authentication|connection refused|temporarily|unable to resolve"
    r"|establish a configuration|transport|incoming connection|socket",
    re.IGNORECASE,
)
#: What Slurm's states mean for a unit; all others have ended.
_PENDING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"})
_RUNNING = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"})

#: Sentences for the ways in which Slurm ends a job.
_ENDINGS = {
    "TIMEOUT": "Slurm ended it at its time limit",
    "OUT_OF_MEMORY": "Slurm ended it because it used more memory than it had: give the pool more mem",
    "NODE_FAIL": "its node has failed",
    "BOOT_FAIL": "its node did not boot",
    "PREEMPTED": "Slurm ended it for a job of higher priority",
    "DEADLINE": "Slurm ended it at its deadline",
    "CANCELLED": "it was cancelled in Slurm (scancel)",
    "REVOKED": "Slurm has moved it to another cluster",
    "BadConstraints": "no node of the cluster has what it asks for",
}
#: What reasons mean with which a job does not start unless a person changes something.
_HOPELESS = {
    "PartitionTimeLimit": "its walltime is longer than the partition allows",
    "PartitionNodeLimit": "it asks for more than the partition allows",
    "PartitionDown": "the partition takes no jobs now",
    "PartitionInactive": "the partition takes no jobs now",
    "InvalidAccount": "the account is not valid",
    "InvalidQOS": "the qos is not valid",
    "JobHeldUser": "it is held: scontrol release starts it",
    "JobHeldAdmin": "an administrator holds it",
    "BadConstraints": "no node of the cluster has what it asks for",
}

#: Columns of `squeue`: id with the index of an array, state, reason, start, host, and the comment, last as it is free.
_COLUMNS = "%i|%T|%r|%S|%N|%k"

#: Seconds before the end at which a unit gets SIGUSR1, which Slurm may send 60 s earlier. Its worker knows its
#: walltime; the signal is for limits that are changed later, and for jobs of higher priority.
_SIGNAL_S = 60
#: Seconds between the signals to a unit that ends now.
_APART_S = 1.0
#: Most characters of a comment, which Slurm limits to 1,024: a comment lists the units of its array.
_COMMENT = 1_000
#: Seconds for which the files of units that Slurm does not know any more are kept: secrets, and logs.
_SECRETS_S, _LOGS_S = 600, 14 * 86_400

#: The batch script. A signal that was sent before it began is lost, so it looks for the mark of a stop. What is left
#: of the walltime is computed from the clock of Slurm's controller alone; a year or more stands for no limit.
_SCRIPT = """#!/bin/bash
%(lines)s
jobkit_private=%(private)s
if ! [ -r "$jobkit_private" ]; then
  echo "jobkit: $jobkit_private cannot be read on $(hostname): the pool's option folder must be one that login and\\
 compute nodes share" >&2
  exit 2
fi
. "$jobkit_private"
jobkit_units=(%(units)s)
export JOBKIT_UNIT="${jobkit_units[${SLURM_ARRAY_TASK_ID:-0}]}"
export JOBKIT_ENGINE="slurm ${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
if [ -e "${jobkit_private%%/*}/$JOBKIT_UNIT.stop" ]; then exit 0; fi
set -e
%(setup)s
set +e
jobkit_python=%(python)s
if ! command -v "$jobkit_python" >/dev/null; then
  echo "jobkit: $jobkit_python was not found on $(hostname): give the pool python=" >&2
  exit 2
fi
jobkit_left=$((${SLURM_JOB_END_TIME:-0} - ${SLURM_JOB_START_TIME:-0} - SECONDS))
if [ "$jobkit_left" -gt 0 ] && [ "$jobkit_left" -lt 30000000 ]; then export JOBKIT_WALLTIME=$jobkit_left; fi
exec "$jobkit_python" %(command)s
"""


class SlurmOptions(msgspec.Struct, frozen=True):
    """Options of a pool on Slurm.

    Attributes:
        partition, account, qos, constraint: as those of `sbatch`.
        gres: "gpu:a100:2"; default: the `gpu` of the pool's resources.
        mem: "64G"; default: the `mem` (GB) of the pool's resources. cpus: default: the pool's slots.
        sbatch: lines of your own, "--exclusive" or "#SBATCH --exclusive", several as a list or with line breaks.
        folder: for logs and secrets, which login and compute nodes share; default: `pools` in jobkit's home.
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    gres: str = ""
    mem: str = ""
    cpus: int = 0
    sbatch: str | tuple[str, ...] = ()
    folder: str = ""

    def __post_init__(self) -> None:
        for name in ("partition", "account", "qos", "constraint", "gres", "mem", "folder"):
            checked_line(name, getattr(self, name))
        if self.cpus < 0:
            raise ValueError(f"cpus must be 1 or more, or 0 for as many as slots, not {self.cpus}")
        if self.mem and not re.fullmatch(r"\d+[KMGT]?", self.mem):
            raise ValueError(f'mem must be a whole number with K, M, G or T, like "64G", not {self.mem!r}')
        for line in self.lines():
            if not re.match(r"#SBATCH\s+-", line):
                raise ValueError(f'sbatch must be options of sbatch, like "--exclusive", not {line!r}')
            if named := re.search(r"\s(--array|-a|--job-name|-J|--comment|--output|-o)\b", line):
                raise ValueError(f"sbatch must not set {named[1]}, which jobkit needs itself")

    def lines(self) -> list[str]:
        """Return the lines of the user as they stand in a script."""
        given = [self.sbatch] if isinstance(self.sbatch, str) else self.sbatch
        lines = [line.strip() for text in given for line in text.splitlines() if line.strip()]
        return [line if line.startswith("#SBATCH") else f"#SBATCH {line}" for line in lines]


class SlurmLauncher(Launcher):
    """See `jobkit.features.pools.launcher.Launcher`."""

    Options: ClassVar[type[msgspec.Struct]] = SlurmOptions

    def __init__(self, pool: str, options: SlurmOptions) -> None:
        self._pool, self._options = pool, options
        self._folder = PrivateFolder(pool, options.folder)
        self._errors: dict[str, str] = {}  # of units that have failed, by Slurm's id

    async def start(self, orders: Sequence[WorkerOrder]) -> list[Unit]:
        started = []
        for _, alike in itertools.groupby(orders, lambda order: replace(order, unit="")):
            first, *others = alike
            units = [first.unit, *(other.unit for other in others)]
            for n in range(0, len(units), most := max(1, _COMMENT // (len(first.unit) + 1))):
                started += await self._submit(first, units[n : n + most])
        return started

    async def _submit(self, order: WorkerOrder, units: Sequence[str]) -> list[Unit]:
        """Start a unit for each name by one `sbatch`."""
        environment = worker_environment(order, "slurm")
        private = await asyncio.to_thread(self._folder.write, f"{units[0]}.env", exports(environment))
        argv = ["sbatch", "--parsable", *self._arguments(order, units)]
        try:
            ran = await self._run(argv, self.script(order, units, str(private)).encode())
            if ran.status:
                raise _refused(ran)
        except LaunchRefused:
            private.unlink(missing_ok=True)
            raise
        if (answer := re.search(r"^(\d+)(;.*)?\s*\Z", ran.out, re.MULTILINE)) is None:
            raise EngineUnavailable(f"sbatch did not name the job: {last_line(ran.out, 'no output')}")
        job_id = answer[1]
        ids = [f"{job_id}_{n}" for n in range(len(units))] if len(units) > 1 else [job_id]
        return [Unit(unit, id_, "pending", "PENDING") for unit, id_ in zip(units, ids, strict=True)]

    def _arguments(self, order: WorkerOrder, units: Sequence[str]) -> list[str]:
        """Return the options of `sbatch`, which win over `SBATCH_*` variables of the user on the command line only."""
        options, log = self._options, self._folder.path / ("%A_%a.log" if len(units) > 1 else "%j.log")
        mem = order.resources.get("mem", 0)
        gpus = int(order.resources.get("gpu", 0))
        given = {
            "job-name": self._pool,
            "comment": " ".join(units),
            "output": str(log),
            "array": f"0-{len(units) - 1}" if len(units) > 1 else "",
            "ntasks": "1",
            "cpus-per-task": str(options.cpus or order.slots),
            "mem": options.mem or (f"{math.ceil(mem * 1024)}M" if mem else ""),
            "gres": options.gres or (f"gpu:{gpus}" if gpus else ""),
            "time": str(math.ceil(order.walltime_s / 60)) if order.walltime_s else "",
            "signal": "" if 0 < order.walltime_s < 10 * _SIGNAL_S else f"B:USR1@{_SIGNAL_S}",
            "partition": options.partition,
            "account": options.account,
            "qos": options.qos,
            "constraint": options.constraint,
        }
        return ["--no-requeue", "--open-mode=append", *(f"--{name}={value}" for name, value in given.items() if value)]

    def script(self, order: WorkerOrder, units: Sequence[str], private: str) -> str:
        """Return the batch script. It has no secrets, because Slurm keeps it."""
        return _SCRIPT % {
            "lines": "\n".join(self._options.lines()),
            "private": shlex.quote(private),
            "units": " ".join(shlex.quote(unit) for unit in units),
            "setup": order.setup,
            "python": shlex.quote(order.python or sys.executable),
            "command": shlex.join(worker_command(order)),
        }

    async def list(self) -> list[Unit]:
        argv = ["squeue", "--noheader", "--array", "--states=all", f"--name={self._pool}", f"--user={os.getuid()}"]
        ran = await self._run([*argv, f"--format={_COLUMNS}"])
        if ran.status:
            raise EngineUnavailable(f"squeue: {_reason(ran)}")
        found, live = [], set()
        for line in ran.out.splitlines():
            if line.count("|") < 5:
                continue
            id_, state, reason, start, host, comment = line.split("|", 5)
            units, number = comment.split(), id_.partition("_")[2] or "0"
            index = int(number) if number.isdecimal() else len(units)
            if index >= len(units):  # a job of another program with this name
                continue
            unit = await self._unit(units[index], id_, state, reason, start, host)
            found.append(unit)
            if unit.state != "ended":
                live.add(f"{units[0]}.env")
        await asyncio.to_thread(self._folder.tidy, "*.env", frozenset(live), _SECRETS_S)
        for pattern in ("*.log", "*.stop"):
            await asyncio.to_thread(self._folder.tidy, pattern, frozenset(), _LOGS_S)
        return found

    async def _unit(self, unit: str, id_: str, state: str, reason: str, start: str, host: str) -> Unit:
        words = state if reason in ("None", "") else f"{state} ({reason})"
        words += f": {_HOPELESS[reason]}" if reason in _HOPELESS and state == "PENDING" else ""
        if state in _PENDING:
            expected_ms = int(start) * 1000 if start.isdecimal() else 0
            return Unit(unit, id_, "pending", words, expected_ms)
        if state in _RUNNING:
            return Unit(unit, id_, "running", words, host=host)
        is_planned = state == "COMPLETED" or await asyncio.to_thread((self._folder.path / f"{unit}.stop").exists)
        error = "" if is_planned else await self._error(id_, state, reason)
        return Unit(unit, id_, "ended", words, host=host, error=error)

    async def _error(self, id_: str, state: str, reason: str) -> str:
        """Return why a unit has ended, with its exit status and the last line of its log."""
        if id_ not in self._errors:
            sentence = _ENDINGS.get(state) or _ENDINGS.get(reason, "")
            if not sentence:
                shown = await self._run(["scontrol", "--oneliner", "show", "job", id_])
                code = re.search(r"\bExitCode=(\d+):(\d+)", shown.out)
                status, signal = (code[1], code[2]) if code else ("?", "0")
                sentence = f"its script ended by signal {signal}" if signal != "0" else f"exit status {status}"
                if line := await asyncio.to_thread(self._folder.last_line, f"{id_}.log"):
                    sentence += f"; last line of its log: {line}"
            self._errors[id_] = f"{state}: {sentence}"
        return self._errors[id_]

    async def stop(self, units: Sequence[str], *, now: bool = False) -> None:
        found = [unit for unit in await self.list() if unit.unit in units and unit.state != "ended"]
        for unit in found:
            await asyncio.to_thread(self._folder.write, f"{unit.unit}.stop", "")
        running = [unit.id for unit in found if unit.state == "running"]
        cancelled = [unit.id for unit in found if unit.state == "pending" or now]
        signals = ("TERM", "TERM") if now else ("USR1",)  # two let a worker release its jobs at once
        calls = [(["scancel", "--batch", f"--signal={signal}"], running) for signal in signals]
        for argv, ids in (*calls, (["scancel"], cancelled)):
            if ids and (ran := await self._run([*argv, *ids])).status and _AWAY.search(ran.err):
                raise EngineUnavailable(f"scancel: {_reason(ran)}")
            if ids and now and argv != ["scancel"]:
                await asyncio.sleep(_APART_S)  # one that comes at once would overtake it

    async def _run(self, argv: Sequence[str], stdin: bytes = b"") -> Ran:
        try:
            return await run(argv, stdin=stdin, env=_environment())
        except LaunchRefused as error:
            sentence = (
                f"{error}: a pool on Slurm runs on a login node of the cluster, with the PATH of jobkit's start (for "
                "another PATH, `jobkit down` and start jobkit again)"
            )
            raise (LaunchRefused if argv[0] == "sbatch" else EngineUnavailable)(sentence) from None


def _environment() -> dict[str, str]:
    """Return the environment of Slurm's programs, which `sbatch` gives to the job and Slurm stores.

    It is without secrets, without what an allocation around this process has set, and without defaults of the user
    that would hide jobs from `squeue` or let `scancel` ask.
    """
    kept = {"SLURM_CONF", "SLURM_CLUSTERS", "SLURM_CONF_SERVER"}
    others = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JOBKIT_", "SLURM_", "SQUEUE_", "SCANCEL_")) and not is_secret_name(name)
    }
    return others | {name: os.environ[name] for name in kept & os.environ.keys()} | {"SLURM_TIME_FORMAT": "%s"}


def _reason(ran: Ran) -> str:
    """Return in one line what a program says."""
    line = last_line(re.sub(r'Try ".*', "", ran.err), f"exit status {ran.status}")
    return re.sub(r"^(sbatch: |squeue: |scancel: |error: |fatal: |slurm_\w+ error: )+", "", line)


def _refused(ran: Ran) -> LaunchRefused | EngineUnavailable:
    reason = re.sub(r"^Batch job submission failed: ", "", _reason(ran))
    if _AWAY.search(ran.err):
        return EngineUnavailable(f"Slurm does not answer: {reason}")
    more = re.search(r"error: (.*(?:invalid|unknown|not).*)", ran.err)
    detail = (
        f" ({more[1].strip()[:200]})" if more and more[1] not in reason and "submission failed" not in more[1] else ""
    )
    return LaunchRefused(f"sbatch refused: {reason}{detail}")
