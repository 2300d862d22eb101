"""`jobkit doctor`: one line per check, ok, warn or fail, with a fix for each problem. Starts nothing."""

from __future__ import annotations

import asyncio
import platform
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import click

from jobkit.cli import FAILED, as_json_option, out
from jobkit.cli.findings import Finding, fail, ok, warn
from jobkit.client.tables import usage
from jobkit.codec import Codec, keys_in
from jobkit.embedded import attach
from jobkit.embedded.home import Home
from jobkit.features import DOORS, modules
from jobkit.files import FileStore
from jobkit.keys import codec_of
from jobkit.model import InvalidParams, JobkitError, JobState, SignatureError
from jobkit.settings import Settings
from jobkit.store.binary import MINIMUM, find_server, weakness
from jobkit.store.connect import explain
from jobkit.store.damage import damaged, discard, reread
from jobkit.store.library import RIGHTS
from jobkit.store.query import Query
from jobkit.store.redis import RedisStore
from jobkit.store.values import Fleet, WorkerInfo
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.registry import registry

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}

#: Seconds that clocks may differ.
_SKEW_S = 2.0

#: Fraction of the server's memory limit from which it is reported.
_FULL = 0.9

#: Characters of a signing key below which it can be guessed.
_KEY_CHARS = 16

#: Jobs of each state that are read, and damaged records that are named.
_LOOKED_AT, _NAMED = 500, 10


@click.command()
@click.option("--remove-damaged", is_flag=True, help="Delete damaged records and keys. There is no way back.")
@as_json_option
def doctor(remove_damaged: bool, as_json: bool) -> int:
    """Check system, URL, server, persistence, clock, home, records, workers, tasks and what features have.

    Exit status 1 if one fails.
    """
    findings = []
    for finding in examine(remove_damaged):
        findings.append(finding)
        if not as_json:
            fix = f" → {finding.fix}" if finding.fix else ""
            level = click.style(f"{finding.level:<4}", fg=_COLOURS[finding.level])
            click.echo(f"{level}  {finding.check:<12} {out.one_line(finding.text + fix)}")
    if as_json:
        out.echo_json([asdict(finding) for finding in findings])
    return FAILED if any(finding.level == "fail" for finding in findings) else 0


def examine(remove_damaged: bool = False) -> Iterator[Finding]:
    """Yield all findings, in an order in which later checks need earlier ones; delete what is damaged if told so."""
    try:
        settings = Settings.load()
    except JobkitError as error:
        yield fail("settings", str(error), "fix it, then run `jobkit doctor` again")
        return
    yield _system()
    yield ok("url", f"{settings.masked_url}, namespace {settings.namespace}")
    if sys.platform == "win32" and settings.scheme in ("sync", "local"):
        yield _program()
    elif settings.scheme == "sync":
        yield _program()
        yield ok("server", "private, for as long as the process that submits and runs the jobs")
    elif settings.is_embedded:
        yield _program()
        yield from _embedded(settings, remove_damaged)
    else:
        if member := settings.membership:
            yield ok("joined", f"{member.machine} at {member.address}, as a {member.role}")
        else:
            yield _secret(settings.secret)
        if missing := settings.missing_guard:
            yield warn(
                "network",
                f"{settings.masked_url} is reached over the network without {missing}",
                "use rediss:// and a user with a password, see docs/reliability.md",
            )
        for finding in _server(settings, "start one with `jobkit worker` or `jobkit up`", remove_damaged):
            yield finding
            if finding.check == "tasks":  # the server's workers have none of those that this machine knows
                return
    yield from _tasks(settings)


def _secret(secret: str) -> Finding:
    fix = (
        "set JOBKIT_SECRET to the same long random text for submitters and workers: "
        'python -c "import secrets; print(secrets.token_urlsafe(32))"'
    )
    keys, retired = keys_in(secret)
    if not keys:
        return warn("secret", "no signing key, so jobs can only have plain data (no functions, tables or objects)", fix)
    if (shortest := min(map(len, (*keys, *retired)))) < _KEY_CHARS:
        text = (
            f"a signing key of {out.count(shortest, 'character')} can be guessed, and lets people run code on workers"
        )
        return warn("secret", text, fix)
    return ok("secret", "payloads are signed")


