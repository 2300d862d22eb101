"""`jobkit failures`: groups of failed jobs. List, show, retry, delete, mute, resolve."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

import jobkit
from jobkit.cli import (
    FAILED,
    BadInput,
    add_deeds,
    age,
    as_json_option,
    limit_option,
    noun_command,
    options,
    out,
    state_option,
)
from jobkit.cli.queues import read_arguments
from jobkit.features.failures.group import FailureGroup, GroupState, shared
from jobkit.features.failures.kit import Failures
from jobkit.model import JobNotFound, JobSnapshot, JobState, UnknownTask
from jobkit.model.format import params_brief
from jobkit.model.trace import lines_of

if TYPE_CHECKING:
    from jobkit.client.kit import Kit

_dry = click.option("--dry-run", is_flag=True, help="Print what would be done, without doing it.")

#: Maximum number of groups of one command.
_LISTED = 10_000


#: Options that choose failed jobs; see `chosen`.
selecting = options(
    click.argument("which", nargs=-1, metavar="[GROUP_OR_ID]..."),
    click.option("--task", "-t", metavar="NAME", help="The groups of this task that are not muted or resolved."),
    click.option("--all", "-a", "everything", is_flag=True, help="All groups that are not muted or resolved."),
    click.option("--older", metavar="AGE", callback=age, help="Only jobs that failed more than this ago."),
    click.option("--newer", metavar="AGE", callback=age, help="Only jobs that failed less than this ago: 30m, 1d."),
)


def chosen(
    kit: Kit,
    which: Sequence[str],
    task: str | None,
    everything: bool,
    older: float | None,
    newer: float | None,
    *,
    is_repeated: bool | None = None,
) -> tuple[list[str], list[FailureGroup]]:
    """Return the ids of the jobs that the options choose, the oldest failure of a group first; and the groups."""
    if bool(which) == bool(task or everything):
        raise BadInput("give groups or ids of jobs, or --task NAME, or --all")
    groups = [] if which else kit.failures(["open", "regressed"], task=task, limit=_LISTED)
    ids = []
    for name in which:
        if group := find_group(kit, name):
            groups.append(group)
            continue
        snapshot = kit.snapshot(out.find(kit, name))
        if snapshot.state is not JobState.FAILED:
            raise BadInput(f"job {snapshot.id} is {snapshot.state}; this command is for failed jobs")
        ids.append(snapshot.id)
    for group in groups:
        ids += kit.failures.jobs(group.id, is_repeated=is_repeated, older_than=older, newer_than=newer)
    return list(dict.fromkeys(ids)), groups


def find_group(kit: Kit, name: str) -> FailureGroup | None:
    """Return the group whose id is, or begins with, `name`; None if there is none."""
    try:
        return kit.failures.get(name)
    except JobNotFound:
        pass
    if not re.fullmatch(r"[0-9a-f]{4,12}", name):
        return None
    found = [group for group in kit.failures(limit=_LISTED) if group.id.startswith(name)]
    if len(found) > 1:
        raise BadInput(f"several ids begin with {name!r}: {', '.join(group.id for group in found[:5])}")
    return found[0] if found else None


def _steps(word: str, total: int) -> Callable[[int], None]:
    """Return a function that prints progress on stderr if there is more than one step."""

    def step(done: int) -> None:
        if done < total:
            out.echo(f"{word} {done:,} of {total:,}", err=True)

    return step


@noun_command
@state_option(GroupState, "Only groups in this state.")
@click.option("--task", "-t", metavar="NAME", help="Only groups of this task.")
@click.option("--all", "-a", "everything", is_flag=True, help="Also muted and resolved groups.")
@as_json_option
def failures(states: tuple[str, ...], task: str | None, everything: bool, as_json: bool) -> None:
    """List failed jobs in groups (one task, the same error at the same place), the newest failure first."""
    kit = jobkit.connect()
    found = kit.failures(states, task=task, limit=_LISTED)
    shown = [group for group in found if states or everything or group.state.needs_a_look]
    out.listing(as_json, shown, found.COLUMNS, empty="No open failures.")
    hidden = len(found) - len(shown)
    if hidden and not as_json:
        out.echo(f"{hidden} more {'is' if hidden == 1 else 'are'} muted or resolved: --all", err=True)


@failures.command()
@click.argument("which", metavar="GROUP_OR_ID")
@limit_option(10, 1000, "its jobs")
@as_json_option
def show(which: str, limit: int, as_json: bool) -> None:
    """Show a group: its error, its newest jobs, and the arguments that they share."""
    kit = jobkit.connect()
    group = find_group(kit, which)
    if group is None:
        job_id = out.find(kit, which)
        (of,) = kit.failures.of_jobs([job_id])
        if not of:
            raise BadInput(f"job {job_id} is {kit.snapshot(job_id).state}; it is in no group of failures")
        group = kit.failures.get(of)
    jobs = kit.failures.snapshots(group.id, limit=max(limit, 100))
    same, different = shared(job.spec.params for job in jobs)
    if as_json:
        more = {"shared": same, "different": different, "newest": [job.to_json() for job in jobs[:limit]]}
        return out.echo_json({**group.to_json(), **more})
    out.echo(group.title, bold=True)
    by = f" by {group.changed_by}" if group.changed_by else ""
    healed = f" ({group.healed:,} succeeded)" if group.healed else ""
    facts = {
        "group": group.id,
        "task": group.task,
        "where": group.where,
        "state": f"{group.state}{by} {out.ago(group.changed_at)}" if group.changed_at else str(group.state),
        "seen": f"{group.count:,} times, first {out.ago(group.first_seen)}, last {out.ago(group.last_seen)}",
        "jobs": f"{group.jobs:,} kept" + (f", {group.repeated:,} of them retried{healed}" if group.repeated else ""),
        "all with": params_brief(same, limit=2000),
        "differ in": ", ".join(different),
    }
    out.facts(facts)
    if jobs and jobs[0].error is not None:
        out.section("error", lines_of(jobs[0].error))

    def brief(job: JobSnapshot) -> str:
        return params_brief({name: job.spec.params.get(name) for name in different})

    out.section("newest", (f"{job.id}  {out.ago(job.finished_at):<12} {brief(job)}" for job in jobs[:limit]))


@failures.command()
@selecting
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="Change an argument; may be repeated.")
@_dry
@as_json_option
def retry(pairs: tuple[str, ...], dry_run: bool, as_json: bool, **choice: Any) -> int:
    """Retry failed jobs, each as a new job, and print the new ids.

    Skips jobs of groups that have been retried already.
    """
    kit = jobkit.connect()
    ids, groups = chosen(kit, **choice, is_repeated=False)
    changes = _changes(kit, ids, groups, pairs) if pairs else {}
    if dry_run:
        return _would(ids, f"retried with {params_brief(changes)}" if changes else "retried", as_json)
    came = kit.retry_many(ids, changes=changes, on_step=_steps("submitted", len(ids)))
    if ids:
        out.note(kit, "retry", "job", ids, len(came.refused))
    if as_json:
        out.echo_json({"jobs": came.jobs, "refused": came.refused})
    else:
        for new in came.jobs.values():
            click.echo(new)
        for sentence in came.refused.values():
            out.echo(sentence, err=True)
    out.echo(f"{out.count(len(came.jobs))} submitted", err=True)
    return FAILED if came.refused or not ids else 0


def _changes(kit: Kit, ids: Sequence[str], groups: Sequence[FailureGroup], pairs: Sequence[str]) -> dict[str, Any]:
    tasks = {group.task for group in groups} or {kit.snapshot(job_id).spec.task for job_id in ids}
    if len(tasks) > 1:
        raise BadInput(f"--set needs jobs of one task; these are of {', '.join(sorted(tasks))}")
    if not tasks:
        return {}
    [task] = tasks
    try:
        if not (ids and kit.runs_other_code(ids[0])):
            return read_arguments(kit, task, lambda info: info.changes(pairs))
    except UnknownTask:
        pass
    return kit.checked_changes(task, pairs, ids)


@failures.command()
@selecting
@_dry
@as_json_option
def drop(dry_run: bool, as_json: bool, **choice: Any) -> int:
    """Delete failed jobs; a group is deleted with its last job."""
    kit = jobkit.connect()
    ids, groups = chosen(kit, **choice)
    if dry_run:
        return _would(ids, "deleted", as_json)
    gone = kit.delete_many(ids, on_step=_steps("deleted", len(ids)))
    if ids:
        out.note(kit, "delete", "job", ids, len(ids) - gone)
    for group in groups:
        kit.failures.forget(group.id)  # if it has no jobs
    if as_json:
        out.echo_json({"removed": gone})
    else:
        click.echo(f"{out.count(gone)} deleted")
    return 0 if ids or groups else FAILED


def _known(kit: Kit, name: str) -> str:
    if (group := find_group(kit, name)) is None:
        raise JobNotFound(f"there is no group of failures {name!r}; `jobkit failures --all` lists all")
    return group.id


add_deeds(failures, Failures, _known)


def _would(ids: Sequence[str], done: str, as_json: bool) -> int:
    if as_json:
        out.echo_json({"would": done, "count": len(ids), "ids": list(ids)})
    else:
        for job_id in ids:
            click.echo(job_id)
        out.echo(f"{out.count(len(ids))} would be {done}", err=True)
    return 0
