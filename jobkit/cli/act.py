"""Commands that act: submit, cancel, retry, rm, prune, stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from jobkit.cli import out
from jobkit.cli.group import FAILED, BadInput
from jobkit.model import JobkitError, JobNotFound, JobState

if TYPE_CHECKING:
    from jobkit.client import Kit
    from jobkit.tasks.info import TaskInfo


def task_info(kit: Kit, name: str) -> TaskInfo:
    """The task of that name: as workers have published it, else from the modules that are configured here.

    Raises:
        UnknownTask: neither knows it; the message names the close ones.
    """
    found = kit.tasks()
    if name not in found:
        found = known_tasks(kit)
    if name not in found:
        raise kit.unknown_task(name, found)
    return found[name]


def known_tasks(kit: Kit) -> dict[str, TaskInfo]:
    """All tasks: those that workers have published, and those of the modules that are configured here."""
    from jobkit.tasks.registry import registry

    registry.load(task_modules(kit.settings.tasks))
    return kit.tasks()


def task_modules(configured: tuple[str, ...]) -> tuple[str, ...]:
    """The modules to take tasks from: the demo's where none are configured."""
    return configured or ("jobkit.demo",)


@click.command()
@click.argument("task")
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--wait", "-w", "is_waiting", is_flag=True, help="Show log and progress, then the result.")
@click.option("--queue", "-q", metavar="NAME")
@click.option("--delay", type=float, metavar="SECONDS", help="Not before so many seconds.")
@click.option("--key", metavar="TEXT", help="The same key and task give the same job.")
@click.option("--priority", "-p", type=int, help="Higher first.")
@click.option("--timeout", type=float, metavar="SECONDS", help="One attempt may run so long.")
@click.option("--retries", type=int, metavar="N", help="Further attempts after a failure.")
@click.option("--tag", "tags", multiple=True, metavar="TEXT")
def submit(task: str, arguments: tuple[str, ...], is_waiting: bool, tags: tuple[str, ...], **options: Any) -> int:
    """Submit a job and print its id.

    Exit status with --wait: 0 succeeded, 1 failed, 2 bad input, 3 cancelled.
    """
    kit = out.connect()
    values = task_info(kit, task).parse(arguments)
    given = {name: value for name, value in options.items() if value is not None}
    if tags:
        given["tags"] = list(tags)
    job = kit.submit_info(task, values, given)
    click.echo(job.id)
    if not is_waiting:
        return 0
    from jobkit.cli.follow import follow

    return follow(kit, job.id)


@click.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="ID...")
@click.option("--reason", default="", metavar="TEXT")
def cancel(job_ids: tuple[str, ...], reason: str) -> int:
    """Ask jobs to stop. A waiting job is cancelled at once, a running one when its worker has stopped it."""
    kit = out.connect()
    status = failed = 0
    ids = [out.find(kit, prefix) for prefix in job_ids]
    for job_id in ids:
        was_asked = kit.cancel(job_id, reason)
        state = kit.snapshot(job_id).state
        if not was_asked:
            out.echo(f"job {job_id} has already ended ({state})", err=True)
            status = FAILED
            failed += 1
        else:
            click.echo(f"{job_id} {'cancelling' if state is JobState.RUNNING else state}")
    out.note(kit, "cancel", "job", ids, failed)
    return status


@click.command()
@click.argument("job_ids", nargs=-1, metavar="ID...")
@click.option("--failed", "all_failed", is_flag=True, help="All failed jobs that were not retried yet.")
@click.option("--task", "-t", metavar="NAME", help="With --failed: only jobs of this task.")
def retry(job_ids: tuple[str, ...], all_failed: bool, task: str | None) -> None:
    """Run ended jobs once more: each gives a new job, whose id is printed."""
    if bool(job_ids) == all_failed:
        raise BadInput("give the ids of jobs, or --failed for all failed ones")
    kit = out.connect()
    ids = [out.find(kit, prefix) for prefix in job_ids] if job_ids else _failed(kit, task)
    for job_id in ids:
        click.echo(kit.retry(job_id).id)
    if ids:
        out.note(kit, "retry", "job", ids)


def _failed(kit: Kit, task: str | None) -> list[str]:
    """Ids of failed jobs that no other job repeats, oldest first."""
    from jobkit.store.query import Query

    failed: list[str] = []
    repeated: set[str] = set()
    for states, ids in ((("failed",), failed), ((), None)):
        cursor = ""
        while True:
            page = kit.page(Query(states=states, task=task, limit=500, cursor=cursor))
            if ids is not None:
                ids += [snapshot.id for snapshot in page.jobs]
            else:
                repeated |= {snapshot.spec.retry_of for snapshot in page.jobs}
            cursor = page.next_cursor
            if not cursor:
                break
    return [job_id for job_id in reversed(failed) if job_id not in repeated]


@click.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="ID...")
def rm(job_ids: tuple[str, ...]) -> int:
    """Forget ended jobs, with their logs and results."""
    kit = out.connect()
    ids = [out.find(kit, prefix) for prefix in job_ids]
    status = 0
    gone = kit.delete(ids)
    out.note(kit, "delete", "job", ids, gone.count(False))
    for job_id, is_gone in zip(ids, gone, strict=True):
        if is_gone:
            click.echo(job_id)
            continue
        status = FAILED
        try:
            state = kit.snapshot(job_id).state
        except JobNotFound:
            out.echo(f"job {job_id} is already gone", err=True)
        else:
            out.echo(f"job {job_id} is {state}; only ended jobs can be removed, so cancel it first", err=True)
    return status


@click.command()
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Also the oldest ended ones beyond so many.")
def prune(keep: int | None) -> None:
    """Forget the jobs whose time is over."""
    kit = out.connect()
    try:
        count = kit.prune(keep)
    except JobkitError as error:
        raise JobkitError(f"pruning stopped: {error}") from error
    click.echo(f"{count} jobs removed")


@click.command()
@click.option("--now", is_flag=True, help="Give running jobs back to the queue instead of finishing them.")
@click.option("--host", metavar="NAME", help="Only the workers of this machine.")
@click.option("--queue", "-q", metavar="NAME", help="Only the workers that serve this queue.")
def stop(now: bool, host: str | None, queue: str | None) -> int:
    """Ask every worker to finish its jobs and exit.

    Prints the worker ids; a released job costs no attempt. Workers of an embedded server are started again:
    `jobkit down` ends those.
    """
    kit = out.connect()
    asked = kit.stop_workers(host=host, queue=queue, now=now)
    for worker in asked:
        click.echo(out.one_line(worker.id))
    if asked:
        out.note(kit, "stop_worker" if now else "drain_worker", "worker", [worker.id for worker in asked])
    if not asked:
        which = " and ".join(
            [*([f"on host {host!r}"] if host else []), *([f"for queue {queue!r}"] if queue else [])]
        )  # fmt: skip
        out.echo(f"No worker lives{' ' + which if which else ''}.", err=True)
        return FAILED
    if out.settings().is_embedded:
        out.echo("The embedded server starts its own workers again; `jobkit down` ends them.", err=True)
    return 0