def _system() -> Finding:
    name = f"{platform.system()}, Python {platform.python_version()}"
    if sys.platform == "win32":
        return ok("system", f"{name}: runs neither a server nor workers")
    found = "; ".join(_weaker())
    return ok("system", f"{name}: {found} (docs/reliability.md)" if found else name)


def _weaker() -> Iterator[str]:
    """Yield the promises that this system does not let jobkit keep in full. The table in docs/reliability.md has the
    same."""
    from jobkit.system import death, memory, own, processes

    if not death.IS_BY_KERNEL:
        yield "a program that leaves its job's session may outlive the job"
    if not processes.HAS_PROC:
        yield "memory that processes of a job share counts for each of them"
    if memory.counter_file() is None:
        yield "that memory ran out is likely, not certain, when a job's process is killed"
    if not own.FORK_IS_SAFE:
        yield "a job that finds no process waiting starts a new Python"


def _program() -> Finding:
    """Return the finding about the server program that jobkit would start."""
    try:
        binary = find_server()
    except JobkitError as error:
        return fail("program", str(error))
    if weak := weakness(binary.flavour, binary.version):
        return warn("program", f"{binary}: {weak}", "it listens on a private socket only; upgrade it")
    return ok("program", str(binary))


def _embedded(settings: Settings, remove_damaged: bool) -> Iterator[Finding]:
    if not settings.home.exists():
        yield ok("home", f"{settings.home} does not exist yet; the first job creates it")
        return
    try:
        home = Home.open(settings.home)
        home.secret(settings.namespace)
    except JobkitError as error:
        yield fail("home", str(error))
        return
    yield ok("home", f"{home.path} is private, and so is its signing key")
    status = home.status()
    if not home.is_supervised():
        if status.get("state") in (None, "stopped"):
            yield ok("supervisor", "not running; it starts with the first job or `jobkit up`")
        else:
            how = str(status.get("error") or f"pid {status.get('pid')} has died")
            yield warn("supervisor", how, f"the next command starts it again; see {home.supervisor_log}")
        return
    for problem in status.get("problems", {}).values():
        yield fail("worker", str(problem), "fix JOBKIT_TASKS or the module, then run `jobkit down`")
    version = f"jobkit {status.get('version')} on Python {status.get('python')}"
    yield ok("supervisor", f"pid {status.get('pid')} since {status.get('started')}, {version}")
    yield from _server(attach(settings), "the supervisor starts them; see logs/ in the home", remove_damaged)


def _server(settings: Settings, fix_workers: str, remove_damaged: bool) -> Iterator[Finding]:
    try:
        if file_store := FileStore.of(settings):
            file_store.place.check()
            yield ok("results", f"larger ones are files in {file_store.place.shown}")
    except InvalidParams as error:
        yield fail("results", str(error))
    try:
        yield from asyncio.run(_ask(settings, fix_workers, remove_damaged))
    except JobkitError as error:
        yield fail("server", str(error))


async def _ask(settings: Settings, fix_workers: str, remove_damaged: bool) -> list[Finding]:
    store = RedisStore(settings)
    try:
        await store.ping()
        begin = time.time()
        seconds, micros = await store.redis.time()
        end = time.time()
        skew_s = seconds + micros / 1e6 - (begin + end) / 2
        lacks = await store.lacks() if settings.scheme != "joined" else []
        user = store.redis.connection_pool.connection_kwargs.get("username") or "default"
        only_reads = "".join(lacks[:1]).startswith("writing the keys") and {*lacks[1:]} <= {"the command PUBLISH"}
        if lacks and not only_reads:
            return [fail("rights", f"user {user} lacks {', '.join(lacks)}", f"ACL SETUSER {user} {RIGHTS}")]
        info, refused = await store.redis.info("everything"), str(await store.refused() or "")
        await reread(store)
        workers, queues = await store.workers(), await store.queues()
        doors, unserved = await store.doors_of(workers), await store.door_queues(list(queues))
        for worker in workers:
            for queue in worker.queues:
                if worker.takes_jobs and unserved.get(queue) == doors.get(worker.id):
                    unserved.pop(queue, None)
        return [
            *([ok("rights", f"user {user} may only read: it changes no jobs, and submits and runs none")] * only_reads),
            *_redis(info, refused, skew_s, end - begin, is_exposed=settings.scheme != "unix"),
            *await _records(store, remove_damaged),
            *_workers(workers, queues, fix_workers, unserved),
            *await _keys(store, settings, [worker for worker in workers if worker.is_alive]),
            *_definitions(settings, await store.tasks()),
            *[finding for module in modules("doctor") for finding in await module.findings(store)],
            *_without_demo(settings, await store.only_doors(workers)),
        ]
    except JobkitError:
        raise
    except Exception as error:  # of redis-py, from commands that do not go through the store
        raise explain(error, settings) from error
    finally:
        await store.close()


