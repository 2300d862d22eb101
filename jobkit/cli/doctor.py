"""`jobkit doctor`: one line per check, ok, warn or fail, with a fix for each problem. Starts nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click

from jobkit.cli import out
from jobkit.cli.group import FAILED, as_json_option
from jobkit.cli.queues import task_modules
from jobkit.model import JobkitError
from jobkit.settings import Settings

#: Seconds that clocks may differ.
_SKEW_S = 2.0

#: Fraction of the server's memory limit from which it is reported.
_FULL = 0.9


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `level` is "ok", "warn" or "fail"; `fix` says what to do, "" for ok."""

    level: str
    check: str
    text: str
    fix: str = ""


@click.command()
@as_json_option
def doctor(as_json: bool) -> int:
    """Check URL, server, persistence, clock, home, workers and tasks. Exit status 1 if a check fails."""
    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            colour = {"ok": "green", "warn": "yellow", "fail": "red"}[finding.level]
            fix = f" → {finding.fix}" if finding.fix else ""
            level = click.style(f"{finding.level:<4}", fg=colour)
            click.echo(f"{level}  {finding.check:<12} {out.one_line(finding.text + fix)}")
    if as_json:
        out.echo_json([asdict(finding) for finding in findings])
    return FAILED if any(finding.level == "fail" for finding in findings) else 0


def examine() -> Iterator[Finding]:
    """Yield all findings, in an order in which later checks need earlier ones."""
    try:
        settings = Settings.load()
    except JobkitError as error:
        yield Finding("fail", "settings", str(error), "fix it, then run `jobkit doctor` again")
        return
    yield Finding("ok", "url", f"{settings.masked_url}, namespace {settings.namespace}")
    if settings.scheme == "sync":
        yield _program()
        yield Finding("ok", "server", "private, for as long as the process that submits and runs the jobs")
    else:
        yield from _server(settings)
    yield from _tasks(settings)


def _server(settings: Settings) -> Iterator[Finding]:
    is_embedded = settings.is_embedded
    if is_embedded:
        from jobkit.embedded import attach
        from jobkit.embedded.home import Home

        trouble = list(_embedded(settings))
        yield from trouble
        if trouble[-1].check != "supervisor" or not Home(settings.home).is_supervised():
            return
        settings = attach(settings)
    elif not settings.secret:
        yield Finding(
            "warn",
            "secret",
            "no signing key, so jobs can only have plain data (no functions, tables or objects)",
            "set JOBKIT_SECRET to the same long random text for submitters and workers",
        )
    else:
        yield Finding("ok", "secret", "payloads are signed")
    if missing := settings.missing_guard:
        yield Finding(
            "warn",
            "network",
            f"{settings.masked_url} is reached over the network without {missing}",
            "use rediss:// and a user with a password, see docs/reliability.md",
        )
    try:
        yield from asyncio.run(_ask(settings, is_embedded=is_embedded))
    except JobkitError as error:
        yield Finding("fail", "server", str(error))


def _program() -> Finding:
    """Return the finding about the server program that jobkit would start."""
    from jobkit.store.binary import find_server, weakness

    try:
        binary = find_server()
    except JobkitError as error:
        return Finding("fail", "program", str(error))
    if weak := weakness(binary.flavour, binary.version):
        return Finding("warn", "program", f"{binary}: {weak}", "it listens on a private socket only; upgrade it")
    return Finding("ok", "program", str(binary))


def _embedded(settings: Settings) -> Iterator[Finding]:
    """Yield findings about server program, home and supervisor; the last is about the supervisor if it can run."""
    from jobkit.embedded.home import Home

    yield _program()
    if not settings.home.exists():
        yield Finding("ok", "home", f"{settings.home} does not exist yet; the first job creates it")
        return
    try:
        home = Home.open(settings.home)
        home.secret()
    except JobkitError as error:
        yield Finding("fail", "home", str(error))
        return
    yield Finding("ok", "home", f"{home.path} is private, and so is its signing key")
    status = home.status()
    if not home.is_supervised():
        yield Finding("ok", "supervisor", "not running; it starts with the first job or `jobkit up`")
        return
    for problem in status.get("problems", {}).values():
        yield Finding("fail", "worker", str(problem), "fix JOBKIT_TASKS or the module, then run `jobkit down`")
    yield Finding(
        "ok",
        "supervisor",
        f"pid {status.get('pid')} since {status.get('started')}, jobkit {status.get('version')} on Python "
        f"{status.get('python')}",
    )