def _redis(
    info: Mapping[str, Any], refused: str, skew_s: float, round_trip_s: float, *, is_exposed: bool
) -> Iterator[Finding]:
    flavour = "valkey" if info.get("valkey_version") or info.get("server_name") == "valkey" else "redis"
    text = str(info.get("valkey_version") or info.get("redis_version") or "")
    major, minor, patch, *_ = [*map(int, re.findall(r"\d+", text)), 0, 0, 0]
    said = f"{flavour} {text}, answers in {round_trip_s * 1000:.1f} ms"
    weak = weakness(flavour, (major, minor, patch))
    if (major, minor, patch) < MINIMUM:
        yield fail("server", said, "jobkit needs Redis or Valkey 7.2 or newer")
    elif weak and is_exposed:
        yield warn("server", f"{said}; {weak}", "upgrade it")
    else:
        yield ok("server", said)
    if refused:
        yield fail("changes", refused)
    elif info.get("role") not in (None, "master"):
        yield fail("role", "this server is a replica", "point JOBKIT_URL at the primary")

    policy, limit = str(info.get("maxmemory_policy", "")), int(info.get("maxmemory") or 0)
    if policy in ("noeviction", ""):
        yield ok("eviction", policy or "not reported by this server")
    else:
        level, fix = "fail" if limit else "warn", "CONFIG SET maxmemory-policy noeviction"
        yield Finding(level, "eviction", f"maxmemory-policy is {policy}: a full server deletes jobs", fix)
    if limit and int(info.get("used_memory") or 0) > _FULL * limit:
        yield warn("memory", f"more than {_FULL:.0%} of maxmemory is used", "raise it, or `jobkit prune`")

    if not int(info.get("aof_enabled") or 0):
        fix = "CONFIG SET appendonly yes"
        yield warn("persistence", "no append-only file: a crash of the server loses jobs", fix)
    elif info.get("aof_last_write_status", "ok") == "ok":
        yield ok("persistence", "append-only file")
    else:
        yield fail("persistence", "the append-only file cannot be written", "free space on its disk")

    if abs(skew_s) > _SKEW_S + round_trip_s:
        difference = f"this machine and the server differ by {skew_s:+.1f} s (only shown times are affected)"
        yield warn("clock", difference, "synchronize both by NTP")
    else:
        yield ok("clock", f"within {abs(skew_s):.2f} s of the server's")


async def _records(store: RedisStore, remove_damaged: bool) -> list[Finding]:
    """Read the newest records of each kind, which finds damaged ones, and tell of all that are known."""
    for state in JobState:
        await store.list(Query(states=(state,), limit=_LOOKED_AT))
    for read in (store.rules, store.audit_log.entries, store.events):
        await read()
    for module in modules("store"):
        await module.read_newest(store)
    every = await damaged(store)
    found = [one for one in every if not one.is_readable]
    findings = []
    if stuck := [str(one) for one in every if one.is_readable]:
        names = f"{', '.join(stuck[:_NAMED])}{', ...' if len(stuck) > _NAMED else ''}"
        findings.append(warn("jobs", f"{len(stuck)} may be stuck: {names}", "cancel, retry or delete them"))
    if not found:
        return [*findings, ok("records", "none is known to be damaged")]
    count = f"{len(found)} damaged record{'s or keys' if len(found) > 1 else ' or key'}"
    names = f"{', '.join(map(str, found[:_NAMED]))}{', ...' if len(found) > _NAMED else ''}"
    text = f"{count} left out: {names}"
    if remove_damaged:
        await discard(store, found)
        return [*findings, ok("records", f"{count} removed: {names}")]
    fix = "repair or remove: `jobkit doctor --remove-damaged` deletes them for good"
    return [*findings, warn("records", text, fix)]