async def _ask(settings: Settings, *, is_embedded: bool) -> list[Finding]:
    """Return the findings about the server and what it knows of workers."""
    from jobkit.store.connect import explain
    from jobkit.store.redis import RedisStore

    store = RedisStore(settings)
    try:
        await store.ping()
        begin = time.time()
        seconds, micros = await store.redis.time()
        end = time.time()
        skew_s = seconds + micros / 1e6 - (begin + end) / 2
        info, refused = await store.redis.info("everything"), str(await store.refused() or "")
        fix = "the supervisor starts them; see logs/ in the home" if is_embedded else ""
        return [
            *_redis(info, refused, skew_s, end - begin, is_exposed=settings.scheme != "unix"),
            *_workers(await store.workers(), await store.queues(), fix),
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
    from jobkit.store.binary import MINIMUM, weakness

    flavour = "valkey" if info.get("valkey_version") or info.get("server_name") == "valkey" else "redis"
    text = str(info.get("valkey_version") or info.get("redis_version") or "0.0.0")
    numbers = [int(part) if part.isdigit() else 0 for part in text.split(".")[:3]]
    major, minor, patch = [*numbers, 0, 0, 0][:3]
    said = f"{flavour} {text}, answers in {round_trip_s * 1000:.1f} ms"
    weak = weakness(flavour, (major, minor, patch))
    if (major, minor, patch) < MINIMUM:
        yield Finding("fail", "server", said, "jobkit needs Redis or Valkey 7.2 or newer")
    elif weak and is_exposed:
        yield Finding("warn", "server", f"{said}; {weak}", "upgrade it")
    else:
        yield Finding("ok", "server", said)
    if refused:
        yield Finding("fail", "changes", refused)
    elif info.get("role") not in (None, "master"):
        yield Finding("fail", "role", "this server is a replica", "point JOBKIT_URL at the primary")

    policy, limit = str(info.get("maxmemory_policy", "")), int(info.get("maxmemory") or 0)
    if policy in ("noeviction", ""):
        yield Finding("ok", "eviction", policy or "not reported by this server")
    else:
        yield Finding(
            "fail" if limit else "warn",
            "eviction",
            f"maxmemory-policy is {policy}: a full server deletes jobs",
            "CONFIG SET maxmemory-policy noeviction",
        )
    if limit and int(info.get("used_memory") or 0) > _FULL * limit:
        yield Finding("warn", "memory", f"more than {_FULL:.0%} of maxmemory is used", "raise it, or `jobkit prune`")

    if int(info.get("aof_enabled") or 0):
        if info.get("aof_last_write_status", "ok") == "ok":
            yield Finding("ok", "persistence", "append-only file")
        else:
            yield Finding("fail", "persistence", "the append-only file cannot be written", "free space on its disk")
    else:
        yield Finding(
            "warn", "persistence", "no append-only file: a crash of the server loses jobs", "CONFIG SET appendonly yes"
        )

    if abs(skew_s) > _SKEW_S + round_trip_s:
        yield Finding(
            "warn",
            "clock",
            f"this machine and the server differ by {skew_s:+.1f} s (only shown times are affected)",
            "synchronize both by NTP",
        )
    else:
        yield Finding("ok", "clock", f"within {abs(skew_s):.2f} s of the server's")


def _workers(workers: Sequence[Any], queues: Mapping[str, Mapping[str, int]], fix: str) -> Iterator[Finding]:
    alive = [worker for worker in workers if worker.takes_jobs]
    if alive:
        slots = sum(worker.slots for worker in alive)
        yield Finding("ok", "workers", f"{len(alive)} alive, {slots} slots")
    else:
        yield Finding("warn", "workers", "no live worker", fix or "start one with `jobkit worker` or `jobkit up`")
    for queue, numbers in queues.items():
        if numbers.get("queued") and not numbers.get("workers"):
            yield Finding(
                "warn",
                "queue",
                f"{numbers['queued']} jobs wait in {queue}, and no worker serves it",
                f"jobkit worker -q {queue}",
            )


def _tasks(settings: Settings) -> Iterator[Finding]:
    from jobkit.tasks.registry import registry

    modules = task_modules(settings.tasks)
    try:
        found = registry.load(modules)
    except JobkitError as error:
        yield Finding("fail", "tasks", str(error), "fix the module or JOBKIT_TASKS")
        return
    names = f"{len(found)} from {', '.join(modules)}"
    if settings.tasks:
        yield Finding(
            "ok" if found else "warn", "tasks", names, "" if found else "decorate functions with @jobkit.task"
        )
    else:
        yield Finding("ok", "tasks", f"{names} (the demo; JOBKIT_TASKS is not set)")