def _workers(
    workers: Sequence[Any], queues: Mapping[str, Mapping[str, int]], fix: str, unserved: Mapping[str, str] = {}
) -> Iterator[Finding]:
    """Yield what is wrong with workers. `unserved`: queues with jobs that came by a door, and no worker of it."""
    alive = [worker for worker in workers if worker.takes_jobs]
    if alive:
        yield ok("workers", Fleet.of(workers).sentence)
    else:
        yield warn("workers", "no live worker", fix)
    for worker in alive:
        if worker.problem:
            yield warn("worker", f"{worker.id} {worker.problem}", "raise the limit, or start it with fewer slots (-c)")
    for queue, numbers in queues.items():
        waiting = numbers.get("queued")
        if waiting and (door := unserved.get(queue)):
            text = f"{out.count(waiting, 'waiting job')} in {queue}, and no worker with --{door} serves it"
            yield warn("queue", text, f"jobkit worker --{door} {DOORS[door].path}")
        elif waiting and not numbers.get("workers"):
            text = f"{out.count(waiting, 'waiting job')} in {queue}, and no worker serves it"
            yield warn("queue", text, f"jobkit worker -q {queue}")


async def _keys(store: RedisStore, settings: Settings, workers: Sequence[WorkerInfo]) -> list[Finding]:
    """Compare the signing keys of living workers, and those of their task definitions, with the keys here."""
    codec = codec_of(settings)
    codec.renew()
    same = "set the same JOBKIT_SECRET there and here, and restart the worker; a machine that has joined: join again"
    if settings.membership and not codec.has_key:  # a viewer
        return []
    problems = {id: codec.key_problem(keys) for id, keys in (await store.key_ids(workers)).items()}
    if found := [fail("secret", f"worker {id} {problem}", same) for id, problem in problems.items() if problem]:
        return found
    served = {task for worker in workers for task in worker.tasks}
    others = [name for name, sealed in (await store.tasks()).items() if name in served and not codec.has_key_of(sealed)]
    if not others:
        return []
    names = f"{', '.join(others[:_NAMED])}{', ...' if len(others) > _NAMED else ''}"
    text = f"another key than that of this machine signed the definitions of the tasks {names}"
    return [warn("secret", text, "set the same JOBKIT_SECRET for all workers, and restart them")]


def _definitions(settings: Settings, published: Mapping[str, bytes]) -> Iterator[Finding]:
    """Compare the parameters of the tasks of the modules here with those that workers have published."""
    with suppress(JobkitError):  # which is another finding
        registry.load(settings.tasks)
    for task in registry.all():
        with suppress(KeyError, SignatureError):
            other = TaskInfo.from_sealed(task.name, published[task.name], Codec.from_secret(settings.secret))
            here, there = (f"{task.name}({', '.join(map(usage, info.params))})" for info in (task.info(), other))
            if here != there:
                text = f"{here} here is {there} of the worker that started last"
                yield warn("task", text, "start workers with the same code, or give one of the tasks another name=")


def _without_demo(settings: Settings, doors: Sequence[str]) -> Iterator[Finding]:
    """Yield the line of the tasks if all live workers run other clients' jobs, and JOBKIT_TASKS is not set."""
    if doors and not settings.tasks:
        yield ok("tasks", f"those of {', '.join(doors)}'s settings class (JOBKIT_TASKS is not set)")


def _tasks(settings: Settings) -> Iterator[Finding]:
    try:
        found = registry.load(settings.task_modules)
    except JobkitError as error:
        yield fail("tasks", str(error), "fix the module or JOBKIT_TASKS")
        return
    names = f"{len(found)} from {', '.join(settings.task_modules)}"
    if not settings.tasks:
        yield ok("tasks", f"{names} (the demo; JOBKIT_TASKS is not set)")
    elif found:
        yield ok("tasks", names)
    else:
        yield warn("tasks", names, "decorate functions with @jobkit.task")
